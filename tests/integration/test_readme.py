"""The README's example is run as it stands, against a server."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.server_fixture import make_token, running_server

README = Path(__file__).parents[2] / "README.md"


def example(folder: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (folder / "hello.py").write_text(code[1])


async def run(folder: Path, url: str, token: str) -> str:
    """What it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "hello.py", url, token,
        cwd=folder, env={"PYTHONPATH": str(README.parent)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return printed.decode()


async def test_the_readmes_device_runs(tmp_path: Path) -> None:
    example(tmp_path)
    async with running_server(tmp_path) as server:
        token = make_token("alice", "phone")
        assert await run(tmp_path, server.url, token) == "{'body': 'Hello. '}\n"
        refused = await run(tmp_path, server.url, "no token")
        assert refused.startswith("Only on this device so far. It is blocked (bad_token: ")
        assert refused.endswith(").\n{'body': 'Hello. Hello. '}\n")
        assert await run(tmp_path, server.url, token) == "{'body': 'Hello. Hello. Hello. '}\n"


async def test_the_readmes_device_says_that_there_is_no_server(tmp_path: Path) -> None:
    example(tmp_path)
    printed = await run(tmp_path, "ws://127.0.0.1:1/v1/sync", make_token("alice", "phone"))
    assert printed.startswith("Only on this device so far. It is offline (unreachable")

"""The README's example is run as it stands, against a server."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.server_fixture import make_token, running_server

README = Path(__file__).parents[2] / "README.md"


async def test_the_readmes_device_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "hello.py").write_text(code[1])
    async with running_server(tmp_path) as server:
        for said in ("Hello. ", "Hello. Hello. "):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "hello.py", server.url, make_token("alice", "phone"),
                cwd=tmp_path, env={"PYTHONPATH": str(README.parent)}, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            printed, _ = await asyncio.wait_for(process.communicate(), 30)
            assert (process.returncode, printed.decode().strip()) == (0, str({"body": said}))

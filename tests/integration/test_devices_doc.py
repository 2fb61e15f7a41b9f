"""What docs/DEVICES.md shows in Python is run as it stands, against a server."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from textwrap import indent

import pytest

from tests.server_fixture import make_token, running_server

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "DEVICES.md").read_text(encoding="utf-8"), re.DOTALL)
GIVEN = "import asyncio, sys\nurl, token = sys.argv[1:]\nasync def fetch_token(device): return token\n"


def program(snippet: str) -> str:
    if "async with" not in snippet:
        return GIVEN + snippet
    imports, body = snippet.split("\n\n", 1)
    return f"{GIVEN}{imports}\nasync def main():\n{indent(body, '    ')}\nasyncio.run(main())\n"


@pytest.mark.parametrize(
    ("number", "prints"),
    [(0, "Hello current Pending(count=0, bytes=0, age_s=0.0)\n"), (1, "Hello from a thread\n")],
)
async def test_a_snippet_runs(tmp_path: Path, number: int, prints: str) -> None:
    async with running_server(tmp_path) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program(SNIPPETS[number]), server.url, make_token("alice", "phone"),
            cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, printed.decode()) == (0, prints)


def test_none_is_left_out() -> None:
    assert len(SNIPPETS) == 2

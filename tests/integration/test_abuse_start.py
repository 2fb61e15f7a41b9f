"""A server that can not start, or is interrupted as it starts, says so in a line: no traceback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.integration.server_process import ServerProcess

INTERRUPTED = 130


@pytest.mark.parametrize("after_s", [0.3, 0.6, 0.9])
async def test_an_interrupt_in_the_first_second_ends_it_without_a_traceback(tmp_path: Path, after_s: float) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "serve", "--insecure-dev", "--port", "0",
        "--database-url", f"sqlite:///{tmp_path / 'syncline.db'}",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await asyncio.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode in (0, INTERRUPTED, -signal.SIGINT), errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--host 203.0.113.1", "--host or SYNCLINE_HOST: 203.0.113.1 is not an address of this machine"),
        ("--host no.such.host.invalid", "--host or SYNCLINE_HOST: "),
        ("--port {taken}", "--port or SYNCLINE_PORT: cannot listen on 127.0.0.1, port {taken}: address already"),
        ("--tls-cert none.pem --tls-key none.pem", "--tls-cert or SYNCLINE_TLS_CERT: none.pem: No such file"),
        ("--tls-cert none.pem", "tls_cert and tls_key go together"),
        ("--origins app.example", "--origins or SYNCLINE_ORIGINS: write an origin as"),
    ],
)
async def test_the_option_that_is_wrong_is_named(tmp_path: Path, given: str, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = await ServerProcess(tmp_path).cli("serve", *given.format(taken=port).split())
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("syncline: " + says.format(taken=port))

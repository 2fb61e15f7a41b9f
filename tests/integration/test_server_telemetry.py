"""What an operator sees of a real process: probes, metrics and logs, which tell no token and no content."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from client_sim.live import Blocked
from crdt.protocol.frames import Error, Hello, Open, Push, Report
from tests.integration.server_peers import (
    WITHIN_S,
    converged,
    new_device,
    raw_device,
    raw_member,
    raw_socket,
    text_updates,
    write,
)
from tests.integration.server_process import ServerProcess, server_process
from tests.server_fixture import make_token

MARKER = "the-secret-content-of-a-document"


async def test_metrics_count_what_happened_and_probes_answer(tmp_path: Path) -> None:
    async with (
        server_process(tmp_path) as server,
        new_device(server.url, "phone") as phone,
        new_device(server.url, "laptop") as laptop,
        httpx.AsyncClient(base_url=server.http, trust_env=False) as http,
    ):
        mine, theirs = await phone.open(), await laptop.open()
        await converged(mine, theirs)
        for n in range(10):
            write(mine, f"{n} ")
        await converged(mine, theirs)
        mine.audit()
        async with raw_device(server.url, Open(1, "bob/main"), name="raw") as raw:
            await raw.expect(Error)
            await raw.send(Report({"retries": 1, "platform": "linux", "version": "1.0"}))
        async with asyncio.timeout(WITHIN_S):  # an audit is judged by a worker, which has to start first
            while not (metrics := await _metrics(http)).get('syncline_audits_total{result="equal"}'):
                pass
        assert metrics["syncline_updates_received_total"] == 10
        assert metrics["syncline_updates_acknowledged_total"] == 10
        assert metrics["syncline_updates_delivered_total"] == 10
        assert metrics['syncline_audits_total{result="equal"}'] == 1
        assert metrics['syncline_refused_total{code="forbidden"}'] == 1
        assert metrics['syncline_device_reports_total{platform="linux",version="1.0"}'] == 1
        assert metrics['syncline_device_retries_total{platform="linux",version="1.0"}'] == 1
        assert 1 <= metrics["syncline_commit_seconds_count"] <= 10
        assert metrics["syncline_sockets"] == 2
        assert metrics["syncline_sent_bytes_total"] > 0
        assert metrics["syncline_received_bytes_total"] > 0
        for path in ("/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200
        assert (await http.get("/elsewhere")).status_code == 404


async def _metrics(http: httpx.AsyncClient) -> dict[str, float]:
    text = (await http.get("/metrics")).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


async def test_logs_tell_no_token_and_no_content(tmp_path: Path) -> None:
    tokens = [make_token("alice", "phone"), make_token("alice", "raw"), make_token("eve", "phone", ttl_s=-1)]
    async with server_process(tmp_path, log_level="debug") as server:
        async with new_device(server.url, "phone", token=tokens[0]) as phone:
            document = await phone.open()
            write(document, MARKER)
            await document.wait_durable(WITHIN_S)
            document.audit()
        await _misbehave(server, tokens)
        for command in (("doc", "list"), ("doc", "verify"), ("db", "backup", str(tmp_path / "copy.db"))):
            assert (await server.cli(*command)).code == 0
        await _damage(server)
        await server.start()
        async with new_device(server.url, "phone", token=tokens[0]) as phone:
            with pytest.raises(Blocked, match="doc_quarantined"):
                await (await phone.open()).wait_current(WITHIN_S)
        server.terminate()
        assert await server.exited() == 0
        log = server.log.read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert {"listening", "stopping", "stopped", "document_unreadable"} <= set(events)
    for secret in (MARKER, *tokens, *(token.rpartition(".")[2] for token in tokens)):
        assert secret not in log
        assert secret.encode().hex() not in log


async def _misbehave(server: ServerProcess, tokens: list[str]) -> None:
    """Bad tokens, bad bytes, bad updates, bad paths: all with what must not be told."""
    for token in tokens[2], MARKER, tokens[1] + "x":
        async with raw_socket(server.url) as raw:
            await raw.send(Hello(1, token, "raw", MARKER, {MARKER: MARKER}, ()))
            await raw.rest()
    for name, junk in ((MARKER, b"\xff" + MARKER.encode()), ("main", MARKER.encode())):
        async with raw_member(server.url, name, token=tokens[1]) as (raw, opened):
            update = text_updates(5, [MARKER])[0]
            await raw.send(Push(opened.handle, 1, (update[:-3],)), Push(opened.handle, 1, (MARKER.encode(),)))
            await raw.say(junk)
            await raw.rest()
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        await http.get(f"/{MARKER}", headers={"Authorization": f"Bearer {tokens[0]}"})


async def _damage(server: ServerProcess) -> None:
    """Let the server find, as it starts again, that the document is not what was written."""
    server.terminate()
    assert await server.exited() == 0
    with closing(sqlite3.connect(server.database)) as connection:
        (updates,) = connection.execute("SELECT updates FROM log ORDER BY seq LIMIT 1").fetchone()
        assert MARKER.encode() in updates
        connection.execute("UPDATE log SET updates = ?", (updates.replace(b"secret", b"SECRET"),))
        connection.commit()

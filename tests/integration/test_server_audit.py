"""Audits over real sockets: equal documents are found equal, and one that went astray is mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client_sim.live import AsyncDocument, Problem, Roots
from crdt.protocol.frames import Audit, Audited
from crdt.replica import Replica
from tests.integration.server_peers import WITHIN_S, converged, new_device, raw_member, tapped, write
from tests.server_fixture import running_server
from tests.support import wait_until


async def test_equal_documents_are_found_equal(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, tapped(server.url) as tap, new_device(tap.url) as phone:
        document = await phone.open()
        write(document, "Ünïcode 👋")
        document.edit(lambda roots: roots.map("data").update({"f": 1.5, "n": None, "l": [1, "two", {}], "b": True}))
        document.edit(lambda roots: roots.text("body").delete(1, 3))
        await document.wait_current(WITHIN_S)
        document.audit()
        await phone.wait(lambda: bool(tap.of(Audited)), WITHIN_S)
        assert [audited.ok for audited in tap.of(Audited)] == [True]
        assert server.metric("syncline_audits_total", {"result": "equal"}) == 1
        assert phone.counters.resyncs == 0


def _lose_an_edit(document: AsyncDocument) -> None:
    """The replica forgets what it was sent, though its cursor says that it has it."""
    document._core.copy.replica = Replica()


def _gain_an_edit(document: AsyncDocument) -> None:
    """The replica has what was never sent, though its outbox is empty."""
    document._core.copy.replica.edit(lambda doc: Roots(doc).text("body").append(", astray"))


@pytest.mark.parametrize("diverge", [_lose_an_edit, _gain_an_edit])
async def test_a_replica_that_went_astray_is_found_and_mended(
    tmp_path: Path, diverge: Callable[[AsyncDocument], None]
) -> None:
    problems: list[Problem] = []
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "phone", store=tmp_path / "phone.db") as phone,
        new_device(server.url, "laptop") as laptop,
    ):
        phone.on_error = problems.append
        mine, theirs = await phone.open(), await laptop.open()
        write(theirs, "text")
        await converged(mine, theirs, to={"body": "text"})
        diverge(mine)
        assert mine.values() != theirs.values()
        mine.audit()
        await phone.wait(lambda: phone.counters.resyncs == 1, WITHIN_S)
        expected = "text, astray" if diverge is _gain_an_edit else "text"
        await converged(mine, theirs, to={"body": expected})
        assert [problem.code for problem in problems] == ["audit_failed"]
        assert server.metric("syncline_audits_total", {"result": "different"}) == 1
        mine.audit()
        await wait_until(lambda: server.metric("syncline_audits_total", {"result": "equal"}) == 1, WITHIN_S)
        write(theirs, "!")
        await converged(mine, theirs, to={"body": f"{expected}!"})


async def test_a_digest_of_another_entry_is_not_judged(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, raw_member(server.url) as (raw, opened):
        head = opened.cursor.seq
        await raw.send(Audit(opened.handle, head + 1, bytes(16)), Audit(opened.handle, head, bytes(16)))
        audited = await raw.expect(Audited)
        assert (audited.seq, audited.ok) == (head, False)
        await raw.send(Audit(opened.handle, head, Replica().digest()))
        assert (await raw.expect(Audited)).ok

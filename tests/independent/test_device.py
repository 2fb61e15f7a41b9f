"""Apps on old phones must go on working against every later server: a device that was written from docs/PROTOCOL.md
alone, and shares no code with the project, talks to the real one.

The device (`device.py`, `framing.py`, `store.py`, `updates.py`) and this file are frozen with protocol 1.0. They may
change only where the document was wrong. A change of the server that breaks a test here breaks phones that nobody can
update.
"""

from __future__ import annotations

import asyncio
import copy
import random
import re
import shutil
import socket
import string
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from tests.independent import framing as wire
from tests.independent.device import Device
from tests.independent.store import Document, next_chain
from tests.independent.updates import contents, digest, fits
from tests.server_fixture import RunningServer, make_token, running_server
from tests.support import wait_until

FIRST, SECOND = bytes.fromhex("010105000401057469746c6502486900"), bytes.fromhex("01010502840501012100")
SETS_X = bytes.fromhex("01010900280104646174610178017d0100")


class Phone(Device):
    """Keeps the frames, and can lose its network just before a frame of the server arrives."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sent: list[wire.Frame] = []
        self.received: list[wire.Frame] = []
        self.loses: Callable[[wire.Frame], bool] = lambda frame: False
        self.in_tunnel = False

    async def connect(self) -> None:
        self.in_tunnel = False
        await super().connect()

    def send(self, frame: wire.Frame) -> None:
        self.sent.append(frame)
        super().send(frame)

    def receive(self, frame: wire.Frame) -> None:
        if self.in_tunnel or self.loses(frame):
            self.in_tunnel = True
            self.drop()
        else:
            self.received.append(frame)
            super().receive(frame)

    def of_type(self, kind: int) -> list[wire.Frame]:
        return [frame for frame in self.received if frame[0] == kind]


class PhoneOfTheFuture(Phone):
    """Speaks a later minor version: appends to all that may be appended to, both ways."""

    def send(self, frame: wire.Frame) -> None:
        appended: wire.Frame = [*copy.deepcopy(frame), "appended", {"later": [1]}]
        opens = {wire.HELLO: frame[-1], wire.OPEN: [appended[1:]]}.get(frame[0], [])
        if frame[0] == wire.HELLO:
            opens = appended[6] = [[*fields, "appended"] for fields in opens]
            appended[5] |= {"an-option": {"of": "later"}}
        for fields in opens:
            if fields[2]:
                fields[2].append("appended")
        if frame[0] == wire.RESYNC and appended[2]:
            appended[2].append("appended")
        super().send(appended)

    def receive(self, frame: wire.Frame) -> None:
        appended = copy.deepcopy(frame)
        if frame[0] == wire.OPENED:
            appended += [None] * (12 - len(frame))
            appended[4].append("appended")
        if frame[0] == wire.ERROR:
            appended += [None] * (8 - len(frame))
        if frame[0] == wire.WELCOME:
            appended[5]["a_limit_of_later"] = 1
        super().receive([*appended, "appended", {"later": [1]}])


Make = Callable[..., Phone]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Phone] = []

    def build(
        server: RunningServer, device: str, user: str = "alice", *docs: str, kind: type[Phone] = Phone,
        claims: dict[str, Any] | None = None, **options: Any,
    ) -> Phone:  # fmt: skip
        phone = kind(server.url, device, lambda name: make_token(user, name, **(claims or {})), **options)
        for name in docs or ("main",):
            phone.open(name)
        made.append(phone)
        return phone

    yield build
    for phone in made:
        await phone.disconnect()


async def online(*phones: Phone) -> None:
    """Connected, and all documents open."""
    for phone in phones:
        await phone.connect()
        await wait_until(lambda phone=phone: all(d.state == "live" for d in phone.documents.values()))  # type: ignore[misc]


async def offline(phone: Phone) -> None:
    phone.drop()
    await wait_until(lambda: phone.link == "waiting")


def write(phone: Phone, words: str, name: str = "main") -> None:
    def change(doc: Doc[Any]) -> None:
        text = doc.get("title", type=Text)
        text.insert(len(text), words)

    phone.edit(name, change)


def put(phone: Phone, key: str, value: Any, name: str = "main") -> None:
    phone.edit(name, lambda doc: doc.get("data", type=Map).update({key: value}))


def title(document: Document) -> str:
    return str(document.replica.get("title", type=Text))


def noise(length: int, seed: int = 1) -> str:
    """Text that deflates badly."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=length))


async def narrow_socket(server: RunningServer) -> socket.socket:
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, server.address)
    return narrow


async def alike(*phones: Phone) -> None:
    """Wait until nothing is pending, and all are at the same entry with the same contents."""
    documents = [document for phone in phones for document in phone.documents.values()]

    def settled() -> bool:
        calm = all(d.state == "live" and not d.outbox and not d.edits for d in documents)
        return calm and all(d.cursor == documents[0].cursor for d in documents)

    await wait_until(settled)
    assert len({contents(document.replica) for document in documents}) == 1


AUDIT_WITHIN_S = 30.0
"""A server may have to start a process first that can read a document."""


async def audited(phone: Phone, name: str = "main") -> bool:
    seen = len(phone.documents[name].audits)
    phone.audit(name)
    await wait_until(lambda: len(phone.documents[name].audits) > seen, AUDIT_WITHIN_S)
    return phone.documents[name].audits[-1]


async def answered(phone: Phone) -> None:
    """Once a PING is answered all that was sent before it was read."""
    seen = len(phone.pongs)
    phone.send([wire.PING, 77])
    await wait_until(lambda: phone.pongs[seen:] == [77])


def test_the_device_shares_no_code_with_the_project() -> None:
    for name in ("device", "framing", "store", "updates"):
        source = Path(__file__).with_name(f"{name}.py").read_text()
        imported = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
        assert imported
        assert not {module.split(".")[0] for module in imported} & {"crdt", "server", "client_sim", "tests"}


# The document's worked examples


def test_the_chain_of_the_document() -> None:
    first = next_chain(bytes(8), FIRST)
    assert first.hex() == "4bc1839aad27a3c4"
    assert next_chain(first, SECOND).hex() == "a22d4013e7302b90"


def test_the_deflated_list_of_the_document() -> None:
    updates = wire.read_updates(bytes.fromhex("9b7494694fe228180543141c65fc92340a461c0000"))
    assert sum(map(len, updates)) == 1200
    assert wire.read_updates(wire.write_updates(updates, deflate=True)) == updates


def test_the_audit_of_the_document() -> None:
    replica: Doc[Any] = Doc()
    assert not fits(b"\0", [SECOND])
    assert fits(b"\0", [FIRST, SECOND, SETS_X])
    for update in (FIRST, SECOND, SETS_X):
        replica.apply_update(update)
    assert contents(replica) == '[[[5,3],[9,1]],{"data":{"x":1},"title":"Hi!"}]'
    assert digest(replica).hex() == "39ca690f47399689d62b42355de4c6cf"


def fill(doc: Doc[Any]) -> None:
    """Every kind of value that the document's second example has."""
    data, note, page = (doc.get(n, type=t) for n, t in (("data", Map), ("note", Text), ("page", XmlFragment)))
    data.update({"": "empty key", "Z": "upper", "bytes": b"\0\xff", "half": 1.5, "large": 1e16, "limit": 2.0**53})
    data.update({"list": [1, {"k": 2}], "map": Map({"empty": Array(), "text": Text("in")}), "minf": float("-inf")})
    data.update({"nan": float("nan"), "negzero": -0.0, "none": None, "small": 1e-7, "under": 2**53 - 1, "whole": 3})
    data["yes"] = True
    doc.get("list", type=Array).extend([1, "two", Array(), Map()])
    note.insert(0, 'Hi, é😀 \n"q"\\')
    note.format(0, 2, {"bold": True})
    paragraph = XmlElement("p", {"k": "v"})
    page.children.append(paragraph)
    paragraph.children.append("a link")
    page.children.append(XmlElement("br"))
    page.children.append(XmlText("end"))


def test_canonical_json_of_every_kind_of_value() -> None:
    replica: Doc[Any] = Doc()
    fill(replica)
    assert contents(replica).split(",", 2)[2] == (
        r'{"data":{"":"empty key","Z":"upper","bytes":{"$bytes":"00ff"},"half":1.5,"large":1e+16,'
        r'"limit":9007199254740992.0,"list":[1,{"k":2}],"map":{"empty":[],"text":"in"},"minf":{"$number":"-inf"},'
        r'"nan":{"$number":"nan"},"negzero":0,"none":null,"small":1e-07,"under":9007199254740991,"whole":3,"yes":true},'
        r'"list":[1,"two",[],{}],"note":"Hi, é😀 \n\"q\"\\","page":[{"attributes":{"k":"v"},"children":["a link"],'
        r'"tag":"p"},{"attributes":{},"children":[],"tag":"br"},"end"]}]'
    )


# Two devices


async def test_two_devices_converge(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop", header=True)
    await online(phone, laptop)
    write(phone, "Hi")
    put(laptop, "x", 1)
    write(laptop, " there")
    write(phone, "!")
    await alike(phone, laptop)
    merged = title(phone.documents["main"])
    assert all(merged.count(words) == 1 for words in ("Hi", " there", "!"))
    assert phone.user == "alice"
    assert phone.of_type(wire.DELTA)
    assert not phone.errors + laptop.errors


async def test_offline_edits_merge(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(phone, "base.")
    await alike(phone, laptop)
    await offline(phone)
    for n in range(20):
        write(phone, f"p{n}.")
        write(laptop, f"l{n}.")
    phone.edit("main", lambda doc: doc.get("title", type=Text).__delitem__(slice(0, 5)))
    await online(phone)
    await alike(phone, laptop)
    whole = title(laptop.documents["main"])
    assert "base." not in whole
    assert all(f"p{n}." in whole and f"l{n}." in whole for n in range(20))
    assert await audited(phone)
    assert await audited(laptop)


async def test_other_documents_go_their_own_way(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone", "alice", "main", "notes"), make(server, "laptop", "alice", "alice/notes")
    await online(phone, laptop)
    write(phone, "for main")
    write(phone, "for notes", "notes")
    late = phone.open("late")
    await wait_until(lambda: title(laptop.documents["alice/notes"]) == "for notes" and late.state == "live")
    phone.leave("notes")
    write(laptop, ", later", "alice/notes")
    await wait_until(lambda: not laptop.documents["alice/notes"].outbox)
    await answered(phone)
    assert not phone.of_type(wire.DELTA)


# Nothing is lost, nothing is doubled


async def test_a_lost_ack_and_resending(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    phone.loses = lambda frame: frame[0] == wire.ACK
    write(phone, "Hi")
    await wait_until(lambda: phone.link == "waiting" and title(laptop.documents["main"]) == "Hi")
    document = phone.documents["main"]
    assert [op.number for op in document.outbox] == [1]
    phone.loses = lambda frame: False
    write(phone, "!")
    await online(phone)
    await alike(phone, laptop)
    assert (document.acked, title(document)) == (2, "Hi!")
    assert next(frame for frame in phone.received[::-1] if frame[0] == wire.OPENED)[6] == 1  # stood in for the ACK
    phone.send([wire.PUSH, document.handle, 1, [b"whatever", b"it is known"], False])
    await wait_until(lambda: phone.of_type(wire.ACK)[-1][2:4] == [2, 0])  # known ops
    assert document.cursor == laptop.documents["main"].cursor


async def test_a_push_that_never_arrived_is_sent_again(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(phone, "Hi")
    phone.drop()  # before the writer could send it
    await wait_until(lambda: phone.link == "waiting")
    await online(phone)
    await alike(phone, laptop)
    assert title(laptop.documents["main"]) == "Hi"


async def test_ops_with_a_gap_are_refused_and_sent_again(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(phone, "1")
    await alike(phone, laptop)
    document = phone.documents["main"]
    document.sent = 3  # as if ops 2 and 3 had been sent
    for words in "234":
        write(phone, words)
    await alike(phone, laptop)
    assert phone.errors == [("op_gap", {"op": 4, "expected": 2})]
    assert title(laptop.documents["main"]) == "1234"


async def test_an_update_that_builds_on_what_the_server_lacks(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    document = phone.documents["main"]
    phone.link, live = "broken", document.state
    document.state = "closed"
    write(phone, "a defect loses this. ")
    document.edits.clear()
    phone.link, document.state = "ready", live
    write(phone, "This builds on it.")
    await alike(phone, laptop)
    assert [code for code, _ in phone.errors] == ["missing_deps"]
    assert title(laptop.documents["main"]) == "a defect loses this. This builds on it."


async def test_a_bad_update_is_put_aside(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(phone, "good")
    phone.documents["main"].edits.append(FIRST[:-3])
    write(phone, ", later")
    await wait_until(lambda: phone.documents["main"].set_aside)
    await alike(phone, laptop)
    assert title(phone.documents["main"]) == "good"
    ((code, detail),) = phone.errors
    assert (code, detail["op"], detail["reason"]) == ("bad_update", 2, "malformed")
    write(phone, " again")
    await alike(phone, laptop)
    assert title(laptop.documents["main"]) == "good again"


@pytest.mark.parametrize(
    ("code", "retry", "after_ms"),
    [
        ("not_saved", "now", None),
        ("rate_limited", "later", 1),
        ("a_code_of_later", "now", None),
        ("a_code_of_later", "later", 1),
        ("a_code_of_later", "after_resync", None),
    ],
)
async def test_refusals_that_mean_again(
    server: RunningServer, make: Make, code: str, retry: str, after_ms: int | None
) -> None:
    """The server took the ops: so this shows that sending again is safe as well."""
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    for words in "123":
        write(phone, words)
    phone.receive([wire.ERROR, None, phone.documents["main"].handle, code, "", retry, after_ms, {"op": 2}])
    await alike(phone, laptop)
    await answered(phone)
    assert title(laptop.documents["main"]) == "123"
    assert phone.documents["main"].acked == 3


async def test_a_state_vector_that_is_none(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(phone, "Hi")
    await alike(phone, laptop)
    phone.send([wire.RESYNC, phone.documents["main"].handle, None, b"\xff"])
    await wait_until(lambda: phone.errors)
    assert phone.errors[0][0] == "bad_state"
    await alike(phone, laptop)
    assert phone.documents["main"].modes[-1] == "diff"  # rebuilt


async def test_a_gap_is_a_resync(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(laptop, "Hi")
    await alike(phone, laptop)
    document = phone.documents["main"]
    phone.receive([wire.DELTA, document.handle, 9, []])
    assert document.state == "resyncing"
    write(laptop, "!")
    await alike(phone, laptop)
    answer = phone.of_type(wire.OPENED)[-1]
    assert answer[1] == 0
    assert isinstance(answer[7], bytes)


async def test_an_update_that_does_not_fit_is_not_applied(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(laptop, "Hi")
    await alike(phone, laptop)
    document = phone.documents["main"]
    phone.receive([wire.DELTA, document.handle, 2, [SECOND]])
    assert document.state == "resyncing"
    assert phone.sent[-1][:3] == [wire.RESYNC, document.handle, None]
    await alike(phone, laptop)


async def test_a_server_that_restarts(tmp_path: Path, make: Make) -> None:
    async with running_server(tmp_path) as first:
        phone, laptop = make(first, "phone"), make(first, "laptop")
        await online(phone, laptop)
        write(phone, "before")
        await alike(phone, laptop)
        staying = asyncio.create_task(phone.stay_connected())
        await wait_until(lambda: phone.documents["main"].state == "live")
        port = first.address[1]
    await wait_until(lambda: phone.link != "ready" and laptop.link == "waiting")
    write(phone, ", meanwhile")
    write(laptop, ", too")
    async with running_server(tmp_path, port=port) as second:
        assert second.url == phone.url
        await online(laptop)
        await wait_until(lambda: phone.documents["main"].state == "live", within_s=20)
        await alike(phone, laptop)
        assert sorted(title(phone.documents["main"]).split(", ")) == ["before", "meanwhile", "too"]
        staying.cancel()
        await asyncio.wait([staying])
        await phone.disconnect()
        await laptop.disconnect()


async def test_no_push_after_goaway(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    phone.receive([wire.GOAWAY, "restart", 10])
    write(phone, "Hi")
    await answered(phone)
    assert phone.retry_after_s == 0.01
    assert not any(frame[0] == wire.PUSH for frame in phone.sent)
    await offline(phone)
    await online(phone)
    await alike(phone, laptop)
    assert title(laptop.documents["main"]) == "Hi"


async def test_a_restored_backup_is_healed(tmp_path: Path, make: Make) -> None:
    (live := tmp_path / "live").mkdir()
    async with running_server(live) as first:
        phone, laptop = make(first, "phone"), make(first, "laptop")
        await online(phone, laptop)
        write(phone, "kept")
        await alike(phone, laptop)
        port = first.address[1]
    shutil.copytree(live, backup := tmp_path / "backup")
    async with running_server(live, port=port):
        await online(phone, laptop)
        write(phone, ", lost")
        await alike(phone, laptop)
        write(laptop, " twice")
        await alike(phone, laptop)
    await wait_until(lambda: phone.link == laptop.link == "waiting")
    write(laptop, ", new")
    before = phone.documents["main"].epoch
    async with running_server(backup, port=port) as third:
        fresh = make(third, "fresh")
        await online(fresh, phone, laptop)
        await alike(fresh, phone, laptop)
        assert phone.documents["main"].epoch != before
        assert title(fresh.documents["main"]) == "kept, lost twice, new"
        assert any(frame[0] == wire.PUSH and frame[4] is True for frame in phone.sent)
        assert await audited(fresh)
        for device in (fresh, phone, laptop):
            await device.disconnect()


async def test_a_copy_of_a_device_becomes_another_one(server: RunningServer, make: Make) -> None:
    phone, copied = make(server, "phone"), make(server, "phone")
    await online(phone)
    write(phone, "shared")
    await wait_until(lambda: phone.documents["main"].acked == 1)
    await phone.disconnect()
    theirs, ours = copied.documents["main"], phone.documents["main"]
    theirs.replica.apply_update(ours.replica.get_update())
    theirs.epoch, theirs.cursor = ours.epoch, ours.cursor
    theirs.acked, theirs.acked_chain = ours.acked, ours.acked_chain
    await online(phone)
    write(phone, ", the original's")
    await wait_until(lambda: ours.acked == 2)
    write(copied, ", the copy's")
    await copied.connect()
    await wait_until(lambda: copied.link == "waiting")
    assert copied.name != "phone"
    await online(copied)
    await wait_until(lambda: phone.link == "stopped")  # the copy came as `phone`
    assert phone.close_code == 4409
    await online(phone)
    await alike(phone, copied)
    assert {", the original's", ", the copy's"} == {f", {part}" for part in title(ours).split(", ")[1:]}


# Catching up


async def test_catching_up_in_each_mode(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(laptop)
    write(laptop, "one")
    await wait_until(lambda: laptop.documents["main"].acked == 1)
    document = phone.documents["main"]
    await online(phone)
    assert document.modes == ["diff"]  # it had no cursor
    await offline(phone)
    await online(phone)
    assert document.modes[1:] == ["current"]
    await offline(phone)
    write(laptop, ", two")
    await wait_until(lambda: laptop.documents["main"].acked == 2)
    await online(phone)
    assert document.modes[2:] == ["tail"]
    await offline(phone)
    phone.sends_sv = False
    document.epoch, document.cursor = bytes(8), [bytes(8), 1]
    await online(phone)
    assert document.modes[3] == "need_sv"
    assert document.modes[4] in ("diff", "tail")
    write(phone, ", three")
    await alike(phone, laptop)
    assert title(document) == "one, two, three"


async def test_a_tail_that_is_not_at_hand(server: RunningServer, make: Make) -> None:
    """A cursor far behind, without a state vector, and then with one."""
    phone, tablet, laptop = make(server, "phone", sends_sv=False), make(server, "tablet"), make(server, "laptop")
    await online(phone, tablet, laptop)
    write(laptop, "far back")
    await alike(phone, tablet, laptop)
    await offline(phone)
    await offline(tablet)
    for n in range(60):
        put(laptop, "key", noise(20_000, n))  # each overwrites the one before
        await wait_until(lambda: not laptop.documents["main"].outbox)
    await online(phone, tablet)
    await alike(phone, tablet, laptop)
    assert phone.documents["main"].modes[1:] == ["need_sv", "diff"]
    assert tablet.documents["main"].modes[1:] == ["diff"]


@pytest.mark.parametrize("deflate", [True, False])
async def test_a_big_document_in_chunks_that_is_cut_off_and_resumed(
    server: RunningServer, make: Make, deflate: bool
) -> None:
    laptop, phone = make(server, "laptop", deflate=deflate), make(server, "phone", deflate=deflate)
    await online(laptop)
    for n in range(8):  # more than a socket holds: what was written to a socket to the end is not kept for resuming
        write(laptop, noise(1_000_000, n))
    await wait_until(lambda: not laptop.documents["main"].outbox)
    phone.loses = lambda frame: frame[0] == wire.CHUNK and frame[2] >= 3 * 65536
    phone.socket_options = {"sock": await narrow_socket(server)}
    await phone.connect()
    await wait_until(lambda: phone.link == "waiting")
    document = phone.documents["main"]
    assert document.payload is not None
    assert len(document.payload.data) == 3 * 65536
    assert (document.cursor, title(document)) == (None, "")
    phone.socket_options, phone.loses, first = {}, lambda frame: False, phone.received.copy()
    write(phone, "written meanwhile. ")
    await online(phone)
    again = phone.received[len(first) :]
    assert [f[3] for f in first if f[0] == wire.OPENED] == [f[3] for f in again if f[0] == wire.OPENED] == ["diff"]
    assert [f[11] for f in first if f[0] == wire.OPENED] == [f[11] for f in again if f[0] == wire.OPENED]
    assert next(f for f in again if f[0] == wire.CHUNK)[2] == 3 * 65536
    await alike(phone, laptop)
    assert len(title(document)) == 8_000_000 + len("written meanwhile. ")
    assert await audited(phone)


async def test_edits_while_chunks_come(server: RunningServer, make: Make) -> None:
    laptop, phone = make(server, "laptop"), make(server, "phone")
    await online(laptop)
    for n in range(4):
        write(laptop, noise(1_000_000, n))
    await wait_until(lambda: not laptop.documents["main"].outbox)

    def both_write(frame: wire.Frame) -> bool:
        if frame[0] == wire.CHUNK and frame[2] in (0, 10 * 65536):
            put(phone, f"phone {frame[2]}", 1)
            put(laptop, f"laptop {frame[2]}", 1)
        return False

    phone.loses = both_write
    phone.socket_options = {"sock": await narrow_socket(server)}
    await online(phone)
    await alike(phone, laptop)
    kinds = [frame[0] for frame in phone.received]
    last = max(index for index, kind in enumerate(kinds) if kind == wire.CHUNK)
    assert wire.DELTA not in kinds[:last]
    assert len(phone.documents["main"].replica.get("data", type=Map)) == 4
    assert not phone.errors + laptop.errors


async def test_a_payload_that_is_gone_is_thrown_away(tmp_path: Path, make: Make) -> None:
    async with running_server(tmp_path) as first:
        laptop, phone = make(first, "laptop"), make(first, "phone")
        await online(laptop)
        write(laptop, noise(400_000))
        await wait_until(lambda: not laptop.documents["main"].outbox)
        phone.loses = lambda frame: frame[0] == wire.CHUNK and frame[2] >= 65536
        await phone.connect()
        await wait_until(lambda: phone.link == "waiting")
        port = first.address[1]
    phone.loses = lambda frame: False
    async with running_server(tmp_path, port=port):
        await online(phone, laptop)
        await alike(phone, laptop)
        chunks = [frame[2] for frame in phone.of_type(wire.CHUNK)]
        assert chunks.count(0) == 2
        await phone.disconnect()
        await laptop.disconnect()


@pytest.mark.parametrize("deflate", [True, False])
async def test_lists_of_updates_deflated_or_not(server: RunningServer, make: Make, deflate: bool) -> None:
    phone, laptop = make(server, "phone", deflate=deflate), make(server, "laptop", deflate=not deflate)
    await online(phone, laptop)
    write(phone, "abc " * 2000)
    await alike(phone, laptop)
    write(laptop, "xyz " * 2000)
    await alike(phone, laptop)
    write(phone, "small")
    await alike(phone, laptop)
    pushed = [frame[3] for frame in phone.sent if frame[0] == wire.PUSH]
    assert [isinstance(updates, bytes) for updates in pushed] == [deflate, False]
    assert isinstance(phone.of_type(wire.DELTA)[0][3], bytes) == deflate
    assert isinstance(laptop.of_type(wire.DELTA)[0][3], bytes) != deflate


# Audit, presence, life


async def test_audits_agree(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    phone.edit("main", fill)
    phone.edit("main", lambda doc: doc.get("data", type=Map).pop("half"))
    phone.edit("main", lambda doc: doc.get("note", type=Text).insert_embed(1, {"image": 1}))
    write(laptop, "Hi")
    await alike(phone, laptop)
    assert await audited(phone)
    assert await audited(laptop)


async def test_an_audit_that_fails_is_mended(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone"), make(server, "laptop")
    await online(phone, laptop)
    write(laptop, "all of it")
    await alike(phone, laptop)
    document = phone.documents["main"]
    document.replica = Doc()  # a defect of the phone
    assert not await audited(phone)
    await alike(phone, laptop)
    assert await audited(phone)
    assert title(document) == "all of it"


async def test_presence(server: RunningServer, make: Make) -> None:
    phone, laptop, late = make(server, "phone"), make(server, "laptop"), make(server, "late")
    await online(phone, laptop)
    phone.show("main", b"at 7")
    others = laptop.documents["main"].others
    await wait_until(lambda: others == {"alice/phone": b"at 7"})
    await online(late)
    await wait_until(lambda: late.documents["main"].others == {"alice/phone": b"at 7"})
    phone.drop()
    await wait_until(lambda: not others)
    await wait_until(lambda: phone.link == "waiting")
    await online(phone)  # it tells again by itself
    await wait_until(lambda: others == {"alice/phone": b"at 7"})
    phone.show("main", None)
    await wait_until(lambda: not others)
    phone.show("main", b"at 8")
    await wait_until(lambda: others == {"alice/phone": b"at 8"})
    phone.leave("main")
    await wait_until(lambda: not others)


async def test_ping_and_report(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone")
    await online(phone)
    phone.send([wire.REPORT, {"sync_failures": 2, "outbox_age_s": 1.5}])
    await answered(phone)
    assert phone.of_type(wire.PONG)[0][1] == 77


# Tokens and access


async def test_an_expired_token(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone", claims={"ttl_s": -1})
    write(phone, "kept")
    await phone.connect()
    await wait_until(lambda: phone.link == "waiting")
    assert (phone.close_code, [code for code, _ in phone.errors]) == (4401, ["token_expired"])
    phone.get_token = lambda name: make_token("alice", name)
    await online(phone)
    await wait_until(lambda: phone.documents["main"].acked == 1)


async def test_a_token_that_ends_while_connected(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone")
    token = make_token("alice", "phone", ttl_s=0.5)
    phone.get_token = lambda name: token
    await phone.connect()
    await wait_until(lambda: phone.link == "waiting")
    assert (phone.close_code, phone.errors[-1][0]) == (4401, "token_expired")
    assert phone.of_type(wire.EXPIRING)


async def test_a_token_that_is_renewed(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone", claims={"ttl_s": 30}), make(server, "laptop")
    await phone.connect()
    phone.get_token = lambda name: make_token("alice", name)
    await wait_until(lambda: any(frame[0] == wire.AUTH for frame in phone.sent))  # EXPIRING came at once
    await online(laptop)
    write(phone, "Hi")
    await alike(phone, laptop)
    assert not phone.errors


async def test_a_token_of_another_device(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone")
    phone.get_token = lambda name: make_token("alice", "laptop")
    await phone.connect()
    await wait_until(lambda: phone.link == "waiting")
    assert (phone.close_code, phone.errors[0][0]) == (4401, "bad_token")


async def test_a_read_only_grant(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone")
    reader = make(server, "tab", "bob", "alice/main", claims={"docs": {"alice/main": "r"}})
    document = reader.documents["alice/main"]
    await online(phone, reader)
    write(phone, "Hi")
    await alike(phone, reader)
    assert document.access == "r"
    write(reader, "!", "alice/main")
    await answered(reader)
    assert not reader.errors  # it did not even try
    document.access = "rw"  # a defect of the phone
    write(reader, "?", "alice/main")
    await wait_until(lambda: reader.errors)
    ((code, detail),) = reader.errors
    assert (code, detail["op"], document.access, document.state) == ("forbidden", 1, "r", "live")
    assert len(document.outbox) == 2
    write(phone, " all")
    await wait_until(lambda: "all" in title(document))
    reader.get_token = lambda name: make_token("bob", name, docs={"alice/main": "rw"})
    reader.authenticate()
    reader.open("alice/main")
    await alike(phone, reader)
    assert "!?" in title(phone.documents["main"])


async def test_a_document_without_a_grant(server: RunningServer, make: Make) -> None:
    bob = make(server, "tab", "bob", "alice/main", "main")
    await bob.connect()
    await wait_until(lambda: bob.documents["main"].state == "live" and bob.errors)
    assert (bob.errors[0][0], bob.documents["alice/main"].state) == ("forbidden", "blocked")


async def test_a_grant_that_is_lost(server: RunningServer, make: Make) -> None:
    bob = make(server, "tab", "bob", "alice/main", claims={"docs": {"alice/main": "rw"}})
    await online(bob)
    bob.get_token = lambda name: make_token("bob", name)
    bob.authenticate()
    await wait_until(lambda: bob.documents["alice/main"].state == "blocked")
    await answered(bob)


async def test_a_second_socket_of_the_same_device(server: RunningServer, make: Make) -> None:
    older, newer = make(server, "phone"), make(server, "phone")
    await online(older, newer)
    await wait_until(lambda: older.link == "stopped")
    assert (older.close_code, older.errors[-1][0]) == (4409, "superseded")


# Later versions


async def test_unknown_optional_frames_are_ignored_by_both(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone")
    await online(phone)
    for kind in (64, 100, 127):
        phone.send([kind, {"of": "later"}, [1, 2, 3]])
        assert wire.read_frame(msgpack.packb([kind, "of later"])) is None
    await answered(phone)
    assert phone.link == "ready"


@pytest.mark.parametrize("kind", [0, 11, 63, 128, wire.WELCOME, wire.DELTA])
async def test_other_unknown_frames_are_bad(server: RunningServer, make: Make, kind: int) -> None:
    phone = make(server, "phone")
    await online(phone)
    phone.send([kind, 1, 2, []])
    await wait_until(lambda: phone.link == "waiting")
    assert (phone.close_code, phone.errors[-1][0]) == (4400, "bad_frame")


@pytest.mark.parametrize(
    ("first", "code", "close"),
    [
        ([wire.HELLO, 2, "", "phone", "independent/2", {}, []], "unsupported_version", 4406),
        ([wire.HELLO, 1, "no token", "phone", "independent/1", {}, []], "bad_token", 4401),
        ([wire.HELLO, 1, "", "phone"], "bad_frame", 4400),
        ([wire.PING, 1], "bad_frame", 4400),
    ],
)
async def test_a_wrong_first_frame(server: RunningServer, make: Make, first: wire.Frame, code: str, close: int) -> None:
    class Wrong(Phone):
        def send(self, frame: wire.Frame) -> None:
            super().send(first if frame[0] == wire.HELLO else frame)

    phone = make(server, "phone", kind=Wrong)
    await phone.connect()
    await wait_until(lambda: phone.link in ("waiting", "stopped"))
    assert ([code for code, _ in phone.errors], phone.close_code) == ([code], close)
    assert (phone.link == "stopped") == (close == 4406)


async def test_a_presence_over_its_limit(server: RunningServer, make: Make) -> None:
    phone = make(server, "phone")
    await online(phone)
    phone.show("main", bytes(4097))
    await wait_until(lambda: phone.link == "waiting")
    assert (phone.close_code, phone.errors[-1][0]) == (4413, "too_big")


async def test_appended_fields_are_ignored_by_both(server: RunningServer, make: Make) -> None:
    phone, laptop = make(server, "phone", kind=PhoneOfTheFuture), make(server, "laptop", kind=PhoneOfTheFuture)
    await online(phone, laptop)
    write(phone, "Hi")
    await alike(phone, laptop)
    phone.show("main", b"at 1")
    await wait_until(lambda: laptop.documents["main"].others)
    assert await audited(phone)
    await offline(phone)
    write(laptop, "!")
    write(phone, "?")
    await online(phone)
    phone.receive([wire.DELTA, phone.documents["main"].handle, 99, []])
    phone.open("another")
    phone.send([wire.PING, 5])
    await wait_until(lambda: phone.pongs == [5] and phone.documents["another"].state == "live")
    phone.leave("another")
    await alike(phone, laptop)
    assert not phone.errors + laptop.errors

"""The comparison with other servers: their protocols, and that a run is only believed when everything is everywhere."""

from __future__ import annotations

import asyncio
import random

import pycrdt
import pytest
from pycrdt import Doc, Text, YMessageType, create_sync_message, create_update_message, handle_sync_message

from benchmarks.client import client_frame
from benchmarks.figures import Better, Figure, Run, Scale, WorkloadFailed
from benchmarks.peers import command, fanout
from benchmarks.peers.device import Device
from benchmarks.peers.dialects import Acked, Asked, Changes, Dialect, Hocuspocus, Known, Opened, Place, Yjs
from benchmarks.peers.durability import killed
from benchmarks.peers.fanout import Shape
from benchmarks.peers.rooms import Room, Script, script
from benchmarks.peers.servers import PEERS
from benchmarks.peers.wire import Messages, pong_to
from benchmarks.report import Report

PLACE = Place(3, "phone", "")
UPDATES = 6


def frame(payload: bytes) -> bytes:
    """One binary message as a server sends it, without a mask."""
    framed = client_frame(payload)
    head = {0x7E: 4, 0x7F: 10}.get(framed[1] & 0x7F, 2)
    return bytes((framed[0], framed[1] & 0x7F)) + framed[2:head] + payload


def told(update: bytes) -> bytes:
    """What a Yjs server sends for an edit."""
    return frame(create_update_message(update))


class Sent(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data


class Nowhere:
    """A server that nobody connects to."""

    host = "127.0.0.1"
    port = 1

    def cpu_s(self) -> float:
        return 0.0

    def kill(self) -> None:
        raise AssertionError

    def token(self, user: str, device: str) -> str:
        return ""


def opened_device(dialect: Dialect) -> Device:
    device = Device(Nowhere(), dialect, PLACE, Known())
    device.connection_made(Sent())
    device.opened.set_result(Opened(()))
    return device


def room_of(devices: int, dialect: Dialect | None = None) -> tuple[Room, Script]:
    lines = script(devices, UPDATES)
    spoken = dialect or Yjs()
    return Room(spoken, [opened_device(spoken) for _ in range(devices)], lines, timing=True), lines


@pytest.mark.parametrize("seed", range(5))
def test_messages_are_cut_from_any_pieces(seed: int) -> None:
    rng = random.Random(seed)
    payloads = [rng.randbytes(size) for size in (0, 1, 125, 126, 5000, 65535, 65536, 70000, 2)]
    stream = b"\x89\x02hi".join(frame(payload) for payload in payloads)
    messages, found = Messages(), []
    while stream:
        size = rng.choice((1, 3, 100, 40_000))
        found += messages.feed(stream[:size])
        stream = stream[size:]
    assert found == payloads


def test_a_ping_that_comes_alone_is_answered() -> None:
    assert pong_to(b"\x89\x02hi") == b"\x8a\x82\x00\x00\x00\x00hi"
    assert pong_to(b"\x89\x02hi" + frame(b"more")) is None


def test_yjs_is_what_pycrdt_speaks() -> None:
    doc = Doc({"t": Text("hello")})
    dialect = Yjs()
    assert dialect.edit(0, 0, 1, doc.get_update()) == create_update_message(doc.get_update())
    assert dialect.read(create_sync_message(doc)) == Asked(doc.get_state())
    [greeting] = dialect.greeting(PLACE, Known())
    assert greeting[0] == YMessageType.SYNC
    answer = handle_sync_message(greeting[1:], doc)
    assert answer is not None
    assert dialect.read(answer) == Opened((doc.get_update(),))
    copy: Doc[Text] = Doc()
    handle_sync_message(dialect.answer(0, doc.get_update())[1:], copy)
    assert str(copy.get("t", type=Text)) == "hello"


def test_hocuspocus_puts_the_name_first_and_acknowledges() -> None:
    dialect = Hocuspocus()
    name = b"\x0adocument-3"
    token, greeting = dialect.greeting(PLACE, Known())
    assert token == name + b"\x02\x00\x09benchmark"
    assert greeting == name + b"\x00\x00\x01\x00"
    assert dialect.read(name + b"\x00\x02\x02\x00\x00") == Changes((b"\x00\x00",))
    assert dialect.read(name + b"\x04\x00\x01\x00") == Asked(b"\x00")
    assert dialect.read(name + b"\x08\x01") == Acked(None)
    assert dialect.read(name + b"\x01\x00") is None


async def test_updates_count_by_content_merged_or_not() -> None:
    room, lines = room_of(3)
    first, second, third = room.devices
    first.push(3)
    for update in lines.updates[0][:3]:
        second.data_received(told(update))
    assert not room.complete()
    third.data_received(told(pycrdt.merge_updates(*lines.updates[0][:3])))
    assert room.complete()
    assert len(room.delivery_s) == 6


async def test_a_run_is_not_complete_while_one_device_lacks_one_update() -> None:
    room, lines = room_of(3)
    first, second, third = room.devices
    first.push(2)
    for update in lines.updates[0][:2]:
        second.data_received(told(update))
    third.data_received(told(lines.updates[0][0]))
    assert room.witnessed()
    assert not room.complete()
    third.data_received(told(lines.updates[0][1]))
    assert room.complete()


async def test_an_echo_is_no_delivery() -> None:
    room, lines = room_of(2)
    first, second = room.devices
    first.push()
    first.data_received(told(lines.updates[0][0]))
    assert not room.complete()
    assert not room.delivery_s
    second.data_received(told(lines.updates[0][0]))
    assert room.complete()


async def test_a_gap_is_a_fault() -> None:
    room, lines = room_of(2)
    first, second = room.devices
    first.push(2)
    second.data_received(told(lines.updates[0][1]))
    assert "before" in room.fault


async def test_every_edit_needs_its_acknowledgement_where_servers_give_them() -> None:
    dialect = Hocuspocus()
    room, lines = room_of(2, dialect)
    first, second = room.devices
    first.push()
    second.data_received(frame(b"\x0adocument-3" + create_update_message(lines.updates[0][0])))
    assert not room.complete()
    first.data_received(frame(b"\x0adocument-3\x08\x01"))
    assert room.complete()


async def test_the_window_opens_when_the_designated_device_has_the_update() -> None:
    room, lines = room_of(3)
    first, second, third = room.devices
    room.saturating = True
    third.push()
    second.data_received(told(lines.updates[2][0]))
    assert third.sent == 1
    first.data_received(told(lines.updates[2][0]))
    assert third.sent == 2


async def test_a_generator_that_runs_dry_says_so() -> None:
    room, lines = room_of(2)
    first, second = room.devices
    room.saturating = True
    first.push(UPDATES)
    second.data_received(told(lines.updates[0][0]))
    assert "ran out" in room.fault


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "SETTLED_S", 0.1)
    monkeypatch.setattr(fanout, "QUIET_S", 0.05)


@pytest.mark.usefixtures("hasty")
async def test_a_paced_run_with_syncline(tmp_path_factory: pytest.TempPathFactory) -> None:
    peer = PEERS["syncline"]
    with peer.start(tmp_path_factory.mktemp("data")) as server:
        run = await fanout.fanout(peer, server, Shape(2, 3, 200, 1000), 0.2)
    found = {figure.name: figure.value for figure in run.figures}
    assert found["deliveries"] > 0
    assert found["deliveries per CPU second"] > 0
    assert 0 < found["ack p50"] <= found["ack p99"]


@pytest.mark.usefixtures("hasty")
async def test_a_run_fails_when_a_newcomer_lacks_something(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "text_of", lambda updates: "xx")
    peer = PEERS["syncline"]
    with peer.start(tmp_path_factory.mktemp("data")) as server, pytest.raises(WorkloadFailed, match="newcomer"):
        await fanout.fanout(peer, server, Shape(1, 2, None, 8000), 0.1)


async def test_a_kill_takes_nothing_from_syncline() -> None:
    run = await killed(PEERS["syncline"], 50, in_flight=4)
    assert [figure.value for figure in run.figures] == [0]


def test_ratios_are_of_rounds() -> None:
    report = Report.begun("", Scale(), {})
    for name, values in (("Syncline", (10.0, 30.0)), ("Hocuspocus", (5.0, 10.0))):
        report.runs[f"1x100/{name}"] = [
            (Run(name, (Figure("deliveries", value, "/s", Better.HIGHER),)),) for value in values
        ]
    columns = {str(column.header): list(column.cells) for column in command.ratios(report).columns}
    assert columns["Hocuspocus"] == ["[green]2.5 (2-3)[/]"]
    assert columns["y-websocket"] == [""]

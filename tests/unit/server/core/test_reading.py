"""What is one push of what one read brought, and what stays by itself."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from pycrdt import Text

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import Cursor, DeviceFrame, Open, Push
from crdt.update import EMPTY_STATE_VECTOR
from server.core import events
from server.core.arrivals import TURN_BYTES, TURN_OPS
from server.core.reading import frames_in
from tests.unit.server.core.lab import MAIN, Lab, Writer

LIMITS = Limits()
OPTIONAL = bytes(msgpack.packb([120, b"of a later version"]))


def read(*sent: DeviceFrame | bytes, limits: Limits = LIMITS) -> list[DeviceFrame | PeerError | None]:
    return [frame for frame, _, _ in frames_in([_bytes(frame) for frame in sent], limits)]


def _bytes(frame: DeviceFrame | bytes) -> bytes:
    return frame if isinstance(frame, bytes) else encode(frame)


def test_pushes_that_go_on_are_one() -> None:
    sent = [Push(3, 5, (b"a",)), Push(3, 6, (b"b", b"c")), Push(3, 8, (b"d",))]
    ((frame, size, _),) = frames_in([encode(push) for push in sent], LIMITS)
    assert frame == Push(3, 5, (b"a", b"b", b"c", b"d"))
    assert size == sum(len(encode(push)) for push in sent)


@pytest.mark.parametrize(
    "sent",
    [
        [Push(1, 1, (b"a",)), Push(2, 2, (b"b",))],
        [Push(1, 1, (b"a",)), Push(1, 3, (b"b",))],
        [Push(1, 2, (b"a",)), Push(1, 2, (b"b",))],
        [Push(1, 2, (b"a",)), Push(1, 1, (b"b",))],
        [Push(1, 1, ()), Push(1, 1, (b"b",))],
        [Push(1, 1, (b"a",)), Push(1, 2, ()), Push(1, 2, (b"b",))],
        [Push(1, 1, (b"a",)), frames.Ping(1), Push(1, 2, (b"b",))],
        [Push(1, 1, (b"a",)), frames.Leave(1), Open(1, "main", None, b"\x00"), Push(1, 2, (b"b",))],
        [frames.Ping(1), frames.Ping(2)],
    ],
)
def test_all_others_stay_as_they_were(sent: list[DeviceFrame]) -> None:
    assert read(*sent) == sent


def test_what_may_be_ignored_is_none() -> None:
    assert read(OPTIONAL, Push(1, 1, (b"a",)), OPTIONAL) == [None, Push(1, 1, (b"a",)), None]


def test_it_is_known_of_how_many_messages_each_was_made() -> None:
    sent = [OPTIONAL, *(encode(Push(1, op, (b"a",))) for op in (1, 2, 3)), b"no frame", encode(frames.Ping(1))]
    assert [messages for _, _, messages in frames_in(sent, LIMITS)] == [1, 3, 1, 1]


def test_an_error_stays_in_its_place() -> None:
    first, error, last = read(Push(1, 1, (b"a",)), b"\xc1", Push(1, 2, (b"b",)))
    assert (first, last) == (Push(1, 1, (b"a",)), Push(1, 2, (b"b",)))
    assert isinstance(error, PeerError)
    assert error.code == Code.BAD_FRAME


def test_each_push_is_held_to_the_limits_by_itself() -> None:
    limits = replace(LIMITS, updates_per_push=2)
    assert read(Push(1, 1, (b"a", b"b")), Push(1, 3, (b"c",)), limits=limits) == [Push(1, 1, (b"a", b"b", b"c"))]
    fine, error = read(Push(1, 1, (b"a",)), Push(1, 2, (b"b",) * 3), limits=limits)
    assert fine == Push(1, 1, (b"a",))
    assert isinstance(error, PeerError)
    assert error.code == Code.TOO_BIG


def test_what_heals_is_not_joined_to_what_does_not() -> None:
    pushes = [Push(1, number, (b"a",), heal=number < 3) for number in range(1, 5)]
    assert read(*pushes) == [Push(1, 1, (b"a",) * 2, heal=True), Push(1, 3, (b"a",) * 2)]


@pytest.mark.parametrize(
    "updates", [(b"\x00\x00",) * (TURN_OPS // 2), (bytes(TURN_BYTES // 4),) * 2], ids=["ops", "bytes"]
)
def test_pushes_that_fit_a_turn_are_not_joined_to_one_that_does_not(updates: tuple[bytes, ...]) -> None:
    """A short frame may inflate to thousands of updates: all of a packet together would be rehearsed as one."""
    count = len(updates)
    sent = [encode(Push(1, 1 + index * count, updates), deflate=True) for index in range(5)]
    joined = [frame for frame, _, _ in frames_in(sent, LIMITS)]
    assert joined == [
        Push(1, 1, updates * 2), Push(1, 1 + 2 * count, updates * 2), Push(1, 1 + 4 * count, updates),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "taken"), [(Limits(update_bytes=60), 3), (Limits(document_bytes=100), 3), (Limits(), 5)]
)
def test_limits_hold_within_a_run(limits: Limits, taken: int) -> None:
    lab = Lab(limits=limits)
    writer = Writer(7)
    phone, handle = lab.join()
    texts = ("a", "b", "c", "d" * 61, "e")
    updates = [typed(writer, text) for text in texts]
    pushes = [Push(handle, number, (update,)) for number, update in enumerate(updates, 1)]
    lab.feed(events.MessagesReceived(phone, [encode(push) for push in pushes]))
    lab.settle()
    assert [entry.last_op for entry in lab.durable()] == [taken]
    errors = [(f.code, (f.detail or {}).get("op")) for f in lab.received(phone) if isinstance(f, frames.Error)]
    assert errors == ([(Code.TOO_BIG, taken + 1)] if taken < len(texts) else [])


def typed(writer: Writer, text: str) -> bytes:
    """Types on where the writer's text ends."""
    end = len(writer.replica.values().get("t", ""))
    update = writer.replica.edit(lambda doc: doc.get("t", type=Text).insert(end, text))
    assert update is not None
    return update


def test_only_the_first_op_heals_of_those_that_type_on() -> None:
    """The store was set back, and the device types on where it was."""
    lab = Lab()
    writer = Writer(7)
    phone, handle = lab.join()
    lab.push(phone, handle, 1, typed(writer, "a"))
    lab.push(phone, handle, 2, typed(writer, "b"))
    lab.settle()
    ahead = Cursor(lab.epoch(), 1_000)
    laptop = lab.hello("alice", "laptop", Open(2, "main", ahead, EMPTY_STATE_VECTOR))
    lab.settle()
    assert ahead.epoch != lab.epoch(), "a new epoch"
    lab.send(phone, Open(3, "main", None, EMPTY_STATE_VECTOR))
    lab.settle()
    pushes = [Push(handle, number, (typed(writer, "x"),), heal=number == 1) for number in (1, 2, 3)]
    lab.feed(events.MessagesReceived(phone, [encode(push) for push in pushes]))
    lab.settle()
    healing = [(entry.first_op, entry.last_op, entry.heal) for entry in lab.durable(MAIN)][-2:]
    assert healing == [(1, 1, True), (2, 3, False)]
    assert laptop not in lab.closed

"""Messages that were read at once come to the same as the same messages one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from unittest.mock import patch

import msgpack
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pycrdt import Text

from crdt.errors import ReplicaBroken
from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Error, Open, Push, ServerFrame
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR, Update
from server.core import effects, events
from server.core.inspector import Inspector
from tests.unit.server.core.lab import Lab, values

SOAK = "SYNCLINE_SOAK" in os.environ
SMALL = Limits(update_bytes=60, document_bytes=400)
CULPRIT = b"culprit"
DEAR = "dear" * 10

OFTEN = ("type", "type", "type", "type", "type", "several", "as_other")
SELDOM = (
    "front", "delete", "long", "garbage", "culprit", "gap", "resend", "empty", "deflated", "heal",
    "ping", "optional", "lost", "reopen", "no_frame", "read_only",
)  # fmt: skip
ENDS = ("", "turn", "settle", "answer", "fail", "fail_durable")


@dataclass(frozen=True)
class Act:
    """What a device sends next, and how often."""

    device: int
    kind: str
    times: int
    end: str
    """What happens after it, before anything else is read."""


def acts(kinds: tuple[str, ...], ends: tuple[str, ...], often: tuple[str, ...] = OFTEN) -> st.SearchStrategy[list[Act]]:
    kind = st.sampled_from(often) | st.sampled_from(kinds)
    end = st.sampled_from((*[""] * 5, *ends))
    return st.lists(st.builds(Act, st.integers(0, 1), kind, st.integers(1, 4), end), min_size=1, max_size=14)


@dataclass
class Author:
    """Makes what the devices send, without regard to what they are answered."""

    handle: int
    replicas: list[Replica] = field(default_factory=lambda: [Replica(1), Replica(2)])
    sent: list[list[bytes]] = field(default_factory=lambda: [[], []])

    def messages(self, act: Act) -> Iterator[tuple[int, bytes]]:
        for time in range(act.times):
            for message in self._act(act, time):
                yield (2 if act.kind == "read_only" else act.device), message

    def _act(self, act: Act, time: int) -> Iterator[bytes]:  # noqa: C901 - one case for each kind
        device, sent = act.device, self.sent[act.device]
        number = len(sent) + 1
        match act.kind:
            case "type" | "as_other":
                yield self._push(device, self._typed(device ^ (act.kind == "as_other"), "x"))
            case "several":
                yield self._push(device, *[self._typed(device, char) for char in "abc"])
            case "deflated":
                updates = [self._typed(device, "z") for _ in range(60)]
                sent += updates
                yield encode(Push(self.handle, number, tuple(updates)), deflate=True)
            case "front":
                yield self._push(device, self._edit(device, "f", 0))
            case "delete":
                yield self._push(device, self._delete(device))
            case "long" | "culprit" | "dear":
                text = {"long": "l" * 61, "culprit": CULPRIT.decode(), "dear": DEAR}[act.kind]
                yield self._push(device, self._typed(device, text))
            case "garbage":
                yield self._push(device, b"\x01\x01junk")
            case "gap":
                yield encode(Push(self.handle, number + 2, (self._typed(device, "g"),)))
            case "resend":
                for at in range(max(0, len(sent) - 4 * act.times), len(sent)):
                    yield encode(Push(self.handle, at + 1, (sent[at],)))
            case "heal":
                sent.append(self._typed(device, "h"))
                yield encode(Push(self.handle, number, (sent[-1],), heal=True))
            case "empty":
                yield encode(Push(self.handle, number, ()))
            case "read_only":
                yield encode(Push(self.handle, time + 1, (b"\x00\x00",)))
            case "lost":
                yield encode(Push(99, time + 1, (b"\x00\x00",)))
            case "ping":
                yield encode(frames.Ping(time))
            case "optional":
                yield msgpack.packb([min(frames.OPTIONAL_TYPES) + 5, b"later"])
            case "reopen":
                yield encode(frames.Leave(self.handle))
                yield encode(Open(2, "main", None, EMPTY_STATE_VECTOR))
            case "no_frame":
                yield b"\xc1"
            case _:
                raise AssertionError(act)

    def _push(self, device: int, *updates: bytes) -> bytes:
        first_op = len(self.sent[device]) + 1
        self.sent[device] += updates
        return encode(Push(self.handle, first_op, updates))

    def _typed(self, device: int, text: str) -> bytes:
        return self._edit(device, text, len(self.replicas[device].values().get("t", "")))

    def _edit(self, device: int, text: str, at: int) -> bytes:
        update = self.replicas[device].edit(lambda doc: doc.get("t", type=Text).insert(at, text))
        assert update is not None
        return update

    def _delete(self, device: int) -> bytes:
        def delete(doc: Any) -> None:
            text = doc.get("t", type=Text)
            if len(text):
                del text[0:1]
            else:
                text.insert(0, "y")

        update = self.replicas[device].edit(delete)
        assert update is not None
        return update


@dataclass
class Trial:
    """One hub that is given the messages in groups: `sizes` says how many of a device's at once, over and over."""

    sizes: tuple[int, ...]
    lab: Lab
    received: dict[int, list[ServerFrame]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        docs = {"alice/main": "r"}
        self.sessions = [self.lab.join(device=name)[0] for name in ("phone", "laptop")]
        reader, self.handle = self.lab.join("bob", "tablet", "alice/main", docs=docs)
        self.sessions.append(reader)
        self._turn = 0

    def run(self, script: list[Act]) -> None:
        author = Author(self.handle)
        waiting: list[tuple[int, bytes]] = []
        for act in script:
            waiting += author.messages(act)
            if act.end:
                self._tell(waiting)
                waiting = []
                self._end(act.end)
        self._tell(waiting)
        self.lab.settle()
        self.received = {session: self.lab.received(session) for session in self.sessions}

    def _tell(self, waiting: list[tuple[int, bytes]]) -> None:
        for device, group in groupby(waiting, key=lambda item: item[0]):
            messages = [message for _, message in group]
            while messages:
                size = self.sizes[self._turn % len(self.sizes)]
                self._turn += 1
                self.lab.feed(events.MessagesReceived(self.sessions[device], messages[:size]))
                messages = messages[size:]

    def _end(self, end: str) -> None:
        lab = self.lab
        lab.turn()
        if end == "settle":
            lab.settle()
        elif end.startswith("fail") and lab.held and isinstance(lab.held[0], effects.Append | effects.Load):
            lab.fail(durable=end == "fail_durable")
        elif end == "answer" and lab.held:
            lab.answer()

    def frames(self) -> dict[int, list[ServerFrame]]:
        """What each was told, but for the repetitions that joining saves.

        Errors come last: an op that was in the log already is acknowledged behind the errors of its PUSH.
        """
        told = {session: list(_without_repetitions(received)) for session, received in self.received.items()}
        return {session: sorted(frames, key=lambda frame: isinstance(frame, Error)) for session, frames in told.items()}

    def outcome(self) -> dict[str, Any]:
        """What counts in the end, whatever the log's entries are."""
        told = self.frames()
        return {
            "log": {
                device: b"".join(update for entry in self._log(device) for update in entry.updates)
                for device in ("phone", "laptop")
            },
            "last": {device: [(e.last_op, e.chain) for e in self._log(device)][-1:] for device in ("phone", "laptop")},
            "acks": {
                session: [(f.op, f.chain) for f in told[session] if isinstance(f, Ack)][-1:]
                for session in told
                if session not in self.lab.closed  # whose error may come before an acknowledgement, or after
            },
            "errors": {session: [f for f in told[session] if isinstance(f, Error)] for session in told},
            "closed": self.lab.closed,
            "values": values(self.lab.durable()),
        }

    def _log(self, device: str) -> list[Any]:
        return [entry for entry in self.lab.durable() if entry.device.name == device]


def _without_repetitions(told: list[ServerFrame]) -> Iterator[ServerFrame]:
    """Without what is sent again for each PUSH, however many were one message: who is told once knows."""
    last_ack, is_forbidden = None, False
    for frame in told:
        match frame:
            case Error(code=Code.FORBIDDEN):
                if not is_forbidden:
                    yield frame
                is_forbidden = True
            case Ack(seq=0):
                if frame != last_ack:
                    yield frame
                last_ack = frame
            case _:
                yield frame
                is_forbidden = is_forbidden and isinstance(frame, Ack)


@contextmanager
def marked_updates() -> Iterator[None]:
    """The library breaks on a culprit; the check calls whatever has `DEAR` in it dear."""
    apply, admit = Replica.apply, Inspector.admit

    def stumble(self: Replica, updates: Iterable[bytes]) -> bytes:
        kept = list(updates)
        if any(CULPRIT in update for update in kept):
            raise ReplicaBroken("a marked update")
        return apply(self, kept)

    def judge(self: Inspector, update: Update, known: Any, user: str, **how: Any) -> bool:
        is_dear = any(struct.length == len(DEAR) for struct in update.structs)
        return (not is_dear or bool(how.get("rehearsed", True))) and admit(self, update, known, user, **how)

    with patch.object(Replica, "apply", stumble), patch.object(Inspector, "admit", judge):
        yield


def trials(script: list[Act], sizes: list[int], limits: Limits) -> list[Trial]:
    """The same script with each message by itself, all at once, and in groups."""
    found = [Trial(each, Lab(limits=limits)) for each in ((1,), (1 << 20,), tuple(sizes))]
    with marked_updates():
        for trial in found:
            trial.run(script)
    return found


SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=6)
LIMITS = st.sampled_from((Limits(), SMALL))


@given(acts(SELDOM, ENDS), SIZES, LIMITS)
@settings(
    max_examples=4000 if SOAK else 120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@example([Act(0, "type", 4, ""), Act(0, "culprit", 1, ""), Act(0, "type", 4, "")], [2], Limits())
@example([Act(0, "type", 1, "settle"), Act(0, "type", 2, ""), Act(0, "culprit", 1, "")], [2], Limits())
@example([Act(0, "type", 4, "turn"), Act(0, "type", 4, "fail_durable"), Act(0, "resend", 4, "")], [3], Limits())
@example([Act(0, "several", 4, ""), Act(0, "long", 1, ""), Act(0, "type", 4, "")], [5], SMALL)
@example([Act(0, "type", 4, ""), Act(1, "as_other", 4, ""), Act(0, "type", 4, "")], [2], Limits())
def test_reading_at_once_changes_neither_the_log_nor_what_anybody_is_told(
    script: list[Act], sizes: list[int], limits: Limits
) -> None:
    alone, *joined = trials(script, sizes, limits)
    for trial in joined:
        assert trial.lab.durable() == alone.lab.durable()
        assert trial.frames() == alone.frames()
        assert trial.outcome() == alone.outcome()
        assert trial.lab.paused == alone.lab.paused


@given(acts((*SELDOM, "dear", "dear", "dear", "dear"), ("settle",), OFTEN[:-1]), SIZES, LIMITS)
@settings(
    max_examples=2000 if SOAK else 60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_where_some_is_rehearsed_the_same_is_in_the_log_in_the_end(
    script: list[Act], sizes: list[int], limits: Limits
) -> None:
    """How many entries it makes depends on what was rehearsed together; so does who comes first of two devices, so
    neither builds on the other here.
    """
    alone, *joined = trials(script, sizes, limits)
    for trial in joined:
        assert trial.outcome() == alone.outcome()

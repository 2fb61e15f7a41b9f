"""One document as the server keeps it, with what must hold of it after each step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from crdt.chain import OpState
from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.ids import DeviceId
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import StateVector, read_update, root_kinds
from crdt.values import Values, canonical_json, values_of
from server.core.batch import apply_runs, entries_of
from server.core.inspector import Inspector
from server.core.intake import Intake, Ops, Verdict
from server.core.records import LogEntry, Snapshot, StoredDocument
from server.runtime.rehearsal import rehearse
from server.storage.compaction import CompactionError, verified_snapshot
from tests.fuzz.atlas import Atlas
from tests.fuzz.findings import Finding
from tests.fuzz.honest import SCHEMA, Phone, shown
from tests.fuzz.raw import parse

Step = list[Any]
"""The name of a method of Trial, and its arguments as JSON has them. Bytes are in hex."""

SLOW_S = 0.25
"""CPU seconds that an update may take, to check and to apply."""

AUDIT_BYTES = 500
"""A commit counts for so many bytes of a document on the way to its next audit: large ones are audited less often."""

EPOCH = b"12345678"
_ORDERS = 3
_FEW_UPDATES = 60
"""Longer histories are not taken in other orders: it costs their square."""


class Trial:
    """`note` is told of every step before it is taken. `again`: the steps are from when other updates were refused."""

    def __init__(
        self,
        note: Callable[[Step], None] = lambda step: None,
        outcomes: Counter[str] | None = None,
        *,
        again: bool = False,
    ) -> None:
        self._note = note
        self._again = again
        self._is_as_noted = True
        self._accepted = False
        self.outcomes: Counter[str] = Counter() if outcomes is None else outcomes
        self.atlas = Atlas()
        self.accepted: list[bytes] = []
        self.phone = Phone(1 << 40)
        self.values: Values = {}
        self.kinds: dict[str, str] = {}
        self._replica = Replica()
        self._ops: dict[DeviceId, OpState] = {}
        self._intake = Intake(self._ops, 1 << 20, "alice")
        self._intake.restart({}, Inspector())
        self._intake.bytes_left = 1 << 40
        self._snapshot: Snapshot | None = None
        self._entries: list[LogEntry] = []
        self._packed: bytes | None = None
        self._written_by: dict[int, set[bytes]] = {}
        self._unaudited_bytes = 0
        self._unaudited_deletes = False

    # --- steps

    def take(self, step: Step) -> bool:
        """Take a step that was noted. False if it was a push that was refused."""
        self._note(step)
        name, *arguments = step
        return getattr(self, f"_{name}")(*arguments) is not False

    def _push(self, user: str, data: str) -> bool:
        """Queue an update. Refused, it must leave no trace."""
        self._accepted = self._admit(user, bytes.fromhex(data))
        if not self._again:
            self._note(["was", self._accepted])
        return self._accepted

    def _was(self, accepted: bool) -> None:
        """What became of the last push when it was noted: honest devices went on from there."""
        self._is_as_noted = self._is_as_noted and accepted is self._accepted

    def _honest(self, data: str, client: int = 0) -> None:
        """Queue what a device made with the library: it must not be refused."""
        update = bytes.fromhex(data)
        self._written_by.setdefault(client, set()).add(update)
        if self._admit("alice", update):
            return
        if self._is_as_noted and not (self._again and self._refusal.startswith(Code.MISSING_DEPS)):
            raise Finding("refused", f"an honest update: {self._refusal}")

    def _commit(self) -> None:
        """Apply what is queued and log it."""
        runs = self._intake.take()
        if not runs:
            return
        with self._timed("apply", sum(map(len, runs))):
            try:
                apply_runs(self._replica, runs, self._intake.expected)
            except ReplicaBroken as exc:
                raise Finding("slipped", str(exc)) from exc
        entries = entries_of(runs, self._head_seq, 0)
        self._entries += entries
        for entry in entries:
            self._ops[entry.device] = OpState(entry.last_op, entry.chain)
        updates = [update for entry in entries for update in entry.updates]
        self.accepted += updates
        for update in updates:
            with self._reading("receive"):
                self.phone.receive(update)
            self.atlas.add(parse(update))
        self._unaudited_bytes += AUDIT_BYTES + sum(map(len, updates))
        self._unaudited_deletes |= any(read_update(update).deletes for update in updates)
        if self._unaudited_bytes > self._replica.v1_bytes:
            self._audit()

    def _compact(self) -> None:
        """Fold the log into a snapshot, as the server does in a process of its own."""
        self._commit()
        try:
            self._snapshot = verified_snapshot(self._stored(), 0)
        except CompactionError as exc:
            raise Finding("compaction", str(exc)) from exc
        self._entries = []
        self._reload()

    def _reload(self) -> None:
        """Load the document from what is stored."""
        self._commit()
        stored, before = self._stored(), self._replica.state_vector()
        with self._reading("reload"):
            self._replica = Replica.load(stored.state_updates())
        self._expect(self._replica.state_vector(), before, "reload")
        self._intake.restart(before, Inspector(stored, self._weakened))
        self._packed = None

    def _reread(self) -> None:
        """The same where what the check knew was lost, and is told from the state."""
        self._compact()
        assert self._snapshot is not None
        self._snapshot = replace(self._snapshot, check=None)
        self._reload()

    def _setback(self) -> None:
        """What is queued comes again, as after a failed append."""
        queue = self._intake.withdraw()
        self._intake.go_back(self._replica.state_vector(), {})
        for op in queue:
            try:
                self._intake.admit(op)
            except PeerError as exc:
                raise Finding("refused", f"at the second time: {exc.message}") from exc
        self._packed = None

    def _end(self) -> None:
        """The whole document, taken in other orders."""
        self._reread()
        self._audit()
        if self._written_by and len(self.accepted) <= _FEW_UPDATES:
            random = Random(len(self.accepted))
            for _ in range(_ORDERS):
                self._take_in_other_order(random)

    # --- how it is done

    @property
    def _head_seq(self) -> int:
        if self._entries:
            return self._entries[-1].seq
        return self._snapshot.seq if self._snapshot else 0

    def _stored(self) -> StoredDocument:
        return StoredDocument(EPOCH, 0, self._snapshot, tuple(self._entries))

    def _admit(self, user: str, update: bytes) -> bool:
        device = DeviceId(user, "phone")
        op = Ops(1, device, self._intake.last(device).op + 1, (update,), 0.0)
        before = self._pack()
        try:
            with self._timed("check", 1):
                verdict = self._intake.admit(op)
            if verdict is Verdict.DEAR:
                self._rehearse(op)
        except PeerError as exc:
            self._refusal = f"{exc.code}: {exc.message}"
            self.outcomes[f"{exc.code} {exc.detail.get('reason', '')}".strip()] += 1
            if self._pack() != before:
                raise Finding("touched", f"a refused update changed the check: {exc.message}") from exc
            return False
        self.outcomes["accepted"] += 1
        self._packed = None
        return True

    def _rehearse(self, op: Ops) -> None:
        """It may take long to apply: as the server does, try it on a copy first. Raises PeerError."""
        self._commit()
        self.outcomes["rehearsed"] += 1
        with self._reading("rehearsal"):
            _, error = rehearse(self._stored(), [*op.updates])
        if error is not None:
            raise error
        op.rehearsed = True
        self._intake.admit(op)

    def _pack(self) -> bytes:
        if self._packed is None:
            self._packed = self._intake.inspector.pack()
        return self._packed

    def _weakened(self, reason: str) -> None:
        raise Finding("weakened", reason)

    def _audit(self) -> None:
        """The state reloads to the same, shows the same, and has lost nothing."""
        deletes, self._unaudited_deletes, self._unaudited_bytes = self._unaudited_deletes, False, 0
        with self._reading("state"):
            state, vector = self._replica.state(), self._replica.state_vector()
            parsed = read_update(state)
            again = Replica.load([state])
        if parsed.missing({}) is not None:
            raise Finding("state", "it lacks something")
        self._expect({client: end for client, (_, end) in parsed.sections.items()}, vector, "state")
        self._expect(again.state_vector(), vector, "loaded state")
        kinds = {name: str(kind) for name, kind in root_kinds(parsed).items()}
        before = {name: value for name, value in self.values.items() if self._is_still(name, kinds.get(name, ""))}
        self.kinds = kinds
        with self._reading("values"):
            self.values, reloaded = values_of(state), values_of(again.state())
            live = self.phone.shown(self.kinds)
            here = Phone(0)
            here.receive(state)
            independent = here.shown(self.kinds)
        if canonical_json(self.values) != canonical_json(reloaded):
            raise Finding("values", "others once it is reloaded")
        if live != independent:
            raise Finding("values", "a device sees others than the server has stored")
        if not deletes:
            _check_nothing_lost(before, self.values)

    def _is_still(self, root: str, kind: str) -> bool:
        """It is read as before. XML is read up to the first that is none, where somebody mixed them."""
        return kind == self.kinds[root] and (kind != "xml" or self.atlas.holds_xml_alone(root))

    def _take_in_other_order(self, random: Random) -> None:
        other = Phone(0)
        own = self._written_by[random.choice(list(self._written_by))]
        with self._reading("order"):
            for update in _other_order(self.accepted, own, random):
                other.receive(update)
            if shown(other.doc, self.kinds) != self.phone.shown(self.kinds):
                raise Finding("diverged", "two devices that got the same in different orders")

    def _expect(self, found: StateVector, expected: StateVector, of: str) -> None:
        if found != expected:
            raise Finding("state vector", f"of the {of}: {found}, not {expected}")

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """What was admitted can be read."""
        try:
            yield
        except Finding:
            raise
        except (ReplicaBroken, BadUpdate) as exc:
            raise Finding(what, str(exc)) from exc
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise Finding(what, f"{type(exc).__name__}: {exc}") from exc

    @contextmanager
    def _timed(self, what: str, updates: int) -> Iterator[None]:
        started_s = time.process_time()
        yield
        took_s = time.process_time() - started_s
        if took_s > SLOW_S * updates:
            raise Finding("slow", f"{what} took {took_s:.2f} s")

    # --- devices

    def editable(self) -> dict[str, str]:
        """The roots that an app which always took them for the same would edit now."""
        kinds = {**SCHEMA, **self.kinds}
        told = {name: self.atlas.holds_text(name) for name in kinds}
        unseen = {name for name, _ in self.atlas.lanes if isinstance(name, str)} - self.kinds.keys()
        agrees = {"text": (True, None), "array": (False, None), "xml": (None,), "map": (True, False, None)}
        return {
            name: kind for name, kind in sorted(kinds.items()) if name not in unseen and told[name] in agrees[str(kind)]
        }


def _other_order(updates: list[bytes], own: set[bytes], random: Random) -> Iterator[bytes]:
    """As a device has it whose `own` edits were in before others': the rest as it was logged."""
    first = [update for update in updates if update in own]
    known: StateVector = {}
    for update in updates:
        if update in own and update not in first:
            continue
        while first and (
            first[0] == update or (random.random() < 0.7 and read_update(first[0]).missing(known) is None)
        ):
            early = first.pop(0)
            read_update(early).advance(known)
            yield early
        if update not in own:
            read_update(update).advance(known)
            yield update


def _check_nothing_lost(before: Values, after: Values) -> None:
    """Nothing was deleted: texts and lists have what they had."""
    for name, value in before.items():
        if isinstance(value, str):
            rest = iter(after.get(name, ""))
            if not all(char in rest for char in value):
                raise Finding("lost", "characters, and nothing was deleted")
        elif isinstance(value, list) and len(after.get(name, ())) < len(value):
            raise Finding("lost", "items, and nothing was deleted")


def replay(steps: list[Step], note: Callable[[Step], None] = lambda step: None) -> Trial:
    """Take steps that were noted. Raises Finding."""
    trial = Trial(note, again=True)
    for step in steps:
        trial.take(step)
    return trial

"""What the independent device keeps, after docs/PROTOCOL.md. Frozen with protocol 1.0, as `device.py` is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pycrdt import Doc

from .updates import fits

EMPTY_UPDATE = b"\0\0"
WINDOW_OPS, WINDOW_BYTES = 256, 1 << 20


def next_chain(chain: bytes, update: bytes) -> bytes:
    return hashlib.blake2b(chain + update, digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Op:
    number: int
    update: bytes
    chain: bytes
    heal: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """What an OPENED says about the state that the replica is in once all of the answer is there."""

    cursor: list[Any]
    acked_op: int
    chain: bytes
    sv: bytes | None
    heals: bool


@dataclass(slots=True)
class Payload:
    """A chunked answer so far, and what was asked to get it."""

    payload_id: bytes
    asked: tuple[list[Any] | None, bytes | None]
    arrival: Arrival
    data: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Document:
    name: str
    replica: Doc[Any] = field(default_factory=Doc)
    epoch: bytes | None = None
    cursor: list[Any] | None = None
    acked: int = 0
    acked_chain: bytes = bytes(8)
    outbox: list[Op] = field(default_factory=list)  # numbered acked + 1, acked + 2, ...
    edits: list[bytes] = field(default_factory=list)  # not yet numbered
    set_aside: list[bytes] = field(default_factory=list)  # refused for good, for the app to export
    payload: Payload | None = None
    mine: bytes | None = None  # the presence that this device shows
    # From here on: of this connection
    state: str = "closed"
    awaited: int | None = None  # the `ref` of the OPENED that has to come; 0 after RESYNC
    asked: tuple[list[Any] | None, bytes | None] = (None, None)
    handle: int = -1
    access: str = "r"
    sent: int = 0
    misfits: int = 0
    failures: int = 0
    others: dict[str, bytes] = field(default_factory=dict)
    modes: list[str] = field(default_factory=list)  # of the OPENEDs that were acted on
    audits: list[bool] = field(default_factory=list)

    def number_edits(self) -> None:
        for update in self.edits:
            last = self.outbox[-1].chain if self.outbox else self.acked_chain
            self.outbox.append(Op(self.acked + len(self.outbox) + 1, update, next_chain(last, update)))
        self.edits.clear()

    def window(self) -> Iterator[Op]:
        """The unacknowledged ops that may be in flight."""
        size = 0
        for op in self.outbox[:WINDOW_OPS]:
            size += len(op.update)
            if size > WINDOW_BYTES and op.number > self.acked + 1:
                return
            yield op

    def settle(self, op: int, chain: bytes) -> str:
        """Compare the server's last op with what was made ("Ops and the chain"): `agreed`, `forked`, or set `back`."""
        if op < self.acked:
            return "back"
        known = [self.acked_chain, *(made.chain for made in self.outbox)]
        if op - self.acked >= len(known) or known[op - self.acked] != chain:
            return "forked"
        del self.outbox[: op - self.acked]
        self.acked, self.acked_chain, self.sent = op, chain, max(self.sent, op)
        self.failures = 0
        return "agreed"

    def apply(self, updates: list[bytes]) -> bool:
        """All of them, or, if one does not fit, none."""
        if not fits(self.replica.get_state(), updates):
            return False
        with self.replica.transaction():
            for update in updates:
                self.replica.apply_update(update)
        return True

    def heal(self, arrival: Arrival) -> None:
        """A new epoch, or a store that was set back: all that the server lacks becomes one op."""
        replica: Doc[Any] = Doc()
        replica.apply_update(self.replica.get_update())
        self.replica, self.outbox, self.edits = replica, [], []
        self.acked, self.acked_chain, self.sent = arrival.acked_op, arrival.chain, arrival.acked_op
        diff = replica.get_update(arrival.sv)
        if self.access == "rw" and diff != EMPTY_UPDATE:
            self.outbox = [Op(self.acked + 1, diff, next_chain(self.acked_chain, diff), heal=True)]

"""What requests do with documents, each on a visit to the hub. Only what is durable is read or answered."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from typing import Final

from crdt.ids import DocumentId
from crdt.protocol.codec import decode_updates
from crdt.protocol.frames import Ack, Cursor, Leave, Mode, Open, Opened, Push, Resync
from crdt.update import EMPTY_STATE_VECTOR
from server.runtime.api.problems import Problem
from server.runtime.api.values import Reading, Values
from server.runtime.visits import Visit

KEYS_MAX: Final = 10_000
"""Idempotency keys that are remembered, the latest ones."""

_HEAD_REF: Final = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """What a replica lacks of a document at `cursor`, whose state vector is told too."""

    cursor: Cursor
    update: bytes
    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Pushed:
    """An update is durable: in the log as entry `seq`, 0 if it changed nothing. `cursor` is at it, or later."""

    seq: int
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class _Answered:
    digest: bytes
    pushed: Pushed


def etag(cursor: Cursor) -> str:
    """Names a version of a document, however it is shown: so it is a weak one."""
    return f'W/"{cursor.epoch.hex()}.{cursor.seq}"'


def is_known(cursor: Cursor, if_none_match: str | None) -> bool:
    """Whether the client has this version, by its If-None-Match."""
    if if_none_match is None:
        return False
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in known or etag(cursor).removeprefix("W/") in known


class Documents:
    """Shared by all requests of a server."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._answered: OrderedDict[tuple[str, DocumentId, str], _Answered] = OrderedDict()

    async def head(self, visit: Visit, name: str) -> Opened:
        """Where the log of a document is. It is open until `leave`. Raises Refused."""
        await visit.say(Open(_HEAD_REF, name))
        return await visit.hear(Opened)

    async def leave(self, visit: Visit, opened: Opened) -> None:
        await visit.say(Leave(opened.handle))

    async def values(self, visit: Visit, name: str, opened: Opened) -> Reading:
        """The values of a document that is open. Raises Refused."""

        async def read() -> tuple[Cursor, bytes]:
            whole = await self.difference(visit, opened, EMPTY_STATE_VECTOR)
            return whole.cursor, whole.update

        return await self._values.get(DocumentId.parse(name, visit.user), opened.cursor, read)

    async def difference(self, visit: Visit, opened: Opened, state_vector: bytes) -> Difference:
        """What a replica with `state_vector` lacks of a document that is open. Raises Refused."""
        await visit.say(Resync(opened.handle, None, state_vector))
        answer = await visit.hear(Opened)
        assert answer.mode is Mode.DIFF, "a state vector and no cursor were told"
        updates = await self._chunks(visit) if answer.more else answer.updates
        (update,) = updates
        return Difference(answer.cursor, update, answer.state_vector or EMPTY_STATE_VECTOR)

    async def _chunks(self, visit: Visit) -> tuple[bytes, ...]:
        packed = bytearray()
        while True:
            chunk = await visit.hear_chunk()
            packed += chunk.data
            if len(packed) == chunk.total:
                return decode_updates(bytes(packed), deflated=False)

    async def push(self, visit: Visit, name: str, update: bytes, key: str | None) -> Pushed:
        """Put an update into a document; returns when it is durable. Raises Refused, Problem.

        With a key that is remembered, of the same user for the same document: what was answered to that.
        """
        digest = blake2b(update).digest()
        opened = await self.head(visit, name)
        place = (visit.user, DocumentId.parse(name, visit.user), key or "")
        answered = self._answered.get(place) if key is not None else None
        if answered is not None:
            if answered.digest != digest:
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "key_reused", "the key was used for another update")
            return answered.pushed
        pushed = await self._push(visit, opened, update)
        if key is not None and (pushed.seq or place not in self._answered):  # of two at a time it is the first
            self._answered[place] = _Answered(digest, pushed)
            while len(self._answered) > KEYS_MAX:
                self._answered.popitem(last=False)
        return pushed

    async def _push(self, visit: Visit, opened: Opened, update: bytes) -> Pushed:
        # Only who is current is told of what becomes durable.
        await visit.say(Resync(opened.handle, opened.cursor, EMPTY_STATE_VECTOR))
        current = await visit.hear(Opened)
        await visit.say(Push(opened.handle, current.acked_op + 1, (update,)))
        ack = await visit.hear(Ack)
        if ack.seq:
            return Pushed(ack.seq, Cursor(current.cursor.epoch, ack.seq))
        await visit.say(Resync(opened.handle, current.cursor, current.state_vector or EMPTY_STATE_VECTOR))
        after = await visit.hear(Opened)
        return Pushed(0, after.cursor)

"""What the values of a store look like as bytes, before they are sealed.

Those that can not do without their document's real name have it, should all else be gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from client_sim.core.ports import Identity, Keeping, OutboxEntry, Partial, Progress, StoreDamaged
from crdt.chain import OpState


def of_identity(identity: Identity) -> bytes:
    return _packed(*identity)


def identity(record: bytes) -> Identity:
    return Identity(*_unpacked(record))


def of_progress(document: str, progress: Progress) -> bytes:
    return _packed(document, progress.epoch, progress.seq, *progress.acked, progress.held, progress.salvaged)


def progress(record: bytes) -> tuple[str, Progress]:
    document, epoch, seq, op, chain, held, salvaged = _unpacked(record)
    return document, Progress(epoch, seq, OpState(op, chain), held, salvaged)


def of_entry(document: str, entry: OutboxEntry) -> bytes:
    return _packed(document, entry.update, *(entry.number or (None, None)), entry.heal)


def entry(position: int, record: bytes) -> tuple[str, OutboxEntry]:
    document, update, op, chain, heal = _unpacked(record)
    return document, OutboxEntry(position, update, None if op is None else OpState(op, chain), heal)


def of_chunk(payload_id: bytes, data: bytes) -> bytes:
    return _packed(payload_id, data)


def partial(chunks: Iterable[tuple[int, bytes]]) -> Partial | None:
    """What chunks make, in the order of their offsets. Raises StoreDamaged if they do not follow one another."""
    payload_id, data = None, bytearray()
    for offset, record in chunks:
        its_id, its_data = _unpacked(record)
        if offset != len(data) or payload_id not in (None, its_id):
            raise StoreDamaged("the chunks of an answer are not what was kept")
        payload_id = its_id
        data += its_data
    return None if payload_id is None else Partial(payload_id, bytes(data))


def of_aside(document: str, update: bytes) -> bytes:
    return _packed(document, update)


def aside(record: bytes) -> tuple[str, bytes]:
    document, update = _unpacked(record)
    return document, update


def of_keeping(document: str, keeping: Keeping) -> bytes:
    return _packed(document, *keeping)


def keeping(record: bytes) -> tuple[str, Keeping]:
    document, *fields = _unpacked(record)
    return document, Keeping(*fields)


def _packed(*values: object) -> bytes:
    packed: bytes = msgpack.packb(values)
    return packed


def _unpacked(record: bytes) -> list[Any]:
    values: list[Any] = msgpack.unpackb(record)
    return values

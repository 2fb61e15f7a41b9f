"""Sets of content: which clocks of which clients. They say what an update inserts, and what it deletes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Self, TypeAlias

from crdt.update.decoder import write_uint
from crdt.update.model import DeleteRange, Update

Spans: TypeAlias = list[tuple[int, int]]
"""Clocks of one client, [start, end) each, ascending; between two there is a gap."""


class Ranges:
    """An immutable set of units of content. Iterates over its ranges in ascending order; `len` counts units."""

    __slots__ = ("_spans",)

    def __init__(self, ranges: Iterable[tuple[int, int, int]] = ()) -> None:
        """Of (client, start, end), in any order; they may overlap."""
        by_client: dict[int, Spans] = {}
        for client, start, end in ranges:
            by_client.setdefault(client, []).append((start, end))
        self._spans = {client: _joined(by_client[client]) for client in sorted(by_client)}

    @classmethod
    def of(cls, spans: Mapping[int, Spans]) -> Self:
        made = cls()
        made._spans = {client: spans[client] for client in sorted(spans) if spans[client]}
        return made

    @classmethod
    def inserted_by(cls, update: Update) -> Self:
        """What an update brings, whether a document had it before or not."""
        return cls.of({client: [section] for client, section in update.sections.items()})

    @classmethod
    def deleted_by(cls, update: Update) -> Self:
        return cls(update.deletes)

    def __iter__(self) -> Iterator[DeleteRange]:
        return (DeleteRange(client, *span) for client, spans in self._spans.items() for span in spans)

    def __len__(self) -> int:
        return sum(end - start for _, start, end in self)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Ranges({[tuple(span) for span in self]})"

    def __or__(self, other: Ranges) -> Ranges:
        return Ranges((*self, *other))

    def __and__(self, other: Ranges) -> Ranges:
        both = self._spans.keys() & other._spans.keys()
        return Ranges.of({client: _common(self._spans[client], other._spans[client]) for client in sorted(both)})

    def __sub__(self, other: Ranges) -> Ranges:
        return Ranges.of(
            {client: _common(spans, _gaps(other._spans.get(client, []))) for client, spans in self._spans.items()}
        )

    def pack(self) -> bytes:
        """As the delete set of a v1 update."""
        out = bytearray()
        write_uint(out, len(self._spans))
        for client, spans in self._spans.items():
            write_uint(out, client)
            write_uint(out, len(spans))
            for start, end in spans:
                write_uint(out, start)
                write_uint(out, end - start)
        return bytes(out)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """What `pack` wrote. Raises ValueError for what is cut off."""
        numbers = _numbers(packed)
        found = []
        try:
            for _ in range(next(numbers)):
                client = next(numbers)
                for _ in range(next(numbers)):
                    start = next(numbers)
                    found.append((client, start, start + next(numbers)))
        except StopIteration:
            raise ValueError("packed ranges are cut off") from None
        return cls(found)

    def as_deletion(self) -> bytes:
        """A v1 update that deletes this and does nothing else."""
        return b"\x00" + self.pack()


def _joined(spans: Spans) -> Spans:
    joined: Spans = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _common(left: Spans, right: Spans) -> Spans:
    common: Spans = []
    at = 0
    for start, end in left:
        while at < len(right) and right[at][1] <= start:
            at += 1
        ahead = at
        while ahead < len(right) and right[ahead][0] < end:
            common.append((max(start, right[ahead][0]), min(end, right[ahead][1])))
            ahead += 1
    return common


def _gaps(spans: Spans) -> Spans:
    """All clocks that are not in `spans`."""
    bounds = [0, *(border for span in spans for border in span), _BEYOND]
    return [(start, end) for start, end in list(pairwise(bounds))[::2] if start < end]


_BEYOND = 1 << 62
"""Above every clock."""


def _numbers(packed: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0

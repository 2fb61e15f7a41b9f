"""What was written to one document, who has seen it, and what a server has acknowledged: the fleet's own memory.

It knows edits by their writer's client id and clock, which no device is asked to carry beside its edits. What only
deletes has no clock: it is found by comparing values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from crdt.update import StateVector


class Written(NamedTuple):
    """An edit: then its client had reached `clock`. `awaited`: who had the app open, and whether both were online."""

    clock: int
    at_s: float
    awaited: Mapping[str, bool]


class Seen(NamedTuple):
    """Somebody else has an edit, so long after it was made. `live`: both were online then, or believed so."""

    seconds: float
    live: bool


class Ledger:
    """Of one document."""

    def __init__(self) -> None:
        self.edits = 0
        self._written: dict[int, list[Written]] = {}
        self._writers: dict[int, str] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._acknowledged: dict[int, int] = {}
        self._visits: dict[str, None] = {}

    def wrote(
        self, writer: str, before: StateVector, after: StateVector, now_s: float, awaited: Mapping[str, bool]
    ) -> None:
        """An edit took the writer's replica from one version to the other: that of one client is higher, or none is."""
        self.edits += 1
        for client, clock in after.items():
            if clock > before.get(client, 0):
                self._writers[client] = writer
                self._written.setdefault(client, []).append(Written(clock, now_s, awaited))

    def saw(self, reader: str, version: StateVector, now_s: float) -> Iterator[Seen]:
        """What of it is new to a device that is at `version`."""
        for client, written in self._written.items():
            if self._writers[client] == reader:
                continue
            number, clock = self._seen.get((reader, client), 0), version.get(client, 0)
            while number < len(written) and written[number].clock <= clock:
                if (live := written[number].awaited.get(reader)) is not None:
                    yield Seen(now_s - written[number].at_s, live)
                number += 1
            self._seen[reader, client] = number

    def acknowledged(self, writer: str, visits: Sequence[str]) -> None:
        """Nothing that a device wrote so far waits for its acknowledgement any more."""
        for client, other in self._writers.items():
            if other == writer:
                self._acknowledged[client] = self._written[client][-1].clock
        self._visits |= dict.fromkeys(visits)

    def missing(self, version: StateVector, visits: Sequence[str]) -> list[str]:
        """What was acknowledged, and is not in a document at `version` with these visits."""
        lost = [
            f"{self._writers[client]}'s edits up to {clock}, of which {version.get(client, 0)} are there"
            for client, clock in self._acknowledged.items()
            if version.get(client, 0) < clock
        ]
        there = set(visits)
        return lost + [f"the visit {visit}" for visit in self._visits if visit not in there]

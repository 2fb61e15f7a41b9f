"""Recorded editing histories in the trace-columns-1 format: real people's typing, to replay and to measure with.

The recordings are not part of the project. Their folder is named by the environment variable SYNCLINE_TRACES.
Positions in the files count Unicode code points; the CRDT library counts UTF-8 bytes.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from pycrdt import Doc, Text

from crdt.replica import Replica

FOLDER_VARIABLE = "SYNCLINE_TRACES"
FORMAT = "trace-columns-1"


class TraceError(Exception):
    """A recording is not what it says it is."""


class Patch(NamedTuple):
    """At `at`, `delete` units go and then `insert` comes. The unit is the caller's: code points or UTF-8 bytes."""

    at: int
    delete: int
    insert: str


@dataclass(frozen=True, slots=True)
class Trace:
    """One recording, column by column: the first four have an entry per patch, the others one per transaction."""

    name: str
    positions: array[int]
    deletes: array[int]
    inserts: list[str]
    patch_counts: array[int]
    agents: array[int]
    parents: list[tuple[int, ...]]
    """The transactions that the author had seen last: none, the one before, or several after a merge."""
    times_s: list[int | None]
    """Seconds since the epoch, where known."""
    is_concurrent: bool
    end_chars: int
    end_sha256: str

    def __len__(self) -> int:
        """How many transactions there are."""
        return len(self.patch_counts)

    def transactions(self) -> Iterator[list[Patch]]:
        """The patches of each transaction, in code points."""
        start = 0
        for count in self.patch_counts:
            yield [Patch(self.positions[at], self.deletes[at], self.inserts[at]) for at in range(start, start + count)]
            start += count

    def byte_transactions(self) -> Iterator[list[Patch]]:
        """The patches of each transaction of a sequential trace, in UTF-8 bytes."""
        text = GapText()
        for patches in self.transactions():
            yield [text.replace(patch) for patch in patches]

    def check(self, text: str) -> None:
        """Raises TraceError unless `text` is what this recording ends with."""
        if len(text) != self.end_chars or sha256(text.encode()).hexdigest() != self.end_sha256:
            raise TraceError(f"{self.name} ends with another text")


class GapText:
    """A text that is cheap to edit near the last edit: what is before that place, and what is after it, reversed."""

    __slots__ = ("_after", "_before", "_before_bytes")

    def __init__(self, text: str = "") -> None:
        self._before: list[str] = []
        self._after = list(reversed(text))
        self._before_bytes = 0

    def __str__(self) -> str:
        return "".join(self._before) + "".join(reversed(self._after))

    def __len__(self) -> int:
        return len(self._before) + len(self._after)

    def replace(self, patch: Patch) -> Patch:
        """Apply a patch in code points; the same patch in UTF-8 bytes. Raises TraceError if it is out of the text."""
        at, delete, insert = patch
        self._move(at)
        if delete > len(self._after):
            raise TraceError(f"{delete} characters to delete at {at}, {len(self._after)} there")
        deleted = self._after[len(self._after) - delete :]
        del self._after[len(self._after) - delete :]
        moved = Patch(self._before_bytes, _utf8_bytes(deleted), insert)
        self._before += insert
        self._before_bytes += len(insert.encode())
        return moved

    def _move(self, at: int) -> None:
        """Put the gap before character `at`."""
        if not 0 <= at <= len(self):
            raise TraceError(f"there is no position {at}")
        if at < len(self._before):
            passed = self._before[at:]
            del self._before[at:]
            self._after += reversed(passed)
            self._before_bytes -= _utf8_bytes(passed)
        elif at > len(self._before):
            start = len(self._after) - (at - len(self._before))
            passed = self._after[start:]
            del self._after[start:]
            self._before += reversed(passed)
            self._before_bytes += _utf8_bytes(passed)


def _utf8_bytes(chars: list[str]) -> int:
    return len("".join(chars).encode())


def folder() -> Path | None:
    """Where the recordings are; None if nobody said."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else None


def trace_files(traces: Path) -> list[Path]:
    """The recordings in a folder, by name."""
    return sorted(traces.glob("*.sequential.json.gz")) + sorted(traces.glob("*.concurrent.json.gz"))


def load(path: Path) -> Trace:
    """Read a recording. Raises OSError, and TraceError if it is none or its columns do not fit each other."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            columns = json.load(file)
    except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as exc:
        raise TraceError(f"{path.name} is not {FORMAT}") from exc
    if not isinstance(columns, dict) or columns.get("format") != FORMAT:
        raise TraceError(f"{path.name} is not {FORMAT}")
    count = columns["txns"]
    patch_counts = array("q", columns.get("npatches") or [1] * count)
    insert_sizes = columns["ins_len"]
    if not (
        len(patch_counts) == count
        and sum(patch_counts) == len(columns["pos_delta"]) == len(columns["del"]) == len(insert_sizes)
        and sum(insert_sizes) == len(columns["ins_text"])
    ):
        raise TraceError(f"the columns of {path.name} do not fit each other")
    return Trace(
        name=columns["name"],
        positions=_positions(columns["pos_delta"], insert_sizes),
        deletes=array("q", columns["del"]),
        inserts=_cut(columns["ins_text"], insert_sizes),
        patch_counts=patch_counts,
        agents=array("q", columns.get("agent") or [0] * count),
        parents=_parents(columns, count),
        times_s=_times(columns, count),
        is_concurrent=columns["kind"] == "concurrent",
        end_chars=columns["end_len"],
        end_sha256=columns["end_sha256"],
    )


def _positions(deltas: list[int], insert_sizes: list[int]) -> array[int]:
    """Where each patch is: `delta` after the end of what the patch before inserted."""
    positions = array("q")
    cursor = 0
    for delta, size in zip(deltas, insert_sizes, strict=True):
        positions.append(cursor + delta)
        cursor += delta + size
    return positions


def _cut(text: str, sizes: list[int]) -> list[str]:
    return [text[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _parents(columns: dict[str, Any], count: int) -> list[tuple[int, ...]]:
    if "parents_rel" in columns:
        return [tuple(index - back for back in backs) for index, backs in enumerate(columns["parents_rel"])]
    return [(index - 1,) if index else () for index in range(count)]


def _times(columns: dict[str, Any], count: int) -> list[int | None]:
    now = columns.get("t0", 0)
    times: list[int | None] = []
    for passed in columns.get("dt_s") or [None] * count:
        now += passed or 0
        times.append(None if passed is None else now)
    return times


def updates(trace: Trace, root: str = "text") -> Iterator[tuple[int, bytes]]:
    """Each transaction as its author's agent number and the v1 update that it made in the text `root`.

    Transactions that change nothing are left out.
    """
    for agent, update in zip(trace.agents, replay(trace, root), strict=True):
        if update is not None:
            yield agent, update


def replay(trace: Trace, root: str = "text") -> Iterator[bytes | None]:
    """The v1 update that each transaction made in the text `root`; None where it changed nothing.

    Agent n writes under client id n + 1, on a replica that holds what the agent had seen and nothing else: so what is
    concurrent in the recording is concurrent in the updates.
    """
    authors = [Author(agent + 1, root) for agent in range(max(trace.agents, default=-1) + 1)]
    seen: list[set[int]] = [set() for _ in authors]
    made: list[bytes | None] = []
    for index, patches in enumerate(trace.transactions()):
        agent = trace.agents[index]
        news = unseen(trace.parents, index, seen[agent])
        authors[agent].merge(update for at in news if (update := made[at]) is not None)
        seen[agent].update(news, (index,))
        made.append(authors[agent].write(patches))
        yield made[-1]


def unseen(parents: list[tuple[int, ...]], index: int, seen: set[int]) -> list[int]:
    """What transaction `index` builds on, less `seen`, in order; `parents` are what each builds on directly."""
    found: set[int] = set()
    waiting = list(parents[index])
    while waiting:
        parent = waiting.pop()
        if parent not in seen and parent not in found:
            found.add(parent)
            waiting += parents[parent]
    return sorted(found)


class Author:
    """One agent's replica of a text: brought to where the agent was, then edited."""

    def __init__(self, client_id: int, root: str = "text") -> None:
        self._replica = Replica(client_id)
        self._root = root
        self._text = GapText()

    def __str__(self) -> str:
        return str(self._text)

    def __len__(self) -> int:
        """Code points."""
        return len(self._text)

    def merge(self, updates: Iterable[bytes]) -> None:
        """Integrate what others wrote, in an order in which each finds what it builds on."""
        merged = list(updates)
        if merged:
            self._replica.apply(merged)
            self._text = GapText(self._read())

    def write(self, patches: list[Patch]) -> bytes | None:
        """Make the edit, in code points; its update, None if it changed nothing."""
        moved = [self._text.replace(patch) for patch in patches]
        return self._replica.edit(lambda doc: _write(doc, self._root, moved))

    def _read(self) -> str:
        read: list[str] = []
        self._replica.edit(lambda doc: read.append(str(doc.get(self._root, type=Text))))
        return read[0]


def _write(doc: Doc[Any], root: str, patches: list[Patch]) -> None:
    text: Text = doc.get(root, type=Text)
    for at, delete, insert in patches:
        if delete:
            del text[at : at + delete]
        if insert:
            text.insert(at, insert)

"""A disk under a database: what it was told, and what it still has after a power cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from random import Random
from struct import Struct

import pytest

SOURCE = Path(__file__).with_name("disk.c")
_SUFFIXES = ("", "-wal", "-journal")
_FOLDER = len(_SUFFIXES)
_RECORD = Struct("=IIQQ")


class _Kind(IntEnum):
    """As in disk.c."""

    WRITTEN = 0
    TRUNCATED = 1
    SYNCED = 2
    UNLINKED = 3


class Fate(Enum):
    """What becomes of changes that were not synced, and of names in a folder that was not."""

    LOST = "lost"
    KEPT = "kept"
    CUT_SHORT = "cut short"
    """Of each file the first ones are kept, the last of these in part."""
    PICKED = "picked"
    """Each is kept or lost, or kept in part, whatever came before or after it: disks write in any order."""


def build_library(folder: Path) -> Path:
    """The library that notes changes, to be preloaded. Skips the test where it can not be, but never under CI."""
    compiler = shutil.which("cc")
    missing = "Linux" if sys.platform != "linux" else "a C compiler (cc)" if compiler is None else None
    if missing is not None:
        assert not os.environ.get("SYNCLINE_CI"), f"power cuts need {missing}"
        pytest.skip(f"power cuts need {missing}")
    library = folder / "disk.so"
    options = ("-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-pthread")
    subprocess.run([str(compiler), *options, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


@dataclass(frozen=True, slots=True)
class _Change:
    """Bytes written at an offset; or, without bytes, all after it cut off."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        if self.data is None:
            del content[self.offset :]
        else:
            content[self.offset : self.offset + len(self.data)] = self.data

    def torn(self, rng: Random) -> _Change:
        """Its first bytes only."""
        return self if self.data is None else _Change(self.offset, self.data[: rng.randint(0, len(self.data))])


@dataclass(slots=True)
class _File:
    """Identity counts, not the name: one that was unlinked may be back after a cut."""

    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[_Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.synced)
        self.unsynced.clear()

    def with_changes(self, changes: list[_Change]) -> bytes:
        content = bytearray(self.synced)
        for change in changes:
            change.apply(content)
        return bytes(content)

    def after(self, fate: Fate, rng: Random) -> bytes:
        kept = self.unsynced
        if fate is Fate.LOST:
            kept = []
        elif fate is Fate.CUT_SHORT and kept:
            length = rng.randrange(len(kept))
            kept = [*kept[:length], kept[length].torn(rng)]
        elif fate is Fate.PICKED:
            kept = [change.torn(rng) if rng.random() < 0.2 else change for change in kept if rng.random() < 0.5]
        return self.with_changes(kept)


class Disk:
    """The files of a database that nobody has open are on it, and synced, when this is made.

    `environment` is for a process that is to have the library preloaded, and the database for itself. Once it has
    ended, `replay` reads what it did.
    """

    def __init__(self, database: Path, journal: Path, *, steps: int = 0) -> None:
        self.environment = {"DISK_FILE": str(database), "DISK_JOURNAL": str(journal), "DISK_STEPS": str(steps)}
        self.records = 0
        self._memory = _with_suffix(database, "-shm")
        self._journal = journal
        self._paths = [_with_suffix(database, suffix) for suffix in _SUFFIXES]
        self._names = {path: _File(bytearray(path.read_bytes())) for path in self._paths if path.exists()}
        self._names_synced = dict(self._names)

    @property
    def unsynced_bytes(self) -> int:
        return sum(len(change.data or b"") for file in self._names.values() for change in file.unsynced)

    def replay(self) -> None:
        """Fails the test if this disk is then another than the real one: the library must have seen everything."""
        real = {path: bytearray(path.read_bytes()) for path in self._paths if path.exists()}
        last: _Record | None = None
        for last in _records(self._journal.read_bytes() if self._journal.exists() else b""):
            self.records += 1
            self._note(last)
        if last is not None:
            self._finish(last, real)
        seen = {path: file.with_changes(file.unsynced) for path, file in self._names.items()}
        assert {path: data for path, data in real.items() if data or path in seen} == seen, "changed behind our back"

    def cut(self, fate: Fate, rng: Random) -> None:
        """Put what is left in the place of the files."""
        left = {path: self._survivor(path, fate, rng) for path in self._paths}
        self._memory.unlink(missing_ok=True)
        for path, file in left.items():
            path.unlink(missing_ok=True)
            if file is not None:
                path.write_bytes(file.after(fate, rng))

    def _survivor(self, path: Path, fate: Fate, rng: Random) -> _File | None:
        """Which file has the name."""
        synced, current = self._names_synced.get(path), self._names.get(path)
        if fate is Fate.LOST:
            return synced
        return current if fate is Fate.KEPT else rng.choice((synced, current))

    def _note(self, record: _Record) -> None:
        if record.file == _FOLDER:
            self._names_synced = dict(self._names)
            return
        path = self._paths[record.file]
        if record.kind is _Kind.UNLINKED:
            self._names.pop(path, None)
            return
        file = self._names.setdefault(path, _File())
        if record.kind is _Kind.SYNCED:
            file.sync()
        else:
            file.unsynced.append(record.change)

    def _finish(self, last: _Record, real: dict[Path, bytearray]) -> None:
        """Do what was noted, and may not have been done when the process ended; again, if it was."""
        if last.kind is _Kind.UNLINKED:
            real.pop(self._paths[last.file], None)
        elif last.kind is not _Kind.SYNCED:
            last.change.apply(real.setdefault(self._paths[last.file], bytearray()))


def beside(database: Path) -> list[Path]:
    """What there is of a database on its disk."""
    return [path for suffix in _SUFFIXES if (path := _with_suffix(database, suffix)).exists()]


def _with_suffix(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


@dataclass(frozen=True, slots=True)
class _Record:
    kind: _Kind
    file: int
    change: _Change
    """Of bytes, where there are any."""


def _records(journal: bytes) -> Iterator[_Record]:
    """The last one may be torn: then what it was to say did not happen, or nobody was told."""
    start = 0
    while start + _RECORD.size <= len(journal):
        kind, file, offset, length = _RECORD.unpack_from(journal, start)
        start += _RECORD.size
        if kind == _Kind.TRUNCATED:
            yield _Record(_Kind(kind), file, _Change(length, None))
            continue
        data = journal[start : start + length]
        start += length
        if len(data) == length:
            yield _Record(_Kind(kind), file, _Change(offset, data))

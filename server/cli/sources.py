"""Stores of other Yjs servers, to be read: each is a map from names to the v1 updates that make a document."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol
from urllib.parse import unquote

from crdt.errors import BadUpdate
from crdt.update.decoder import uint_at, write_uint
from server.runtime.operations import OperationRefused


class Kind(StrEnum):
    """Who wrote a store."""

    Y_LEVELDB = "y-leveldb"
    HOCUSPOCUS_SQLITE = "hocuspocus-sqlite"
    PYCRDT_STORE = "pycrdt-store"


class Source(Protocol):
    """A store that is open. All methods raise OperationRefused where it is damaged."""

    def names(self) -> list[str]:
        """Its documents, as it calls them."""

    def room(self, name: str) -> str:
        """What clients asked for, to come to this document."""

    def updates(self, name: str) -> list[bytes]:
        """What makes the document, in order."""


@contextmanager
def opened(kind: Kind, path: Path) -> Iterator[Source]:
    """The store at `path`, which is not changed. Raises OperationRefused, OSError."""
    if not path.exists():
        raise OperationRefused(f"there is no {path}")
    opener = _leveldb(path) if kind is Kind.Y_LEVELDB else _sqlite(kind, path)
    with opener as source:
        yield source


# --- SQLite

_NAMES: Final = {
    Kind.HOCUSPOCUS_SQLITE: "SELECT name FROM documents ORDER BY name",
    Kind.PYCRDT_STORE: "SELECT DISTINCT path FROM yupdates ORDER BY path",
}
_UPDATES: Final = {
    Kind.HOCUSPOCUS_SQLITE: "SELECT data FROM documents WHERE name = :name",
    Kind.PYCRDT_STORE: "SELECT yupdate FROM yupdates WHERE path = :name ORDER BY timestamp, rowid",
}
_HAS_CHECKPOINTS: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'ycheckpoints'"
_CHECKPOINT: Final = "SELECT checkpoint FROM ycheckpoints WHERE path = :name"
"""pycrdt-store keeps one beside a document's updates, which may know of what it has squashed away since."""


class _Sqlite:
    def __init__(self, kind: Kind, connection: sqlite3.Connection) -> None:
        self._kind = kind
        self._connection = connection
        self._has_checkpoints = bool(self._rows(_HAS_CHECKPOINTS))

    def names(self) -> list[str]:
        return [str(name) for (name,) in self._rows(_NAMES[self._kind])]

    def room(self, name: str) -> str:
        """pycrdt-websocket calls a room by the path of its URL."""
        return name.removeprefix("/") if self._kind is Kind.PYCRDT_STORE else name

    def updates(self, name: str) -> list[bytes]:
        rows = self._rows(_CHECKPOINT, name=name) if self._has_checkpoints else []
        rows += self._rows(_UPDATES[self._kind], name=name)
        return [data for (data,) in rows if isinstance(data, bytes)]

    def _rows(self, query: str, **values: str) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            raise OperationRefused(f"this is no store of {self._kind}: {exc}") from exc


@contextmanager
def _sqlite(kind: Kind, path: Path) -> Iterator[Source]:
    """All is read as it was at one moment: a server may go on writing."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield _Sqlite(kind, connection)


# --- LevelDB, with keys as y-leveldb writes them: each part is a byte that says its type, and the value

_STRING, _UINT32 = b"\x00", b"\x01"
_VERSION: Final = _STRING + b"\x02v1"
_UPDATE: Final = _STRING + b"\x06update" + _UINT32
_CLOCK_BYTES: Final = 4


class _LevelDb:
    def __init__(self, database: Any, errors: type[Exception]) -> None:
        self._database = database
        self._errors = errors

    def names(self) -> list[str]:
        names = map(_name_in, self._range(_VERSION + _STRING, include_value=False))
        return sorted({name: None for name in names if name is not None})

    def room(self, name: str) -> str:
        """y-websocket's server calls a room by the path of its URL, as it is written there."""
        return unquote(name)

    def updates(self, name: str) -> list[bytes]:
        return list(self._range(_VERSION + _string(name) + _UPDATE, include_key=False))

    def _range(self, prefix: bytes, **options: bool) -> Iterator[bytes]:
        try:
            yield from self._database.iterator(prefix=prefix, **options)
        except self._errors as exc:
            raise OperationRefused(f"the store can not be read: {exc}") from exc


@contextmanager
def _leveldb(path: Path) -> Iterator[Source]:
    """Opens a copy: to open a LevelDB is to write to it."""
    try:
        import plyvel
    except ImportError as exc:
        raise OperationRefused("to read LevelDB takes plyvel: pip install 'syncline[import]'") from exc
    with _unused(path), TemporaryDirectory(prefix="syncline-") as folder:
        copy = shutil.copytree(path, Path(folder, "copy"), ignore=shutil.ignore_patterns("LOCK"))
        try:
            database = plyvel.DB(str(copy), create_if_missing=False)
        except plyvel.Error as exc:
            raise OperationRefused(f"this is no store of {Kind.Y_LEVELDB}: {exc}".replace(folder, "")) from exc
        with closing(database):
            yield _LevelDb(database, plyvel.Error)


@contextmanager
def _unused(path: Path) -> Iterator[None]:
    """Raises OperationRefused while a process has the LevelDB at `path` open: a copy would be torn."""
    if not path.is_dir():
        raise OperationRefused(f"{path} is no folder, as a LevelDB is one")
    lock = path / "LOCK"
    if not lock.exists():
        yield
        return
    with lock.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as exc:
            raise OperationRefused(f"a process has {path} open: end it first") from exc
        yield


def _string(text: str) -> bytes:
    """A string as part of a key."""
    encoded = text.encode()
    out = bytearray(_STRING)
    write_uint(out, len(encoded))
    return bytes(out) + encoded


def _name_in(key: bytes) -> str | None:
    """The document whose update is stored under `key`; None if it is of another kind."""
    try:
        length, at = uint_at(key, len(_VERSION) + len(_STRING))
    except (IndexError, BadUpdate):
        return None
    end = at + length
    is_update = key[end:].startswith(_UPDATE) and len(key) == end + len(_UPDATE) + _CLOCK_BYTES
    return key[at:end].decode(errors="replace") if is_update else None

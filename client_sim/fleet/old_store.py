"""A device's store as version 1 of its format had it: for phones that get an update of the app with edits pending."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from client_sim.core.ports import Randomness
from client_sim.core.roots import Roots
from client_sim.fleet.habits import TEXT, VISITS
from client_sim.fleet.phone import DOCUMENT
from crdt.replica import Replica

_SCHEMA = """
CREATE TABLE identity (device TEXT NOT NULL, user TEXT);
CREATE TABLE documents (
  document TEXT PRIMARY KEY,
  epoch BLOB, seq INTEGER,
  acked_op INTEGER NOT NULL DEFAULT 0, acked_chain BLOB NOT NULL DEFAULT (zeroblob(8)),
  held TEXT,
  state BLOB
) WITHOUT ROWID;
CREATE TABLE updates (position INTEGER PRIMARY KEY, document TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE INDEX updates_of ON updates (document, position);
CREATE TABLE outbox (
  document TEXT, position INTEGER, bytes BLOB NOT NULL, op INTEGER, chain BLOB, heal INTEGER NOT NULL,
  PRIMARY KEY (document, position)
) WITHOUT ROWID;
CREATE TABLE aside (position INTEGER PRIMARY KEY, document TEXT NOT NULL, bytes BLOB NOT NULL);
PRAGMA application_id = 0x53594E43;
PRAGMA user_version = 1;
"""
OFFLINE_TEXT = "written before the update. "


def write_version_1(file: Path, device: str, visit: str, rng: Randomness) -> None:
    """A store whose device has never been online, with a visit and a text, letter by letter, in its outbox."""
    replica = Replica.load([], rng.getrandbits(32))
    changes = [_visit(visit), *map(_letter, OFFLINE_TEXT)]
    edits = [replica.edit(lambda doc, change=change: change(Roots(doc))) for change in changes]  # type: ignore[misc]
    with closing(sqlite3.connect(file)) as store:
        store.executescript(_SCHEMA)
        store.execute("INSERT INTO identity VALUES (?, NULL)", (device,))
        store.execute("INSERT INTO documents (document) VALUES (?)", (DOCUMENT,))
        for position, update in enumerate(edits, 1):
            store.execute("INSERT INTO updates VALUES (?, ?, ?)", (position, DOCUMENT, update))
            store.execute("INSERT INTO outbox VALUES (?, ?, ?, NULL, NULL, 0)", (DOCUMENT, position, update))
        store.commit()


def _visit(visit: str) -> Callable[[Roots], object]:
    return lambda roots: roots.array(VISITS).append(visit)


def _letter(letter: str) -> Callable[[Roots], object]:
    return lambda roots: roots.text(TEXT).append(letter)

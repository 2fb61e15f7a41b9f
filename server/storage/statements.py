"""The statements that read and change the tables, for SQLite and PostgreSQL alike.

Where several processes share a database, an append holds its documents' rows with FOR KEY SHARE: appends do not wait
for each other, and a new epoch (FOR UPDATE) waits for all of them. SQLite has one writer and leaves both words out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Delete, Insert, Select, Update, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.selectable import ScalarSelect

from server.storage.tables import documents, log, snapshots, store

AnySelect: TypeAlias = Select[*tuple[Any, ...]]

_NAMED = (documents.c.owner == bindparam("of_owner"), documents.c.name == bindparam("of_name"))


def _head() -> ScalarSelect[int]:
    """The last seq of a document's log, 0 before the first: compaction leaves a log its last entry."""
    return (
        select(func.coalesce(func.max(log.c.seq), 0))
        .where(log.c.document_id == documents.c.id)
        .correlate(documents)
        .scalar_subquery()
    )


STORE: AnySelect = select(store)
DOCUMENT: AnySelect = select(documents).where(*_NAMED)
DOCUMENT_TO_CHANGE: AnySelect = DOCUMENT.with_for_update()
HEAD: AnySelect = select(func.coalesce(func.max(log.c.seq), 0)).where(log.c.document_id == bindparam("id"))
"""The last seq of a log. It takes a statement of its own after DOCUMENT_TO_CHANGE has waited for those who append."""
SNAPSHOTS: AnySelect = (
    select(snapshots).where(snapshots.c.document_id == bindparam("id")).order_by(snapshots.c.seq.desc())
)
LOG: AnySelect = select(log).where(log.c.document_id == bindparam("id")).order_by(log.c.seq)
LOG_AFTER: AnySelect = (
    select(log)
    .where(log.c.document_id == bindparam("id"), log.c.seq > bindparam("after_seq"))
    .order_by(log.c.seq)
)  # fmt: skip
HEADS: AnySelect = (
    select(documents.c.id, documents.c.owner, documents.c.name, documents.c.epoch, _head().label("head_seq"))
    .where(tuple_(documents.c.owner, documents.c.name).in_(bindparam("documents", expanding=True)))
    .order_by(documents.c.owner, documents.c.name)
    .with_for_update(read=True, key_share=True)
)

SET_EPOCH: Update = (
    update(documents)
    .where(*_NAMED)
    .values({name: bindparam(f"new_{name}") for name in ("epoch", "epoch_seq", "checksum")})
)
SET_QUARANTINE: Update = (
    update(documents)
    .where(*_NAMED, documents.c.quarantine_reason.is_distinct_from(bindparam("new_quarantine_reason")))
    .values({name: bindparam(f"new_{name}") for name in ("quarantined_ms", "quarantine_reason")})
)
DELETE_ENTRY: Delete = delete(log).where(log.c.document_id == bindparam("id"), log.c.seq == bindparam("at_seq"))
TRIM_LOG: Delete = delete(log).where(log.c.document_id == bindparam("id"), log.c.seq <= bindparam("covered_seq"))
PUT_SNAPSHOT: Insert = snapshots.insert()
DROP_SNAPSHOTS: Delete = delete(snapshots).where(
    snapshots.c.document_id == bindparam("id"), snapshots.c.seq != bindparam("kept_seq")
)


@dataclass(frozen=True, slots=True)
class SharedInserts:
    """Inserts that leave alone what is there already, in the words of one kind of database."""

    create_document: Insert
    """One row for each document that has none yet."""
    add_entries: Insert
    """Returns (document_id, seq) of the rows that went in."""

    @classmethod
    def of(cls, dialect_name: str) -> SharedInserts:
        """`sqlite` or `postgresql`."""
        insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect_name]
        return cls(
            create_document=insert(documents).on_conflict_do_nothing(index_elements=["owner", "name"]),
            add_entries=insert(log).on_conflict_do_nothing().returning(log.c.document_id, log.c.seq),
        )


def document_infos() -> AnySelect:
    """One row per document, in no order."""
    logs = (
        select(
            log.c.document_id,
            func.max(log.c.seq).label("head_seq"),
            func.count().label("log_entries"),
            func.sum(func.length(log.c.updates)).label("log_bytes"),
        )
        .group_by(log.c.document_id)
        .subquery()
    )
    newest = (
        select(snapshots.c.document_id, func.max(snapshots.c.seq).label("seq"))
        .group_by(snapshots.c.document_id)
        .subquery()
    )
    is_newest = (snapshots.c.document_id == newest.c.document_id) & (snapshots.c.seq == newest.c.seq)
    return (
        select(
            documents.c.owner,
            documents.c.name,
            documents.c.quarantine_reason,
            logs.c.head_seq,
            logs.c.log_entries,
            logs.c.log_bytes,
            func.coalesce(snapshots.c.seq, 0).label("snapshot_seq"),
            func.coalesce(func.length(snapshots.c.state), 0).label("snapshot_bytes"),
        )
        .join(logs, logs.c.document_id == documents.c.id)
        .outerjoin(newest, newest.c.document_id == documents.c.id)
        .outerjoin(snapshots, is_newest)
    )


CREATE_DOCUMENT_SQLITE = """\
INSERT INTO documents (owner, name, epoch, epoch_seq, created_ms, checksum)
VALUES (:owner, :name, :epoch, :epoch_seq, :created_ms, :checksum)
ON CONFLICT DO NOTHING"""

ADD_KNOWN_ENTRY_SQLITE = """\
INSERT INTO log (document_id, seq, user, device, first_op, last_op, chain, updates, time_ms, checksum, heal)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
"""One entry of a document whose id, epoch and head are known for sure."""

ADD_ENTRY_SQLITE = """\
INSERT OR IGNORE INTO log
(document_id, seq, user, device, first_op, last_op, chain, updates, time_ms, checksum, heal)
VALUES ((
    SELECT id FROM documents WHERE owner = :owner AND name = :name AND epoch = :epoch
    AND (:seq = 1 OR EXISTS (SELECT 1 FROM log WHERE document_id = documents.id AND seq = :seq - 1))
), :seq, :user, :device, :first_op, :last_op, :chain, :updates, :time_ms, :checksum, :heal)"""
"""One entry, if its document is in that epoch and its seq is the next one: an append and all its checks.

Where they fail the row has no document_id, and is ignored. (INSERT ... SELECT would go through a temporary table.)
"""

"""The tables. `migrations` creates them step by step; a test holds both equal.

Times are milliseconds since 1970, UTC. What the checksums cover: `server.storage.rows`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

_SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""Counts up by itself; SQLite does so for INTEGER alone."""

# One row: the random id of this store, from which first epochs are made, and when it was put back from a backup last.
store = Table(
    "store", metadata, Column("id", LargeBinary, primary_key=True), Column("restored_ms", BigInteger, nullable=True)
)

documents = Table(
    "documents",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("epoch_seq", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    UniqueConstraint("owner", "name", name="documents_owner_name"),
    Column("quarantined_ms", BigInteger),
    Column("quarantine_reason", Text),
)

log = Table(
    "log",
    metadata,
    Column("document_id", BigInteger, ForeignKey("documents.id"), primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("user", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("first_op", BigInteger, nullable=False),
    Column("last_op", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("updates", LargeBinary, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    Column("heal", Boolean, nullable=False, server_default=false()),
    sqlite_with_rowid=False,
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("document_id", BigInteger, ForeignKey("documents.id"), primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("ops", LargeBinary, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    Column("check", LargeBinary),
)

# Who has connected, and who may no longer: those are read often. A device that was revoked unseen has no other times.
devices = Table(
    "devices",
    metadata,
    Column("user", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("agent", Text),
    Column("first_seen_ms", BigInteger),
    Column("last_seen_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Index(
        "devices_revoked",
        "revoked_ms",
        sqlite_where=text("revoked_ms IS NOT NULL"),
        postgresql_where=text("revoked_ms IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

# Who wrote what of a document: what is left of log entries that compaction has taken out. `ranges` says which clocks
# of which clients they inserted and deleted.
authors = Table(
    "authors",
    metadata,
    Column("document_id", BigInteger, ForeignKey("documents.id"), primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("user", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("first_op", BigInteger, nullable=False),
    Column("last_op", BigInteger, nullable=False),
    Column("ranges", LargeBinary, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

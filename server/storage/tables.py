"""The tables. `migrations` creates them step by step; a test holds both equal.

Times are milliseconds since 1970, UTC. What the checksums cover: `server.storage.rows`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

_SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""Counts up by itself; SQLite does so for INTEGER alone."""

# One row: the random id of this store, from which first epochs are made.
store = Table("store", metadata, Column("id", LargeBinary, primary_key=True))

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
)

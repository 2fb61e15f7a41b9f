"""What the check of updates keeps, devices, who wrote what, and documents that can not be read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("documents", sa.Column("quarantined_ms", sa.BigInteger))
    op.add_column("documents", sa.Column("quarantine_reason", sa.Text))
    op.add_column("log", sa.Column("heal", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("snapshots", sa.Column("check", sa.LargeBinary))
    op.create_table(
        "devices",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text),
        sa.Column("first_seen_ms", sa.BigInteger),
        sa.Column("last_seen_ms", sa.BigInteger),
        sa.Column("revoked_ms", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    is_revoked = sa.text("revoked_ms IS NOT NULL")
    op.create_index("devices_revoked", "devices", ["revoked_ms"], sqlite_where=is_revoked, postgresql_where=is_revoked)
    op.create_table(
        "authors",
        sa.Column("document_id", sa.BigInteger, sa.ForeignKey("documents.id"), primary_key=True, autoincrement=False),
        sa.Column("first_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("first_op", sa.BigInteger, nullable=False),
        sa.Column("last_op", sa.BigInteger, nullable=False),
        sa.Column("ranges", sa.LargeBinary, nullable=False),
        sa.Column("first_ms", sa.BigInteger, nullable=False),
        sa.Column("last_ms", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )

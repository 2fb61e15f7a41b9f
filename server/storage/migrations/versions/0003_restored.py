"""That the store was put back from a backup, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("store", sa.Column("restored_ms", sa.BigInteger))

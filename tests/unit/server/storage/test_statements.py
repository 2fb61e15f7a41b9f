"""The statements as PostgreSQL would get them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import ClauseElement, Delete, Insert, Select, Update
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateTable

from server.core.ports import StorageError
from server.storage import statements
from server.storage.engines import create_engine
from server.storage.tables import metadata

DIALECT = make_url("postgresql+asyncpg://").get_dialect()()
INSERTS = statements.SharedInserts.of("postgresql")


def compiled(statement: ClauseElement) -> str:
    return " ".join(str(statement.compile(dialect=DIALECT)).split())


def every_statement() -> Iterator[ClauseElement]:
    yield from (value for value in vars(statements).values() if isinstance(value, Select | Insert | Update | Delete))
    yield from (INSERTS.create_document, INSERTS.add_entries, statements.document_infos())


def test_every_statement_compiles() -> None:
    found = [compiled(statement) for statement in every_statement()]
    assert len(found) > 12
    assert all(found)


def test_an_append_leaves_what_is_there_and_says_what_went_in() -> None:
    assert compiled(INSERTS.add_entries).endswith("ON CONFLICT DO NOTHING RETURNING log.document_id, log.seq")
    assert compiled(INSERTS.create_document).endswith("ON CONFLICT (owner, name) DO NOTHING")


def test_appends_hold_their_documents_against_a_new_epoch_only() -> None:
    assert compiled(statements.HEADS).endswith("ORDER BY documents.owner, documents.name FOR KEY SHARE")
    assert compiled(statements.DOCUMENT_TO_CHANGE).endswith("FOR UPDATE")


def test_numbers_are_wide_and_bytes_are_bytes() -> None:
    tables = " ".join(compiled(CreateTable(table)) for table in metadata.sorted_tables)
    assert "seq BIGINT NOT NULL" in tables
    assert "id BIGSERIAL NOT NULL" in tables
    assert "updates BYTEA NOT NULL" in tables
    assert "INTEGER" not in tables


def test_other_databases_are_refused() -> None:
    with pytest.raises(StorageError, match="mysql"):
        create_engine("mysql+aiomysql://localhost/syncline")

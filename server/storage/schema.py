"""Which schema a database has, and bringing it up to this program's."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from server.core.ports import StorageError
from server.storage.engines import create_engine, operational


class SchemaError(StorageError):
    """The database is not of this program's schema."""


class SchemaTooNew(SchemaError):
    """A later program wrote this database."""


class SchemaTooOld(SchemaError):
    """The database needs an upgrade, or was never set up."""


async def upgrade(database_url: str) -> None:
    """Set up an empty database, or bring an older one up to date, in one transaction. Raises StorageError."""
    engine = create_engine(database_url)
    try:
        with operational("upgrading the schema"):
            async with engine.connect() as connection:
                await connection.run_sync(upgrade_on)
    finally:
        await engine.dispose()


async def check_schema(database_url: str) -> None:
    """Raises SchemaTooNew, SchemaTooOld or another StorageError."""
    engine = create_engine(database_url)
    try:
        with operational("checking the schema"):
            async with engine.connect() as connection:
                await connection.run_sync(check_on)
    finally:
        await engine.dispose()


def check_on(connection: Connection) -> None:
    """Raises SchemaTooNew or SchemaTooOld."""
    found, newest = _found(connection), _scripts().get_current_head()
    if found != newest:
        raise SchemaTooOld(f"the database has schema {found or 'none'} and needs {newest}: run `syncline db upgrade`")


def is_set_up(connection: Connection) -> bool:
    """True if the database is a store, of this program's schema or an older one. Raises SchemaTooNew."""
    return _found(connection) is not None


def upgrade_on(connection: Connection, revision: str = "head") -> None:
    """Upgrade to a revision on a fresh connection, and commit. Raises SchemaTooNew: nothing was changed then."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver does not begin by itself to change a schema
    _found(connection)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


def _found(connection: Connection) -> str | None:
    """The revision a database is at, one of ours, or None. Raises SchemaTooNew."""
    found = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in _scripts().walk_revisions()]
    if found is not None and found not in known:
        raise SchemaTooNew(f"the database has schema {found}, and this program knows up to {known[0]}: run a newer one")
    return found


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config

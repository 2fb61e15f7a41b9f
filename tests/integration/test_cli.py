"""The command line as an operator meets it: results on standard output, and what went wrong in one line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jwt
import pytest
import structlog
from pycrdt import Doc, Text

from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import Access
from server.cli import main
from server.cli.welcome import announce
from server.config import ServeSettings, read_settings, variable
from server.core.auth import Authority, VerificationKey, verify
from server.core.options import CoreOptions
from server.keys import load_authority
from server.runtime.control import ControlServer, control_path
from server.runtime.driver import Driver
from server.runtime.operations import Operations
from server.runtime.telemetry import Telemetry
from server.storage import open_storage
from server.storage.lock import database_lock
from tests.contract.storage_support import entry, put
from tests.device_key import DeviceKey

SECRET = "a secret of at least thirty-two bytes"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """What the last line on standard error says is wrong."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        last = self.err.splitlines()[-1]
        assert last.startswith("syncline: ")
        return last


Cli: TypeAlias = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, where the database is; nothing else is configured."""
    for name in ServeSettings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.setenv("SYNCLINE_DATABASE_URL", f"sqlite:///{tmp_path}/syncline.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Runs a command in this process."""
    handlers, level = logging.root.handlers, logging.root.level

    def run(*arguments: str) -> Outcome:
        code = main(arguments)
        return Outcome(code, *capsys.readouterr())

    yield run
    logging.root.handlers = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def update_of(text: str) -> bytes:
    doc: Doc[Any] = Doc()
    doc["text"] = Text(text)
    return doc.get_update()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two documents, to be copied."""
    database = tmp_path_factory.mktemp("template") / "syncline.db"
    asyncio.run(_make(database))
    return database


async def _make(database: Path) -> None:
    async with open_storage(f"sqlite+aiosqlite:///{database}") as storage:
        for document in (DocumentId("alice", "main"), DocumentId("bob", "notes")):
            await put(storage, document, entry(1, update_of("hello"), DeviceId(document.owner, "phone")))


@pytest.fixture
def store(folder: Path, template: Path) -> Path:
    """A database with two documents, and the update `hello.bin`."""
    (folder / "hello.bin").write_bytes(update_of("hello"))
    return Path(shutil.copy(template, folder))


def damage(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()


# --- documents


def test_documents_are_listed_shown_and_taken_out(store: Path, cli: Cli) -> None:
    assert [info["document"] for info in cli("doc", "list", "--json").json] == ["alice/main", "bob/notes"]
    assert "bob/notes" in cli("doc", "list").out
    assert cli("doc", "show", "alice/main").json == {"text": "hello"}
    assert cli("doc", "show", "alice/main", "--json").out == '{"text":"hello"}\n'
    assert cli("doc", "export", "alice/main", "out.bin").code == 0
    assert cli("doc", "import", "carol/main", "out.bin").out == "carol/main: log entry 1\n"
    assert cli("doc", "show", "carol/main").json == {"text": "hello"}


def test_long_names_are_not_cut(store: Path, cli: Cli) -> None:
    name = f"{'o' * 60}/{'n' * 60}"
    assert cli("doc", "import", name, "hello.bin").code == 0
    assert name in cli("doc", "list").out


def test_what_is_larger_than_a_device_may_send_can_be_imported(store: Path, cli: Cli) -> None:
    Path("large.bin").write_bytes(update_of("x" * (2 << 20)))
    assert cli("doc", "import", "alice/large", "large.bin").code == 0
    assert len(cli("doc", "show", "alice/large").json["text"]) == 2 << 20


def test_export_goes_to_standard_output_and_import_comes_from_standard_input(
    store: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.TextIOWrapper(io.BytesIO())
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", written)
        assert main(["doc", "export", "alice/main", "-"]) == 0
    exported = io.BytesIO(written.detach().getvalue())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(exported))
    assert cli("doc", "import", "dora/main", "-").code == 0
    assert cli("doc", "show", "dora/main").json == {"text": "hello"}


def test_a_store_in_order_is_verified_and_compacted(store: Path, cli: Cli) -> None:
    assert [report["problem"] for report in cli("doc", "verify", "--json").json] == [None, None]
    (compacted,) = cli("doc", "compact", "alice/main", "--json").json
    assert compacted["snapshot_bytes"] > 0
    assert cli("doc", "verify").code == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET updates = x'91c0' WHERE document_id = 1",
        "UPDATE log SET time_ms = time_ms + 1 WHERE document_id = 1",
        "UPDATE documents SET epoch = x'0000000000000000' WHERE id = 1",
    ],
)
def test_damage_is_found_and_where_it_is(store: Path, cli: Cli, statement: str) -> None:
    damage(store, statement)
    outcome = cli("doc", "verify", "alice/main", "bob/notes", "--json")
    assert outcome.code == 1
    damaged, sound = outcome.json
    assert "alice/main" in damaged["problem"]
    assert sound["problem"] is None
    assert cli("doc", "compact").code == 1
    assert "damaged" in cli("doc", "show", "alice/main").complaint


def test_quarantined_documents_are_listed_and_released(store: Path, cli: Cli) -> None:
    assert cli("doc", "list", "--quarantined", "--json").json == []
    damage(store, "UPDATE documents SET quarantined_ms = 1, quarantine_reason = 'entry 3 is damaged' WHERE id = 1")
    (listed,) = cli("doc", "list", "--quarantined", "--json").json
    assert (listed["document"], listed["quarantine"]) == ("alice/main", "entry 3 is damaged")
    assert "entry 3 is damaged" in cli("doc", "list").out
    assert cli("doc", "release", "alice/main").out == "alice/main: released\n"
    assert cli("doc", "release", "alice/main").out == "alice/main: was not quarantined\n"
    assert cli("doc", "list", "--quarantined", "--json").json == []


# --- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("frobnicate", "No such command 'frobnicate'."),
        ("doc", "Missing command."),
        ("serve --nonsense", "No such option: --nonsense"),
        ("serve --port http", "--port or SYNCLINE_PORT: "),
        ("serve --workers 4", "only 1 is supported"),
        ("serve", "no key to verify tokens with"),
        ("serve --insecure-dev --tls-cert a.pem --tls-key b.pem --port 0", "No such file"),
        ("serve --insecure-dev --database-url postgresql://localhost/x", "PostgreSQL is not supported yet"),
        ("serve --insecure-dev --database-url sqlite:///no/such/folder/x.db", "No such file or directory"),
        ("token --user alice", "Missing option '--device'."),
        ("token --user alice --device phone", "no secret to sign tokens with"),
        ("doc show main", "write owner/name"),
        ("doc show alice/other", "there is no document alice/other"),
        ("doc verify alice/other", "there is no document alice/other"),
        ("doc export alice/main hello.bin", "hello.bin: File exists"),
        ("doc import alice/main missing.bin", "missing.bin: No such file or directory"),
        ("doc import alice/main bad.bin", "alice/main does not take the update: "),
        ("doc list --database-url sqlite:///missing.db", "missing.db"),
        ("doc list --database-url sqlite:///hello.txt", "file is not a database"),
        ("db upgrade --database-url sqlite:///missing.db", "missing.db"),
        ("db backup hello.bin", "hello.bin exists already"),
        ("db backup no/such/folder/x.db", "No such file or directory"),
        ("db restore hello.bin", "say --replace"),
        ("db restore missing.db --replace", "No such file or directory"),
        ("db restore hello.txt --replace", "file is not a database"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(store: Path, cli: Cli, arguments: str, says: str) -> None:
    Path("bad.bin").write_bytes(b"\x01\x00\x01")
    Path("hello.txt").write_text("hello, this is no database" * 100)
    assert says in cli(*arguments.split()).complaint


def test_a_port_that_is_taken_is_said(store: Path, cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = cli("serve", "--insecure-dev", "--port", str(taken.getsockname()[1]))
    assert "address already in use" in outcome.complaint.lower()


@pytest.mark.parametrize("command", ["doc list", "db upgrade", "serve --insecure-dev --port 0"])
def test_a_database_of_a_later_program_is_left_alone(store: Path, cli: Cli, command: str) -> None:
    damage(store, "UPDATE alembic_version SET version_num = '9999'")
    assert "schema 9999" in cli(*command.split()).complaint


@pytest.mark.parametrize("command", ["doc list", "db backup copy.db"])
def test_a_database_in_use_by_what_takes_no_commands_is_said(store: Path, cli: Cli, command: str) -> None:
    with database_lock(store):
        complaint = cli(*command.split()).complaint
    assert f"is in use by process {os.getpid()}; no server answers at" in complaint


@pytest.mark.parametrize("command", ["db upgrade", "db restore copy.db --replace", "serve --insecure-dev"])
def test_what_needs_the_store_alone_says_who_has_it(store: Path, cli: Cli, command: str) -> None:
    assert cli("db", "backup", "copy.db").code == 0
    with database_lock(store):
        assert f"in use by process {os.getpid()}" in cli(*command.split()).complaint


# --- the store


def test_a_backup_comes_back(store: Path, cli: Cli) -> None:
    assert cli("db", "backup", "copy.db").code == 0
    Path("more.bin").write_bytes(update_of("more"))
    assert cli("doc", "import", "carol/main", "more.bin").code == 0
    assert cli("db", "restore", "copy.db", "--replace").code == 0
    assert [info["document"] for info in cli("doc", "list", "--json").json] == ["alice/main", "bob/notes"]
    assert cli("doc", "verify").code == 0
    assert cli("db", "upgrade").code == 0


# --- tokens


def test_a_token_says_what_was_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_JWT_SECRET", SECRET)
    minted = cli("token", "--user", "alice", "--device", "phone", "--ttl", "60", "--grant", "bob/notes=rw").out.strip()
    authority = Authority((VerificationKey("HS256", SECRET.encode()),), "syncline", "syncline-dev")
    claims = verify(minted, authority, now_s=0.0 + _issued_s(minted))
    assert (claims.user, claims.device) == ("alice", "phone")
    assert claims.expires_s == pytest.approx(_issued_s(minted) + 60)
    assert claims.grants == {DocumentId("bob", "notes"): Access.WRITE}


def test_a_token_is_bound_to_the_key_in_a_file(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_JWT_SECRET", SECRET)
    key = DeviceKey()
    (folder / "phone.jwk").write_text(key.public.jwk)
    for options in (("--key-file", "phone.jwk"), ("--jkt", key.public.thumbprint)):
        minted = cli("token", "--user", "alice", "--device", "phone", *options).out.strip()
        assert jwt.decode(minted, options={"verify_signature": False})["cnf"] == key.bound
    assert "43 of" in cli("token", "--user", "alice", "--device", "phone", "--jkt", "x").complaint
    assert "a device's key" in cli("token", "--user", "a", "--device", "b", "--key-file", __file__).complaint


def _issued_s(token: str) -> float:
    issued: float = jwt.decode(token, options={"verify_signature": False})["iat"]
    return issued


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--user al/ice --device phone", "'al/ice' is no user"),
        ("--user alice --device phone --grant bob/notes", "write owner/name=r"),
        ("--user alice --device phone --grant notes=rw", "write owner/name"),
        ("--user alice --device phone --grant bob/notes=w", "write owner/name=r"),
        ("--user alice --device phone --ttl 0", "--ttl"),
    ],
)
def test_a_token_that_nobody_would_take_is_not_made(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, options: str, says: str
) -> None:
    monkeypatch.setenv("SYNCLINE_JWT_SECRET", SECRET)
    assert says in cli("token", *options.split()).complaint


def test_the_versions_are_told(cli: Cli) -> None:
    assert cli("version").out.startswith("syncline ")


# --- with a server


def test_tokens_to_try_it_out_are_offered_only_where_we_can_sign_them(
    store: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = {"insecure_dev": True, "jwt_public_key": "key.pem"}
    announce(read_settings(ServeSettings, configured), ("127.0.0.1", 8787))
    assert "ws://127.0.0.1:8787/v1/sync" in capsys.readouterr().out
    load_authority(read_settings(ServeSettings, {"insecure_dev": True}))
    announce(read_settings(ServeSettings, {"insecure_dev": True}), ("::1", 8787))
    told = capsys.readouterr().out
    assert "ws://[::1]:8787/v1/sync" in told
    assert "A token for alice" in told


@asynccontextmanager
async def serving(database: Path) -> AsyncIterator[None]:
    """All of a server that commands reach."""
    async with (
        open_storage(f"sqlite+aiosqlite:///{database}") as storage,
        Driver.running(storage, Authority((), "", ""), CoreOptions(), Telemetry()) as driver,
        ControlServer(control_path(database), Operations(storage, driver.import_update, database)),
    ):
        yield


async def test_commands_go_through_the_server_that_has_the_store(store: Path, cli: Cli) -> None:
    async def run(*arguments: str) -> Outcome:
        return await asyncio.to_thread(cli, *arguments)

    async with serving(store):
        assert (await run("doc", "import", "carol/main", "hello.bin")).out == "carol/main: log entry 1\n"
        assert (await run("doc", "show", "carol/main")).json == {"text": "hello"}
        assert len((await run("doc", "verify", "--json")).json) == 3
        assert (await run("doc", "compact", "--json")).code == 0
        assert (await run("db", "backup", "copy.db")).code == 0
        assert "copy.db exists already" in (await run("db", "backup", "copy.db")).complaint
        assert "there is no document" in (await run("doc", "show", "dora/main")).complaint
        assert "in use by process" in (await run("db", "upgrade")).complaint
    with closing(sqlite3.connect(store.parent / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM documents").fetchone() == (3,)


def test_a_server_starts_takes_commands_and_ends(store: Path, cli: Cli) -> None:
    command = [sys.executable, "-m", "server.cli", "serve", "--insecure-dev", "--port", "0", "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if json.loads(line)["event"] == "listening":
                    break
            assert cli("doc", "show", "alice/main").json == {"text": "hello"}
            assert cli("token", "--user", "alice", "--device", "phone").code == 0
            assert cli("db", "backup", "copy.db").code == 0
        finally:
            server.send_signal(signal.SIGTERM)
        events = [json.loads(line)["event"] for line in server.stderr]
    assert server.returncode == 0
    assert events[-1] == "stopped"
    assert not control_path(store).exists()

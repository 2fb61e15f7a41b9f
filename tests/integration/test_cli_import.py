"""Moving in with the documents of other servers, from stores that their own packages wrote."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import plyvel
import pytest
from pycrdt import Array, Doc, Text

from benchmarks.peers.packages import (
    HOCUSPOCUS,
    PYCRDT_WEBSOCKET,
    Y_WEBSOCKET,
    NotInstalled,
    node_folder,
    python_of,
)
from crdt.replica import Replica
from crdt.update import STRUCTS_MAX, read_update
from server.cli import main
from tests.integration.server_peers import converged, new_device
from tests.integration.server_process import Outcome, ServerProcess, server_process
from tests.server_fixture import make_token
from tests.yjs.apps import node_apps
from tests.yjs.packages import SCRIPTS

NOTES: Final = {
    "body": "Milk bread \U0001f600",
    "data": {"nested": {"deep": [1, "two", None, True, 2.5]}},
    "page": [{"tag": "p", "attributes": {}, "children": ["hello"]}],
}
"""What `stores.mjs` writes into `notes`."""

PYCRDT_STORES: Final = """
import asyncio, sys
from pycrdt import Doc, Map, Text
from pycrdt.store import SQLiteYStore

class Log(SQLiteYStore):
    db_path = sys.argv[1]

class Squashed(Log):
    squash_after_inactivity_of = 0
    squash_no_more_often_than = 0
    checkpoint_interval = 2

class Kept(Squashed):
    _compress = _decompress = staticmethod(bytes)  # without callbacks, squashing forgets what it squashes

async def write(kind, name):
    doc, updates = Doc(), []
    doc.observe(lambda event: updates.append(event.update))
    for word in ("one ", "two ", "three "):
        doc.get("body", type=Text).insert(0, word)
    doc.get("data", type=Map)["deep"] = Map({"in": 1.0})
    async with kind(name) as store:
        for update in updates:
            await store.write(update)

async def main():
    for kind, name in ((Log, "/log"), (Kept, "/kept"), (Squashed, "/forgotten"), (Log, "/not/a/name")):
        await write(kind, name)

asyncio.run(main())
"""


def made_by_node(packages: Mapping[str, str], folder: str, kind: str, path: Path) -> Path:
    """A store that the packages write at `path`."""
    try:
        where = node_folder(folder, packages)
    except NotInstalled as exc:
        not_there(str(exc))
    run("node", str(SCRIPTS / "stores.mjs"), kind, str(path), cwd=where)
    return path


def made_by_pycrdt(path: Path) -> Path:
    try:
        python = python_of("pycrdt-websocket", PYCRDT_WEBSOCKET)
    except NotInstalled as exc:
        not_there(str(exc))
    run(str(python), "-c", PYCRDT_STORES, str(path), cwd=path.parent)
    return path


def not_there(why: str) -> None:
    if os.environ.get("SYNCLINE_CI"):
        pytest.fail(why)
    pytest.skip(why)


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def results(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """What became of each document, by its name in the store."""
    return {row.pop("name"): row for row in json.loads(outcome.out)}


async def imported(server: ServerProcess, kind: str, store: Path, *more: str, code: int = 1) -> dict[str, Any]:
    outcome = await server.cli("import", "--from", kind, str(store), "--owner", "alice", "--json", *more)
    assert outcome.code == code, outcome
    return results(outcome)


async def shown(server: ServerProcess, document: str) -> Any:
    return json.loads((await server.cli("doc", "show", document)).out)


def taken(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, bool]]:
    """Which documents came over, and whether anything was written for them."""
    return {name: (row["document"], row["entry"] > 0) for name, row in rows.items() if row["refused"] is None}


async def test_y_leveldb(tmp_path: Path) -> None:
    store = made_by_node(Y_WEBSOCKET, "y-websocket", "y-leveldb", tmp_path / "leveldb")
    before = sorted((file.name, file.read_bytes()) for file in store.iterdir())
    async with server_process(tmp_path) as server, new_device(server.url) as phone:
        rows = await imported(server, "y-leveldb", store, "--dry-run")
        assert (rows["notes"]["updates"], rows["notes"]["entry"]) == (10, 0)
        assert (await server.cli("doc", "list", "--json")).out == "[]\n"

        notes = await phone.open("notes")
        rows = await imported(server, "y-leveldb", store)
        everything = {name: f"alice/{name}" for name in ("flushed", "notes", "torn")} | {
            "alice%2Fshared": "alice/shared"
        }
        assert taken(rows) == {name: (document, name != "torn") for name, document in everything.items()}
        assert "is not a document" in rows["not/a/name"]["refused"]
        assert rows["torn"]["missing"] == "edits of 2 clients lack what they build on"
        await converged(notes, to=NOTES)
        assert await shown(server, "alice/flushed") == {"body": "Milk and bread"}

        again = await imported(server, "y-leveldb", store, "--map", "not/a/name=named")
        assert [name for name, (_, is_new) in taken(again).items() if is_new] == ["not/a/name"]
        assert await shown(server, "alice/named") == {"body": "Milk and bread"}
    assert sorted((file.name, file.read_bytes()) for file in store.iterdir()) == before


async def test_hocuspocus_sqlite(tmp_path: Path) -> None:
    store = made_by_node(HOCUSPOCUS, "hocuspocus", "hocuspocus-sqlite", tmp_path / "hocuspocus.db")
    async with server_process(tmp_path) as server:
        options = ("--prefix", "old-", "--map", "alice%2Fshared=bob/shared", "--map", "not/a/name=named")
        for is_new in (True, False):
            rows = await imported(server, "hocuspocus-sqlite", store, *options, code=0)
            assert taken(rows) == {
                "notes": ("alice/old-notes", is_new),
                "empty": ("alice/old-empty", False),
                "alice%2Fshared": ("bob/shared", is_new),
                "not/a/name": ("alice/named", is_new),
            }
        assert await shown(server, "alice/old-notes") == NOTES


async def test_pycrdt_store(tmp_path: Path) -> None:
    store = made_by_pycrdt(tmp_path / "pycrdt.db")
    async with server_process(tmp_path) as server:
        for is_new in (True, False):
            rows = await imported(server, "pycrdt-store", store)
            assert taken(rows) == {
                "/log": ("alice/log", is_new),
                "/kept": ("alice/kept", is_new),
                "/forgotten": ("alice/forgotten", False),
            }
        for document in ("alice/log", "alice/kept"):
            assert await shown(server, document) == {"body": "three two one ", "data": {"deep": {"in": 1}}}
        assert rows["/forgotten"]["missing"] == "edits of 1 clients lack what they build on"
        assert "is not a document" in rows["/not/a/name"]["refused"]


async def test_an_app_that_has_the_document_goes_on_with_it(tmp_path: Path) -> None:
    author = Replica(7)
    old, offline = (author.edit(append) for append in (appending("Old. "), appending("Offline. ")))
    assert old is not None
    assert offline is not None
    store = hocuspocus_store(tmp_path / "store.db", {"main": old})
    async with server_process(tmp_path) as server, node_apps() as apps, new_device(server.url) as phone:
        url = f"ws://127.0.0.1:{server.port}/yjs"
        app = await apps.y_websocket("a", url, token=make_token("alice", "web"), connect=False)
        for update in (old, offline):  # as a page loads it again, whose edits are of a client id that it had before
            await app.run(f"Y.applyUpdate(doc, new Uint8Array({list(update)}))")
        await app.type("New. ")
        await imported(server, "hocuspocus-sqlite", store, code=0)
        await app.do("connect")
        await converged(await phone.open("main"), to={"body": "New. Old. Offline. "})


# --- what goes wrong, with stores that are made here


def hocuspocus_store(path: Path, documents: Mapping[str, bytes | str]) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE documents (name varchar(255) NOT NULL, data blob NOT NULL, UNIQUE(name))")
        connection.executemany("INSERT INTO documents VALUES (?, ?)", list(documents.items()))
        connection.commit()
    return path


def appending(words: str) -> Callable[[Doc[Any]], object]:
    return lambda doc: doc.get("body", type=Text).insert(len(doc.get("body", type=Text)), words)


def text(words: str) -> bytes:
    update = Replica(7).edit(appending(words))
    assert update is not None
    return update


async def test_one_bad_document_keeps_no_other_back(tmp_path: Path) -> None:
    documents = {
        "good": text("good"),
        "cut": text("cut")[:-3],
        "split": text("first")[:-1] + b"\x01\x07\x01\x00\x00",
        "same": text("one"),
        "alice/same": text("two"),
    }
    store = hocuspocus_store(tmp_path / "store.db", documents)
    async with server_process(tmp_path) as server:
        rows = await imported(server, "hocuspocus-sqlite", store)
        assert taken(rows) == {"good": ("alice/good", True)}
        assert "no Yjs v1 update" in rows["cut"]["refused"]
        assert rows["same"]["refused"] == rows["alice/same"]["refused"]
        assert "another becomes the same document" in rows["same"]["refused"]
        listed = json.loads((await server.cli("doc", "list", "--json")).out)
        assert [info["document"] for info in listed] == ["alice/good"]


async def test_a_document_larger_than_any_update_may_be_comes_over(tmp_path: Path) -> None:
    author = Replica(7)
    author.edit(lambda doc: [doc.get("body", type=Text).insert(0, "a ") for _ in range(3 * STRUCTS_MAX // 2)])
    author.edit(lambda doc: doc.get("data", type=Array).extend(["x" * 40_000 for _ in range(50)]))
    assert len(read_update(author.state()).structs) > STRUCTS_MAX
    store = hocuspocus_store(tmp_path / "store.db", {"large": author.state()})
    async with server_process(tmp_path) as server:
        assert (await imported(server, "hocuspocus-sqlite", store, code=0))["large"]["entry"] > 2
        assert await shown(server, "alice/large") == author.values()
        assert (await imported(server, "hocuspocus-sqlite", store, code=0))["large"]["entry"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--from hocuspocus-sqlite gone.db", "there is no gone.db"),
        ("--from hocuspocus-sqlite text.db", "this is no store of hocuspocus-sqlite: file is not a database"),
        ("--from pycrdt-store store.db", "this is no store of pycrdt-store: no such table: yupdates"),
        ("--from y-leveldb store.db", "store.db is no folder, as a LevelDB is one"),
        ("--from y-leveldb folder", "this is no store of y-leveldb"),
        ("--from redis store.db", "'redis' is not one of 'y-leveldb', 'hocuspocus-sqlite', 'pycrdt-store'"),
        ("--from hocuspocus-sqlite store.db --map old", "--map old: write old=name or old=owner/name"),
        ("--from hocuspocus-sqlite store.db --map gone=new", "--map: there is no 'gone' in the store"),
        ("--from hocuspocus-sqlite store.db --owner alice", "there is no database"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCLINE_DATABASE_URL", f"sqlite:///{tmp_path}/syncline.db")
    hocuspocus_store(tmp_path / "store.db", {"notes": text("hello")})
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one" * 10)
    (tmp_path / "folder").mkdir()
    assert main(("import", *arguments.split())) == 2
    assert says in capsys.readouterr().err


def test_a_leveldb_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with closing(plyvel.DB(str(tmp_path / "leveldb"), create_if_missing=True)):
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", "import", "--dry-run", "--from", "y-leveldb", tmp_path / "leveldb"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "a process has" in done.stderr
    assert "open: end it first" in done.stderr


def test_people_are_told_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = hocuspocus_store(tmp_path / "store.db", {"notes": text("hello"), "bob/plans": text("a"), "no name": b""})
    assert main(("import", "--dry-run", "--from", "hocuspocus-sqlite", "--owner", "alice", str(store))) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "name document updates bytes result"
    assert lines[1] == f"bob/plans bob/plans 1 {len(text('a'))} in order"
    assert lines[2].startswith("no name - 0 0 REFUSED: 'no name' is not a document")
    assert lines[3] == f"notes alice/notes 1 {len(text('hello'))} in order"
    assert lines[4] == "Nothing is written: this was a dry run"

"""A damaged file is noticed, set aside and rebuilt; what can be read of it is not lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.core.ports import Identity, Progress, Salvage, StoreDamaged, StoreError, StoreLocked, StoreRefused
from client_sim.store import SqliteStore, files
from client_sim.store.schema import Rows
from tests.unit.client_sim.store.stores import EDITS, KEY, fill

SOAK = "SYNCLINE_SOAK" in os.environ
PAGE = 4096


@pytest.fixture(scope="module", params=[None, KEY], ids=["plain", "encrypted"])
def key(request: pytest.FixtureRequest) -> bytes | None:
    found: bytes | None = request.param
    return found


class Whole:
    """A store as it was before."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        self.outboxes = fill(path, key)
        self.data = path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, key: bytes | None) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole") / "phone.db", key)


def edits_in(store: SqliteStore) -> dict[str, list[bytes]]:
    return {name: [entry.update for entry in store.load(name).outbox] for name in store.documents()}


def harm(data: bytes, rng: Random) -> bytes:
    """The bytes with some of them changed, a page lost, or the end cut off."""
    harmed = bytearray(data)
    match rng.randrange(4):
        case 0:
            at = rng.randrange(len(harmed))
            harmed[at] ^= 1 << rng.randrange(8)
        case 1:
            at = rng.randrange(len(harmed))
            length = min(rng.randrange(1, 2000), len(harmed) - at)
            harmed[at : at + length] = rng.randbytes(length)
        case 2:
            at = rng.randrange(len(harmed) // PAGE) * PAGE
            harmed[at : at + PAGE] = rng.choice((bytes(PAGE), rng.randbytes(PAGE)))
        case _:
            del harmed[rng.randrange(1, len(harmed)) :]
    return bytes(harmed)


@settings(max_examples=3000 if SOAK else 40, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_whatever_harms_a_file_it_opens_again_and_no_edit_goes_without_a_word(
    whole: Whole, key: bytes | None, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    home = tmp_path_factory.mktemp("harmed")
    path = home / "phone.db"
    path.write_bytes(harm(whole.data, Random(seed)))
    store = SqliteStore(path, key)
    try:
        stored = {name: store.load(name) for name in store.documents()}
    except StoreDamaged as exc:  # of a cache this shows when it is read
        store.rebuild(str(exc))
        stored = {name: store.load(name) for name in store.documents()}
    salvage, saved = store.salvage(), edits_in(store)
    store.close()
    shutil.rmtree(home)
    for name, entries in whole.outboxes.items():
        kept = saved.get(name, [])
        assert set(kept) <= set(entries)
        assert kept == sorted(kept, key=entries.index)
        if salvage is None:
            assert kept == entries
            assert stored[name].progress == Progress(b"epoch 01", stored[name].progress.seq)
        elif kept != entries:
            assert salvage.lost, "edits are missing, and nobody is told"


def test_one_lost_page_costs_what_was_in_it(tmp_path: Path, key: bytes | None) -> None:
    """At pages all over the file, the first among them, which says where all others are."""
    path = tmp_path / "phone.db"
    outboxes = fill(path, key)
    data = path.read_bytes()
    total, worst = len(outboxes) * EDITS, 0
    for page in range(0, len(data) // PAGE, 1 if SOAK else 5):
        path.write_bytes(data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :])
        store = SqliteStore(path, key)
        salvage = store.salvage()
        saved = sum(map(len, edits_in(store).values()))
        store.close()
        assert salvage is None or salvage.edits == saved
        worst = max(worst, total - saved)
    assert worst <= 60, "a page of 4 KiB has fewer edits than that"


def test_what_is_damaged_is_kept_beside_the_new_store(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    pages = b"not a database at all ".ljust(2 * PAGE, b"-")
    for n in (1, 2):
        path.write_bytes(pages)
        store = SqliteStore(path)
        salvage = store.salvage()
        store.close()
        assert isinstance(salvage, Salvage)
        assert salvage.kept_as == f"phone.db.damaged-{n}"
        assert "not a database" in str(salvage)
        assert (tmp_path / salvage.kept_as).read_bytes() == pages
    assert sorted(file.name for file in tmp_path.iterdir()) == ["phone.db", "phone.db.damaged-1", "phone.db.damaged-2"]
    store = SqliteStore(path)
    assert store.salvage() is None
    store.close()


def test_a_file_that_never_was_a_store_is_not_touched(tmp_path: Path, key: bytes | None) -> None:
    path = tmp_path / "diary.txt"
    path.write_text("My diary. " * 1000)
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match=r"diary\.txt is no database"):
        SqliteStore(path, key)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("cut", [0, 100])
def test_a_store_whose_header_is_lost_is_rebuilt(tmp_path: Path, key: bytes | None, whole: Whole, cut: int) -> None:
    """Cut off within a page, too: what is on the others says that it is one."""
    path = tmp_path / "phone.db"
    path.write_bytes(b"X" * 100 + whole.data[100 : len(whole.data) - cut])
    with closing(SqliteStore(path, key)) as store:
        assert edits_in(store)
        assert store.salvage() is not None


def test_damage_that_shows_at_work_is_reported_and_a_rebuild_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    outboxes = fill(path)
    store = SqliteStore(path)
    name = "document 0"
    with store.transaction():
        store._connection.execute(
            "UPDATE updates SET record = zeroblob(40) WHERE document = ? AND position = 7", (name.encode(),)
        )
    with pytest.raises(StoreDamaged, match="not what was written"):
        store.load(name)
    store.rebuild("an update is not what was written there")
    assert edits_in(store) == outboxes
    assert store.load(name).progress == Progress(salvaged=True)
    with store.transaction():
        store.append_updates(name, [b"and goes on"])
    store.close()


@pytest.mark.parametrize("column", ["document", "position"])
def test_a_row_in_anothers_place_is_damage(tmp_path: Path, key: bytes | None, column: str) -> None:
    path = tmp_path / "phone.db"
    fill(path, key, documents=2)
    connection = sqlite3.connect(path)
    one, other = connection.execute("SELECT id, document FROM outbox WHERE position IN (3, 4) LIMIT 2").fetchall()
    if column == "document":
        connection.execute("UPDATE outbox SET document = x'00' WHERE id = ?", one[:1])
    else:
        connection.execute("UPDATE outbox SET position = -1 WHERE id = ?", one[:1])
        connection.execute("UPDATE outbox SET position = 3 WHERE id = ?", other[:1])
        connection.execute("UPDATE outbox SET position = 4 WHERE id = ?", one[:1])
    connection.commit()
    connection.close()
    store = SqliteStore(path, key)
    salvage = store.salvage()
    if salvage is None:
        with pytest.raises(StoreDamaged):
            [store.load(f"document {n}") for n in range(2)]
        salvage = store.rebuild("")
    assert any("of outbox" in lost for lost in salvage.lost)
    store.close()


# --- moments at which a rebuild may be cut off


class Killed(BaseException):
    """The process ends here."""


def damaged(path: Path) -> dict[str, list[bytes]]:
    """A store with one broken record in its cache, whose edits can all be read."""
    outboxes = fill(path, documents=1)
    connection = sqlite3.connect(path)
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'store'").fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    return outboxes


@pytest.mark.parametrize("operation", ["rename", "sync", "unlink", "put"])
@pytest.mark.parametrize("kill_at", range(5))
def test_a_rebuild_that_is_killed_begins_again_or_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, kill_at: int
) -> None:
    path = tmp_path / "phone.db"
    outboxes = damaged(path)
    targets: dict[str, tuple[object, str]] = {
        "rename": (Path, "rename"),
        "sync": (files, "_sync"),
        "unlink": (Path, "unlink"),
        "put": (Rows, "put"),
    }
    owner, name = targets[operation]
    real: Callable[..., object] = getattr(owner, name)
    calls = 0

    def killed(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > kill_at:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with suppress(Killed):
            SqliteStore(path).close()
    store = SqliteStore(path)
    assert edits_in(store) == outboxes
    assert store.identity() == Identity("phone", "alice")
    store.close()
    kept = [file.name for file in tmp_path.iterdir() if ".damaged-" in file.name]
    assert kept == ["phone.db.damaged-1"]


def test_a_full_disk_stops_a_rebuild_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phone.db"
    outboxes = damaged(path)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "put", full)
        with pytest.raises(StoreError, match="full"):
            SqliteStore(path)
    assert path.read_bytes() == before
    store = SqliteStore(path)
    assert edits_in(store) == outboxes
    store.close()


def test_where_a_rebuild_at_work_fails_it_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phone.db"
    outboxes = fill(path)
    store = SqliteStore(path)

    def full(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "put", full)
        with pytest.raises(StoreError, match="full"):
            store.rebuild("it does not fit")
    with pytest.raises(StoreDamaged, match="it does not fit"):
        store.load("document 0")
    store.rebuild("it does not fit")
    assert edits_in(store) == outboxes
    store.close()


def test_a_wrong_key_never_rebuilds_what_is_damaged_too(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    fill(path, KEY)
    data = path.read_bytes()
    for wrong in (None, bytes(32)):
        for page in range(0, len(data) // PAGE, 1 if SOAK else 5):
            harmed = data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :]
            path.write_bytes(harmed)
            with pytest.raises(StoreLocked):
                SqliteStore(path, wrong)
            assert path.read_bytes() == harmed
            assert [file for file in tmp_path.iterdir() if "damaged" in file.name or "rebuilt" in file.name] == []


def test_the_numbers_of_edits_are_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    fill(path, documents=1)
    store = SqliteStore(path)
    store.rebuild("")
    outbox = store.load("document 0").outbox
    assert len(outbox) == EDITS
    assert all(entry.number is None for entry in outbox)
    store.close()

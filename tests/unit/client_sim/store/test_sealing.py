"""What a key hides, and what a seal notices."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from client_sim.core.ports import StoreDamaged, StoreLocked
from client_sim.store import SqliteStore
from client_sim.store.sealing import is_recorded, recorded, seal_of
from tests.unit.client_sim.store.stores import KEY, fill

OTHER = bytes(32)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_seal_opens_in_its_place_and_nowhere_else(key: bytes | None) -> None:
    seal = seal_of(key)
    sealed = seal.close(b"here", b"value")
    assert seal.open(b"here", sealed) == b"value"
    with pytest.raises(StoreDamaged):
        seal.open(b"there", sealed)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_seal_notices_any_change(key: bytes | None) -> None:
    seal = seal_of(key)
    sealed = seal.close(b"here", b"value")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for each in (*changed, *(sealed[:length] for length in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(StoreDamaged):
            seal.open(b"here", each)


def test_equal_values_do_not_look_equal_under_a_key() -> None:
    seal = seal_of(KEY)
    assert seal.close(b"here", b"value") != seal.close(b"here", b"value")
    assert seal.name("diary") == seal.name("diary")
    assert seal.name("diary") != seal_of(OTHER).name("diary")


def test_a_key_is_known_by_its_name() -> None:
    record = recorded(seal_of(KEY).key_id)
    assert is_recorded(record, seal_of(KEY).key_id) is True
    assert is_recorded(record, seal_of(OTHER).key_id) is False
    assert is_recorded(record, seal_of(None).key_id) is False
    assert is_recorded(b"x" + record[1:], seal_of(KEY).key_id) is None


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal_of(bytes(length))


@pytest.mark.parametrize(("key", "other"), [(KEY, OTHER), (KEY, None), (None, KEY)])
def test_another_key_opens_nothing_and_touches_nothing(tmp_path: Path, key: bytes | None, other: bytes | None) -> None:
    path = tmp_path / "phone.db"
    fill(path, key, documents=1)
    before = path.read_bytes()
    with pytest.raises(StoreLocked):
        SqliteStore(path, other)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["phone.db"]
    SqliteStore(path, key).close()


def test_an_encrypted_file_shows_neither_content_nor_names(tmp_path: Path) -> None:
    shown, hidden = tmp_path / "plain.db", tmp_path / "encrypted.db"
    fill(shown)
    fill(hidden, KEY)
    words = (b"edit 00007", b"server 00007", b"document 0", b"phone", b"alice", b"aside of", b"epoch 01", b"body")
    for word in words:
        assert word in shown.read_bytes()
        assert word not in hidden.read_bytes()


def test_the_log_of_an_open_encrypted_store_shows_no_more(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "phone.db", KEY)
    with store.transaction():
        store.append_updates("diary", [b"my deepest secret"])
    content = b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()))
    store.close()
    assert b"secret" not in content
    assert b"diary" not in content


def test_rows_can_not_change_places(tmp_path: Path) -> None:
    """Somebody who can write the file, but has no key, swaps two documents' states."""
    path = tmp_path / "phone.db"
    store = SqliteStore(path, KEY)
    with store.transaction():
        store.replace_state("mine", b"mine")
        store.replace_state("theirs", b"theirs")
    store.close()
    connection = sqlite3.connect(path)
    (one, first), (two, second) = connection.execute("SELECT id, record FROM states").fetchall()
    connection.executemany("UPDATE states SET record = ? WHERE id = ?", [(second, one), (first, two)])
    connection.commit()
    connection.close()
    store = SqliteStore(path, KEY)
    with pytest.raises(StoreDamaged):
        store.load("mine")
    store.close()

"""One contract for every DeviceStore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client_sim.core.ports import DeviceStore, Identity, OutboxEntry, Progress, StoredDocument
from client_sim.store import MemoryStore, SqliteStore
from crdt.chain import OPS_START, OpState

PROGRESS = Progress(b"epoch 01", 7, OpState(3, b"chain  3"), "bad_update")
FIRST = OutboxEntry(1, b"one")
SECOND = OutboxEntry(2, b"two", heal=True)


class Home:
    """Where a store lives on when its process is gone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory = MemoryStore()
        self.store: DeviceStore = self._open()

    def _open(self) -> DeviceStore:
        return SqliteStore(self._path) if self._path else self._memory

    def again(self) -> DeviceStore:
        self.store.close()
        self._memory = self._memory.restarted()
        self.store = self._open()
        return self.store


@pytest.fixture(params=["memory", "sqlite"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "device.db" if request.param == "sqlite" else None)
    yield home
    home.store.close()


def write(store: DeviceStore, *writes: Callable[[], None]) -> None:
    with store.transaction():
        for each in writes:
            each()


def test_a_new_store_is_empty(home: Home) -> None:
    assert home.store.identity() is None
    assert home.store.documents() == []
    assert home.store.load("main") == StoredDocument()
    assert home.store.aside("main") == []


def test_what_was_written_is_there_after_a_restart(home: Home) -> None:
    store = home.store
    write(
        store,
        lambda: store.save_identity(Identity("phone", "alice")),
        lambda: store.save_progress("main", PROGRESS),
        lambda: store.replace_state("main", b"state"),
        lambda: store.append_updates("main", [b"u2", b"u1"]),
        lambda: store.append_updates("other", [b"o"]),
        lambda: store.save_outbox("main", [FIRST, SECOND]),
        lambda: store.put_aside("main", [b"b", b"a"]),
    )
    store = home.again()
    assert store.identity() == Identity("phone", "alice")
    assert store.documents() == ["main", "other"]
    assert store.load("main") == StoredDocument(PROGRESS, b"state", (b"u2", b"u1"), (FIRST, SECOND))
    assert store.load("other") == StoredDocument(updates=(b"o",))
    assert store.aside("main") == [b"b", b"a"]


def test_another_identity_has_no_numbers_and_all_the_rest(home: Home) -> None:
    store = home.store
    numbered = OutboxEntry(1, b"one", OpState(4, b"chain  4"))
    for name in ("main", "other"):
        write(
            store,
            lambda: store.save_identity(Identity("phone", "alice")),
            lambda name=name: store.save_progress(name, PROGRESS),  # type: ignore[misc]
            lambda name=name: store.save_outbox(name, [numbered, SECOND]),  # type: ignore[misc]
            lambda name=name: store.append_updates(name, [b"u"]),  # type: ignore[misc]
        )
    write(store, lambda: store.change_identity(Identity("phone-2", "alice")))
    store = home.again()
    assert store.identity() == Identity("phone-2", "alice")
    for name in ("main", "other"):
        stored = store.load(name)
        assert stored.progress == Progress(PROGRESS.epoch, PROGRESS.seq, OPS_START, PROGRESS.held)
        assert stored.outbox == (FIRST, SECOND)
        assert stored.updates == (b"u",)


def test_an_entry_gets_its_number_in_place(home: Home) -> None:
    store = home.store
    numbered = OutboxEntry(1, b"one", OpState(1, b"chain  1"))
    write(store, lambda: store.save_outbox("main", [FIRST, SECOND]))
    write(store, lambda: store.save_outbox("main", [numbered]))
    assert home.again().load("main").outbox == (numbered, SECOND)


def test_outbox_entries_are_dropped_by_position(home: Home) -> None:
    store = home.store
    entries = [OutboxEntry(position, b"x") for position in range(1, 6)]
    write(store, lambda: store.save_outbox("main", entries), lambda: store.save_outbox("other", entries))
    write(store, lambda: store.drop_outbox("main", 2, 4))
    assert [entry.position for entry in home.again().load("main").outbox] == [1, 5]
    assert len(home.store.load("other").outbox) == 5


def test_a_state_takes_the_place_of_the_cache_log(home: Home) -> None:
    store = home.store
    write(store, lambda: store.append_updates("main", [b"a"]), lambda: store.append_updates("other", [b"o"]))
    write(store, lambda: store.replace_state("main", b"state"), lambda: store.append_updates("main", [b"b"]))
    assert home.again().load("main") == StoredDocument(state=b"state", updates=(b"b",))
    assert home.store.load("other").updates == (b"o",)


def test_a_transaction_that_raises_leaves_nothing(home: Home) -> None:
    store = home.store
    write(store, lambda: store.save_progress("main", PROGRESS), lambda: store.save_outbox("main", [FIRST]))

    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        write(
            store,
            lambda: store.save_progress("main", Progress()),
            lambda: store.save_outbox("main", [SECOND]),
            lambda: store.append_updates("main", [b"a"]),
            store.wipe,
            fail,
        )
    expected = StoredDocument(PROGRESS, outbox=(FIRST,))
    assert store.load("main") == expected
    assert home.again().load("main") == expected


def test_aside_is_kept_until_it_is_dropped(home: Home) -> None:
    store = home.store
    write(store, lambda: store.put_aside("main", [b"a"]), lambda: store.put_aside("other", [b"o"]))
    write(store, lambda: store.put_aside("main", [b"b"]))
    assert home.again().aside("main") == [b"a", b"b"]
    write(home.store, lambda: home.store.drop_aside("main"))
    assert home.again().aside("main") == []
    assert home.store.aside("other") == [b"o"]


def test_a_wipe_leaves_only_the_devices_name(home: Home) -> None:
    store = home.store
    write(
        store,
        lambda: store.save_identity(Identity("phone", "alice")),
        lambda: store.save_progress("main", PROGRESS),
        lambda: store.append_updates("main", [b"secret"]),
        lambda: store.save_outbox("main", [FIRST]),
        lambda: store.put_aside("main", [b"a"]),
    )
    write(store, store.wipe)
    store = home.again()
    assert store.identity() == Identity("phone", None)
    assert store.documents() == []
    assert store.load("main") == StoredDocument()
    assert store.aside("main") == []


def test_writes_outside_a_transaction_are_mistakes(home: Home) -> None:
    with pytest.raises(AssertionError):
        home.store.append_updates("main", [b"a"])

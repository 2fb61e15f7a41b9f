"""One contract for every DeviceStore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Doc, Text

from client_sim.core.ports import (
    DeviceStore,
    Holding,
    Identity,
    Keeping,
    OutboxEntry,
    Partial,
    Progress,
    StoredDocument,
)
from client_sim.store import MemoryStore, SqliteStore
from crdt.chain import OPS_START, OpState
from crdt.replica import Replica

PROGRESS = Progress(b"epoch 01", 7, OpState(3, b"chain  3"), "bad_update", salvaged=True)
FIRST = OutboxEntry(1, b"one")
SECOND = OutboxEntry(2, b"two", heal=True)


class Home:
    """Where a store lives on when its process is gone."""

    def __init__(self, path: Path | None, key: bytes | None = None) -> None:
        self._path = path
        self._key = key
        self._memory = MemoryStore()
        self.store: DeviceStore = self._open()

    def _open(self) -> DeviceStore:
        return SqliteStore(self._path, self._key) if self._path else self._memory

    def again(self) -> DeviceStore:
        self.store.close()
        self._memory = self._memory.restarted()
        self.store = self._open()
        return self.store


@pytest.fixture(params=["memory", "sqlite", "encrypted"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    path = None if request.param == "memory" else tmp_path / "device.db"
    home = Home(path, bytes(range(32)) if request.param == "encrypted" else None)
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
        assert stored.progress == replace(PROGRESS, acked=OPS_START)
        assert stored.outbox == (FIRST, SECOND)
        assert stored.updates == (b"u",)


def test_an_entry_gets_its_number_in_place(home: Home) -> None:
    store = home.store
    numbered = OutboxEntry(1, b"one", OpState(1, b"chain  1"))
    write(store, lambda: store.save_outbox("main", [FIRST, SECOND]))
    write(store, lambda: store.save_outbox("main", [numbered]))
    assert home.again().load("main").outbox == (numbered, SECOND)


def test_the_beginning_of_an_answer_is_kept_until_it_is_dropped(home: Home) -> None:
    store = home.store
    write(store, lambda: store.append_chunk("main", b"payload", 0, b"abc"))
    write(store, lambda: store.append_chunk("main", b"payload", 3, b"de"))
    write(store, lambda: store.append_chunk("other", b"another", 0, b"o"))
    store = home.again()
    assert store.load("main") == StoredDocument(partial=Partial(b"payload", b"abcde"))
    assert holding(store, "main").cache_bytes >= 5
    write(store, lambda: store.drop_chunks("main"))
    store = home.again()
    assert store.load("main") == StoredDocument()
    assert store.load("other").partial == Partial(b"another", b"o")


def test_the_beginning_of_an_answer_goes_with_the_document_and_with_the_name_it_was_for(home: Home) -> None:
    store = home.store
    for name in ("evicted", "kept"):
        write(store, lambda name=name: store.append_chunk(name, b"payload", 0, b"abc"))  # type: ignore[misc]
    write(store, lambda: store.evict("evicted"))
    assert holding(store, "kept").cache_bytes
    assert [found.document for found in store.holdings()] == ["kept"]
    write(store, lambda: store.change_identity(Identity("phone-2", "alice")))
    assert home.again().load("kept").partial is None


def test_a_rebuilt_store_asks_for_the_whole_answer_again(home: Home) -> None:
    store = home.store
    write(store, lambda: store.append_chunk("main", b"payload", 0, b"abc"))
    store.rebuild("somebody said so")
    assert home.again().load("main").partial is None


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
        lambda: store.save_keeping("main", Keeping(1.5, 2.5, pinned=True)),
    )
    write(store, store.wipe)
    store = home.again()
    assert store.identity() == Identity("phone", None)
    assert store.documents() == []
    assert store.load("main") == StoredDocument()
    assert store.aside("main") == []
    assert store.holdings() == []


def test_writes_outside_a_transaction_are_mistakes(home: Home) -> None:
    with pytest.raises(AssertionError):
        home.store.append_updates("main", [b"a"])


# --- the cache


def holding(store: DeviceStore, document: str) -> Holding:
    return next(holding for holding in store.holdings() if holding.document == document)


def test_holdings_say_why_a_document_is_kept(home: Home) -> None:
    store = home.store
    write(
        store,
        lambda: store.append_updates("main", [b"u"]),
        lambda: store.save_keeping("main", Keeping(10.25, 20.5, pinned=True)),
        lambda: store.save_keeping("wanted", Keeping(used_at=1.0)),
        lambda: store.append_updates("other", [b"o"]),
    )
    store = home.again()
    assert [found.document for found in store.holdings()] == ["main", "other", "wanted"]
    assert holding(store, "main").keeping == Keeping(10.25, 20.5, pinned=True)
    assert holding(store, "other").keeping == Keeping(None, 0.0, pinned=False)
    assert holding(store, "wanted").cache_bytes == 0


def test_holdings_count_state_and_log(home: Home) -> None:
    store = home.store
    write(store, lambda: store.append_updates("main", [bytes(1000)] * 3), lambda: store.append_updates("other", [b""]))
    assert 3000 <= holding(store, "main").cache_bytes < 3200
    write(store, lambda: store.replace_state("main", bytes(500)))
    assert 500 <= holding(store, "main").cache_bytes < 600
    assert holding(store, "other").cache_bytes < 100


def test_holdings_know_what_no_server_could_give_back(home: Home) -> None:
    store = home.store
    for name in ("a", "b", "c", "d"):
        write(store, lambda name=name: store.append_updates(name, [b"u"]))  # type: ignore[misc]
    write(store, lambda: store.save_outbox("b", [FIRST]), lambda: store.put_aside("c", [b"x"]))
    write(store, lambda: store.save_progress("d", Progress(held="bad_update")))
    assert [found.is_only_copy for found in store.holdings()] == [False, True, True, True]
    write(store, lambda: store.drop_outbox("b", 1, 1), lambda: store.drop_aside("c"))
    write(store, lambda: store.save_progress("d", Progress()))
    assert not any(found.is_only_copy for found in home.again().holdings())


def test_what_is_evicted_was_never_there(home: Home) -> None:
    store = home.store
    for name in ("main", "other"):
        write(
            store,
            lambda name=name: store.save_progress(name, PROGRESS),  # type: ignore[misc]
            lambda name=name: store.replace_state(name, b"state"),  # type: ignore[misc]
            lambda name=name: store.append_updates(name, [b"u"]),  # type: ignore[misc]
            lambda name=name: store.save_keeping(name, Keeping(1.0, 2.0)),  # type: ignore[misc]
        )
    write(store, lambda: store.evict("main"))
    store = home.again()
    assert store.load("main") == StoredDocument()
    assert [found.document for found in store.holdings()] == ["other"]
    assert store.load("other") == StoredDocument(PROGRESS, b"state", (b"u",))


# --- damage


def test_a_whole_store_has_nothing_to_salvage(home: Home) -> None:
    assert home.store.salvage() is None
    assert home.again().salvage() is None


def test_a_rebuilt_store_has_the_edits_without_their_numbers(home: Home) -> None:
    store = home.store
    phone = Replica(1)
    updates = [update for _ in range(3) if (update := phone.edit(lambda doc: append(doc, "x"))) is not None]
    entries = [OutboxEntry(4, updates[1], OpState(4, b"chain  4")), OutboxEntry(6, updates[2])]
    write(
        store,
        lambda: store.save_identity(Identity("phone", "alice")),
        lambda: store.save_progress("main", PROGRESS),
        lambda: store.append_updates("main", updates),
        lambda: store.save_outbox("main", entries),
        lambda: store.put_aside("main", [b"a"]),
        lambda: store.save_keeping("main", Keeping(1.0, 2.0, pinned=True)),
    )
    found = store.rebuild("somebody said so")
    assert (found.damage, found.owner, found.documents, found.edits, found.aside) == ("somebody said so", True, 1, 2, 1)
    assert store.salvage() == found
    store = home.again()
    assert store.salvage() is None
    assert store.identity() == Identity("phone", "alice")
    stored = store.load("main")
    assert stored.progress == Progress(salvaged=True)
    assert [(entry.position, entry.update, entry.number) for entry in stored.outbox] == [
        (1, updates[1], None),
        (2, updates[2], None),
    ]
    assert stored.state is not None
    assert Replica.load([stored.state, *stored.updates]).values() == {"body": "xxx"}
    assert store.aside("main") == [b"a"]
    assert holding(store, "main").keeping == Keeping(None, 2.0, pinned=True)


def test_what_is_no_update_is_put_aside_and_what_builds_on_nothing_is_not_in_the_cache(home: Home) -> None:
    store = home.store
    phone = Replica(1)
    updates = [update for _ in range(3) if (update := phone.edit(lambda doc: append(doc, "x"))) is not None]
    write(
        store,
        lambda: store.save_identity(Identity("phone", "alice")),
        lambda: store.append_updates("main", [updates[0], b"none", updates[2]]),
        lambda: store.save_outbox("main", [OutboxEntry(1, b"neither"), OutboxEntry(2, updates[2])]),
    )
    found = store.rebuild("")
    assert (found.edits, found.aside) == (1, 1)
    assert store.aside("main") == [b"neither"]
    stored = store.load("main")
    assert [entry.update for entry in stored.outbox] == [updates[2]]
    assert stored.state is not None
    assert Replica.load([stored.state]).values() == {"body": "x"}


def test_edits_of_nobody_known_wait_and_their_cache_is_not_shown(home: Home) -> None:
    store = home.store
    update = Replica(1).edit(lambda doc: append(doc, "x"))
    assert update is not None
    write(
        store,
        lambda: store.append_updates("main", [update]),
        lambda: store.save_outbox("main", [OutboxEntry(1, update)]),
        lambda: store.append_updates("other", [update]),
    )
    found = store.rebuild("")
    assert not found.owner
    assert store.load("main") == StoredDocument(
        Progress(held="owner_unknown", salvaged=True), outbox=(OutboxEntry(1, update),)
    )
    assert store.load("other") == StoredDocument(Progress(salvaged=True))


def append(doc: Doc[Any], text: str) -> None:
    doc.get("body", type=Text).insert(len(doc.get("body", type=Text)), text)

"""What is kept on the device, how fresh it says it is, what is fetched ahead, and what goes for room."""

from __future__ import annotations

import pytest

from client_sim.core import events, prefetch
from client_sim.core.cache import NOTE_S
from client_sim.core.documents import NotOpen
from client_sim.core.effects import StatusChanged
from client_sim.core.status import Phase, State
from client_sim.store import MemoryStore
from crdt.protocol.frames import DeviceFrame, Error, Leave, Open
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.rig import Rig

T0 = 1_700_000_000.0
"""What the clock on the wall says at the beginning, in seconds since 1970."""


def clocked(rig: Rig, at: float = T0) -> Rig:
    """The driver tells the time, as it does before each event."""
    rig.device.documents.cache.set_clock(at + rig.now, rig.now)
    return rig


def as_of(rig: Rig, name: str = "main") -> float | None:
    return rig.device.documents.cache.as_of(name)


def is_stale(rig: Rig, max_stale_s: float | None, name: str = "main") -> bool:
    return rig.device.documents.cache.is_stale(name, max_stale_s, rig.now)


# --- how fresh


def test_what_was_never_fetched_is_stale_whatever_will_do() -> None:
    rig = clocked(Rig(FakeServer()))
    rig.type("mine")
    assert as_of(rig) is None
    assert is_stale(rig, None)


def test_what_is_live_is_as_of_the_servers_last_word_and_never_stale() -> None:
    server = FakeServer()
    rig = clocked(Rig(server)).start()
    assert as_of(rig) == T0
    rig.now = 7.0
    Rig(server, "laptop", seed=2).start().type("x").settle()
    rig.settle()
    assert as_of(rig) == T0 + 7.0
    rig.now = 20.0
    assert not is_stale(rig, 0.0)


def test_offline_it_grows_old() -> None:
    rig = clocked(Rig(FakeServer())).start()
    rig.now = 5.0
    rig.type("x").settle()
    rig.feed(events.Stopped())
    rig.now = 65.0
    assert as_of(rig) == T0 + 5.0
    assert not is_stale(rig, 60.0)
    rig.now = 65.5
    assert is_stale(rig, 60.0)
    assert not is_stale(rig, None)


def test_a_restart_remembers_it() -> None:
    rig = clocked(Rig(FakeServer())).start()
    rig.now = 5.0
    rig.type("x").settle()
    rig.feed(events.Stopped())
    clocked(rig.kill(), T0 + 1000)
    assert as_of(rig) == T0 + 5.0
    assert not is_stale(rig, 1000.0)
    assert is_stale(rig, 999.0)


def test_a_kill_makes_it_claim_less_and_never_more() -> None:
    server = FakeServer()
    rig = clocked(Rig(server)).start()
    for _ in range(10):
        rig.now += NOTE_S / 4
        rig.type("x").settle()
    heard = as_of(rig)
    assert heard == T0 + rig.now
    rig.kill()
    stored = as_of(rig)
    assert stored is not None
    assert heard - NOTE_S <= stored <= heard


def test_a_clock_that_was_set_back_makes_it_stale() -> None:
    rig = clocked(Rig(FakeServer())).start()
    rig.feed(events.Stopped())
    clocked(rig.kill(), T0 - 3600)
    assert is_stale(rig, 1e9)


def test_without_a_clock_nothing_is_claimed_and_nothing_written() -> None:
    rig = Rig(FakeServer()).start().type("x").settle()
    rig.feed(events.Stopped())
    assert as_of(rig) is None
    assert all(found.keeping.as_of is None for found in rig.store.holdings())


def test_nobody_knows_how_fresh_it_is_after_damage() -> None:
    rig = clocked(Rig(FakeServer())).start().type("x").settle()
    rig.feed(events.Stopped())
    rig.store.damage(lambda remains: remains)
    clocked(rig.kill())
    assert is_stale(rig, None)


# --- fetched ahead


def with_content(*names: str) -> FakeServer:
    server = FakeServer()
    laptop = Rig(server, "laptop", seed=5, documents=names).start()
    for name in names:
        laptop.type(f"text of {name}", name).settle()
    laptop.feed(events.Stopped())
    return server


def test_what_was_fetched_ahead_can_be_read_without_a_network() -> None:
    server = with_content("a", "b")
    rig = clocked(Rig(server)).start()
    rig.feed(events.PrefetchRequested(("a", "b")))
    rig.settle()
    rig.feed(events.Stopped())
    clocked(rig.kill())
    for name in ("a", "b"):
        rig.feed(events.OpenRequested(name))
        assert rig.device.document(name).values() == {"body": f"text of {name}"}
        assert not is_stale(rig, 60.0, name)


def test_it_is_left_when_it_is_current_and_the_app_hears_nothing_of_it() -> None:
    server = with_content("a")
    rig = Rig(server).start()
    rig.told.clear()
    rig.feed(events.PrefetchRequested(("a",)))
    rig.settle()
    assert len(rig.frames(Leave)) == 1
    assert not [
        effect for effect in rig.told_of(StatusChanged) if isinstance(effect, StatusChanged) and effect.document
    ]
    assert list(rig.device.documents.prefetch) == []
    with pytest.raises(NotOpen):
        rig.device.document("a")


def test_a_few_are_fetched_at_a_time_after_all_that_is_open() -> None:
    names = tuple(f"d{n}" for n in range(10))
    server = with_content("main", *names)
    rig = Rig(server)
    rig.feed(events.PrefetchRequested(names))
    rig.begin()
    seen: list[str] = []
    while rig.deliver_up() or rig.deliver_down():
        asked = [document.name for document in rig.device.documents.prefetch]
        assert len(asked) <= prefetch.AT_ONCE
        if rig.document.phase is not Phase.LIVE:
            assert asked == []
        seen += [name for name in asked if name not in seen]
    assert seen == list(names)


def test_what_the_app_opens_meanwhile_is_fetched_once() -> None:
    server = with_content("a")
    rig = Rig(server).start()
    rig.feed(events.PrefetchRequested(("a",)))
    rig.feed(events.OpenRequested("a"))
    rig.settle()
    assert rig.device.document("a").values() == {"body": "text of a"}
    assert [frame.doc for frame in rig.frames(Open) if isinstance(frame, Open)] == ["a"]
    assert rig.device.document("a").status().state is State.CURRENT
    assert rig.frames(Leave) == []


def test_a_lost_connection_does_not_end_it() -> None:
    server = with_content("a", "b")
    server.chunk_bytes = 5
    rig = Rig(server).start()
    rig.feed(events.PrefetchRequested(("a", "b")))
    for _ in range(4):
        rig.deliver_up()
        rig.deliver_down()
    rig.lose().wait().settle()
    rig.feed(events.Stopped())
    for name in ("a", "b"):
        rig.feed(events.OpenRequested(name))
        assert rig.device.document(name).values() == {"body": f"text of {name}"}


def test_nothing_is_fetched_ahead_on_a_metered_network() -> None:
    server = with_content("a")
    rig = Rig(server)
    rig.feed(events.PrefetchRequested(("a",)))
    rig.feed(events.NetworkChanged("mobile", metered=True))
    rig.start()
    assert rig.device.documents.prefetch.names == ["a"]
    rig.feed(events.NetworkChanged("home", metered=False))
    rig.settle()
    assert rig.device.documents.prefetch.names == []


def test_what_is_refused_is_left_and_others_go_on() -> None:
    server = with_content("a")
    rig = Rig(server).start()
    rig.feed(events.PrefetchRequested(("bob/secret", "a")))

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Open) and frame.doc == "bob/secret":
            session.send(Error(frame.ref, None, "forbidden", "", "after_auth"))
            return True
        return False

    server.script = script
    rig.settle()
    assert rig.device.documents.prefetch.names == []
    rig.feed(events.OpenRequested("a"))
    assert rig.device.document("a").values() == {"body": "text of a"}


def test_no_more_may_wait_than_is_reasonable() -> None:
    rig = Rig(FakeServer())
    rig.feed(events.PrefetchRequested(tuple(f"d{n}" for n in range(prefetch.NAMES_MAX))))
    with pytest.raises(ValueError, match="may wait"):
        rig.feed(events.PrefetchRequested(("one-more",)))
    with pytest.raises(ValueError, match="name"):
        rig.feed(events.PrefetchRequested(("",)))


# --- what goes for room


def with_five(bytes_max: int | None) -> Rig:
    """Five documents, opened one after the other, each of about 1,000 bytes."""
    rig = Rig(FakeServer(), documents=()).start()
    rig.device.documents.cache.bytes_max = bytes_max
    for n in range(5):
        rig.now += 1
        clocked(rig)
        rig.feed(events.OpenRequested(f"d{n}"))
        rig.settle().type("x" * 1000, f"d{n}").settle()
    return rig


def kept(store: MemoryStore) -> list[str]:
    return [found.document for found in store.holdings() if found.cache_bytes]


def close_all(rig: Rig) -> None:
    for name in [document.name for document in rig.device.documents]:
        rig.feed(events.CloseRequested(name))


def test_the_longest_unused_go_first() -> None:
    rig = with_five(None)
    rig.now += 1
    clocked(rig).feed(events.OpenRequested("d0"))
    close_all(rig)
    rig.device.documents.cache.bytes_max = 3500
    rig.device.documents.cache.look()
    rig.feed(events.TimePassed())
    assert kept(rig.store) == ["d0", "d3", "d4"]
    assert rig.device.counters.evictions == 2


def test_without_a_budget_nothing_goes() -> None:
    rig = with_five(None)
    close_all(rig)
    assert len(kept(rig.store)) == 5


def test_what_is_open_stays_whatever_it_takes() -> None:
    rig = with_five(10)
    assert len(kept(rig.store)) == 5
    rig.feed(events.CloseRequested("d1"))
    assert kept(rig.store) == ["d0", "d2", "d3", "d4"]


def test_what_is_pinned_stays_over_restarts_until_it_is_not() -> None:
    rig = with_five(10)
    rig.feed(events.Pinned("d2", pinned=True))
    close_all(rig)
    assert kept(rig.store) == ["d2"]
    clocked(rig.kill()).device.documents.cache.bytes_max = 10
    rig.feed(events.TimePassed())
    assert kept(rig.store) == ["d2"]
    rig.feed(events.Pinned("d2", pinned=False))
    assert kept(rig.store) == []


def test_what_no_server_has_stays() -> None:
    rig = with_five(10)
    rig.feed(events.Stopped())
    rig.type("offline", "d1")
    with rig.store.transaction():
        rig.store.put_aside("d3", [b"refused"])
    close_all(rig)
    assert kept(rig.store) == ["d1", "d3"]
    assert rig.store.load("d1").outbox


def test_what_was_evicted_comes_back_from_the_server_and_can_be_edited() -> None:
    rig = with_five(10)
    close_all(rig)
    assert kept(rig.store) == []
    assert is_stale(rig, None, "d0")
    rig.feed(events.OpenRequested("d0"))
    rig.settle().type("more", "d0").settle()
    assert rig.device.document("d0").values() == {"body": "x" * 1000 + "more"}
    assert rig.device.document("d0").status().state is State.CURRENT
    assert rig.device.name == rig.name


def test_what_is_fetched_ahead_counts() -> None:
    names = ("a", "b", "c")
    server = with_content(*names)
    rig = clocked(Rig(server, documents=())).start()
    rig.device.documents.cache.bytes_max = 10
    rig.feed(events.PrefetchRequested(names))
    rig.settle()
    assert kept(rig.store) == []


def test_a_revoked_device_keeps_nothing_and_fetches_nothing() -> None:
    server = with_content("a")
    rig = clocked(Rig(server)).start()
    rig.feed(events.Pinned("main", pinned=True))
    rig.feed(events.PrefetchRequested(("a",)))
    rig.lose(4403, "revoked")
    assert rig.store.holdings() == []
    assert rig.device.documents.prefetch.names == []
    assert as_of(rig) is None

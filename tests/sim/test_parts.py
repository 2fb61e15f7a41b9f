"""What the world is made of: time, links, stores that fail, and a truth that nobody can talk round."""

from __future__ import annotations

from random import Random

import pytest

from client_sim.core.ports import Identity, StoreError
from client_sim.sim.handset import FlakyStore
from client_sim.sim.link import Link, Moment
from client_sim.sim.timetable import Restless, Sleep, Timetable
from client_sim.sim.truth import Broken, Truth
from client_sim.sim.weather import Span, Weather, draw
from crdt.ids import DocumentId
from crdt.protocol.frames import Delta


class Ends:
    """Both ends of a link, and what comes to them."""

    def __init__(self, weather: Weather) -> None:
        self.timetable = Timetable()
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.told: list[str] = []
        ends = self

        class Device:
            def connected(self) -> None:
                ends.told.append("connected")

            def received(self, data: bytes) -> None:
                ends.down.append(data)

            def lost(self, code: int | None, reason: str) -> None:
                ends.told.append(f"device lost {code}")

        class Server:
            def opened(self, link: Link) -> None:
                ends.told.append("opened")

            def received(self, link: Link, data: bytes) -> None:
                ends.up.append(data)

            def lost(self, link: Link) -> None:
                ends.told.append("server lost")

            def drained(self, link: Link) -> None:
                ends.told.append("drained")

            def overfull(self, link: Link) -> None:
                ends.told.append("overfull")

        self.link = Link(self.timetable, Random(1), weather, Device(), Server(), "a link")
        self.pass_time(5.0)

    def pass_time(self, seconds: float) -> None:
        self.timetable.run_until(self.timetable.now + seconds)


@pytest.fixture
def ends() -> Ends:
    return Ends(draw(Random(3), "calm"))


def test_a_link_keeps_order(ends: Ends) -> None:
    sent = [bytes([number]) * (1 + 997 * number % 1000) for number in range(50)]
    for data in sent:
        ends.link.send_up(data)
        ends.link.send_down(data)
    ends.pass_time(5.0)
    assert ends.up == ends.down == sent
    assert ends.told == ["opened", "connected"]


@pytest.mark.parametrize(("moment", "arrives"), [(Moment.BEFORE, 0), (Moment.WITHIN, 0), (Moment.AFTER, 1)])
def test_a_link_is_cut_around_a_message(ends: Ends, moment: Moment, arrives: int) -> None:
    ends.link.arm(False, moment)
    ends.link.send_up(b"x")
    ends.pass_time(100.0)
    ends.link.send_up(b"too late")
    ends.pass_time(100.0)
    assert len(ends.up) == arrives
    assert sorted(ends.told[2:]) == ["device lost None", "server lost"]


def test_of_a_half_open_link_only_deadlines_tell(ends: Ends) -> None:
    ends.link.fall_silent()
    ends.link.send_up(b"x")
    ends.pass_time(ends.link.silence_s - 1)
    assert ends.told == ["opened", "connected"]
    ends.pass_time(2)
    assert (ends.up, ends.told[2:]) == ([], ["server lost"])


def test_what_is_not_read_is_kept_in_order(ends: Ends) -> None:
    ends.link.pause()
    for data in (b"1", b"2"):
        ends.link.send_up(data)
        ends.pass_time(1.0)
    assert ends.up == []
    ends.link.resume()
    ends.link.send_up(b"3")
    ends.pass_time(1.0)
    assert ends.up == [b"1", b"2", b"3"]


def test_a_slow_reader_is_told_of_once_and_drains(ends: Ends) -> None:
    ends.link.outbox_max, ends.link.down.bandwidth = 1_000, 100.0
    for _ in range(30):
        ends.link.send_down(bytes(100))
    ends.link.await_drain()
    ends.pass_time(1.0)
    assert ends.told[2:] == ["overfull"]
    ends.pass_time(60.0)
    assert ends.told[2:] == ["overfull", "drained"]


def test_a_close_comes_after_what_was_sent(ends: Ends) -> None:
    ends.link.send_down(b"last")
    ends.link.close(4401, "bad_token")
    ends.link.send_down(b"never")
    ends.pass_time(5.0)
    assert ends.down == [b"last"]
    assert ends.told[2:] == ["device lost 4401", "server lost"]


def test_work_sleeps_and_ends_with_its_process() -> None:
    timetable, done = Timetable(), list[float]()

    async def work() -> None:
        while True:
            await Sleep(10.0)
            done.append(timetable.now)

    running = timetable.spawn(work())
    timetable.run_until(25.0)
    running.cancel()
    timetable.run_until(100.0)
    assert done == [10.0, 20.0]


def test_what_goes_round_is_found() -> None:
    timetable = Timetable()

    def again() -> None:
        timetable.after(0.0, again)

    again()
    with pytest.raises(Restless):
        timetable.run_until(1.0)


def test_a_store_that_fails_has_what_it_had() -> None:
    full = [False]
    store = FlakyStore(lambda: full[0])
    with store.transaction():
        store.save_identity(Identity("phone", None))
    full[0] = True
    with pytest.raises(StoreError), store.transaction():
        store.save_identity(Identity("phone", "alice"))
    assert store.restarted().identity() == Identity("phone", None)


def test_what_is_not_in_the_log_may_not_be_sent() -> None:
    with pytest.raises(Broken, match="durable before visible"):
        Truth().check_delta(DocumentId("alice", "main"), Delta(1, 1, (b"\x00\x00",)))


def test_spans_are_drawn_within_their_bounds() -> None:
    rng, span = Random(1), Span(0.1, 100.0)
    drawn = sorted(span.draw(rng) for _ in range(1000))
    assert 0.1 <= drawn[0] < 0.12
    assert 80 < drawn[-1] <= 100
    assert 2 < drawn[500] < 5

"""A device that wants more than its share waits for it, and nobody else does; it is never refused for it."""

from __future__ import annotations

from typing import Any

import pytest
from pycrdt import Doc, Map

from crdt.ids import DeviceId
from crdt.protocol import frames
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, DevicePresence, Error, Open, Opened, Ping, Pong, Presence, Push, Welcome
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core import events
from server.core.rates import DEBT_S_MAX, LAP_S, Accounts, Bucket, Rates, Tariff
from server.core.session import Session
from tests.unit.server.core.lab import Lab, Writer

RATES = Rates(updates_per_s=100, bytes_per_s=10_000, answer_bytes_per_s=10_000, presences_per_s=10, burst_s=2.0)


def use_up(lab: Lab, session: int) -> int:
    """Ping until reading stops for good; how many it took."""
    for count in range(1, 1_000):
        lab.send(session, frames.Ping(count))
        lab.turn()
        if session in lab.paused:
            return count
    raise AssertionError("it was never stopped")


# --- buckets


def test_a_bucket_is_paid_for_by_time() -> None:
    bucket = Bucket()
    assert bucket.owed_s(now=5.0) == 0
    assert bucket.charge(2.0, now=5.0) == 2.0
    assert bucket.charge(1.0, now=6.0) == 2.0
    assert bucket.owed_s(now=7.5) == 0.5
    assert bucket.charge(1.0, now=100.0) == 1.0, "nothing is saved up beyond the burst"
    bucket.forgive(0.25, now=100.0)
    assert bucket.owed_s(now=100.0) == 0.25


@pytest.mark.parametrize(
    ("frame", "size", "cost_s"),
    [
        (frames.Ping(1), 0, 0.01),
        (frames.Ping(1), 5_000, 0.51),
        (Push(1, 1, (b"x",) * 50), 100, 0.51),
        (Push(1, 1, (b"x" * 5_000,) * 2), 40, 1.02),
        (Push(1, 1, ()), 0, 0.01),
        (Open(1, "main"), 0, 0.1),
        (frames.Auth("t"), 0, 0.1),
    ],
)
def test_what_a_message_costs(frame: frames.DeviceFrame, size: int, cost_s: float) -> None:
    """Updates count each, with the bytes that they inflate to; what is looked up counts more."""
    assert Tariff(RATES).message_s(frame, size) == pytest.approx(cost_s)


# --- a device that wants too much


def test_beyond_its_burst_a_device_is_not_read_from_until_it_has_paid() -> None:
    lab = Lab(rates=RATES)
    session, _ = lab.join()
    assert 150 <= use_up(lab, session) <= 200
    lab.advance(0.005)
    assert lab.paused == [session]
    lab.advance(0.02)
    assert lab.paused == []
    assert not any(isinstance(frame, Error) for frame in lab.received(session))


def test_a_read_of_many_messages_is_worth_no_more_than_its_share() -> None:
    """Sixty short messages may be a great deal of work: what a hold finds not looked at goes back, and comes first."""
    lab = Lab(rates=RATES)
    session, handle = lab.join(options={"deflate": True})
    large = encode(Push(handle, 1, (b"\0" * 60_000,)), deflate=True)
    lab.feed(events.MessagesReceived(session, [large, *(encode(Ping(n)) for n in range(60))]))
    lab.turn()
    assert lab.paused == [session]
    assert len(lab.given_back[session]) == 60
    assert not any(isinstance(frame, Pong) for frame in lab.received(session))
    lab.advance(5.0)
    assert [frame.n for frame in lab.received(session) if isinstance(frame, Pong)] == list(range(60))


def test_an_honest_device_with_a_months_work_gets_through_without_an_error() -> None:
    lab = Lab(rates=RATES)
    session, handle = lab.join(ttl_s=1e6)
    writer = Writer(1)
    started = lab.now
    for first in range(1, 2_001, 20):
        while session in lab.paused:
            lab.advance(0.05)
        lab.push(session, handle, first, *(writer.type("x") for _ in range(20)))
    lab.advance(1.0)
    acks = [frame for frame in lab.received(session) if isinstance(frame, Ack)]
    assert acks[-1].op == 2_000
    assert 15 <= lab.now - started <= 35, "as fast as its share is, after its burst"


def test_a_push_is_charged_with_what_it_inflates_to() -> None:
    lab = Lab(rates=RATES)
    session, handle = lab.join(options={"deflate": True})
    data = encode(Push(handle, 1, (b"\0" * 60_000,)), deflate=True)
    assert len(data) < 200
    lab.feed(events.MessagesReceived(session, [data]))
    lab.turn()
    assert lab.paused == [session]
    lab.advance(3.5)
    assert lab.paused == [session]
    lab.advance(1.0)
    assert lab.paused == []


def test_nobody_waits_longer_than_a_device_takes_its_link_for_alive() -> None:
    lab = Lab(rates=RATES)
    session, handle = lab.join()
    lab.push(session, handle, 1, bytes(900_000))
    lab.advance(DEBT_S_MAX - 1)
    assert lab.paused == [session]
    lab.advance(1.1)
    assert lab.paused == []


def test_another_connection_is_no_new_share() -> None:
    lab = Lab(rates=RATES)
    session, _ = lab.join()
    use_up(lab, session)
    lab.disconnect(session)
    again = lab.hello("alice", "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.paused == [again]
    lab.take(again, Welcome)
    assert lab.received(again) == [], "what HELLO asks for waits too"
    lab.advance(0.5)
    assert lab.paused == []
    lab.take(again, Opened)
    other, _ = lab.join(device="laptop")
    assert lab.paused == []
    assert use_up(lab, other) >= 100


def test_what_is_read_for_a_device_counts_and_so_do_its_errors() -> None:
    lab = Lab(rates=RATES)
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type("x" * 3_000))
    lab.settle()
    laptop = lab.hello("alice", "laptop")
    for ref in range(1, 50):
        lab.send(laptop, Open(ref, "main", None, EMPTY_STATE_VECTOR))
        lab.settle()
        if laptop in lab.paused:
            break
    assert 5 <= ref <= 8
    tablet = lab.hello("alice", "tablet")
    for ref in range(1, 200):
        lab.send(tablet, Open(ref, "bob/private"))
        lab.settle()
        if tablet in lab.paused:
            break
    assert ref < 20
    assert {frame.code for frame in lab.received(tablet) if isinstance(frame, Error)} == {Code.FORBIDDEN}


def test_an_error_is_charged_by_its_bytes() -> None:
    lab = Lab(rates=Rates(updates_per_s=10**9, bytes_per_s=10**12, answer_bytes_per_s=10_000, burst_s=2.0))
    session, _ = lab.join()
    for op in range(1, 1_000):
        lab.push(session, 99, op, b"\0\0")
        lab.turn()
        if session in lab.paused:
            break
    assert 20_000 / 500 < op < 20_000 / 50


def test_a_device_that_has_much_to_say_lets_others_go_first() -> None:
    lab = Lab(rates=RATES)
    session, _ = lab.join()
    sent = 0
    while session not in lab.paused:
        sent += 1
        lab.send(session, frames.Ping(sent))
    assert sent <= LAP_S * RATES.updates_per_s + 1
    lab.turn()
    assert lab.paused == [], "it goes on in the next turn of the loop"


# --- accounts


def session_of(device: str, user: str = "alice", number: int = 1) -> Session:
    return Session(number, device=DeviceId(user, device))


def test_accounts_are_kept_as_long_as_something_is_owed_and_no_more_than_so_many() -> None:
    accounts = Accounts(kept_max=10, sessions_per_user=100)
    for number in range(50):
        session = session_of(f"d{number}", number=number)
        session.account = accounts.enter(session)
        session.account.used.charge(100.0, now=0.0)
        accounts.leave(session, now=0.0)
    assert [account.device.name for account in accounts] == [f"d{number}" for number in range(40, 50)]
    accounts.forget_idle(now=99.0)
    assert len(list(accounts)) == 10
    accounts.forget_idle(now=101.0)
    assert list(accounts) == []


def test_what_has_something_queued_is_kept_whatever_there_is() -> None:
    accounts = Accounts(kept_max=1, sessions_per_user=100)
    for number in range(5):
        session = session_of(f"d{number}", number=number)
        session.account = accounts.enter(session)
        session.account.queued_bytes = 1 if number == 0 else 0
        accounts.leave(session, now=0.0)
    assert "d0" in [account.device.name for account in accounts]
    assert len(list(accounts)) <= 2


def test_a_user_has_so_many_devices_connected_and_the_next_one_is_sent_away() -> None:
    lab = Lab(sessions_per_user=2)
    phone, _ = lab.join()
    laptop, _ = lab.join(device="laptop")
    tablet = lab.hello("alice", "tablet")
    assert lab.take(tablet, Error).code == Code.RATE_LIMITED
    assert lab.closed == {tablet: (4429, Code.RATE_LIMITED)}
    lab.join("bob", "phone", "mine")
    again = lab.hello("alice", "phone")
    assert again not in lab.closed, "a device that connects again is not another one"
    lab.disconnect(phone)
    lab.disconnect(laptop)
    assert lab.hello("alice", "tablet") not in lab.closed


def test_offences_before_the_close_can_be_set() -> None:
    lab = Lab(offences_max=1)
    session, handle = lab.join()
    lab.push(session, handle, 1, b"\x01junk")
    assert lab.closed[session] == (4400, Code.BAD_UPDATE)


# --- presence


def presences(lab: Lab, session: int) -> list[bytes | None]:
    return [frame.payload for frame in lab.received(session) if isinstance(frame, DevicePresence)]


def test_of_presences_that_come_too_often_the_last_one_counts() -> None:
    lab = Lab(rates=Rates(presences_per_s=10))
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.received(laptop)
    for number in range(100):
        lab.send(phone, Presence(handle, str(number).encode()))
    first = presences(lab, laptop)
    assert first == [str(number).encode() for number in range(11)]
    lab.advance(0.2)
    assert presences(lab, laptop) == [b"99"]
    assert len(lab.meter.of("presence_dropped")) == 88
    lab.advance(5.0)
    assert presences(lab, laptop) == []
    lab.send(phone, Presence(handle, b"slowly"))
    assert presences(lab, laptop) == [b"slowly"]


def test_a_presence_that_is_taken_back_is_taken_back_in_the_end() -> None:
    lab = Lab(rates=Rates(presences_per_s=10))
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    for number in range(30):
        lab.send(phone, Presence(handle, str(number).encode()))
    lab.send(phone, Presence(handle, None))
    lab.advance(1.0)
    assert presences(lab, laptop)[-1] is None


@pytest.mark.parametrize("end", ["leave", "close"])
def test_a_presence_that_waits_is_not_shown_after_its_device_has_left(end: str) -> None:
    lab = Lab(rates=Rates(presences_per_s=10))
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    for number in range(30):
        lab.send(phone, Presence(handle, str(number).encode()))
    if end == "leave":
        lab.send(phone, frames.Leave(handle))
    else:
        lab.disconnect(phone)
    lab.advance(1.0)
    assert presences(lab, laptop)[-1] is None


def test_structs_and_rehearsals_are_charged() -> None:
    tariff = Tariff(Rates(updates_per_s=1_000))
    assert tariff.structs_s(15) == 0
    assert tariff.structs_s(16_000) == 1.0


def test_a_device_whose_updates_are_full_of_structs_is_slowed_down() -> None:
    """A thousand keys in one update take as long to check as a thousand updates."""
    lab = Lab(rates=Rates(updates_per_s=100, burst_s=1.0))
    session, handle = lab.join()
    author = Replica(1)

    def change(doc: Doc[Any]) -> None:
        for key in range(4_000):
            doc.get("m", type=Map)[str(key)] = key

    update = author.edit(change)
    assert update is not None
    lab.push(session, handle, 1, update)
    assert lab.paused == [session]
    lab.advance(60)
    assert lab.paused == []

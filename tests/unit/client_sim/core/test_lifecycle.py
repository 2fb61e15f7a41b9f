"""An app in the background: hung up, and let out for a while now and then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client_sim.core import events
from client_sim.core.effects import WindowClosed
from client_sim.core.errand import Done, Outcome
from client_sim.core.reasons import EXPLANATIONS, PLANNED, SUSPENDED, UNKNOWN, UNREACHABLE, explain
from client_sim.core.status import Link, State, Status
from crdt.protocol.codes import Code
from crdt.protocol.frames import Error
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def window(rig: Rig, within_s: float = 30.0, bytes_max: int = 1 << 20) -> Done:
    """One background-sync window, to its end."""
    rig.feed(events.WindowOpened(within_s, bytes_max))
    rig.settle()
    while not rig.told_of(WindowClosed):
        rig.wait().settle()
    closed = rig.told_of(WindowClosed)[-1]
    assert isinstance(closed, WindowClosed)
    rig.told.clear()
    return closed.done


def test_who_is_suspended_is_offline_until_it_is_resumed() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.Suspended())
    assert rig.device.status == Status(State.OFFLINE, SUSPENDED)
    assert rig.device.next_deadline() is None
    rig.feed(events.NetworkBack())
    assert rig.device.link is Link.IDLE
    assert rig.type("a").start().document.pending == 0


def test_a_window_pushes_and_fetches_and_hangs_up() -> None:
    server = FakeServer()
    rig, other = Rig(server).start(), Rig(server, "laptop", seed=2).start()
    rig.feed(events.Suspended())
    rig.type("mine ")
    other.type("theirs ").settle()
    done = window(rig)
    assert (done.outcome, done.ops_acked, done.updates_received, done.pending.count) == (Outcome.DONE, 1, 1, 0)
    assert done.bytes_up + done.bytes_down > 0
    assert rig.device.status == Status(State.OFFLINE, SUSPENDED)
    assert sorted(rig.text.split()) == ["mine", "theirs"]
    assert other.settle().text == rig.text


def test_a_window_ends_in_time_whatever_happens() -> None:
    rig = Rig(FakeServer()).type("a")
    rig.reachable = False
    done = window(rig, within_s=20.0)
    assert (done.outcome, done.pending.count) == (Outcome.OUT_OF_TIME, 1)
    assert rig.now <= 20.0
    assert rig.device.link is Link.IDLE


def test_a_window_ends_where_its_bytes_end_and_the_next_one_goes_on() -> None:
    server = FakeServer()
    server.chunk_bytes = 60_000
    Rig(server, "laptop", seed=2).start().type("".join(map(str, range(60_000)))).settle()
    rig = Rig(server)
    outcomes, used = [], []
    for _ in range(20):
        done = window(rig, bytes_max=100_000)
        outcomes.append(done.outcome)
        used.append(done.bytes_up + done.bytes_down)
        if done.outcome is Outcome.DONE:
            break
    assert outcomes[-1] is Outcome.DONE
    assert len(outcomes) > 1
    assert max(used) <= 100_000
    assert sum(used) < 1.2 * max(sum(used[:-1]), 1) + 100_000
    assert len(rig.text) == len(server.room("main").replica.values()["body"])


def test_a_window_does_not_push_more_than_it_may() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.Suspended())
    rig.type("x" * 50_000)
    done = window(rig, bytes_max=20_000)
    assert (done.outcome, done.pending.count) == (Outcome.OUT_OF_BYTES, 1)
    assert done.bytes_up < 20_000
    assert window(rig, bytes_max=200_000).outcome is Outcome.DONE


def test_a_window_of_a_device_that_is_blocked_says_so() -> None:
    rig = Rig(FakeServer()).start().lose(4401, "token_expired").wait()
    done = window(rig)
    assert done.outcome is Outcome.BLOCKED
    assert rig.device.status == Status(State.BLOCKED, "expired_login")


@pytest.mark.parametrize("steps", range(12))
def test_a_kill_within_a_window_loses_and_doubles_nothing(steps: int) -> None:
    server = FakeServer()
    rig = Rig(server).start()
    rig.feed(events.Suspended())
    rig.type("a").type("b").feed(events.WindowOpened(30.0, 1 << 20))
    for _ in range(steps):
        rig.deliver_up() or rig.deliver_down()
    rig.kill()
    assert rig.text == "ab"
    assert window(rig).outcome is Outcome.DONE
    assert server.room("main").replica.values() == {"body": "ab"}


# --- what the app is told


def test_a_server_that_can_not_be_reached_is_so_since_it_could_be() -> None:
    rig = Rig(FakeServer()).start()
    rig.now = 10.0
    rig.reachable = False
    rig.lose()
    for _ in range(5):
        rig.wait()
    assert (rig.device.status.reason, rig.device.status.since) == (UNREACHABLE, 10.0)
    assert rig.now > 11.0
    rig.reachable = True
    rig.wait().settle()
    assert rig.device.status == Status(State.CURRENT)
    assert rig.device.status.since == rig.now


def test_a_document_says_since_when_it_is_blocked() -> None:
    rig = Rig(FakeServer()).start()
    rig.now = 7.0
    assert rig.session is not None
    rig.session.send(Error(None, 1, "forbidden", "no grant for that document", "never"))
    rig.settle()
    rig.now = 99.0
    status = rig.device.document_status("main")
    assert (status, status.since) == (Status(State.BLOCKED, "forbidden"), 7.0)


def test_pending_has_a_count_a_size_and_an_age() -> None:
    rig = Rig(FakeServer())
    assert not rig.device.pending(0.0)
    rig.type("a")
    rig.now = 5.0
    rig.type("b")
    pending = rig.device.pending(9.0)
    assert (pending.count, pending.age_s) == (2, 9.0)
    assert pending.bytes == sum(len(entry.update) for entry in rig.document.copy.outbox)
    rig.kill()
    rig.now = 20.0
    rig.device.pending(20.0)
    assert rig.device.pending(25.0).age_s == 5.0
    assert not rig.start().device.pending(rig.now)


STAYS_AWAY: list[Callable[[Rig], object]] = [
    lambda rig: rig.lose(4401, "token_expired").wait(),
    lambda rig: rig.lose(4403, "device_revoked"),
    lambda rig: rig.lose(4406, "unsupported_version"),
    lambda rig: rig.lose(4409, "superseded"),
    lambda rig: rig.lose(1013, "overloaded"),
    lambda rig: rig.lose(4400, "bad_frame"),
    lambda rig: rig.lose(),
    lambda rig: rig.feed(events.Suspended()),
]


@pytest.mark.parametrize("trouble", STAYS_AWAY)
def test_who_is_not_current_says_why_in_words_that_a_user_understands(trouble: Callable[[Rig], object]) -> None:
    rig = Rig(FakeServer()).start()
    trouble(rig)
    reason = rig.device.status.reason
    assert reason in EXPLANATIONS
    what, advice = explain(reason)
    assert what.endswith(".")
    assert advice.endswith(".")


def test_the_documents_table_is_what_users_are_told() -> None:
    text = (Path(__file__).parents[4] / "docs/DEVICES.md").read_text()
    for reason, (what, advice) in EXPLANATIONS.items():
        assert f"| `{reason}` | {what} | {advice} |" in text


def test_every_reason_of_the_protocol_is_explained() -> None:
    not_of_a_status = (
        Code.AUTH_TIMEOUT, Code.TOKEN_EXPIRED, Code.REPLAYED, Code.BAD_FRAME, Code.OP_GAP,
        Code.MISSING_DEPS, Code.NOT_SAVED, Code.OVERLOADED, Code.RATE_LIMITED, Code.SHUTTING_DOWN, Code.INTERNAL,
        Code.BAD_STATE,
    )  # fmt: skip
    assert all(code in EXPLANATIONS for code in Code if code not in not_of_a_status)
    assert explain("of_a_later_server") is UNKNOWN
    assert SUSPENDED in PLANNED

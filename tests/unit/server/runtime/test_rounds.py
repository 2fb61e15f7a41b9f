"""Who proved nothing yet is heard at once where nobody else wants to be, and in rounds where many do."""

from __future__ import annotations

from tests.property.test_short_frames import BINARY, FIN, Bench, Sink, frame

HELLO = frame(FIN | BINARY, b"hello")


def a_stranger(*, after: Bench | None = None) -> Bench:
    """A connection that stays unverified; of the listener of another one."""
    bench = Bench(Sink(verified_after=10, pauses=frozenset()))
    if after is not None:
        bench.clock = after.clock
        bench.connection._shared = after.connection._shared
    return bench


def test_who_comes_alone_is_heard_in_the_read_that_brought_it() -> None:
    bench = a_stranger()
    bench.connection.data_received(HELLO)
    assert bench.sink.told == [b"hello"]
    assert bench.wire.is_read


def test_of_those_who_come_together_one_is_heard_at_once_and_the_others_in_turns_of_their_own() -> None:
    first = a_stranger()
    others = [a_stranger(after=first) for _ in range(3)]
    for bench in (first, *others):
        bench.connection.data_received(HELLO)
        assert bench.sink.told == ([b"hello"] if bench is first else [])
        assert bench.wire.is_read is (bench is first)
        first.clock.now += 0.002  # it took so long; the turn is the same
    first.clock.turn()
    first.clock.turn()
    for bench in others:
        bench.settle()
        assert bench.wire.is_read

"""B1, B2 and B3 as Kevin Jahns' crdt-benchmarks (github.com/dmonad/crdt-benchmarks) describes them, through `Replica`.

B1: one user edits, another gets every update. B2: two users edit in one transaction each, and then exchange them.
B3: many users edit once each, and one merges them all. Inputs come from a seed: sizes are the same in each run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import isqrt
from typing import Any, TypeAlias

from pycrdt import Array, Doc, Map

from benchmarks.figures import Run
from benchmarks.workloads._edits import (
    ARRAY,
    TEXT,
    Numbers,
    change_array,
    change_text,
    inserting_and_rewriting,
    insertions,
    numbers,
    patched,
    rewriting,
    scattered,
    word,
)
from benchmarks.workloads._measuring import (
    average_update,
    document_figures,
    expect,
    expect_converged,
    kib,
    ms,
    timed,
)
from client_sim.traces import Patch
from crdt.replica import Replica
from crdt.values import Values

EDITS = 6000
"""What crdt-benchmarks calls N."""
CLIENTS_PER_ROOT = 20
"""B3 has so many times the root of N clients."""
SHARED_CHARS = 100
"""What both users of B2 have before they part."""
MAP = "map"
KEY = "v"

Edit: TypeAlias = Callable[[Doc[Any]], object]
"""What one transaction does."""


def client_ids(seed: int, count: int) -> list[int]:
    """Of 32 bits, as Yjs draws them: four in five take five bytes on the wire."""
    return random.Random(seed).sample(range(1 << 32), count)


# --- B1: no conflicts


def b1(count: int) -> list[Run]:
    """Every case of B1 with `count` edits. Raises WorkloadFailed."""
    return [
        _one_user(f"[B1.{number}] {name}", edits, values)
        for number, (name, edits, values) in enumerate(_b1_cases(count), 1)
    ]


def _b1_cases(count: int) -> Iterator[tuple[str, list[Edit], Values]]:
    """Name, edits, and what they come to."""
    rng = random.Random(1)
    text = word(rng, count, count)
    yield _of_text(f"append {count:,} characters", [Patch(at, 0, char) for at, char in enumerate(text)])
    yield _of_text(f"insert a string of {count:,}", [Patch(0, 0, text)])
    yield _of_text(f"prepend {count:,} characters", [Patch(0, 0, char) for char in text])
    yield _of_text(f"insert {count:,} characters anywhere", insertions(rng, count, 1, 1))
    yield _of_text(f"insert {count:,} words anywhere", insertions(rng, count, 2, 10))
    yield _of_text(f"insert a string of {count:,}, delete it", [Patch(0, 0, text), Patch(0, count, "")])
    yield _of_text(f"insert or delete anywhere, {count:,} times", rewriting(rng, count))
    given = numbers(rng, count)
    yield _of_numbers(f"append {count:,} numbers", [Numbers(at, [n]) for at, n in enumerate(given)], given)
    yield _of_numbers(f"insert an array of {count:,} numbers", [Numbers(0, given)], given)
    yield _of_numbers(f"prepend {count:,} numbers", [Numbers(0, [n]) for n in given], given[::-1])
    yield _of_numbers(f"insert {count:,} numbers anywhere", *scattered(rng, given))


def _of_text(name: str, patches: list[Patch]) -> tuple[str, list[Edit], Values]:
    text = patched("", patches)
    return name, [partial(change_text, patches=[patch]) for patch in patches], {TEXT: text} if text else {}


def _of_numbers(name: str, inserted: list[Numbers], array: list[int]) -> tuple[str, list[Edit], Values]:
    return name, [partial(change_array, numbers=each) for each in inserted], {ARRAY: array}


def _one_user(case: str, edits: Sequence[Edit], values: Values) -> Run:
    client_id, _ = client_ids(1, 2)
    writer, reader = Replica(client_id), Replica()
    updates, edit_s = timed(lambda: edited(writer, edits))
    _, apply_s = timed(lambda: reader.apply(updates))
    expect(writer.values() == values, f"{case}: the values are not what was written")
    expect_converged([writer, reader])
    figures = [ms("time", edit_s), ms("apply", apply_s), average_update(updates), *document_figures(writer)]
    return Run(case, tuple(figures))


def edited(replica: Replica, edits: Iterable[Edit]) -> list[bytes]:
    """The update of each edit, in a transaction of its own."""
    made = (replica.edit(edit) for edit in edits)
    return [update for update in made if update is not None]


# --- B2: two users


def b2(count: int) -> list[Run]:
    """Every case of B2 with `count` edits a user. Raises WorkloadFailed."""
    rng = random.Random(2)
    shared = word(rng, SHARED_CHARS, SHARED_CHARS)
    chars = SHARED_CHARS
    cases = [
        (f"insert a string of {count:,} at 0", [[Patch(0, 0, word(rng, count, count))] for _ in range(2)]),
        (f"insert {count:,} characters anywhere", [insertions(rng, count, 1, 1, chars) for _ in range(2)]),
        (f"insert {count:,} words anywhere", [insertions(rng, count, 3, 9, chars) for _ in range(2)]),
        (f"insert and delete, {count:,} times", [inserting_and_rewriting(rng, count, chars) for _ in range(2)]),
    ]
    return [_two_users(f"[B2.{n}] both {name}", shared, patches) for n, (name, patches) in enumerate(cases, 1)]


def _two_users(case: str, shared: str, patches: Sequence[Sequence[Patch]]) -> Run:
    users = [Replica(client_id) for client_id in client_ids(2, 2)]
    users[1].apply(edited(users[0], [partial(change_text, patches=[Patch(0, 0, shared)])]))
    edits = [partial(change_text, patches=each) for each in patches]
    updates, edit_s = timed(
        lambda: [update for user, edit in zip(users, edits, strict=True) for update in edited(user, [edit])]
    )

    def exchange() -> None:
        users[0].apply([updates[1]])
        users[1].apply([updates[0]])

    _, apply_s = timed(exchange)
    expect_converged(users)
    text = users[0].values()[TEXT]
    if not any(patch.delete for each in patches for patch in each):
        inserted = (patch.insert for each in patches for patch in each)
        expect(Counter(text) == Counter("".join([shared, *inserted])), f"{case}: a letter is lost, or came twice")
    figures = [
        ms("time", edit_s + apply_s), ms("apply", apply_s), average_update(updates), *document_figures(users[0]),
    ]  # fmt: skip
    return Run(case, tuple(figures))


# --- B3: many users


def b3(count: int) -> list[Run]:
    """Every case of B3, for `count` as crdt-benchmarks counts. Raises WorkloadFailed."""
    clients = CLIENTS_PER_ROOT * isqrt(count)

    def setting(value: Callable[[int], object]) -> list[Edit]:
        return [partial(_set, value=value(number)) for number in range(clients)]

    def name(number: int) -> dict[str, str]:
        return {"name": str(number), "address": "here"}

    def long_string(number: int) -> str:
        return str(number) * clients

    words = [str(number) for number in range(clients)]
    return [
        _many_users(f"[B3.1] {clients:,} users set a number", setting(int), _one_of(range(clients))),
        _many_users(f"[B3.2] {clients:,} users set an object", setting(name), _one_of(map(name, range(clients)))),
        _many_users(
            f"[B3.3] {clients:,} users set a string", setting(long_string), _one_of(map(long_string, range(clients)))
        ),
        _many_users(
            f"[B3.4] {clients:,} users insert into an array",
            [partial(_prepend, value=each) for each in words],
            lambda values: sorted(values[ARRAY]) == sorted(words),
        ),
    ]


def _set(doc: Doc[Any], value: Any) -> None:
    found: Map[Any] = doc.get(MAP, type=Map)
    found[KEY] = value


def _prepend(doc: Doc[Any], value: str) -> None:
    found: Array[Any] = doc.get(ARRAY, type=Array)
    found.insert(0, value)


def _one_of(given: Iterable[object]) -> Callable[[Values], bool]:
    """True if the map has one of these values."""
    values = list(given)
    return lambda found: found[MAP][KEY] in values


def _many_users(case: str, edits: Sequence[Edit], is_right: Callable[[Values], bool]) -> Run:
    users = client_ids(3, len(edits))
    updates = [update for user, edit in zip(users, edits, strict=True) for update in edited(Replica(user), [edit])]
    merged, merge_s = timed(lambda: Replica.load(updates))
    expect_converged([merged, Replica.load(reversed(updates))])
    expect(sorted(merged.state_vector()) == sorted(users), f"{case}: somebody's edit is lost")
    expect(is_right(merged.values()), f"{case}: the value is nobody's")
    figures = [
        ms("time", merge_s), average_update(updates), kib("all updates", sum(map(len, updates))),
        *document_figures(merged),
    ]  # fmt: skip
    return Run(case, tuple(figures))

"""Making a finding small, by leaving out what it does not need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from crdt.errors import BadUpdate
from crdt.update import read_update
from tests.fuzz.findings import Finding
from tests.fuzz.raw import GC, Raw, gone, parse
from tests.fuzz.trial import Step
from tests.fuzz.worker import Task, Worker

SECONDS_MAX = 60.0
"""Smaller would be nicer, but others wait."""


def minimised(worker: Worker, steps: list[Step], finding: tuple[str, str]) -> list[Step]:
    """Fewer steps, smaller updates, the same finding. Steps that do not show it once more are returned as they are.

    So are those where an honest update was refused: without all that its device had seen it would not be honest.
    """
    signature = Finding(*finding).signature
    deadline_s = time.monotonic() + SECONDS_MAX

    def shows(candidate: list[Step]) -> bool:
        if time.monotonic() > deadline_s or not candidate:
            return False
        result = worker.run(Task("again", steps=tuple(candidate)))
        return result.finding is not None and result.signature == signature

    if finding[0] == "refused" or not shows(steps):
        return steps
    steps = _fewer(steps, shows)
    while (smaller := next((some for some in _smaller(steps) if shows(some)), None)) is not None:
        steps = smaller
    return _fewer(steps, shows)


def _fewer(steps: list[Step], shows: Callable[[list[Step]], bool]) -> list[Step]:
    size = max(1, len(steps) // 2)
    while True:
        at = 0
        while at < len(steps):
            candidate = steps[:at] + steps[at + size :]
            if shows(candidate):
                steps = candidate
            else:
                at += size
        if size == 1:
            return steps
        size //= 2


def _smaller(steps: list[Step]) -> Iterator[list[Step]]:
    for index, step in enumerate(steps):
        if step[0] != "push":
            continue  # what is honest stays so
        update = bytes.fromhex(step[-1])
        for smaller in _without(parse(update)) if _is_update(update) else ():
            yield [*steps[:index], [*step[:-1], smaller.encode().hex()], *steps[index + 1 :]]


def _is_update(data: bytes) -> bool:
    try:
        read_update(data)
    except BadUpdate:
        return False
    return True


def _without(raw: Raw) -> Iterator[Raw]:
    """Less by a section, a struct or a range."""
    for at in range(len(raw.sections)):
        less = raw.copy()
        del less.sections[at]
        yield less
    for at in range(len(raw.deletes)):
        less = raw.copy()
        del less.deletes[at]
        yield less
        for index in range(len(raw.deletes[at][1])):
            less = raw.copy()
            del less.deletes[at][1][index]
            yield less
    for at in range(len(raw.sections)):
        yield from _without_structs(raw, at)


def _without_structs(raw: Raw, at: int) -> Iterator[Raw]:
    """The last struct left out, others replaced by what takes as many clocks."""
    pieces = raw.sections[at].pieces
    if len(pieces) > 1:
        less = raw.copy()
        less.sections[at].pieces.pop()
        yield less
    for index, piece in enumerate(pieces):
        less = raw.copy()
        if piece.kind != GC:
            less.sections[at].pieces[index] = gone(GC, piece.length)
        elif index and pieces[index - 1].kind == GC:
            less.sections[at].pieces[index - 1 : index + 1] = [gone(GC, piece.length + pieces[index - 1].length)]
        else:
            continue
        yield less

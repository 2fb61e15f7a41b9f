"""A process that runs cases and may die of them. It notes what it is about to do where others find it."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import frames, hub, updates, vectors
from tests.fuzz.findings import Finding
from tests.fuzz.trial import Step, Trial, replay

CASE_CPU_S = 10
"""CPU seconds after which a case is taken for one that never ends: the kernel ends the process."""
CASE_WALL_S = 120.0
"""The same on the clock, for what waits without working."""
MEMORY_BYTES = 3 << 30

VECTORS_PER_CASE = 50
FRAMES_PER_CASE = 50


@dataclass(slots=True)
class Result:
    """What a case came to. `tried` counts inputs; `finding` is (kind, message)."""

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    finding: tuple[str, str] | None = None

    @property
    def signature(self) -> str:
        return Finding(*self.finding).signature if self.finding else ""


@dataclass(frozen=True, slots=True)
class Task:
    """A case of a kind by its number, or steps to be taken again."""

    kind: str
    seed: str = ""
    number: int = 0
    steps: tuple[Any, ...] = ()


class Worker:
    """One process after another, each until it dies. Close it."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._context = get_context("spawn")
        self._start()

    def _start(self) -> None:
        self.connection, theirs = self._context.Pipe()
        self.process = self._context.Process(target=_serve, args=(theirs, str(self.journal)), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, task: Task) -> None:
        self.connection.send(task)

    def finish(self) -> Result:
        """The result of the task that was begun; a finding if the process died of it."""
        try:
            if self.connection.poll(CASE_WALL_S):
                result: Result = self.connection.recv()
                return result
            reason = "it waits for ever"
        except (EOFError, ConnectionResetError):
            self.process.join()
            reason = _reason(self.process.exitcode)
        self.close()
        self._start()
        return Result(tried=len(self.steps()), finding=("died", reason))

    def run(self, task: Task) -> Result:
        self.begin(task)
        return self.finish()

    def steps(self) -> list[Step]:
        """What the last task noted."""
        lines = self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else []
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def _reason(exitcode: int | None) -> str:
    if exitcode == -signal.SIGPROF:
        return "it never ends"
    return f"signal {signal.Signals(-exitcode).name}" if exitcode and exitcode < 0 else f"exit {exitcode}"


def _serve(connection: Connection, journal: str) -> None:
    """Do what is asked until nobody asks any more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # panics report themselves there
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        connection.send(_run(task, journal))


def _run(task: Task, journal: str) -> Result:
    result = Result()
    signal.setitimer(signal.ITIMER_PROF, CASE_CPU_S)
    with open(journal, "w", encoding="utf-8") as file:

        def note(step: Step) -> None:
            file.write(json.dumps(step) + "\n")
            file.flush()
            result.tried += step[0] in INPUTS

        try:
            _RUNS[task.kind](task, note, result)
        except Finding as exc:
            result.finding = (exc.kind, exc.message)
        except BaseException as exc:  # noqa: BLE001 - a panic of the library is one
            result.finding = ("raised", _shown(exc))
    signal.setitimer(signal.ITIMER_PROF, 0)
    return result


INPUTS = frozenset(("push", "honest", "vector", "frame", "message"))


def _shown(exc: BaseException) -> str:
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} in {Path(last.filename).name}:{last.name}: {exc}"[:500]


def _random(task: Task) -> Random:
    return Random(f"{task.seed}/{task.kind}/{task.number}")


def _updates(task: Task, note: Any, result: Result) -> None:
    trial = Trial(note, result.outcomes)
    updates.case(_random(task), trial)


def _vectors(task: Task, note: Any, result: Result) -> None:
    random = _random(task)
    for _ in range(VECTORS_PER_CASE):
        data = vectors.make(random)
        note(["vector", data.hex()])
        result.outcomes[vectors.check(data)] += 1


def _frames(task: Task, note: Any, result: Result) -> None:
    random = _random(task)
    for _ in range(FRAMES_PER_CASE):
        data = frames.make(random)
        note(["frame", data.hex()])
        result.outcomes[frames.check(data)] += 1


def _hub(task: Task, note: Any, result: Result) -> None:
    hub.case(_random(task), hub.World(note, result.outcomes))


def _again(task: Task, note: Any, result: Result) -> None:
    take_again([list(step) for step in task.steps], note)


def take_again(steps: list[Step], note: Any = lambda step: None) -> None:
    """Take noted steps of any kind. Raises Finding."""
    match steps[0][0] if steps else "":
        case "vector" | "frame":
            for step in steps:
                note(step)
                (vectors if step[0] == "vector" else frames).check(bytes.fromhex(step[1]))
        case name if name in hub.STEPS:
            hub.replay(steps, note)
        case _:
            replay(steps, note)


_RUNS: dict[str, Any] = {
    "updates": _updates,
    "vectors": _vectors,
    "frames": _frames,
    "hub": _hub,
    "again": _again,
}

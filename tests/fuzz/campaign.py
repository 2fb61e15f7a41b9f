"""Runs cases in worker processes until there were enough, and keeps what they find."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.minimise import minimised
from tests.fuzz.trial import Step
from tests.fuzz.worker import Result, Task, Worker

FOUND = Path(__file__).parent / "found"

KINDS = {"updates": "updates", "vectors": "vectors", "frames": "frames", "hub": "frames"}
"""Kinds of cases, and what they count for."""

_OF_FRAMES = {"frames": 0.5, "hub": 0.5}
"""Half of the frames go to the codec alone, half through a whole server."""

MINIMISED_MAX = 20
"""Findings that are made small, and kept; more of them are only counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what. `seconds`: stop after that, whatever is left to do."""

    seed: str
    updates: int
    vectors: int
    frames: int
    seconds: float | None = None
    jobs: int = 1

    def inputs(self, kind: str) -> float:
        """How many inputs cases of this kind are to try."""
        wanted: int = getattr(self, KINDS[kind])
        return wanted * _OF_FRAMES.get(kind, 1.0)


@dataclass(slots=True)
class Discovery:
    """Findings that are likely the same one."""

    kind: str
    message: str
    task: Task
    steps: list[Step]
    count: int = 0
    file: Path | None = None


@dataclass(slots=True)
class Report:
    tried: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    discoveries: dict[str, Discovery] = field(default_factory=dict)
    seconds: float = 0.0


def run(plan: Plan, progress: Callable[[Report], None] = lambda report: None, keep: Path = FOUND) -> Report:
    """Fuzz; what is found is in the report, and in files in `keep`."""
    report, started_s = Report(), time.monotonic()
    with TemporaryDirectory() as folder:
        workers = [Worker(Path(folder) / f"journal-{index}") for index in range(plan.jobs)]
        try:
            for result, task, worker in _results(plan, report, workers, started_s):
                _count(report, task, result, worker)
                report.seconds = time.monotonic() - started_s
                progress(report)
            for discovery in list(report.discoveries.values())[:MINIMISED_MAX]:
                discovery.steps = minimised(workers[0], discovery.steps, (discovery.kind, discovery.message))
                discovery.file = _keep(keep, discovery)
        finally:
            for worker in workers:
                worker.close()
    return report


def _results(
    plan: Plan, report: Report, workers: list[Worker], started_s: float
) -> Iterator[tuple[Result, Task, Worker]]:
    """Each worker has one case at a time."""
    tasks = _tasks(plan, report, started_s)
    busy: dict[int, Task] = {}
    while True:
        for index, worker in enumerate(workers):
            if index not in busy and (task := next(tasks, None)) is not None:
                worker.begin(task)
                busy[index] = task
        if not busy:
            return
        ready = wait([workers[index].connection for index in busy], timeout=_WAIT_S)
        for index in [index for index in busy if workers[index].connection in ready] or list(busy):
            yield workers[index].finish(), busy.pop(index), workers[index]


_WAIT_S = 30.0


def _tasks(plan: Plan, report: Report, started_s: float) -> Iterator[Task]:
    """The kind of which least was done comes next. A case depends on the seed and its number alone."""
    numbers: Counter[str] = Counter()
    while plan.seconds is None or time.monotonic() - started_s < plan.seconds:
        open_kinds = [kind for kind in KINDS if report.tried[kind] < plan.inputs(kind)]
        if not open_kinds:
            return
        kind = min(open_kinds, key=lambda kind: report.tried[kind] / plan.inputs(kind))
        yield Task(kind, plan.seed, numbers[kind])
        numbers[kind] += 1


def _count(report: Report, task: Task, result: Result, worker: Worker) -> None:
    report.cases[task.kind] += 1
    report.tried[task.kind] += result.tried
    report.outcomes[task.kind] += result.outcomes
    if result.finding is None:
        return
    kind, message = result.finding
    known = report.discoveries.setdefault(
        f"{task.kind}/{result.signature}", Discovery(kind, message, task, worker.steps())
    )
    known.count += 1


def _keep(folder: Path, discovery: Discovery) -> Path:
    """A file that `test_fuzz` replays."""
    content = {
        "kind": discovery.kind,
        "message": discovery.message,
        "case": f"{discovery.task.seed}/{discovery.task.kind}/{discovery.task.number}",
        "steps": discovery.steps,
    }
    name = blake2b(json.dumps(discovery.steps).encode(), digest_size=4).hexdigest()
    folder.mkdir(exist_ok=True)
    file = folder / f"{discovery.kind.replace(' ', '-')}-{name}.json"
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return file

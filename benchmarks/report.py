"""What a session of measuring came to: every run, where it was made and how to repeat it. Kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.figures import GENERATOR_BUSY, Better, Figure, Run, Scale, Spread

FORMAT = 1
PACKAGES = ("syncline", "pycrdt", "websockets", "uvloop", "sqlalchemy", "aiosqlite", "msgpack", "pyjwt")

Runs: TypeAlias = dict[str, list[tuple[Run, ...]]]
"""By workload, `group/name`: what each of its runs reported."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured with one command."""

    command: str
    commit: str
    started: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    scale: Scale
    runs: Runs = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    """By workload: what was wrong with the result of a run, which is not among `runs`."""
    took_s: dict[str, list[float]] = field(default_factory=dict)
    """By workload: how long each run took, with all that is not measured."""

    @classmethod
    def begun(cls, command: str, scale: Scale, versions: Mapping[str, str]) -> Report:
        """An empty one, here and now. `versions` are of what takes part beside Syncline."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(command, _commit(), started, _machine(), _versions() | dict(versions), scale)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Raises OSError, and ValueError, TypeError or KeyError for a file that is none."""
        kept = json.loads(path.read_text())
        if not isinstance(kept, dict) or kept.pop("format", None) != FORMAT:
            raise ValueError("another format")
        kept["scale"] = Scale(**kept["scale"])
        kept["runs"] = {name: [tuple(map(_run, run)) for run in runs] for name, runs in kept["runs"].items()}
        return cls(**kept)


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of a case, over all runs."""

    name: str
    unit: str
    better: Better
    values: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        return Spread.of(self.values)


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a workload, over all runs."""

    workload: str
    name: str
    figures: tuple[Measured, ...]
    generator_shares: tuple[float, ...]
    note: str

    @property
    def group(self) -> str:
        return self.workload.partition("/")[0]

    @property
    def title(self) -> str:
        """What it is called among the cases of all groups."""
        return self.workload if self.workload.endswith(f"/{self.name}") else f"{self.workload}, {self.name}"

    @property
    def busy_runs(self) -> int:
        """In how many runs the generator may have been what was measured."""
        return sum(share > GENERATOR_BUSY for share in self.generator_shares)


def cases(report: Report) -> list[Case]:
    """What was measured, case by case, in the order in which it came."""
    found = []
    for workload, runs in report.runs.items():
        by_case: dict[str, list[Run]] = {}
        for made in runs:
            for run in made:
                by_case.setdefault(run.case, []).append(run)
        found += [_case(workload, name, made) for name, made in by_case.items()]
    return found


def _case(workload: str, name: str, runs: Sequence[Run]) -> Case:
    figures: dict[tuple[str, str, Better], list[float]] = {}
    for run in runs:
        for figure in run.figures:
            figures.setdefault((figure.name, figure.unit, figure.better), []).append(figure.value)
    return Case(
        workload,
        name,
        tuple(Measured(*which, tuple(values)) for which, values in figures.items()),
        tuple(run.generator_share for run in runs if run.generator_share is not None),
        "; ".join(dict.fromkeys(run.note for run in runs if run.note)),
    )


def _run(kept: dict[str, Any]) -> Run:
    figures = (Figure(**{**figure, "better": Better(figure["better"])}) for figure in kept["figures"])
    return Run(**{**kept, "figures": tuple(figures)})


def _commit() -> str:
    """The commit that is checked out, with a `+` where files differ from it."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _machine() -> dict[str, Any]:
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in PACKAGES},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []

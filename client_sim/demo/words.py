"""What the demo and its devices say to each other: lines of JSON over pipes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

RECONNECT = "reconnect"
"""The one command: come back from the last time offline."""

DOCUMENT = "main"
PROGRESS_ROOT = "typed"
"""In the document itself a map of how many edits of each device are in it, so that it says what can be built on."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a device's process is started with. `token` is why this goes over a pipe, not the command line.

    `edits` and `store` are files; `ends` is how many edits each device makes in all. From edit `offline_at` on it is
    offline until it can not go on alone, at most `offline_s`; from `tail` on until RECONNECT. Times due are divided by
    `speed` and count from `started_at`, seconds since 1970.
    """

    url: str
    token: str
    device: str
    devices: tuple[str, ...]
    ends: tuple[int, ...]
    edits: str
    store: str
    values: str
    tail: int
    offline_at: int | None
    offline_s: float
    speed: float
    started_at: float

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        task = json.loads(line)
        return cls(**{**task, "devices": tuple(task["devices"]), "ends": tuple(task["ends"])})


@dataclass(frozen=True, slots=True)
class Tally:
    """What a device counted since its process began."""

    bytes_up: int = 0
    bytes_down: int = 0
    connections: int = 0
    resent: int = 0
    heals: int = 0
    """Times that the server lacked what it had acknowledged."""
    catch_ups: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        modes = sorted({**self.catch_ups, **other.catch_ups})
        return Tally(
            self.bytes_up + other.bytes_up,
            self.bytes_down + other.bytes_down,
            self.connections + other.connections,
            self.resent + other.resent,
            self.heals + other.heals,
            {mode: self.catch_ups.get(mode, 0) + other.catch_ups.get(mode, 0) for mode in modes},
        )


@dataclass(frozen=True, slots=True)
class Report:
    """How a device is doing. `typed` of its edits are in its store, `pending` of those not acknowledged.

    `finished`: all are typed, and it is offline. `converged_at`, in seconds since 1970: then it had all of everybody's,
    and wrote its values down.
    """

    state: str = "starting"
    typed: int = 0
    pending: int = 0
    finished: bool = False
    converged_at: float | None = None
    tally: Tally = field(default_factory=Tally)

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Raises ValueError for what is no report: a line that was cut short, say."""
        report: Any = json.loads(line)
        if not isinstance(report, dict) or report.keys() != {known.name for known in fields(cls)}:
            raise ValueError("not a report")
        return cls(**{**report, "tally": Tally(**report["tally"])})

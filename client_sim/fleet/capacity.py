"""How many bytes a network carries when: drawn from a distribution, or as somebody has recorded it.

Recordings of three public kinds are read: packet-delivery traces of mahimahi (a millisecond a line, each for one packet
of 1,500 bytes), logs of `seconds Mbit/s`, and logs of 3G/HSDPA commutes (Unix time, milliseconds, latitude, longitude,
bytes since the line before, milliseconds since the line before).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Protocol, Self

from client_sim.core.ports import Randomness
from client_sim.fleet.quantiles import Quantiles

PACKET_BYTES = 1500
BYTES_PER_MBIT = 125_000
RATE_LASTS_S = 10.0
"""So long a drawn rate stays."""
HSDPA_COLUMNS = 6
_SEPARATORS = re.compile(r"[\s,;]+")


class RecordingError(Exception):
    """A file is no recording of throughput."""


class Capacity(Protocol):
    """Seconds count from the start of the run."""

    def finish(self, start_s: float, size: float) -> float:
        """When the last of `size` bytes is through that begin at `start_s`, if nothing holds them up."""
        ...

    def carried(self, start_s: float, end_s: float) -> float:
        """How many bytes get through in between."""
        ...


class Drawn:
    """A rate in bytes a second, drawn anew every RATE_LASTS_S."""

    def __init__(self, rates: Quantiles, rng: Randomness) -> None:
        self._rates = rates
        self._rng = rng
        self._drawn: list[float] = []

    def finish(self, start_s: float, size: float) -> float:
        at = start_s
        while True:
            number, end_s = self._stretch(at)
            if (done := at + size / self._rate(number)) <= end_s:
                return done
            size -= (end_s - at) * self._rate(number)
            at = end_s

    def carried(self, start_s: float, end_s: float) -> float:
        total, at = 0.0, start_s
        while at < end_s:
            number, until_s = self._stretch(at)
            total += (min(until_s, end_s) - at) * self._rate(number)
            at = until_s
        return total

    @staticmethod
    def _stretch(at: float) -> tuple[int, float]:
        """The number of the rate at a time, and when it ends, which is later in any case."""
        number = int(at / RATE_LASTS_S)
        end_s = (number + 1) * RATE_LASTS_S
        return (number, end_s) if end_s > at else (number + 1, end_s + RATE_LASTS_S)

    def _rate(self, number: int) -> float:
        while len(self._drawn) <= number:
            self._drawn.append(self._rates.draw(self._rng))
        return self._drawn[number]


class Recording:
    """What was carried until when, over and over. `totals` are bytes at `times_s`, both from 0 on; straight between."""

    def __init__(self, times_s: Sequence[float], totals: Sequence[float], offset_s: float = 0.0) -> None:
        """Raises RecordingError if it carries nothing, or time does not go forwards."""
        if len(times_s) < 2 or totals[-1] <= 0 or any(b < a for a, b in pairwise(times_s)):
            raise RecordingError("nothing was carried, or its times go backwards")
        self._times_s = times_s
        self._totals = totals
        self._offset_s = offset_s

    @property
    def length_s(self) -> float:
        return self._times_s[-1]

    def begun(self, offset_s: float) -> Self:
        """The same recording for somebody who begins later in it."""
        return type(self)(self._times_s, self._totals, offset_s)

    def finish(self, start_s: float, size: float) -> float:
        rounds, total = divmod(self._total(start_s + self._offset_s) + size, self._totals[-1])
        if total == 0.0 and size > 0:  # exactly at the end of a round
            rounds, total = rounds - 1, self._totals[-1]
        upper = max(1, bisect_left(self._totals, total))
        done = _between(total, self._totals, self._times_s, upper)
        return max(start_s, rounds * self.length_s + done - self._offset_s)

    def carried(self, start_s: float, end_s: float) -> float:
        if end_s == inf:
            return inf
        return self._total(end_s + self._offset_s) - self._total(start_s + self._offset_s)

    def _total(self, at_s: float) -> float:
        rounds, at_s = divmod(at_s, self.length_s)
        upper = min(bisect_right(self._times_s, at_s), len(self._times_s) - 1)
        return rounds * self._totals[-1] + _between(at_s, self._times_s, self._totals, upper)


def _between(x: float, xs: Sequence[float], ys: Sequence[float], upper: int) -> float:
    """The y at x, on the straight line from the point before `upper` to it."""
    left, right = xs[upper - 1], xs[upper]
    if right == left:
        return ys[upper]
    return ys[upper - 1] + (ys[upper] - ys[upper - 1]) * (x - left) / (right - left)


def read_recording(path: Path) -> Recording:
    """Raises RecordingError and OSError."""
    try:
        return parse_recording(path.read_text(encoding="utf-8").splitlines())
    except (ValueError, RecordingError) as exc:
        raise RecordingError(f"{path.name} is no recording of throughput: {exc}") from exc


def parse_recording(lines: Iterable[str]) -> Recording:
    """By how many columns it has. Raises RecordingError and ValueError."""
    rows: list[list[float]] = []
    for line in lines:
        text = line.partition("#")[0].strip()
        if text and not (not rows and text[0].isalpha()):  # a CSV may have titles
            rows.append([float(cell) for cell in _SEPARATORS.split(text) if cell])
    columns = {len(row) for row in rows}
    if columns == {1}:
        return _packets([row[0] for row in rows])
    if columns == {2}:
        return _rates([(row[0], row[1]) for row in rows])
    if columns == {HSDPA_COLUMNS}:
        return _amounts([(row[4], row[5]) for row in rows])
    raise RecordingError(f"its lines have {sorted(columns)} columns, and not 1, 2 or {HSDPA_COLUMNS}")


def _packets(times_ms: Sequence[float]) -> Recording:
    """Each line lets a packet through within its millisecond; the last one is the trace's length."""
    if any(after < before for before, after in pairwise(times_ms)):
        raise RecordingError("its times go backwards")
    times_s, totals = [0.0], [0.0]
    for number, time_ms in enumerate(times_ms, 1):
        begins_s = max(times_s[-1], (time_ms - 1) / 1000)
        if time_ms / 1000 > times_s[-1]:
            times_s += [begins_s, time_ms / 1000]
            totals += [totals[-1], totals[-1]]
        totals[-1] = float(number * PACKET_BYTES)
    return Recording(times_s, totals)


def _rates(rows: Sequence[tuple[float, float]]) -> Recording:
    """A line says how many Mbit/s there are from its second on; the last one lasts as long as the one before it."""
    starts = [start - rows[0][0] for start, _ in rows]
    last_s = starts[-1] - starts[-2] if len(starts) > 1 else 1.0
    times_s, totals = [0.0], [0.0]
    for (_, mbits), end_s in zip(rows, [*starts[1:], starts[-1] + last_s], strict=True):
        totals.append(totals[-1] + mbits * BYTES_PER_MBIT * (end_s - times_s[-1]))
        times_s.append(end_s)
    return Recording(times_s, totals)


def _amounts(rows: Sequence[tuple[float, float]]) -> Recording:
    """A line says how many bytes came since the one before, and for how many milliseconds."""
    times_s, totals = [0.0], [0.0]
    for size, time_ms in rows:
        times_s.append(times_s[-1] + time_ms / 1000)
        totals.append(totals[-1] + size)
    return Recording(times_s, totals)

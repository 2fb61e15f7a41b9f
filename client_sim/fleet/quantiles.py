"""Distributions as they are published: a few quantiles."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

from client_sim.core.ports import Randomness


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Values, all above zero, at shares from 0 to 1; between two of them the logarithm goes straight."""

    shares: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, *points: tuple[float, float]) -> Self:
        """Points are (share, value), in order, the first at share 0 and the last at 1."""
        shares, values = zip(*points, strict=True)
        assert (shares[0], shares[-1]) == (0.0, 1.0)
        assert list(shares) == sorted(shares)
        assert min(values) > 0
        return cls(shares, values)

    @classmethod
    def always(cls, value: float) -> Self:
        return cls.of((0.0, value), (1.0, value))

    def at(self, share: float) -> float:
        upper = min(bisect_right(self.shares, share), len(self.shares) - 1)
        low, high = self.values[upper - 1], self.values[upper]
        part = (share - self.shares[upper - 1]) / (self.shares[upper] - self.shares[upper - 1])
        return float(low * (high / low) ** part)

    def draw(self, rng: Randomness) -> float:
        return self.at(rng.random())

    def told(self, scale: float = 1.0, unit: str = "") -> str:
        """For people: `p0 1, p50 4.1, p100 70 s`."""
        points = zip(self.shares, self.values, strict=True)
        told = ", ".join(f"p{100 * share:g} {plain(scale * value)}" for share, value in points)
        return f"{told} {unit}".rstrip()


def plain(value: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The least value that `share` of them do not exceed; None of nothing."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None

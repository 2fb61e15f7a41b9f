"""A model of how long a radio stays awake, and what that costs: after a transfer it waits a while for the next.

The energy is the model's, not measured: states and powers are published ones, and each profile says whose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Stage(NamedTuple):
    """A state that the radio rests in when nothing is transferred, before the next one, or sleep."""

    seconds: float
    watts: float


@dataclass(frozen=True, slots=True)
class Radio:
    """`watts` are drawn during transfers. Sleep counts as nothing."""

    name: str
    watts: float
    tail: tuple[Stage, ...]
    source: str

    @property
    def tail_s(self) -> float:
        return sum(stage.seconds for stage in self.tail)


LTE = Radio(
    "LTE", 1.29, (Stage(11.6, 1.06),),
    "A tail of 11.6 s at 1.06 W, and 1.29 W and more in transfers: measured by Huang et al., MobiSys 2012.",
)  # fmt: skip
UMTS = Radio(
    "3G", 0.80, (Stage(5.0, 0.80), Stage(12.0, 0.46)),
    "5 s on the dedicated channel (DCH) at 0.80 W, then 12 s on the shared one (FACH) at 0.46 W: inferred and measured"
    " by Qian et al., IMC 2010 and MobiSys 2011, of one operator.",
)  # fmt: skip
WIFI = Radio(
    "WiFi", 0.40, (Stage(0.24, 0.12),),
    "A tail of 0.24 s at 0.12 W: Huang et al., MobiSys 2012. 0.4 W in transfers is assumed.",
)  # fmt: skip


class RadioMeter:
    """Adds up one radio's transfers, told as they begin."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.awake_s = 0.0
        self.joules = 0.0
        self.wakeups = 0
        self._rests_from_s: float | None = None

    def transfer(self, start_s: float, end_s: float) -> None:
        """From `start_s`, which is never before that of an earlier one, to `end_s`."""
        if self._rests_from_s is None or start_s - self._rests_from_s >= self.radio.tail_s:
            self.wakeups += 1
        begin_s = start_s
        if self._rests_from_s is not None:
            self._rest(max(0.0, start_s - self._rests_from_s))
            begin_s = max(start_s, self._rests_from_s)
        busy_s = max(0.0, end_s - begin_s)
        self.awake_s += busy_s
        self.joules += busy_s * self.radio.watts
        self._rests_from_s = max(end_s, self._rests_from_s or end_s)

    def finish(self, now_s: float) -> None:
        """There is no more to come: the last tail counts up to now."""
        if self._rests_from_s is not None and now_s > self._rests_from_s:
            self._rest(now_s - self._rests_from_s)
            self._rests_from_s = None

    def _rest(self, seconds: float) -> None:
        for stage in self.radio.tail:
            spent_s = min(seconds, stage.seconds)
            self.awake_s += spent_s
            self.joules += spent_s * stage.watts
            seconds -= spent_s

"""The networks that devices are on, as parameters, each with where it comes from.

`MEASURED` names what was published of real networks; what nobody has measured for us says that it is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from client_sim.fleet.quantiles import Quantiles
from client_sim.fleet.radio import LTE, UMTS, WIFI, Radio

MBIT = 125_000.0
"""Bytes a second."""
MINUTE_S, HOUR_S = 60.0, 3600.0

PINGS_4G = Quantiles.of((0.0, 0.040), (0.5, 0.075), (0.95, 0.137), (0.99, 0.335), (1.0, 0.889))
PINGS_3G = Quantiles.of((0.0, 0.080), (0.5, 0.150), (0.95, 0.274), (0.99, 0.670), (1.0, 1.778))
STALLS_3G = Quantiles.of((0.0, 1.0), (0.5, 4.1), (0.9, 14.8), (0.99, 42.0), (1.0, 70.0))
BLIPS = Quantiles.of((0.0, 1.0), (0.5, 10.0), (0.9, 240.0), (1.0, 600.0))

MEASURED = {
    "pings": "4G/5G pings: p50 75 ms, p95 137 ms, p99 335 ms, longest 889 ms",
    "loss": "4G/5G pings: about 3 % lost",
    "3g rates": "3G commutes: median 1.4 Mbit/s, p5 0.5",
    "3g stalls": "3G commutes: 441 stalls of 1 s or more in 5.8 h, median 4.1 s, longest 70 s; p90 and p99 are those of"
    " a log-normal distribution through median and longest",
    "umts gaps": "UMTS driving: 32 gaps of 1 s or more in 928 s",
    "lte gap": "LTE uplink driving: longest gap 78 s",
    "blips": "hand-over blips: offline p50 8 to 13 s, p90 4 min",
}


class Reach(StrEnum):
    """What a network does with what is sent, for a while."""

    CLEAR = "clear"
    STALLED = "stalled"
    """Nothing gets through; what was sent does so afterwards."""
    DEAD = "dead"
    """Nothing gets through, and connections are half-open for ever after: nobody is told."""
    OFF = "off"
    """The device knows that there is no network; its connections end, and their other ends are not told."""
    PORTAL = "portal"
    """A captive portal answers in the server's place; connections from before are half-open."""
    RESET = "reset"
    """For an instant: every connection is reset."""


BREAKS = (Reach.DEAD, Reach.OFF, Reach.PORTAL, Reach.RESET)
"""No connection survives these."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What comes again and again: `apart` and `lasts` are seconds. `habit`: people make it, so time compresses it.

    `at_once`: the first one is there when the device gets on this network.
    """

    reach: Reach
    apart: Quantiles
    lasts: Quantiles
    source: str
    habit: bool = False
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """`ping` is a round trip in seconds; rates are bytes a second; `loss` is of packets, each a wait for its return."""

    name: str
    ping: Quantiles
    down: Quantiles
    up: Quantiles
    loss: float
    troubles: tuple[Trouble, ...]
    radio: Radio
    sources: tuple[str, ...]
    """Of ping, rates and loss."""


def _every(mean_s: float) -> Quantiles:
    """Times between what comes by chance, so often on average: the quantiles of an exponential distribution."""
    return Quantiles.of(
        (0.0, 0.02 * mean_s), (0.1, 0.105 * mean_s), (0.5, 0.693 * mean_s), (0.9, 2.303 * mean_s), (1.0, 5.0 * mean_s)
    )


def _rates(low: float, median: float, high: float) -> Quantiles:
    """Of p5, p50 and p95, in Mbit/s."""
    return Quantiles.of(
        (0.0, 0.6 * low * MBIT), (0.05, low * MBIT), (0.5, median * MBIT), (0.95, high * MBIT), (1.0, high * MBIT)
    )


_STALLS_3G = Trouble(Reach.STALLED, _every(5.8 * HOUR_S / 441), STALLS_3G, MEASURED["3g stalls"])
_BLIPS = Trouble(
    Reach.OFF, _every(10 * MINUTE_S), BLIPS, f"{MEASURED['blips']}; one in 10 min of travel is assumed"
)  # fmt: skip
_WIFI_RATES = _rates(5.0, 30.0, 100.0)
_ASSUMED = "ping, rates and loss are assumed"

OFFICE = Profile(
    "office",
    Quantiles.of((0.0, 0.002), (0.5, 0.008), (0.95, 0.025), (1.0, 0.08)),
    _rates(50.0, 100.0, 300.0), _rates(50.0, 100.0, 300.0), 0.0,
    (), WIFI, (_ASSUMED,),
)  # fmt: skip
HOME_WIFI = Profile(
    "home-wifi",
    Quantiles.of((0.0, 0.008), (0.5, 0.020), (0.95, 0.060), (1.0, 0.4)),
    _WIFI_RATES, _rates(2.0, 8.0, 20.0), 0.002,
    (Trouble(Reach.STALLED, _every(20 * MINUTE_S), Quantiles.of((0.0, 1.0), (0.5, 2.0), (1.0, 10.0)), "assumed"),),
    WIFI, (_ASSUMED,),
)  # fmt: skip
LTE_PROFILE = Profile(
    "lte", PINGS_4G, _rates(3.0, 13.0, 40.0), _rates(1.0, 6.0, 15.0), 0.03,
    (
        Trouble(Reach.STALLED, _every(10 * MINUTE_S), Quantiles.of((0.0, 1.0), (0.5, 3.0), (0.9, 12.0), (1.0, 78.0)),
                f"{MEASURED['lte gap']}; how often, and the median, are assumed"),
        Trouble(Reach.OFF, _every(30 * MINUTE_S), BLIPS, f"{MEASURED['blips']}; two an hour are assumed"),
    ),
    LTE,
    (MEASURED["pings"], MEASURED["loss"], "medians of 13 Mbit/s down and 6 up: Huang et al., MobiSys 2012; their spread"
     " is assumed"),
)  # fmt: skip
COMMUTE = Profile(
    "3g-commute", PINGS_3G, _rates(0.5, 1.4, 4.0), _rates(0.2, 0.5, 1.4), 0.03, (_STALLS_3G, _BLIPS), UMTS,
    (f"{MEASURED['pings']}; twice as long is assumed for 3G", MEASURED["loss"],
     f"{MEASURED['3g rates']}; p95 of 4 and a third of it up are assumed"),
)  # fmt: skip
TUNNEL = Profile(
    "tunnel", PINGS_3G, COMMUTE.down, COMMUTE.up, 0.03,
    (
        Trouble(Reach.STALLED, _every(928.0 / 32), STALLS_3G, f"{MEASURED['umts gaps']}, as long as on commutes"),
        Trouble(Reach.DEAD, _every(3 * MINUTE_S), Quantiles.of((0.0, 10.0), (0.5, 35.0), (1.0, 78.0)),
                f"tunnels: one in 3 min is assumed, as is their median; {MEASURED['lte gap']}"),
    ),
    UMTS, COMMUTE.sources,
)  # fmt: skip
AIRPLANE = Profile(
    "airplane", PINGS_4G, LTE_PROFILE.down, LTE_PROFILE.up, 0.03,
    (Trouble(Reach.OFF, _every(3 * HOUR_S), Quantiles.of((0.0, HOUR_S), (0.5, 2.5 * HOUR_S), (1.0, 14 * HOUR_S)),
             "flights: assumed", habit=True),),
    LTE, LTE_PROFILE.sources,
)  # fmt: skip
ELEVATOR = Profile(
    "elevator", PINGS_4G, LTE_PROFILE.down, LTE_PROFILE.up, 0.03,
    (Trouble(Reach.STALLED, _every(4 * MINUTE_S), Quantiles.of((0.0, 8.0), (0.5, 20.0), (1.0, 60.0)), "assumed"),),
    LTE, LTE_PROFILE.sources,
)  # fmt: skip
CAPTIVE_PORTAL = Profile(
    "captive-portal", HOME_WIFI.ping, HOME_WIFI.down, HOME_WIFI.up, 0.01,
    (Trouble(Reach.PORTAL, _every(15 * MINUTE_S), Quantiles.of((0.0, 5.0), (0.5, 20.0), (1.0, 90.0)),
             "the portal wants a click every quarter of an hour, and gets it after 20 s: assumed", at_once=True),),
    WIFI, (_ASSUMED,),
)  # fmt: skip
FLAKY = Profile(
    "flaky", PINGS_3G, _rates(0.1, 0.5, 1.4), _rates(0.05, 0.2, 0.5), 0.08,
    (
        _STALLS_3G,
        Trouble(Reach.RESET, _every(25.0), Quantiles.always(1e-6), "assumed: a middlebox that forgets"),
        Trouble(Reach.DEAD, _every(90.0), Quantiles.of((0.0, 0.5), (0.5, 4.0), (1.0, 30.0)), "assumed"),
        _BLIPS,
    ),
    UMTS, ("everything is assumed to be worse than on a commute",),
)  # fmt: skip

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        OFFICE, HOME_WIFI, LTE_PROFILE, COMMUTE, TUNNEL, AIRPLANE, ELEVATOR, CAPTIVE_PORTAL, FLAKY,
    )
} | {"commute": COMMUTE}  # fmt: skip

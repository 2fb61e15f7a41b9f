"""What an app hands in, looked at where it does: TypeError for what is of another type, ValueError for what is no such
thing. Both name the argument; neither repeats a value that may be secret. The type hints are what is asked for.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from client_sim.core.checking import check_type
from client_sim.core.pacing import Policy, check_choice
from client_sim.core.ports import DeviceStore
from client_sim.core.reporting import About
from client_sim.live.connection import Dial
from client_sim.live.keys import DeviceKey
from client_sim.live.tokens import TokenSource
from crdt.ids import is_name

_PLATFORMS = {"linux": "linux", "darwin": "macos", "win32": "windows", "android": "android", "ios": "ios"}


def check_number(argument: str, value: float | None) -> None:
    """Of seconds or bytes, or None. Raises TypeError and ValueError."""
    check_type(argument, value, int, float, None)
    if value is not None and not value >= 0:  # NaN is none, either
        raise ValueError(f"{argument} is {value!r}, which is no length")


def check_limit(within_s: float | None) -> None:
    """How long to wait, in seconds; None: for ever. What is over already is a time, too.

    Raises TypeError, and ValueError for NaN.
    """
    check_type("within_s", within_s, int, float, None)
    if within_s is not None and math.isnan(within_s):
        raise ValueError("within_s is nan, which is no time")


def check_window(within_s: float, bytes_max: float) -> None:
    """Bounds of a background sync: both are. Raises TypeError and ValueError."""
    for argument, value in (("within_s", within_s), ("bytes_max", bytes_max)):
        check_type(argument, value, int, float)
        if not 0 <= value < math.inf:
            raise ValueError(f"{argument} is {value!r}, which bounds nothing")


def check_names(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    """Several names. One alone is made of letters, which are names as well. Raises TypeError."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise TypeError(f"{argument} has to be a list of str, not {type(names).__name__}")
    found = tuple(names)
    for name in found:
        check_type(f"each of {argument}", name, str)
    return found


def check_function(argument: str, value: object) -> None:
    """A function that does its work when it is called. Raises TypeError."""
    if not callable(value):
        raise TypeError(f"{argument} has to be a function, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{argument} has to be a plain function, not async: nobody would await it")


def check_device(url: str, token: str | TokenSource, device: str, key: DeviceKey | None, dial: Dial) -> None:
    """Where a device connects, and as whom. Raises TypeError and ValueError.

    An address where nobody can be is found when it connects: what is here can be read and edited all the same.
    """
    check_type("url", url, str)
    if not isinstance(token, str) and not callable(token):
        raise TypeError(f"token has to be str or a function, not {type(token).__name__}")
    check_type("device", device, str)
    if not is_name(device):
        raise ValueError(f"device is {device!r}, which is no name: 1 to 128 of A-Z a-z 0-9 . _ - ~ @ : +")
    check_type("key", key, DeviceKey, None)
    if not callable(dial):
        raise TypeError(f"dial has to be a function, not {type(dial).__name__}")


def check_storage(store: str | Path | DeviceStore | None, store_key: bytes | None, cache_bytes_max: int | None) -> None:
    """Where a device keeps things, and how much. Raises TypeError and ValueError."""
    check_type("store", store, str, Path, DeviceStore, None)
    check_type("store_key", store_key, bytes, None)
    check_number("cache_bytes_max", cache_bytes_max)
    if isinstance(store, str | Path) and not Path(store).name:
        raise ValueError(f"store is {str(store)!r}, which is no file")
    if store_key is not None and not isinstance(store, str | Path):
        raise ValueError("store_key is for a store that is a file")


def check_policy(policy: Policy | None, latency_s: float | None) -> None:
    """Raises TypeError and ValueError."""
    check_type("policy", policy, str, None)
    check_type("latency_s", latency_s, int, float, None)
    check_choice(policy, latency_s)


def check_callbacks(**callbacks: Callable[..., object] | None) -> None:
    """Raises TypeError."""
    for name, callback in callbacks.items():
        if callback is not None:
            check_function(name, callback)


def about(platform: str | None, version: str) -> About:
    """What the device reports itself as. Raises TypeError."""
    check_type("platform", platform, str, None)
    check_type("version", version, str)
    return About(platform or _PLATFORMS.get(sys.platform, "other"), version)


def check_not_up(*, is_up: bool) -> None:
    """A device's block is entered once. Raises RuntimeError."""
    if is_up:
        raise RuntimeError("this device's block is entered already: make another device, or pass this one on")

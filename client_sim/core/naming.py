"""What a device is called that had to give up its name."""

from __future__ import annotations

import re

from crdt.ids import NAME_CHARS_MAX

SUFFIX_BITS = 64
_SUFFIX_DIGITS = SUFFIX_BITS // 4
_RENAMED = re.compile(rf"(.+)-[0-9a-f]{{{_SUFFIX_DIGITS}}}")
_STEM_CHARS_MAX = NAME_CHARS_MAX - 1 - _SUFFIX_DIGITS


def renamed(name: str, entropy: int) -> str:
    """Another name of the same stem. `entropy` is SUFFIX_BITS random bits: no two devices draw the same."""
    return f"{_stem(name)}-{entropy:0{_SUFFIX_DIGITS}x}"


def is_same_device(name: str, now: str) -> bool:
    """True if `now` is `name`, or what a device of that name may be called since."""
    return name == now or _stem(name) == _stem(now)


def _stem(name: str) -> str:
    """What stays of a name however often its device is renamed."""
    match = _RENAMED.fullmatch(name)
    return (match[1] if match else name)[:_STEM_CHARS_MAX]

"""JSON within updates: what formats are set to, and what is embedded in texts."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from crdt.errors import BadUpdate


def check_json(text: str, depth_max: int) -> None:
    """Raise BadUpdate for what is not JSON, for what the CRDT library can not read, and for what it would change."""
    if text in _COMMON:
        return
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as exc:
        raise BadUpdate("limit", f"JSON is nested more than {depth_max} deep") from exc
    except UnicodeEncodeError as exc:
        raise BadUpdate("unsupported", "half a surrogate pair in JSON") from exc
    except ValueError as exc:
        raise BadUpdate("malformed", "an embed or format is not JSON") from exc
    _check_depth(value, depth_max, depth_max)


def _check_depth(value: Any, left: int, depth_max: int) -> None:
    if not isinstance(value, list | dict):
        return
    if not left:
        raise BadUpdate("limit", f"JSON is nested more than {depth_max} deep")
    for item in value if isinstance(value, list) else value.values():
        _check_depth(item, left - 1, depth_max)


def _integer(digits: str) -> int:
    """The library reads no whole number from 2^63 to 2^64, and others beyond 64 bits as floats, as JavaScript does."""
    if len(digits) <= _DIGITS_SAFE:
        return 0
    _float(digits)
    if 1 << 63 <= int(digits) < 1 << 64:
        raise BadUpdate("unsupported", "a whole number in JSON that the library can not hold")
    return 0


def _float(digits: str) -> float:
    if not isfinite(float(digits)):
        raise BadUpdate("unsupported", "a number in JSON that is over the greatest")
    return 0.0


def _constant(name: str) -> None:
    raise BadUpdate("malformed", f"{name} is not JSON")


_COMMON = frozenset(("true", "false", "null", '"bold"', "{}", "[]", '""'))
_DIGITS_SAFE = 18
_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant)

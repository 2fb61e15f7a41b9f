"""What an app puts into maps, lists and texts, looked at before the library sees it.

The library answers a value that it can not take with a panic, a crash of the process, or None in its place. These are
its types, but that they refuse such values; what is read out of them is of these types again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import pycrdt

from client_sim.core.checking import check_type

_T = TypeVar("_T")

DEPTH_MAX = 200
"""Far more than a server takes: what is deeper contains itself, as a rule, and has no end."""
_INTEGERS = range(-(1 << 63), 1 << 63)
_SCALARS = (bool, float, bytes)
_SHARED = (pycrdt.Text, pycrdt.Array, pycrdt.Map, pycrdt.XmlElement, pycrdt.XmlFragment, pycrdt.XmlText, pycrdt.Doc)


def check_value(value: object, depth: int = 0, *, within_plain: bool = False) -> None:
    """JSON's, with bytes and integers of 64 bits, or a type of its own. Raises TypeError and ValueError."""
    if isinstance(value, str):
        value.encode()  # a lone surrogate: UnicodeEncodeError
    elif value is None or isinstance(value, _SCALARS):
        pass
    elif isinstance(value, int):
        if value not in _INTEGERS:
            raise ValueError(f"an integer of {value.bit_length()} bits: with its sign it may have 64")
    elif isinstance(value, list | tuple | dict):
        _check_within(value, depth, within_plain=True)
    elif isinstance(value, _SHARED) and not within_plain:
        if isinstance(value, pycrdt.Map | pycrdt.Array):
            _check_within(value.prelim or (), depth, within_plain=False)
    else:
        where = " within a plain value" if within_plain else ""
        raise TypeError(f"{type(value).__name__} can not be in a document{where}")


def _check_within(value: Collection[Any], depth: int, *, within_plain: bool) -> None:
    if depth == DEPTH_MAX:
        raise ValueError(f"a value is nested more than {DEPTH_MAX} deep, or contains itself")
    if isinstance(value, dict):
        for key in value:
            check_key(key)
        value = value.values()
    for element in value:
        check_value(element, depth + 1, within_plain=within_plain)


def check_key(key: object) -> None:
    """Raises TypeError and UnicodeEncodeError."""
    check_type("a key", key, str)
    str(key).encode()


def check_formats(formats: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """As the library wants them. Raises as `check_value`."""
    if formats is None:
        return None
    found = dict(formats)
    check_value(found)
    return found


class Map(pycrdt.Map[_T]):
    """The library's. Raises TypeError and ValueError for keys and values that can not be in a document."""

    def __setitem__(self, key: str, value: _T) -> None:
        check_key(key)
        super().__setitem__(key, value)

    def _set(self, key: str, value: _T) -> None:
        check_key(key)
        check_value(value)
        super()._set(key, value)

    def _maybe_as_type_or_doc(self, obj: Any) -> Any:
        return _checked(super()._maybe_as_type_or_doc(obj))


class Array(pycrdt.Array[_T]):
    """The library's. Raises TypeError and ValueError for values that can not be in a document."""

    def _set(self, index: int, value: _T) -> None:
        check_value(value)
        super()._set(index, value)

    def _maybe_as_type_or_doc(self, obj: Any) -> Any:
        return _checked(super()._maybe_as_type_or_doc(obj))


class Text(pycrdt.Text):
    """The library's. Raises TypeError and ValueError for formats and values that can not be in a document."""

    def insert(self, index: int, value: str, attrs: Mapping[str, Any] | None = None) -> None:
        super().insert(index, value, check_formats(attrs))

    def insert_embed(self, index: int, value: Any, attrs: Mapping[str, Any] | None = None) -> None:
        check_value(value)
        super().insert_embed(index, value, check_formats(attrs))

    def format(self, start: int, stop: int, attrs: Mapping[str, Any]) -> None:
        super().format(start, stop, check_formats(attrs) or {})

    def _maybe_as_type_or_doc(self, obj: Any) -> Any:
        return _checked(super()._maybe_as_type_or_doc(obj))


_OURS: dict[type, type] = {pycrdt.Map: Map, pycrdt.Array: Array, pycrdt.Text: Text}


def _checked(found: Any) -> Any:
    """What was read, as one of these types if it is the library's."""
    ours = _OURS.get(type(found))
    return found if ours is None else ours(_doc=found.doc, _integrated=found.integrated)

"""A document's roots, as an edit sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pycrdt
from pycrdt import Doc, XmlElement, XmlFragment, XmlText

from client_sim.core.checking import check_type
from client_sim.core.values import Array, Map, Text


class Roots:
    """The roots of one document inside one edit. Ask for a root by the type that it has everywhere.

    Maps are the library's: `roots.map("settings")["dark"] = True`, `del ...["dark"]`. Values are JSON's, or types of
    their own: `roots.map("notes")["one"] = Map({"title": Text("")})`, which `nested_text` and `nested_list` edit. Two
    devices that make one at the same key at once make two, of which one stays: make them once. What can not be in a
    document raises TypeError or ValueError: an integer of more than 64 bits, a key that is no string, a lone surrogate.
    """

    def __init__(self, doc: Doc[Any]) -> None:
        self._doc = doc

    def text(self, name: str) -> TextRoot:
        check_type("name", name, str)
        return TextRoot(self._doc.get(name, type=Text))

    def map(self, name: str) -> Map[Any]:
        check_type("name", name, str)
        return cast("Map[Any]", self._doc.get(name, type=Map))

    def list(self, name: str) -> ListRoot:
        return ListRoot(self.array(name))

    def array(self, name: str) -> Array[Any]:
        """A list as the library has it."""
        check_type("name", name, str)
        return cast("Array[Any]", self._doc.get(name, type=Array))

    def nested_text(self, within: pycrdt.Map[Any] | pycrdt.Array[Any] | ListRoot, key: str | int) -> TextRoot:
        """A text in a map or a list. Raises KeyError and IndexError where nothing is, TypeError for anything else."""
        return TextRoot(_nested(within, key, pycrdt.Text))

    def nested_list(self, within: pycrdt.Map[Any] | pycrdt.Array[Any] | ListRoot, key: str | int) -> ListRoot:
        """A list in a map or a list. Raises as `nested_text`."""
        return ListRoot(_nested(within, key, pycrdt.Array))

    def apply(self, update: bytes) -> None:
        """Put in a v1 update that was made before, as if it were this device's edit: for load tests."""
        check_type("update", update, bytes)
        self._doc.apply_update(update)


def _nested(within: Any, key: str | int, kind: type[Any]) -> Any:
    value = within[key]
    if not isinstance(value, kind):
        raise TypeError(f"{key!r} is a {type(value).__name__}, and not a {kind.__name__}")
    return value


class TextRoot:
    """A text by code points, as Python counts them; the library counts UTF-8 bytes, and does not mind its indexes.

    An index outside 0 to `len(text)` raises IndexError, what is no index or no string TypeError.
    """

    def __init__(self, text: pycrdt.Text) -> None:
        self._text = text

    def __str__(self) -> str:
        return str(self._text)

    def __len__(self) -> int:
        return len(str(self._text))

    def insert(self, index: int, value: str, formats: Mapping[str, Any] | None = None) -> None:
        """Put `value` before the character at `index`, formatted so; with None as what is around it."""
        check_type("value", value, str)
        self._text.insert(self._at(index), value, None if formats is None else dict(formats))

    def append(self, value: str) -> None:
        check_type("value", value, str)
        self._text.insert(len(self._text), value)

    def delete(self, start: int, stop: int) -> None:
        """Remove the characters from `start` up to but not including `stop`."""
        first, last = self._range(start, stop)
        del self._text[first:last]

    def format(self, start: int, stop: int, formats: Mapping[str, Any]) -> None:
        """Give the characters from `start` up to `stop` formats, as {"bold": True}; None takes one away."""
        first, last = self._range(start, stop)
        if first < last:
            self._text.format(first, last, dict(formats))

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        first, last = self._at(start), self._at(stop)
        if first > last:
            raise IndexError(f"{start} is after {stop}")
        return first, last

    def _at(self, index: int) -> int:
        """The UTF-8 offset of a code point."""
        check_type("an index", index, int)
        content = str(self._text)
        if not 0 <= index <= len(content):
            raise IndexError(f"{index} is outside a text of {len(content)} characters")
        return len(content[:index].encode())


class ListRoot:
    """A list by its elements. An index outside of it raises IndexError, what is no index TypeError."""

    def __init__(self, array: pycrdt.Array[Any]) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: int) -> Any:
        self._check(index, len(self) - 1)
        return self._array[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._array)

    def insert(self, index: int, value: Any) -> None:
        """Put `value` before the element at `index`."""
        self._check(index, len(self))
        self._array.insert(index, value)

    def append(self, value: Any) -> None:
        self._array.append(value)

    def delete(self, index: int) -> None:
        self._check(index, len(self) - 1)
        del self._array[index]

    def move(self, index: int, to: int) -> None:
        """Take the element at `index` out, and put it in so that it is at `to` then.

        It is taken out and put in: two devices that move the same one at once make two of it. Raises TypeError for a
        type of its own (a map, say), which would be another one there.
        """
        self._check(index, len(self) - 1)
        self._check(to, len(self) - 1)
        value = self._array[index]
        if isinstance(value, pycrdt.Text | pycrdt.Array | pycrdt.Map | XmlElement | XmlFragment | XmlText | Doc):
            raise TypeError(f"a {type(value).__name__} can not be moved: delete it, and make another one")
        if index != to:
            del self._array[index]
            self._array.insert(to, value)

    def _check(self, index: int, last: int) -> None:
        check_type("an index", index, int)
        if not 0 <= index <= last:
            raise IndexError(f"{index} is outside a list of {len(self)} elements")

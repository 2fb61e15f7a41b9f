"""What is different between two states of a document, for people to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Final, TypeAlias

from crdt.values import Values, canonical_json

Change: TypeAlias = dict[str, str | None]
"""`at`: where; `after`: the text before it, if it is within a text; `removed` and `added`: text, or JSON of a value."""

CONTEXT_CHARS: Final = 40
COMPARED_MAX: Final = 4_000
"""More words of a text, or elements of a list, are not compared one by one."""


def changes(before: Values, after: Values) -> list[Change]:
    """What makes `after` of `before`, in the order of names and places."""
    return list(_of_maps("", before, after))


def _of_values(at: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after and type(before) is type(after):
        return
    match before, after:
        case dict(), dict():
            yield from _of_maps(at, before, after)
        case list(), list():
            yield from _of_lists(at, before, after)
        case str(), str():
            yield from _of_texts(at, before, after)
        case _:
            yield _change(at, _json(before), _json(after))


def _of_maps(at: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        place = f"{at}.{key}" if at else key
        if key not in after:
            yield _change(place, _json(before[key]), None)
        elif key not in before:
            yield _change(place, None, _json(after[key]))
        else:
            yield from _of_values(place, before[key], after[key])


def _of_lists(at: str, before: list[Any], after: list[Any]) -> Iterator[Change]:
    for start, end, new_start, new_end in _differences([*map(canonical_json, before)], [*map(canonical_json, after)]):
        paired = min(end - start, new_end - new_start)
        for offset in range(paired):
            yield from _of_values(f"{at}[{start + offset}]", before[start + offset], after[new_start + offset])
        for index in range(start + paired, end):
            yield _change(f"{at}[{index}]", _json(before[index]), None)
        for index in range(new_start + paired, new_end):
            yield _change(f"{at}[{index}]", None, _json(after[index]))


def _of_texts(at: str, before: str, after: str) -> Iterator[Change]:
    old, new = _WORD.findall(before), _WORD.findall(after)
    for start, end, new_start, new_end in _differences(old, new):
        context = "".join(old[:start])[-CONTEXT_CHARS:]
        yield _change(at, "".join(old[start:end]), "".join(new[new_start:new_end]), context)


def _differences(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[int, int, int, int]]:
    """Where they differ: from start to end in the old, and in the new. What they begin and end with alike is left out
    first, for comparing takes time with the square of the rest; if that is long it is one difference.
    """
    same = _alike(old, new)
    tail = _alike(old[same:][::-1], new[same:][::-1])
    old, new = old[same : len(old) - tail], new[same : len(new) - tail]
    if max(len(old), len(new)) > COMPARED_MAX:
        yield same, same + len(old), same, same + len(new)
        return
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield same + start, same + end, same + new_start, same + new_end


def _alike(old: Sequence[Any], new: Sequence[Any]) -> int:
    """How many of the first items are equal."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(old), len(new)))


_WORD: Final = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")


def _change(at: str, removed: str | None, added: str | None, after: str | None = None) -> Change:
    return {"at": at, "after": after or None, "removed": removed or None, "added": added or None}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)

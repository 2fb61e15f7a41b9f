"""Whether the demo kept what it promised: everybody has the same, and it is what the history ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from client_sim.demo.history import TEXT_ROOT, History
from client_sim.demo.processes import DemoFailed, ServerProcess
from client_sim.demo.words import DOCUMENT, PROGRESS_ROOT

SHOWN_CHARS = 24


async def replay_database(server: ServerProcess, user: str) -> Any:
    """The values that the database makes, read after the server has stopped, all checksums compared.

    Raises DemoFailed.
    """
    document = f"{user}/{DOCUMENT}"
    (report,) = json.loads(await server.ask("doc", "verify", document, "--json"))
    if report["problem"]:
        raise DemoFailed(f"the database is damaged: {report['problem']}")
    return json.loads(await server.ask("doc", "show", document, "--json"))


def judge(history: History, holders: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values that each holder has; nothing, if all are the history's own end."""
    problems = []
    (first, reference), *others = holders.items()
    if not history.is_end(_text(reference)):
        problems.append(f"{first} does not have the text that the history ends with ({history.name})")
    expected = {device: count for device, count in zip(history.devices, history.ends, strict=True) if count}
    if reference.get(PROGRESS_ROOT, {}) != expected:
        problems.append(f"{first} has {reference.get(PROGRESS_ROOT, {})} edits, and not {expected}")
    for name, values in others:
        if values != reference:
            problems.append(f"{name} has something else than {first}: {_difference(_text(values), _text(reference))}")
    return problems


def _text(values: Any) -> str:
    return str(values.get(TEXT_ROOT, ""))


def _difference(text: str, reference: str) -> str:
    if text == reference:
        return "in how many edits there are"
    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, reference, strict=False)))
    shown, instead = text[at : at + SHOWN_CHARS], reference[at : at + SHOWN_CHARS]
    return f"{len(text)} characters for {len(reference)}; at {at} {shown!r} and not {instead!r}"

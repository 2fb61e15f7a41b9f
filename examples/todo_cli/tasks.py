"""What a to-do list is in a document: a map of ids to maps with a text, whether it is done, and when it was added."""

from __future__ import annotations

import secrets
import time
from typing import Any, NamedTuple

from pycrdt import Map

from client_sim import AsyncDocument

TASKS = "tasks"


class UnknownTask(Exception):
    """There is no task of that number."""


class Task(NamedTuple):
    id: str
    text: str
    done: bool


def tasks(document: AsyncDocument) -> list[Task]:
    """In the order in which they were added, wherever that was."""
    entries = sorted(document.map(TASKS).items(), key=lambda entry: (entry[1]["added"], entry[0]))
    return [Task(id_, str(entry["text"]), bool(entry["done"])) for id_, entry in entries]


def add(document: AsyncDocument, text: str) -> None:
    entry: Map[Any] = Map({"text": text, "done": False, "added": time.time()})
    document.edit(lambda roots: roots.map(TASKS).update({secrets.token_hex(4): entry}))


def set_done(document: AsyncDocument, number: int, *, done: bool) -> Task:
    """Of the task that `tasks` has at `number`, counted from 1. Raises UnknownTask."""
    task = _task(document, number)
    document.edit(lambda roots: roots.map(TASKS)[task.id].update({"done": done}))
    return task


def remove(document: AsyncDocument, number: int) -> Task:
    """As `set_done`."""
    task = _task(document, number)
    document.edit(lambda roots: roots.map(TASKS).pop(task.id))
    return task


def _task(document: AsyncDocument, number: int) -> Task:
    found = tasks(document)
    if not 1 <= number <= len(found):
        raise UnknownTask(f"there is no task {number}: there are {len(found)}")
    return found[number - 1]

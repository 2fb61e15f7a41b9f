"""A device that types by itself until it is killed, and writes down which of its edits a server acknowledged."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

from client_sim.live import AsyncDevice, AsyncDocument, Problem, Roots
from tests.integration.server_peers import Hasty, new_device

DOCUMENTS = ("main", "notes")
IDLE = "idle"
PROBLEM = "problem"
PENDING_MAX = 30
"""It stops typing while so many edits are not acknowledged."""


def type_away(url: str, name: str, store: Path, journal: Path, seed: int, edits: int) -> None:
    """Make so many edits in this life, and wait for all to be acknowledged; then wait for the end."""
    asyncio.run(_Typist(name, journal, seed).live(url, store, edits))


def edit_key(device: str, number: int) -> str:
    """What a device's n-th edit of a document leaves in the map `made`, for ever."""
    return f"{device}-{number}"


class _Typist:
    """Edits are numbered by document, from 1 on over all lives. The journal has `document last_acknowledged` lines."""

    def __init__(self, name: str, journal: Path, seed: int) -> None:
        self._name = name
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._rng = Random(seed)
        self._made: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._documents: list[AsyncDocument] = []
        self._inherited: dict[str, bool] = {}
        """Edits of an earlier life are pending, nobody knows how many: they may have been merged."""

    async def live(self, url: str, store: Path, edits: int) -> None:
        async with new_device(url, self._name, store=store, rng=Hasty(self._rng.random())) as device:
            device.on_error = self._note_problem
            for name in DOCUMENTS:
                document = await device.open(name)
                made = document.values().get("made", {})
                self._made[name] = sum(key.startswith(f"{self._name}-") for key in made)
                self._documents.append(document)
                self._inherited[name] = bool(document.pending)
            for _ in range(edits):
                await self._type(device)
            await device.wait(lambda: self._note() == 0)
            self._write(IDLE)
            await asyncio.Event().wait()

    async def _type(self, device: AsyncDevice) -> None:
        document = self._rng.choice(self._documents)
        self._made[document.name] += 1
        document.edit(lambda roots: self._change(roots, self._made[document.name]))
        pending_max = self._rng.randint(1, PENDING_MAX)
        await device.wait(lambda: self._note() < pending_max)

    def _change(self, roots: Roots, number: int) -> None:
        roots.map("made")[edit_key(self._name, number)] = number
        roots.array("items").insert(0, number)
        body = roots.text("body")
        start = self._rng.randint(0, len(body))
        body.delete(start, min(start + self._rng.choice((0, 0, 3, 9)), len(body)))
        body.insert(start, self._rng.choice(("word ", "é", "\N{GRINNING FACE}", "a longer piece of text ")))

    def _note(self) -> int:
        """Write down what was acknowledged since, in the order of the edits; how many edits are not."""
        for document in self._documents:
            acknowledged = self._made[document.name] - document.pending.count
            self._inherited[document.name] &= bool(document.pending)
            if not self._inherited[document.name] and acknowledged != self._noted.get(document.name):
                self._noted[document.name] = acknowledged
                self._write(f"{document.name} {acknowledged}")
        return sum(document.pending.count for document in self._documents)

    def _note_problem(self, problem: Problem) -> None:
        self._write(f"{PROBLEM} {problem}")

    def _write(self, line: str) -> None:
        """One call, so that SIGKILL leaves whole lines."""
        os.write(self._journal, f"{line}\n".encode())

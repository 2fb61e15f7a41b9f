"""Keeps the store's list of devices, and what the hub knows of those that are shut out, up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from crdt.ids import DeviceId
from server.core.ports import Storage, StorageError
from server.core.records import Sighting

REVOCATIONS_READ_S = 1.0
"""How soon a revocation by another process is noticed. A reading costs about 0.5 ms (SQLite, idle)."""
SIGHTINGS_WRITE_S = 5.0
SIGHTINGS_AT_ONCE = 1000
"""Sightings in one transaction, for which commits wait: about 10 ms."""
SIGHTINGS_MAX = 20_000
"""Devices that wait to be noted. While storage fails, those beyond are not."""


class DeviceBook:
    """`shut_out` is told all devices that may not be here, whenever they have been read and have changed."""

    def __init__(self, storage: Storage, shut_out: Callable[[frozenset[DeviceId]], None]) -> None:
        self._storage = storage
        self._shut_out = shut_out
        self._revoked: frozenset[DeviceId] = frozenset()
        self._reading = asyncio.Lock()
        self._sightings: dict[DeviceId, Sighting] = {}
        self._writing = asyncio.Lock()
        self._log = structlog.get_logger("syncline")

    # --- who is shut out

    async def read_revocations(self) -> None:
        """Learn who is shut out now. One reading at a time, so that none that began earlier counts for later.

        Raises StorageError: what was known goes on to hold.
        """
        async with self._reading:
            revoked = await self._storage.revoked_devices()
            if revoked is not self._revoked:
                self._revoked = revoked
                self._shut_out(revoked)

    async def keep_reading(self) -> None:
        while True:
            await asyncio.sleep(REVOCATIONS_READ_S)
            try:
                await self.read_revocations()
            except StorageError as exc:
                self._log.error("storage_failed", doing="revocations", reason=str(exc))

    # --- who was here

    def saw(self, device: DeviceId, agent: str, time_ms: int) -> None:
        known = self._sightings.get(device)
        if known is not None or len(self._sightings) < SIGHTINGS_MAX:
            first_ms = time_ms if known is None else known.first_ms
            self._sightings[device] = Sighting(device, agent, first_ms, time_ms)

    async def keep_writing(self) -> None:
        while True:
            await asyncio.sleep(SIGHTINGS_WRITE_S)
            await self.write_sightings()

    async def write_sightings(self) -> None:
        """Note all that wait, and wait for those that are being noted. What storage does not take is kept."""
        async with self._writing:
            waiting, self._sightings = list(self._sightings.values()), {}
            for start in range(0, len(waiting), SIGHTINGS_AT_ONCE):
                try:
                    await self._storage.note_devices(waiting[start : start + SIGHTINGS_AT_ONCE])
                except StorageError as exc:
                    self._log.error("storage_failed", doing="devices", reason=str(exc))
                    self._keep(waiting[start:])
                    return

    def _keep(self, unwritten: list[Sighting]) -> None:
        """Those, and what was seen since."""
        newer, self._sightings = self._sightings, {sighting.device: sighting for sighting in unwritten}
        for sighting in newer.values():
            self.saw(sighting.device, sighting.agent, sighting.last_ms)

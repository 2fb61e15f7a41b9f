"""Who has connected and who may no longer, in an SQL database. Every function works in its caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Update, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from crdt.ids import DeviceId
from server.core.records import DeviceInfo, Sighting
from server.storage.rows import Row, Values
from server.storage.tables import devices

_IS_REVOKED = devices.c.revoked_ms.is_not(None)
_REVOKED: Select[*tuple[Any, ...]] = select(devices.c.user, devices.c.device).where(_IS_REVOKED)
_STAMP: Select[*tuple[Any, ...]] = select(func.count(), func.sum(devices.c.revoked_ms % 10**9)).where(_IS_REVOKED)
"""Changes with what _REVOKED says, and costs a fiftieth. (The remainder keeps the sum of very many in bounds.)"""
_DEVICES: Select[*tuple[Any, ...]] = select(devices).order_by(devices.c.user, devices.c.device)
_RESTORE: Update = (
    update(devices)
    .where(
        devices.c.user == bindparam("of_user"),
        devices.c.device == bindparam("of_device"),
        _IS_REVOKED,
    )
    .values(revoked_ms=None)
)


class Revoked:
    """Who is revoked, as last read: it is asked for every second, and seldom changes."""

    def __init__(self) -> None:
        self._stamp: tuple[Any, ...] = ()
        self._devices: frozenset[DeviceId] = frozenset()

    async def read(self, connection: AsyncConnection) -> frozenset[DeviceId]:
        """In a transaction in which both statements see the same."""
        stamp = tuple((await connection.execute(_STAMP)).one())
        if stamp != self._stamp:
            rows = (await connection.execute(_REVOKED)).all()
            self._stamp, self._devices = stamp, frozenset(DeviceId(user, name) for user, name in rows)
        return self._devices


async def note(connection: AsyncConnection, sightings: Sequence[Sighting]) -> None:
    """A device keeps the time at which it was first seen, and the agent that it had last."""
    rows = [
        {
            "user": sighting.device.user,
            "device": sighting.device.name,
            "agent": sighting.agent,
            "first_seen_ms": sighting.first_ms,
            "last_seen_ms": sighting.last_ms,
        }
        for sighting in sightings
    ]
    inserted = _insert(connection)
    latest = inserted.excluded
    noted = inserted.on_conflict_do_update(
        index_elements=["user", "device"],
        set_={
            "agent": latest.agent,
            "first_seen_ms": func.coalesce(devices.c.first_seen_ms, latest.first_seen_ms),
            "last_seen_ms": latest.last_seen_ms,
        },
        where=func.coalesce(devices.c.last_seen_ms, 0) <= latest.last_seen_ms,
    )
    await connection.execute(noted, rows)


async def revoke(connection: AsyncConnection, wanted: Sequence[DeviceId], time_ms: int) -> list[DeviceId]:
    """Those that were not revoked yet; the others keep the time at which they were."""
    inserted = _insert(connection)
    revoked = inserted.on_conflict_do_update(
        index_elements=["user", "device"],
        set_={"revoked_ms": inserted.excluded.revoked_ms},
        where=devices.c.revoked_ms.is_(None),
    )
    rows = [{"user": device.user, "device": device.name, "revoked_ms": time_ms} for device in wanted]
    return await _changed(connection, revoked, wanted, rows)


async def restore(connection: AsyncConnection, wanted: Sequence[DeviceId]) -> list[DeviceId]:
    """Those that were revoked."""
    rows = [{"of_user": device.user, "of_device": device.name} for device in wanted]
    return await _changed(connection, _RESTORE, wanted, rows)


async def read(connection: AsyncConnection, user: str | None) -> list[DeviceInfo]:
    wanted = _DEVICES if user is None else _DEVICES.where(devices.c.user == user)
    return [_info(row) for row in (await connection.execute(wanted)).all()]


async def _changed(
    connection: AsyncConnection, statement: Any, wanted: Sequence[DeviceId], rows: Sequence[Values]
) -> list[DeviceId]:
    """The devices whose row the statement changed."""
    return [
        device for device, row in zip(wanted, rows, strict=True) if (await connection.execute(statement, row)).rowcount
    ]


def _insert(connection: AsyncConnection) -> Any:
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[connection.dialect.name]
    return insert(devices)


def _info(row: Row) -> DeviceInfo:
    return DeviceInfo(DeviceId(row.user, row.device), row.agent, row.first_seen_ms, row.last_seen_ms, row.revoked_ms)

"""What an operator can do with a store's documents and devices, by name and plain values: with and without a server.

Every result is made of what msgpack and JSON can hold, so that it can cross the control socket.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from crdt.errors import BadUpdate, ReplicaBroken
from crdt.ids import DeviceId, DocumentId, is_name
from crdt.replica import Replica
from crdt.update import StateVector, read_update
from crdt.values import canonical_json
from server.core.ports import CorruptDocument, Storage
from server.core.records import DeviceInfo, DocumentInfo, History, StoredDocument
from server.runtime.driver import ImportRefused
from server.runtime.excision import Culprit, attribution, excision
from server.storage.backup import backup
from server.storage.compaction import CompactionError, Run, compact, verified_snapshot

P = ParamSpec("P")
T = TypeVar("T")

ImportUpdate: TypeAlias = Callable[[DocumentId, bytes], Awaitable[int]]
"""Puts an update into a document as a device would: the seq of its entry, 0 if it changed nothing; or ImportRefused."""

RevocationsChanged: TypeAlias = Callable[[], Awaitable[None]]
"""Has the server let go of the devices that are shut out now."""


async def _nobody_is_here() -> None:
    """Without a server there is no connection to close."""


_CLIENT_BITS: Final = 32
"""Of a client id that is drawn, as Yjs draws them."""


class OperationRefused(Exception):
    """It cannot be done, for a reason that an operator can see to. The text fits on a line."""


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Heavy work beside the event loop, but for the time that the CRDT library holds the interpreter."""
    return await asyncio.to_thread(function, *args, **kwargs)


class Operations:
    """`import_update` is `Driver.import_update`; `database` is the file that a backup copies; `revocations_changed` is
    `DeviceBook.read_revocations`.

    All methods raise OperationRefused, CorruptDocument and StorageError. `run` executes heavy work.
    """

    def __init__(
        self,
        storage: Storage,
        import_update: ImportUpdate,
        database: Path | None = None,
        run: Run = in_thread,
        revocations_changed: RevocationsChanged = _nobody_is_here,
    ) -> None:
        self._storage = storage
        self._import_update = import_update
        self._revocations_changed = revocations_changed
        self._database = database
        self._run = run

    async def perform(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """One of `COMMANDS`, with arguments by name."""
        method, wanted = COMMANDS.get(command, (None, {}))
        if method is None:
            raise OperationRefused(f"there is no command {command!r} here")
        if arguments.keys() != wanted.keys() or not all(isinstance(arguments[name], wanted[name]) for name in wanted):
            raise OperationRefused(f"{command} takes {', '.join(wanted) or 'nothing'}")
        return await method(self, **arguments)

    async def list_documents(self) -> list[dict[str, Any]]:
        """All documents that were written, by owner and name."""
        return [_info_values(info) for info in await self._storage.documents()]

    async def show(self, document: str) -> bytes:
        """The values of a document's roots, as JSON in UTF-8."""
        return await self._calculate(document_json, await self._existing(document))

    async def export(self, document: str) -> bytes:
        """The whole document as one v1 update."""
        return await self._calculate(document_state, await self._existing(document))

    async def import_update(self, document: str, update: bytes) -> int:
        """Put a v1 update into a document, which need not exist: the seq of its log entry, 0 if it changed nothing."""
        try:
            return await self._import_update(_parse(document), update)
        except ImportRefused as exc:
            raise OperationRefused(f"{document} does not take the update: {exc}") from exc

    async def attribute(self, document: str, device: str, since_ms: int, text: bool) -> dict[str, Any]:
        """Who wrote what since then: one device, or all if `device` is empty; see `excision.attribution`."""
        named = _parse_own_device(device, document) if device else None
        return await self._calculate(attribution, await self._history(document), named, since_ms, text=text)

    async def excise(self, document: str, device: str, since_ms: int, until_ms: int, dry_run: bool) -> dict[str, Any]:
        """Take a device's edits out by an edit; see `excision.excision`. `seq` is that edit's log entry, or nil."""
        culprit = Culprit(_parse_own_device(device, document), since_ms, until_ms)
        history = await self._history(document)
        report = await self._calculate(excision, history, culprit, secrets.randbits(_CLIENT_BITS))
        update = report.pop("update")
        seq = None if update is None or dry_run else await self.import_update(document, update)
        return {"document": document, "device": str(culprit.device), "seq": seq, **report}

    async def verify(self, document: str) -> dict[str, Any]:
        """Read a document and rebuild it in several ways, which have to agree; `problem` is nil if all is well."""
        try:
            stored = await self._existing(document)
            problem = await self._run(document_problem, stored)
        except (CorruptDocument, CompactionError) as exc:
            return {"document": document, "head_seq": None, "problem": str(exc)}
        return {"document": document, "head_seq": stored.head_seq, "problem": problem}

    async def compact(self, document: str) -> dict[str, Any]:
        """Fold a document's log into a snapshot, proved before it counts; nil bytes if there was nothing to do."""
        try:
            await self._existing(document)
            snapshot = await compact(self._storage, _parse(document), self._run, time.time_ns() // 1_000_000)
        except (CorruptDocument, CompactionError) as exc:
            return {"document": document, "snapshot_bytes": None, "problem": str(exc)}
        return {"document": document, "snapshot_bytes": len(snapshot.state) if snapshot else None, "problem": None}

    async def release(self, document: str) -> bool:
        """Let a document that was quarantined be opened again; False if it was not."""
        return await self._storage.release(_parse(document))

    async def backup(self, target: str) -> None:
        """Write all that is committed now to a new file. `target` is absolute: this process has its own directory."""
        if self._database is None:
            raise OperationRefused("only a SQLite store is backed up here")
        if not Path(target).is_absolute():
            raise OperationRefused(f"{target} is not an absolute path")
        await backup(self._database, Path(target))

    async def list_devices(self, user: str) -> list[dict[str, Any]]:
        """All devices that were seen or revoked, or those of one user, by user and name."""
        return [_device_values(info) for info in await self._storage.devices(user or None)]

    async def revoke(self, devices: list[Any]) -> list[str]:
        """Shut devices out, for good and now: those that were not yet, once their connections are closed."""
        revoked = await self._storage.revoke_devices(_parse_devices(devices), time.time_ns() // 1_000_000)
        await self._revocations_changed()
        return [str(device) for device in revoked]

    async def restore(self, devices: list[Any]) -> list[str]:
        """Let devices in again: those that had been shut out."""
        restored = await self._storage.restore_devices(_parse_devices(devices))
        await self._revocations_changed()
        return [str(device) for device in restored]

    async def _existing(self, document: str) -> StoredDocument:
        stored = await self._storage.load(_parse(document))
        if not stored.head_seq:
            raise OperationRefused(f"there is no document {document}")
        return stored

    async def _history(self, document: str) -> History:
        history = await self._storage.history(_parse(document))
        if not history.entries:
            raise OperationRefused(f"there is no document {document}")
        return history

    async def _calculate(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._run(function, *args, **kwargs)
        except (ReplicaBroken, BadUpdate, CompactionError) as exc:
            raise OperationRefused(f"the document cannot be read: {exc}") from exc


_Method: TypeAlias = Callable[..., Awaitable[Any]]

COMMANDS: Final[Mapping[str, tuple[_Method, Mapping[str, type]]]] = {
    "list": (Operations.list_documents, {}),
    "show": (Operations.show, {"document": str}),
    "export": (Operations.export, {"document": str}),
    "import": (Operations.import_update, {"document": str, "update": bytes}),
    "verify": (Operations.verify, {"document": str}),
    "compact": (Operations.compact, {"document": str}),
    "release": (Operations.release, {"document": str}),
    "devices": (Operations.list_devices, {"user": str}),
    "revoke": (Operations.revoke, {"devices": list}),
    "restore": (Operations.restore, {"devices": list}),
    "attribute": (Operations.attribute, {"document": str, "device": str, "since_ms": int, "text": bool}),
    "excise": (
        Operations.excise,
        {"document": str, "device": str, "since_ms": int, "until_ms": int, "dry_run": bool},
    ),
    "backup": (Operations.backup, {"target": str}),
}
"""What the control socket takes, with the types of the arguments."""


# --- heavy work: functions of what is stored, which a worker process can import


def document_state(stored: StoredDocument) -> bytes:
    """The whole document as one v1 update. Raises ReplicaBroken."""
    return Replica.load(stored.state_updates()).state()


def document_json(stored: StoredDocument) -> bytes:
    """The values of a document's roots. Raises ReplicaBroken, BadUpdate."""
    return canonical_json(Replica.load(stored.state_updates()).values())


def document_problem(stored: StoredDocument) -> str | None:
    """What is wrong with a document whose rows are all in order; None if nothing is.

    Its updates follow from each other; the library makes of them the state vector that they say; the log that the
    snapshot covers adds nothing to it; and a snapshot made of it all gives the same document.
    """
    try:
        expected = _state_vector_of(stored)
        replica = Replica.load(stored.state_updates())
        if replica.state_vector() != expected:
            return "the document has another state vector than its updates"
        before = replica.values()
        replica.apply(update for entry in stored.entries for update in entry.updates)
        if replica.state_vector() != expected or replica.values() != before:
            return "the snapshot lacks something of the log that it covers"
        verified_snapshot(stored, 0)
    except (BadUpdate, ReplicaBroken, CompactionError) as exc:
        return str(exc)
    return None


def _state_vector_of(stored: StoredDocument) -> StateVector:
    """What the updates say that they make, read without the library. Raises BadUpdate where one does not fit."""
    known: StateVector = {}
    for data in stored.state_updates():
        update = read_update(data)
        if (missing := update.missing(known)) is not None:
            raise BadUpdate("malformed", f"an update builds on {missing.client}:{missing.clock}, which is not there")
        update.advance(known)
    return known


def _info_values(info: DocumentInfo) -> dict[str, Any]:
    return {
        "document": str(info.document),
        "head_seq": info.head_seq,
        "log_entries": info.log_entries,
        "log_bytes": info.log_bytes,
        "snapshot_seq": info.snapshot_seq,
        "snapshot_bytes": info.snapshot_bytes,
        "quarantine": info.quarantine,
    }


def _device_values(info: DeviceInfo) -> dict[str, Any]:
    return {
        "device": str(info.device),
        "agent": info.agent,
        "first_seen_ms": info.first_seen_ms,
        "last_seen_ms": info.last_seen_ms,
        "revoked_ms": info.revoked_ms,
    }


def _parse_devices(texts: list[Any]) -> list[DeviceId]:
    return list(dict.fromkeys(map(_parse_device, texts)))


def _parse_device(text: Any) -> DeviceId:
    match str(text).split("/"):
        case [user, name] if is_name(user) and is_name(name):
            return DeviceId(user, name)
        case _:
            raise OperationRefused(f"{text!r} is not a device: write user/device")


def _parse(document: str) -> DocumentId:
    try:
        return DocumentId.parse(document)
    except ValueError as exc:
        raise OperationRefused(str(exc)) from exc


def _parse_own_device(device: str, document: str) -> DeviceId:
    """`user/device`, or the device alone of the document's owner."""
    return _parse_device(device if "/" in device else f"{_parse(document).owner}/{device}")

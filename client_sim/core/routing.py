"""Which document a frame of the server is for, and what becomes of one with which the server gets nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias, assert_never

from client_sim.core.backoff import Backoff
from client_sim.core.context import Context
from client_sim.core.document import Document
from client_sim.core.documents import Documents
from client_sim.core.effects import Problem
from client_sim.core.reasons import DEFECT
from client_sim.core.status import Phase
from crdt.protocol.frames import SERVER_REF, Ack, Audited, Chunk, Cursor, Delta, DevicePresence, Error, Opened

DocumentFrame: TypeAlias = Opened | Delta | Ack | Chunk | Audited | DevicePresence

VAIN_MAX = 8
"""How often in a row a document asks again because of what the server says, without anything having moved."""


class _Standing(NamedTuple):
    """What moves when a document and its server get anywhere."""

    acked_op: int
    cursor: Cursor | None

    @classmethod
    def of(cls, document: Document) -> _Standing:
        return cls(document.copy.progress.acked.op, document.copy.cursor)


class _Patience:
    """With the server, for one document on one connection."""

    def __init__(self, context: Context) -> None:
        self.backoff = Backoff(context.rng)
        self.vain = 0


class Router:
    """Hands frames to documents. One that asks again and again in vain leaves, and comes back after the backoff."""

    def __init__(self, context: Context, documents: Documents) -> None:
        self._context = context
        self._documents = documents
        self._patience: dict[str, _Patience] = {}

    def disconnected(self) -> None:
        """How soon there is another connection is the line's affair."""
        self._patience = {}

    def deliver(self, frame: DocumentFrame, now: float) -> None:
        """Let its document have it; nobody, if the app or a refusal closed it in the meantime. Raises Forked."""
        document = next((document for document in self._documents.all() if _is_for(document, frame)), None)
        if document is None:
            return
        with self._minding(document, now):
            _hand_over(document, frame, now)

    def refuse(self, error: Error, now: float) -> bool:
        """Let the document have it that the ERROR is about. False if it is about the connection."""
        document = next((document for document in self._documents.all() if _is_answered_by(document, error)), None)
        if document is None:
            return False
        with self._minding(document, now):
            document.on_error(error, now)
        return True

    @contextmanager
    def _minding(self, document: Document, now: float) -> Iterator[None]:
        before, asked_bytes = _Standing.of(document), self._context.asked_bytes
        yield
        if _Standing.of(document) != before:
            self._patience.pop(document.name, None)
        elif self._context.asked_bytes != asked_bytes:
            self._in_vain(document, now)

    def _in_vain(self, document: Document, now: float) -> None:
        patience = self._patience.setdefault(document.name, _Patience(self._context))
        patience.vain += 1
        if patience.vain > VAIN_MAX and document.phase not in (Phase.CLOSED, Phase.BLOCKED):
            patience.vain = 0
            self._context.emit(Problem(DEFECT, "the server's answers lead nowhere", document.name))
            document.leave()
            document.retry_at = now + patience.backoff.next_wait_s()


def _hand_over(document: Document, frame: DocumentFrame, now: float) -> None:
    match frame:
        case Opened():
            document.on_opened(frame, now)
        case Delta():
            document.on_delta(frame)
        case Ack():
            document.on_ack(frame, now)
        case Chunk():
            document.on_chunk(frame, now)
        case Audited():
            document.on_audited(frame)
        case DevicePresence():
            document.presence.heard(frame)
        case _:
            assert_never(frame)


def _is_for(document: Document, frame: DocumentFrame) -> bool:
    return _is_answered_by(document, frame) if isinstance(frame, Opened) else document.handle == frame.handle


def _is_answered_by(document: Document, answer: Opened | Error) -> bool:
    """True if this document asked for it, or holds the handle that the server names of its own accord."""
    if answer.ref is not None and answer.ref != SERVER_REF:
        return answer.ref == document.ref
    return document.handle is not None and answer.handle == document.handle

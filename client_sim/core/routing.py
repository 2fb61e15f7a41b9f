"""Which document a frame of the server is for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, assert_never

from client_sim.core.document import Document
from crdt.protocol.frames import SERVER_REF, Ack, Audited, Chunk, Delta, DevicePresence, Error, Opened

DocumentFrame: TypeAlias = Opened | Delta | Ack | Chunk | Audited | DevicePresence


def answered_by(documents: Iterable[Document], error: Error) -> Document | None:
    """The document that an ERROR is about; None if it is about the connection."""
    return next((document for document in documents if _is_answered_by(document, error)), None)


def deliver(documents: Iterable[Document], frame: DocumentFrame, now: float) -> None:
    """Let its document have the frame; nobody, if the app or a refusal closed it in the meantime. Raises Forked."""
    document = next((document for document in documents if _is_for(document, frame)), None)
    if document is None:
        return
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

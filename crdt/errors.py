"""What a peer can do wrong. Our own mistakes are assertions, trouble with disks and networks are events."""

from __future__ import annotations

from typing import Any

from crdt.protocol.codes import Code


class PeerError(Exception):
    """The peer sent what it must not. `code` decides the error frame and the close code.

    `message` is for a human reader and carries no content of a document. `detail` is what the device needs to go on.
    """

    def __init__(self, code: Code, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross from worker processes."""
        return _peer_error, (type(self), self.code, self.message, self.detail)


def _peer_error(kind: type[PeerError], code: Code, message: str, detail: dict[str, Any]) -> PeerError:
    error = kind.__new__(kind)
    PeerError.__init__(error, code, message, **detail)
    return error


class BadUpdate(PeerError):
    """An update that is not one: `reason` is `malformed`, `limit` or `unsupported`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(Code.BAD_UPDATE, message, reason=reason)


class ReplicaBroken(Exception):
    """The CRDT library failed inside a replica, which may be half changed: drop it and load it again."""

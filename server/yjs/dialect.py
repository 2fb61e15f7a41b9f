"""What Hocuspocus says beyond y-protocols, and what both call the ends of things."""

from __future__ import annotations

from typing import Final, Protocol

from crdt.protocol.codes import CLOSE, Code
from crdt.protocol.frames import Access
from server.yjs import messages

REASON_BYTES_MAX: Final = 123
"""What a WebSocket close frame has room for."""

_TRY_AGAIN_LATER: Final = 1013
_CLOSES: Final[dict[Code, int]] = CLOSE | {
    Code.RATE_LIMITED: _TRY_AGAIN_LATER,
    Code.NOT_SAVED: _TRY_AGAIN_LATER,
    Code.FORBIDDEN: 4403,
    Code.DOC_QUARANTINED: 4423,
}


def close_code_of(code: str) -> int:
    """With which close code an error ends a document. From 4400 to 4499 clients do not come back by themselves."""
    return _CLOSES.get(Code(code), CLOSE[Code.BAD_FRAME])


def is_final(close_code: int) -> bool:
    """To come back makes no sense as long as nothing has changed."""
    return 4400 <= close_code < 4500


def reason_of(code: str, message: str) -> str:
    """What a close frame says."""
    reason = f"{code}: {message}" if message else code
    return reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")


class Dialect(Protocol):
    """What differs; what is said is None where there is nothing to say."""

    kinds: range
    """Of messages that its clients send."""
    has_texts: bool
    """Its clients know stateless messages."""

    def opened(self, access: Access) -> bytes | None: ...
    def saved(self, *, is_saved: bool) -> bytes | None:
        """One update is durable, or was not taken."""
        ...

    def read_only(self) -> bytes | None: ...
    def token_ends(self) -> bytes | None: ...


class YWebsocket:
    """y-protocols, and nothing else."""

    kinds = messages.Y_PROTOCOLS_KINDS
    has_texts = False

    def opened(self, access: Access) -> bytes | None:
        return None

    def saved(self, *, is_saved: bool) -> bytes | None:
        return None

    def read_only(self) -> bytes | None:
        return messages.refused("the document is read-only for you")

    def token_ends(self) -> bytes | None:
        return None


class Hocuspocus:
    """Tokens, statuses and stateless messages as well."""

    kinds = messages.HOCUSPOCUS_KINDS
    has_texts = True

    def opened(self, access: Access) -> bytes | None:
        return messages.authenticated("read-write" if access is Access.WRITE else "readonly")

    def saved(self, *, is_saved: bool) -> bytes | None:
        return messages.sync_status(saved=is_saved)

    def read_only(self) -> bytes | None:
        return None

    def token_ends(self) -> bytes | None:
        return messages.token_wanted()

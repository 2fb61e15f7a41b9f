"""The sizes that a server accepts. WELCOME names those that differ from the defaults here."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one device may send, in bytes or in counts. The defaults are part of protocol 1.0."""

    message_bytes: int = 4 << 20
    """One WebSocket message after HELLO."""
    hello_bytes: int = 256 << 10
    """One WebSocket message before the token was verified."""
    update_bytes: int = 1 << 20
    """One update (one op)."""
    inflated_bytes: int = 16 << 20
    """A deflated list of updates, once inflated."""
    updates_per_push: int = 10_000
    opens_per_hello: int = 64
    documents_per_session: int = 256
    state_vector_bytes: int = 256 << 10
    presence_bytes: int = 4 << 10
    report_bytes: int = 4 << 10
    token_bytes: int = 8 << 10
    document_bytes: int = 16 << 20
    """All updates of one document, as they are stored."""

    def differing(self) -> dict[str, int]:
        """The limits that are not the documented defaults, by name."""
        return {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}


_DEFAULTS = asdict(Limits())

DEFLATE_FROM_BYTES = 128
"""Lists of updates at least this long are deflated where both ends agreed to it: what half a minute of typing makes,
not a keystroke, of which nothing would be left out."""

CHUNK_BYTES = 64 << 10
"""A catch-up answer longer than this travels in CHUNK frames of this size."""

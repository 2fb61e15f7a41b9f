"""Every error code of the protocol, with its close code and what the device should do about it."""

from __future__ import annotations

from enum import StrEnum


class Retry(StrEnum):
    """When sending the same again makes sense."""

    NEVER = "never"
    NOW = "now"
    LATER = "later"
    AFTER_AUTH = "after_auth"
    AFTER_RESYNC = "after_resync"


class Code(StrEnum):
    """The `code` of an ERROR frame, and the reason of a close."""

    BAD_FRAME = "bad_frame"
    UNSUPPORTED_VERSION = "unsupported_version"
    AUTH_TIMEOUT = "auth_timeout"
    BAD_TOKEN = "bad_token"
    TOKEN_EXPIRED = "token_expired"
    REPLAYED = "replayed"
    DEVICE_REVOKED = "device_revoked"
    FORBIDDEN = "forbidden"
    SUPERSEDED = "superseded"
    DEVICE_FORKED = "device_forked"
    TOO_BIG = "too_big"
    RATE_LIMITED = "rate_limited"
    OP_GAP = "op_gap"
    MISSING_DEPS = "missing_deps"
    BAD_UPDATE = "bad_update"
    TOO_EXPENSIVE = "too_expensive"
    BAD_STATE = "bad_state"
    NOT_SAVED = "not_saved"
    DOC_QUARANTINED = "doc_quarantined"
    RESET_REQUIRED = "reset_required"
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"

    @property
    def retry(self) -> Retry:
        """What a device that got this code does next."""
        return _RETRY.get(self, Retry.NEVER)


CLOSE: dict[Code, int] = {
    Code.BAD_FRAME: 4400,
    Code.UNSUPPORTED_VERSION: 4406,
    Code.AUTH_TIMEOUT: 4401,
    Code.BAD_TOKEN: 4401,
    Code.TOKEN_EXPIRED: 4401,
    Code.REPLAYED: 4401,
    Code.DEVICE_REVOKED: 4403,
    Code.SUPERSEDED: 4409,
    Code.TOO_BIG: 4413,
    Code.OVERLOADED: 1013,
    Code.SHUTTING_DOWN: 1012,
    Code.INTERNAL: 1011,
}
"""Codes that end the connection at once, with their WebSocket close codes."""

CLOSE_AFTER_OFFENCES: dict[Code, int] = {
    Code.BAD_UPDATE: 4400,
    Code.TOO_EXPENSIVE: 4400,
    Code.BAD_STATE: 4400,
    Code.RATE_LIMITED: 4429,
}
"""Codes that end the connection once a session has earned OFFENCES_MAX of them (or as many as its server allows), and
at once before WELCOME.
"""

OFFENCES_MAX = 3

_RETRY: dict[Code, Retry] = {
    Code.AUTH_TIMEOUT: Retry.AFTER_AUTH,
    Code.BAD_TOKEN: Retry.AFTER_AUTH,
    Code.TOKEN_EXPIRED: Retry.AFTER_AUTH,
    Code.REPLAYED: Retry.AFTER_AUTH,
    Code.RATE_LIMITED: Retry.LATER,
    Code.OP_GAP: Retry.AFTER_RESYNC,
    Code.MISSING_DEPS: Retry.AFTER_RESYNC,
    Code.BAD_STATE: Retry.AFTER_RESYNC,
    Code.NOT_SAVED: Retry.NOW,
    Code.OVERLOADED: Retry.LATER,
    Code.SHUTTING_DOWN: Retry.LATER,
    Code.INTERNAL: Retry.LATER,
}

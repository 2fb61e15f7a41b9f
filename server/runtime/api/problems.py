"""What went wrong, as HTTP tells it: a status, and a JSON body with the protocol's code (RFC 9457)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from starlette.responses import Response

from crdt.protocol.codes import Code
from crdt.protocol.frames import Error

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""Where the server does not say when to come back."""

STATUS: Final[Mapping[Code, HTTPStatus]] = {
    Code.AUTH_TIMEOUT: HTTPStatus.UNAUTHORIZED,
    Code.BAD_TOKEN: HTTPStatus.UNAUTHORIZED,
    Code.TOKEN_EXPIRED: HTTPStatus.UNAUTHORIZED,
    Code.REPLAYED: HTTPStatus.UNAUTHORIZED,
    Code.DEVICE_REVOKED: HTTPStatus.FORBIDDEN,
    Code.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.BAD_STATE: HTTPStatus.BAD_REQUEST,
    Code.MISSING_DEPS: HTTPStatus.CONFLICT,
    Code.BAD_UPDATE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TOO_EXPENSIVE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TOO_BIG: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.DOC_QUARANTINED: HTTPStatus.LOCKED,
    Code.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.OP_GAP: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.NOT_SAVED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.SHUTTING_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Of the codes that a request can meet; any other is a defect of ours."""

_COMES_BACK: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(slots=True)
class Problem(Exception):
    """Ends a request. `code` is one of the protocol's, or one of docs/HTTP.md."""

    status: HTTPStatus
    code: str
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """To come back later makes sense."""
        return self.status in _COMES_BACK

    def body(self) -> dict[str, Any]:
        return {
            "title": self.status.phrase,
            "status": int(self.status),
            "code": self.code,
            "detail": self.message,
            **{name: _told(value) for name, value in self.detail.items()},
        }

    def response(self) -> Response:
        return Response(
            json.dumps(self.body()), self.status, {"Cache-Control": "no-store"} | dict(self.headers), MEDIA_TYPE
        )  # fmt: skip


def problem_of(error: Error) -> Problem:
    """What the hub refused, and when to come back."""
    code = Code(error.code)
    status = STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    headers: dict[str, str] = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    if status in _COMES_BACK:
        after_s = RETRY_AFTER_S if error.retry_after_ms is None else ceil(error.retry_after_ms / 1000)
        headers["Retry-After"] = str(max(RETRY_AFTER_S, after_s))
    detail = {_NAMES[name]: value for name, value in (error.detail or {}).items() if name in _NAMES}
    return Problem(status, code, error.message, detail, headers)


_NAMES: Final = {"sv": "state_vector", "reason": "reason"}
"""Of what an error has beyond its text: op numbers are not the client's."""


def to_base64url(data: bytes) -> str:
    """Without padding, as in headers and problems."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """With padding or without. Raises ValueError."""
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)


def _told(value: Any) -> Any:
    return to_base64url(value) if isinstance(value, bytes) else value

"""Which WebSockets that another ASGI server is asked for are let in: as `Handshake` decides it for our own port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeAlias

from starlette.types import Scope
from websockets.datastructures import Headers
from websockets.http11 import Request

from crdt.protocol.frames import PATH, SUBPROTOCOL
from server.runtime.handshake import retry_after_s, secrets
from server.runtime.lobby import peer_address
from server.runtime.transport import Entrance, Shared
from server.runtime.wire import ANY_ORIGIN, YJS_SUBPROTOCOL, bearer_token, offered_token

_LOCAL: Final = ("127.0.0.1", 0)
"""Who comes through a socket that has no addresses."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Let in. `token` is the one that came with the request, if one did."""

    is_yjs: bool
    subprotocol: str | None
    token: str | None
    address: str


@dataclass(frozen=True, slots=True)
class Refusal:
    status: HTTPStatus
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


Admission: TypeAlias = Entry | Refusal


def admitted(path: str, scope: Scope, shared: Shared, entrance: Entrance) -> Admission:
    """`path` is that of the request below where the app is mounted."""
    is_yjs = entrance.takes(path)
    if path != PATH and not is_yjs:
        return Refusal(HTTPStatus.NOT_FOUND, "There is no WebSocket here.\n")
    headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
    found = secrets(scope["query_string"].decode("latin-1"))
    if found and not entrance.may_have_token(path):
        return Refusal(HTTPStatus.BAD_REQUEST, "A token does not belong in a URL: others log those. Use a header.\n")
    if not _is_from(headers.get_all("Origin"), shared.options.origins):
        return Refusal(HTTPStatus.FORBIDDEN, "That origin may not connect.\n")
    address = peer_address(tuple(scope.get("client") or _LOCAL))
    if not shared.sockets.has_room(address):
        after_s = retry_after_s(shared.counters)
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "There is no room now.\n", {"Retry-After": str(after_s)})
    request = Request(path, headers)
    offered, ours = scope.get("subprotocols", []), YJS_SUBPROTOCOL if is_yjs else SUBPROTOCOL
    if offered and ours not in offered and not is_yjs:
        return Refusal(HTTPStatus.BAD_REQUEST, f"The subprotocol is {SUBPROTOCOL}.\n")
    token = bearer_token(request)
    if is_yjs:
        token = token or offered_token(request) or next(iter(found), None)
    return Entry(is_yjs, ours if ours in offered else None, token, address)


def path_below(scope: Scope) -> str:
    """The path of a request, below where the app is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(root + "/") or path == root else path


def _is_from(origins: list[str], allowed: tuple[str, ...]) -> bool:
    """Native apps send no origin."""
    return not origins or ANY_ORIGIN in allowed or (len(origins) == 1 and origins[0] in allowed)

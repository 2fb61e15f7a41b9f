"""The routes of docs/HTTP.md: what is asked for, and how it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final, TypeAlias

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crdt.limits import Limits
from crdt.protocol.codes import Code
from server.runtime.api.answers import Answers
from server.runtime.api.batch import BATCH_BODY_BYTES_MAX, Asked, read_batch
from server.runtime.api.description import DESCRIPTION
from server.runtime.api.documents import Documents, etag, is_known
from server.runtime.api.problems import Problem, from_base64url, problem_of, to_base64url
from server.runtime.api.values import Values
from server.runtime.handshake import SECRETS
from server.runtime.visits import Refused, Visit, Visits, refused
from server.runtime.worker import Worker

JSON: Final = "application/json"
UPDATE: Final = "application/octet-stream"
STATE_VECTOR: Final = "Syncline-State-Vector"
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
KEY_CHARS_MAX: Final = 255
BODY_S: Final = 20.0
"""For the whole body of a request."""
REQUEST_S: Final = 30.0
"""From the request's head to the answer's, with its body."""

_KEPT: Final = {"Cache-Control": "private, no-cache", "Vary": f"Authorization, Accept, {STATE_VECTOR}"}
"""Whoever keeps an answer asks, before each use, whether it is still the latest."""

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Api:
    """The endpoints, on the visits of one driver."""

    def __init__(self, visits: Visits, worker: Worker, limits: Limits, count: Callable[[int], None]) -> None:
        """`count` is told the status of each answer."""
        self._visits = visits
        self._count = count
        self._limits = limits
        self._documents = Documents(Values(worker))
        self._answers = Answers()

    def routes(self) -> list[Route]:
        get, push = self._bounded(self.get), self._bounded(self.push)
        return [
            Route("/v1/openapi.json", describe),
            Route("/v1/docs:batch", self._bounded(self.batch), methods=["POST"]),
            Route("/v1/docs/{name}/updates", push, methods=["POST"]),
            Route("/v1/docs/{owner}/{name}/updates", push, methods=["POST"]),
            Route("/v1/docs/{name}", get, methods=["GET"]),
            Route("/v1/docs/{owner}/{name}", get, methods=["GET"]),
        ]

    async def get(self, request: Request) -> Response:
        known, name = _state_vector(request), _document(request)
        as_update = _wants_update(request)
        async with self._visit(request) as visit:
            opened = await self._documents.head(visit, name)
            if is_known(opened.cursor, request.headers.get("If-None-Match")):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_KEPT | {"ETag": etag(opened.cursor)})
            if as_update:
                difference = await self._documents.difference(visit, opened, known)
                told = {"ETag": etag(difference.cursor), STATE_VECTOR: to_base64url(difference.state_vector)}
                return self._answers.answer(difference.update, UPDATE, _KEPT | told)
            reading = await self._documents.values(visit, name, opened)
        body = reading.chosen(request.query_params.getlist("root") or None)
        return self._answers.answer(body, JSON, _KEPT | {"ETag": etag(reading.cursor)})

    async def push(self, request: Request) -> Response:
        name, key = _document(request), request.headers.get(IDEMPOTENCY_KEY)
        if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
            raise _bad_request(f"{IDEMPOTENCY_KEY} has 1 to {KEY_CHARS_MAX} characters")
        _check_type(request, UPDATE)
        async with self._visit(request) as visit:
            update = await _body_of(request, self._limits.update_bytes)
            pushed = await self._documents.push(visit, name, update, key)
        tag = etag(pushed.cursor)
        return JSONResponse(
            {"seq": pushed.seq, "changed": pushed.seq > 0, "etag": tag},
            headers={"ETag": tag, "Cache-Control": "no-store"},
        )

    async def batch(self, request: Request) -> Response:
        _check_type(request, JSON)
        async with self._visit(request) as visit:
            asked = read_batch(await _body_of(request, BATCH_BODY_BYTES_MAX))
            body = await Asked(self._documents, visit).answers(asked)
        return self._answers.answer(body, JSON, {"Cache-Control": "no-store"})

    def _visit(self, request: Request) -> AbstractAsyncContextManager[Visit]:
        return self._visits.visit(_token(request), "http")

    def _bounded(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, within `REQUEST_S`, and with an answer for whatever it raises of a request's own fault."""

        async def bounded(request: Request) -> Response:
            try:
                async with asyncio.timeout(REQUEST_S):
                    answer = await endpoint(request)
            except TimeoutError:
                answer = problem_of(refused(Code.OVERLOADED, "there was no answer in time").error).response()
            except Refused as exc:
                answer = problem_of(exc.error).response()
            except Problem as exc:
                answer = exc.response()
            except ClientDisconnect:
                answer = Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody gets it
            self._count(answer.status_code)
            return answer

        return bounded


async def describe(request: Request) -> Response:
    """The OpenAPI description, as seen from where the app is mounted."""
    servers = [{"url": request.scope.get("root_path", "") or "/"}]
    return JSONResponse(DESCRIPTION | {"servers": servers}, headers={"Cache-Control": "no-cache"})


def _token(request: Request) -> str:
    """Of the one Authorization header. Raises Problem: a session without one would be refused as well."""
    if any(name.lower() in SECRETS for name in request.query_params):
        raise _bad_request("a token does not belong in a URL: others log those")
    match request.headers.getlist("Authorization"):
        case [value] if value[:7].lower() == "bearer ":
            return value[7:].strip()
        case _:
            headers = {"WWW-Authenticate": "Bearer"}
            raise Problem(HTTPStatus.UNAUTHORIZED, Code.BAD_TOKEN, "send Authorization: Bearer", headers=headers)


def _document(request: Request) -> str:
    """As the protocol names it; what is no name is refused where all names are."""
    owner, name = request.path_params.get("owner"), request.path_params["name"]
    return name if owner is None else f"{owner}/{name}"


def _wants_update(request: Request) -> bool:
    match request.query_params.get("format"):
        case None:
            is_json_alone = STATE_VECTOR not in request.headers and UPDATE not in request.headers.get("Accept", "")
            return not is_json_alone
        case "update":
            return True
        case "json":
            return False
        case _:
            raise _bad_request("format is json or update")


def _state_vector(request: Request) -> bytes:
    """What the client has; nothing by default."""
    try:
        return from_base64url(request.headers.get(STATE_VECTOR, "AA"))
    except ValueError as exc:
        raise Problem(HTTPStatus.BAD_REQUEST, Code.BAD_STATE, f"{STATE_VECTOR} is no base64url") from exc


def _check_type(request: Request, expected: str) -> None:
    given = request.headers.get("Content-Type", expected).partition(";")[0].strip().lower()
    if given != expected:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "bad_request", f"the body is to be {expected}")


async def _body_of(request: Request, bytes_max: int) -> bytes:
    """Bounded while it is read, in bytes and time. Raises Problem: the rest goes with the connection, in its time."""
    too_big = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Code.TOO_BIG, f"a body has at most {bytes_max} bytes")
    length = request.headers.get("Content-Length", "0")
    if length.isdecimal() and int(length) > bytes_max:
        raise too_big
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > bytes_max:
                    raise too_big
    except TimeoutError as exc:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "too_slow", f"a body has {BODY_S:g} s to come") from exc
    return bytes(body)


def _bad_request(message: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_request", message)

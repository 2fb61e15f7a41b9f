"""Several documents in one call, each with an answer of its own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crdt.protocol.codes import Code
from crdt.values import canonical_json
from server.runtime.api.documents import Documents, etag, is_known
from server.runtime.api.problems import Problem, problem_of
from server.runtime.visits import Refused, Visit

BATCH_BODY_BYTES_MAX: Final = 256 << 10
DOCUMENTS_MAX: Final = 100
ANSWER_BYTES_MAX: Final = 8 << 20
"""Of values in one answer: documents that no longer fit are refused, and can be asked for by themselves."""
ROOTS_MAX: Final = 100


class Wanted(BaseModel):
    """One document of a batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    doc: str
    roots: Annotated[list[str], Field(max_length=ROOTS_MAX)] | None = None
    etag: str | None = None


class Batch(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    docs: Annotated[list[Wanted], Field(min_length=1, max_length=DOCUMENTS_MAX)]


def read_batch(body: bytes) -> list[Wanted]:
    """Raises Problem."""
    try:
        return Batch.model_validate_json(body).docs
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_request", f"{where}: {error['msg']}".lstrip(": ")) from exc


class Asked:
    """One batch, on one visit."""

    def __init__(self, documents: Documents, visit: Visit) -> None:
        self._documents = documents
        self._visit = visit
        self._bytes_left = ANSWER_BYTES_MAX
        self._over: Problem | None = None
        """Why nothing more is asked for: it would be refused for the same reason."""

    async def answers(self, wanted: list[Wanted]) -> bytes:
        """The JSON object of all answers, in order."""
        return b'{"docs":[' + b",".join([await self._answer(one) for one in wanted]) + b"]}"

    async def _answer(self, wanted: Wanted) -> bytes:
        problem = self._over
        if problem is None:
            try:
                return await self._read(wanted)
            except Refused as exc:
                problem = problem_of(exc.error)
            except Problem as exc:
                problem = exc
            if problem.passes:
                self._over = problem
        return canonical_json({"doc": wanted.doc, "problem": problem.body(), "status": int(problem.status)})

    async def _read(self, wanted: Wanted) -> bytes:
        """Raises Refused, Problem."""
        opened = await self._documents.head(self._visit, wanted.doc)
        try:
            if is_known(opened.cursor, wanted.etag):
                return _head(wanted, HTTPStatus.NOT_MODIFIED, etag(opened.cursor)) + b"}"
            reading = await self._documents.values(self._visit, wanted.doc, opened)
        finally:
            await self._documents.leave(self._visit, opened)
        values = reading.chosen(wanted.roots)
        if len(values) > self._bytes_left:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Code.TOO_BIG, "it does not fit: ask for it by itself")
        self._bytes_left -= len(values)
        return _head(wanted, HTTPStatus.OK, etag(reading.cursor)) + b',"values":' + values + b"}"


def _head(wanted: Wanted, status: HTTPStatus, tag: str) -> bytes:
    return canonical_json({"doc": wanted.doc, "etag": tag, "status": int(status)})[:-1]

"""Answers on their way to clients: how much of them may be in memory, and for how long."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from crdt.protocol.codes import Code
from server.runtime.visits import refused

UNSENT_BYTES_MAX: Final = 64 << 20
"""All answers together that are being sent."""
SLICE_BYTES: Final = 64 << 10
"""Sent at once: then the client has to have taken most of it."""
SENDING_S: Final = 60.0
"""A client that is slower does not get the rest."""


class Answers:
    """The answers of a server that are being sent."""

    def __init__(self) -> None:
        self._unsent_bytes = 0

    def answer(self, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
        """To be returned by the endpoint at once. Raises Refused where clients are too slow for more."""
        if self._unsent_bytes and self._unsent_bytes + len(body) > UNSENT_BYTES_MAX:
            raise refused(Code.OVERLOADED, "too much waits to be taken")
        self._unsent_bytes += len(body)
        return _Answer(self, body, media_type, headers)

    def sent(self, size: int) -> None:
        """An answer of so many bytes is out, or given up."""
        self._unsent_bytes -= size


class _Answer(Response):
    def __init__(self, answers: Answers, body: bytes, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Half of an answer ends the connection."""
        try:
            async with asyncio.timeout(SENDING_S):
                await self._send(send)
        except TimeoutError:
            structlog.get_logger("syncline").info("answer_given_up", bytes=len(self.body))
        finally:
            self._answers.sent(len(self.body))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for at in range(0, len(body), SLICE_BYTES):
            part = bytes(body[at : at + SLICE_BYTES])
            await send({"type": "http.response.body", "body": part, "more_body": at + SLICE_BYTES < len(body)})

"""Requests that read or write documents, each as a session of the hub that lives as long as it: an ephemeral device.

So a request is let in, checked, limited, slowed down, revoked and made durable as everything else is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from crdt.protocol.codec import decode_server_frame, encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import (
    PROTOCOL_VERSION,
    Ack,
    Chunk,
    DeviceFrame,
    Error,
    Hello,
    Opened,
    ServerFrame,
    Welcome,
)
from server.core import events
from server.core.effects import Publish
from server.core.events import Event, SessionId

WAIT_S: Final = 5.0
"""How long a request waits where its device has used up its share, or others come first."""

F = TypeVar("F", bound=ServerFrame)


class Refused(Exception):
    """The hub will not do it. `error` has one of the protocol's codes."""

    def __init__(self, error: Error) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


def refused(code: Code, message: str, retry_after_ms: int | None = None) -> Refused:
    return Refused(Error(None, None, code, message, code.retry, retry_after_ms))


class Visit:
    """One session. The driver tells it what the hub says; one task says something and waits for the answer.

    `say` and `hear` raise Refused. How long the whole may take is the caller's to bound.
    """

    def __init__(self, session: SessionId, feed: Callable[[Event], None]) -> None:
        self.session = session
        self.user = ""
        """Whose token it is, once that was verified."""
        self._feed = feed
        self._inbox: deque[ServerFrame] = deque()
        self._news = asyncio.Event()
        self._is_paused = self._awaits_drain = False
        self._closed_with: str | None = None

    # --- what the driver tells

    def told(self, frame: ServerFrame | None) -> None:
        """Updates of others are not for a request, and bounded is what it keeps."""
        if isinstance(frame, Welcome | Opened | Chunk | Ack | Error):
            self._inbox.append(frame)
            self._news.set()

    def close(self, code: int, reason: str) -> None:
        self._closed_with = reason
        self._news.set()

    def await_drain(self) -> None:
        self._awaits_drain = True

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._news.set()

    def give_back(self, messages: Sequence[bytes]) -> None:
        assert not messages, "they are told one by one"

    def accept_large_messages(self) -> None:
        """Requests are bounded before they come here."""

    # --- what the request does

    async def say(self, frame: DeviceFrame) -> None:
        """As soon as the hub reads from this session, which it does not while others come first."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._until(lambda: not self._is_paused)
        except TimeoutError as exc:
            code = Code.RATE_LIMITED if self.user else Code.OVERLOADED
            raise refused(code, "others come first", int(WAIT_S * 1000)) from exc
        self._feed(events.MessagesReceived(self.session, [encode(frame)]))

    async def hear(self, kind: type[F]) -> F:
        """The next frame of a kind. What comes before it answers nothing that still waits."""
        while True:
            frame = await self._next()
            if isinstance(frame, kind):
                return frame

    async def hear_chunk(self) -> Chunk:
        """The next one of an answer; no other comes meanwhile, unless the hub has given this one up."""
        frame = await self._next()
        if not isinstance(frame, Chunk):
            raise refused(Code.OVERLOADED, "the document was read anew meanwhile")
        self._drained()
        return frame

    async def _next(self) -> ServerFrame:
        await self._until(lambda: bool(self._inbox))
        frame = self._inbox.popleft()
        if isinstance(frame, Error):
            raise Refused(frame)
        return frame

    def _drained(self) -> None:
        """What there was is taken: the hub may read more."""
        if self._awaits_drain:
            self._awaits_drain = False
            self._feed(events.OutboxDrained(self.session))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._closed_with is not None:
                raise self._end(self._closed_with)
            self._news.clear()
            await self._news.wait()

    def _end(self, reason: str) -> Refused:
        for frame in self._inbox:
            if isinstance(frame, Error):
                return Refused(frame)
        return refused(Code(reason) if reason in list(Code) else Code.INTERNAL, "the session was ended")


class Visits:
    """All requests under way of one driver, by session."""

    def __init__(self, feed: Callable[[Event], None], new_session: Callable[[], SessionId]) -> None:
        self._feed = feed
        self._new_session = new_session
        self._visits: dict[SessionId, Visit] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def get(self, session: SessionId) -> Visit | None:
        return self._visits.get(session)

    @asynccontextmanager
    async def visit(self, token: str | None, agent: str) -> AsyncIterator[Visit]:
        """A session with a token's rights. Raises Refused."""
        visit = Visit(self._new_session(), self._feed)
        self._visits[visit.session] = visit
        self._feed(events.SocketOpened(visit.session, token, ephemeral=True))
        try:
            await visit.say(Hello(PROTOCOL_VERSION, "", "", agent))
            visit.user = (await visit.hear(Welcome)).user
            yield visit
        finally:
            del self._visits[visit.session]
            self._feed(events.SocketClosed(visit.session))

    def send(self, sessions: Sequence[SessionId], data: bytes) -> None:
        """One frame for these sessions, as far as they are requests."""
        for session in sessions:
            visit = self._visits.get(session)
            if visit is not None:
                visit.told(decode_server_frame(data))

    def publish(self, publish: Publish) -> None:
        """A commit's entries: of these a request is told of its own alone."""
        for session, acks in publish.acks.items():
            visit = self._visits.get(session)
            if visit is not None:
                for ack in acks.values():
                    visit.told(decode_server_frame(ack))

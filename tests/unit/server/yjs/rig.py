"""Yjs documents on a hub without sockets: a test plays the clients, storage answers when the test says so."""

from __future__ import annotations

from typing import Any

from crdt.limits import Limits
from crdt.replica import Replica
from server.core import events
from server.yjs import messages
from server.yjs.dialect import Dialect, Hocuspocus
from server.yjs.link import Link
from server.yjs.messages import Fragment
from server.yjs.upload import Uploads
from tests.unit.server.core.lab import Lab, token


class Client:
    """A Yjs client with one document: answers the server's step 1 as all do, and keeps what else it is told."""

    def __init__(
        self, lab: Lab, document: str = "main", *, user: str = "alice", device: str = "web",
        replica: Replica | None = None, dialect: Dialect | None = None, uploads: Uploads | None = None, **claims: Any,
    ) -> None:  # fmt: skip
        self.lab = lab
        self.link = Link(document, dialect or Hocuspocus(), uploads or Uploads(), Limits().presence_bytes)
        self.replica = replica or Replica()
        self.heard: list[bytes] = []
        self.answers = True
        """It answers when it is asked for its state."""
        lab.sessions += 1
        self.session = lab.sessions
        lab.inbox[self.session] = []
        lab.feed(events.SocketOpened(self.session, ephemeral=True))
        self.link.greet(token(user, device, **claims), "test")
        self.pump()

    def sync(self) -> None:
        self.say(messages.step_1(self.replica.state_vector_bytes()))
        self.lab.settle()
        self.pump()

    def say(self, *said: bytes) -> None:
        for message in said:
            self.link.receive(messages.read_message(message), len(message))
        self.pump()

    def push(self, update: bytes) -> None:
        """Take an update as the client's own, and send it."""
        self.replica.apply([update])
        self.say(messages.update_message(update))

    def leave(self) -> None:
        self.lab.disconnect(self.session)

    def settle(self) -> None:
        self.lab.settle()
        self.pump()

    def pump(self) -> None:
        """Carry what link and hub say to each other, and what the client is told."""
        while self.link.frames or self.lab.inbox[self.session] or self.link.out or self._may_go_on:
            if self._may_go_on:
                self.link.go_on()
            said, self.link.frames = self.link.frames, []
            if said and self.session not in self.lab.gone:
                self.lab.feed(events.MessagesReceived(self.session, said))
            told, self.lab.inbox[self.session] = self.lab.inbox[self.session], []
            for frame in told:
                self.link.told(frame)
            self._hear()
        if self.session in self.lab.closed:
            self.link.closed(*self.lab.closed[self.session])

    @property
    def _may_go_on(self) -> bool:
        return self.link.has_more and self.session not in self.lab.paused

    def _hear(self) -> None:
        out, self.link.out = self.link.out, []
        for message in out:
            if isinstance(message, Fragment):
                continue
            match messages.read_message(message):
                case messages.Changes(update, _):
                    self.replica.apply([update])
                case messages.StepOne(state_vector) if self.answers:
                    answer = messages.step_2(self.replica.diff(state_vector))
                    self.link.receive(messages.read_message(answer), len(answer))
                case _:
                    self.heard.append(message)

    @property
    def saved(self) -> int:
        """How many of its updates it was told to be on disk."""
        return self.heard.count(b"\x08\x01")

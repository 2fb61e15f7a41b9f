"""The device: one connection at a time, the documents on it, and what the app is told.

`handle` changes what must change, then compares what the app knew with what is: no status is told twice or forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from client_sim.core import events, greeting, naming
from client_sim.core.backoff import Backoff
from client_sim.core.catchup import Forked
from client_sim.core.context import Context
from client_sim.core.counters import Counters
from client_sim.core.document import Document
from client_sim.core.effects import (
    CloseConnection,
    Connect,
    DataWiped,
    Effect,
    FetchToken,
    Problem,
    StatusChanged,
)
from client_sim.core.login import Login
from client_sim.core.ports import DeviceStore, Identity, Randomness, Signer, StoreDamaged, StoreError
from client_sim.core.routing import DocumentFrame, answered_by, deliver
from client_sim.core.session import GREETING_S, NONCE_S, Session
from client_sim.core.status import CONNECTED, LINKS, Link, Phase, State, Status, move
from crdt.errors import PeerError
from crdt.ids import DocumentId
from crdt.protocol import codec
from crdt.protocol.codes import CLOSE, Code, Retry
from crdt.protocol.frames import (
    PROTOCOL_VERSION,
    Ack,
    Audited,
    Auth,
    Chunk,
    Delta,
    DevicePresence,
    Error,
    Expiring,
    GoAway,
    Hello,
    Nonce,
    Opened,
    Ping,
    Pong,
    Welcome,
)

EXPIRED_LOGIN = "expired_login"
OTHER_USER = "other_user"
STORE_FAILED = "store_failed"

AUTHENTICATE_AGAIN = 4401
REVOKED = CLOSE[Code.DEVICE_REVOKED]
TOO_LARGE = (CLOSE[Code.TOO_BIG], 1009)
DEFECTS = (CLOSE[Code.BAD_FRAME], *TOO_LARGE)
DEFECT_WAIT_S = 30.0
"""Close codes that mean a mistake in a program, which the next try will make again."""
GIVEN_UP = {
    CLOSE[Code.SUPERSEDED]: Code.SUPERSEDED,
    CLOSE[Code.UNSUPPORTED_VERSION]: Code.UNSUPPORTED_VERSION,
}
"""Close codes after which the device stays away until the app asks, with the reason that the app sees."""


class Device:
    """One device of a user, with `store` as its own. A new store's device is called `name`.

    A device that has a clone takes another name, which its store keeps: `name` here is the present one, as it has to
    be in its tokens. The app may go on giving the old one.
    """

    def __init__(
        self,
        name: str,
        store: DeviceStore,
        rng: Randomness,
        *,
        key: Signer | None = None,
        agent: str = "syncline-python/0.1",
    ) -> None:
        """Raises StoreError and StoreDamaged, the latter also for a store that is another device's."""
        self.documents: dict[str, Document] = {}
        self._given_name = name
        self._agent = agent
        self._store = store
        self._context = Context(store, rng)
        self._backoff = Backoff(rng)
        self._link = Link.IDLE
        self._reason: str | None = None
        self._session = Session()
        self._login = Login(key)
        self._not_before = 0.0
        self._retry_at: float | None = None
        self._told: dict[str | None, Status] = {}
        self.name, self.user = self._claim_store()

    def _claim_store(self) -> Identity:
        identity = self._store.identity()
        if identity is None:
            identity = Identity(self._given_name, None)
            with self._store.transaction():
                self._store.save_identity(identity)
        if not naming.is_same_device(self._given_name, identity.device):
            raise StoreDamaged(f"this store belongs to the device {identity.device!r}, not to {self._given_name!r}")
        return identity

    # --- what the app reads

    @property
    def counters(self) -> Counters:
        return self._context.counters

    @property
    def link(self) -> Link:
        return self._link

    @property
    def status(self) -> Status:
        match self._link:
            case Link.IDLE | Link.WAITING:
                return Status(State.OFFLINE, self._reason)
            case Link.FETCHING | Link.CONNECTING | Link.UPGRADED | Link.GREETING:
                return Status(State.CONNECTING)
            case Link.STOPPED:
                return Status(State.BLOCKED, self._reason)
            case Link.OPEN:
                syncing = any(document.status().state is State.SYNCING for document in self.documents.values())
                return Status(State.SYNCING if syncing else State.CURRENT)
            case _:
                assert_never(self._link)

    def document(self, name: str) -> Document:
        """A document that was opened. Raises KeyError."""
        return self.documents[self._key(name)]

    def next_deadline(self) -> float | None:
        """When to feed TimePassed, by the clock of `now`; None if only something else can happen."""
        deadlines = [document.retry_at for document in self.documents.values() if document.retry_at is not None]
        if self._link is Link.WAITING and self._retry_at is not None:
            deadlines.append(self._retry_at)
        if self._link in CONNECTED and (due := self._session.deadline()) is not None:
            deadlines.append(due)
        return min(deadlines, default=None)

    # --- events

    def handle(self, event: events.Event, now: float) -> list[Effect]:
        """What to do about `event`. `now` is in seconds, of any clock that never goes back.

        Edited, OpenRequested and Unblocked raise StoreError and StoreDamaged; the others make StoreError a Problem.
        """
        match event:
            case (
                events.OpenRequested() | events.CloseRequested() | events.Edited()
                | events.PresenceSet() | events.AuditRequested() | events.Unblocked()
            ):  # fmt: skip
                self._handle_app(event, now)
            case _:
                self._handle_driver(event, now)
        self._tell(now)
        return self._context.take_effects()

    def _handle_app(self, event: events.DocumentEvent, now: float) -> None:
        match event:
            case events.OpenRequested(name):
                self._open(self._key(name))
            case events.CloseRequested(name):
                document = self.documents.pop(self._key(name))
                document.leave()
                self._told.pop(document.name, None)
            case events.Edited(name, change):
                self.document(name).edit(change, now)
            case events.PresenceSet(name, payload):
                self.document(name).set_presence(payload)
            case events.AuditRequested(name):
                self.document(name).audit()
            case events.Unblocked(name):
                self.document(name).unblock(now)
                self._open_closed()
            case _:
                assert_never(event)

    def _handle_driver(self, event: events.LinkEvent, now: float) -> None:
        try:
            self._handle_link(event, now)
        except PeerError as exc:
            self._context.emit(Problem(exc.code, exc.message))
            self._drop(CLOSE.get(exc.code, CLOSE[Code.BAD_FRAME]), exc.code, now)
        except StoreError as exc:
            self._context.emit(Problem(STORE_FAILED, str(exc)))
            self._drop(1000, STORE_FAILED, now)

    def _handle_link(self, event: events.LinkEvent, now: float) -> None:
        match event:
            case events.Started() | events.Stopped() | events.NetworkBack():
                self._on_wish(event, now)
            case events.TokenFetched(device, token):
                if device == self.name:
                    self._on_token(token, now)
            case events.TokenFailed(device, reason, refused):
                if device == self.name:
                    self._on_token_failed(reason, now, refused=refused)
            case events.ConnectionMade():
                self._on_upgraded(now)
            case events.ConnectionLost(code, reason):
                self._on_lost(code, reason, now)
            case events.MessageReceived(data):
                self._on_message(data, now)
            case events.TimePassed():
                self._on_time(now)
            case _:
                assert_never(event)

    # --- the link

    def _on_wish(self, event: events.Started | events.Stopped | events.NetworkBack, now: float) -> None:
        match event:
            case events.Started() if self._link in (Link.IDLE, Link.STOPPED, Link.WAITING):
                self._login.forgive()
                self._connect()
            case events.Stopped() if self._link is not Link.IDLE:
                self._hang_up(1000, "")
                self._go_down(Link.IDLE, None)
            case events.NetworkBack() if self._link is Link.WAITING:
                self._backoff.reset()
                if now >= self._not_before:
                    self._connect()
            case _:
                pass  # it is so already

    def _connect(self) -> None:
        self._retry_at = None
        if self._login.token is None:
            self._move(Link.FETCHING)
            self._context.emit(FetchToken(self.name))
        else:
            self._move(Link.CONNECTING)
            self._context.emit(Connect())

    def _on_token(self, token: str, now: float) -> None:
        self._session.token_fetched()
        if self._link is Link.FETCHING and self._login.is_refused(token):
            self._give_up(self._login_reason)
            return
        self._login.take(token, now)
        if self._link is Link.FETCHING:
            self._connect()
        elif self._link is Link.OPEN:
            self._context.send(Auth(token))
            for document in self.documents.values():
                if document.awaits_grant:
                    self._context.send(document.opening())

    def _on_token_failed(self, reason: str, now: float, *, refused: bool) -> None:
        self._context.emit(Problem(EXPIRED_LOGIN if refused else "token_failed", reason))
        self._session.token_failed(now)
        if self._link is Link.FETCHING:
            if refused:
                self._give_up(self._login_reason)
            else:
                self._wait(f"no token: {reason}", now)

    @property
    def _login_reason(self) -> str:
        """Why there is no token: the login is over, or it is not for what this device is called since it was cloned."""
        return EXPIRED_LOGIN if self.name == self._given_name else Code.DEVICE_FORKED

    def _on_upgraded(self, now: float) -> None:
        if self._login.needs_nonce:
            self._move(Link.UPGRADED)
            self._session = Session.greeting(now + NONCE_S)
        else:
            self._greet(None, now)

    def _greet(self, nonce: bytes | None, now: float) -> None:
        self._move(Link.GREETING)
        self._session = Session.greeting(now + GREETING_S)
        self._context.pushing = True
        token, options = self._login.token, {"deflate": True, **self._login.proof(nonce)}
        assert token is not None
        opens = greeting.opens(self.documents.values(), self._context.limits)
        self._context.send(Hello(PROTOCOL_VERSION, token, self.name, self._agent, options, opens))

    def _on_lost(self, code: int | None, reason: str, now: float) -> None:
        if code == AUTHENTICATE_AGAIN:
            self._login.refuse(reason)
        if code == REVOKED:
            self._wipe(now)
        elif code in GIVEN_UP:
            self._give_up(GIVEN_UP[code])
        else:
            if code in TOO_LARGE and self._link is Link.GREETING:  # its limits are known from WELCOME on
                self._context.limits = replace(self._context.limits, opens_per_hello=0)
            elif code in DEFECTS:
                self._stay_away(DEFECT_WAIT_S, now)
            how = "connection lost" if code is None else f"closed with {code}"
            self._wait(f"{how}: {reason}" if reason else how, now)

    def _drop(self, code: int, reason: str, now: float) -> None:
        """Hang up, and come back after a while."""
        self._hang_up(code, reason)
        if self._link not in (Link.IDLE, Link.STOPPED, Link.WAITING):
            self._wait(reason, now)

    def _hang_up(self, code: int, reason: str) -> None:
        if self._link is Link.CONNECTING or self._link in CONNECTED:
            self._context.emit(CloseConnection(code, reason))

    def _stay_away(self, seconds: float, now: float) -> None:
        """Whatever happens, do not connect again sooner than that, unless the app wants it."""
        self._not_before = max(self._not_before, now + seconds)

    def _wait(self, reason: str, now: float) -> None:
        self._go_down(Link.WAITING, reason)
        self._retry_at = now + self._backoff.next_wait_s(max(0.0, self._not_before - now))

    def _give_up(self, reason: str) -> None:
        self._go_down(Link.STOPPED, reason)

    def _go_down(self, link: Link, reason: str | None) -> None:
        self._reason = reason
        self._move(link)
        self._session = Session()
        for document in self.documents.values():
            document.disconnected()

    def _change_name(self, message: str, now: float) -> None:
        """Another device has this identity: take a new one, for all documents, and come back with what is pending."""
        identity = Identity(naming.renamed(self.name, self._context.rng.getrandbits(naming.SUFFIX_BITS)), self.user)
        with self._store.transaction():
            self._store.change_identity(identity)
        self._context.emit(Problem(Code.DEVICE_FORKED, f"{message}: {self.name} is {identity.device} from now on"))
        self.name = identity.device
        self._login.forget()
        for document in self.documents.values():
            document.lose_numbers()
        self.counters.forks += 1
        self._drop(1000, Code.DEVICE_FORKED, now)

    def _wipe(self, now: float) -> None:
        """The device was revoked: the app is told so, and nothing of the user stays here."""
        self._give_up(Code.DEVICE_REVOKED)
        self._login.forget()
        self._tell(now)
        with self._store.transaction():
            self._store.wipe()
        self.user = None
        for document in self.documents.values():
            document.forget()
        self._context.emit(DataWiped())

    def _on_time(self, now: float) -> None:
        if self._link is Link.WAITING and self._retry_at is not None and now >= self._retry_at:
            self._connect()
        if self._link is Link.UPGRADED and self._session.is_silent(now):
            self._greet(None, now)
        elif self._link in CONNECTED:
            self._keep_alive(now)
        if self._link is Link.OPEN:
            for document in self.documents.values():
                document.on_time(now)

    def _keep_alive(self, now: float) -> None:
        if self._session.is_silent(now):
            self._drop(1000, "silence", now)
            return
        if (n := self._session.ping_due(now)) is not None:
            self._context.send(Ping(n))
        if self._session.token_due(now):
            self._context.emit(FetchToken(self.name))

    # --- messages

    def _on_message(self, data: bytes, now: float) -> None:
        assert self._link in CONNECTED, f"a message while {self._link}"
        self._context.counters.bytes_down += len(data)
        self._session.heard(now)
        frame = codec.decode_server_frame(data)
        match frame:
            case Nonce(nonce) if self._link is Link.UPGRADED:
                self._greet(nonce, now)
            case None | Nonce() | Pong():
                pass
            case Welcome():
                self._on_welcome(frame, now)
            case Error():
                self._on_error(frame, now)
            case GoAway():
                self._stay_away(frame.retry_after_ms / 1000, now)
                self._context.pushing = False
            case Expiring():
                self._session.expires_in(frame.seconds, self._login.age_s(now), now)
                self._keep_alive(now)
            case Opened() | Delta() | Ack() | Chunk() | Audited() | DevicePresence():
                self._on_document_frame(frame, now)
            case _:
                assert_never(frame)

    def _on_document_frame(self, frame: DocumentFrame, now: float) -> None:
        if self._link is not Link.OPEN:
            raise codec.bad_frame("before WELCOME")
        try:
            deliver(self.documents.values(), frame, now)
        except Forked as exc:
            self._change_name(str(exc), now)

    def _on_welcome(self, welcome: Welcome, now: float) -> None:
        if self._link is not Link.GREETING:
            raise codec.bad_frame("WELCOME twice")
        if self.user not in (None, welcome.user):
            self._context.emit(Problem(OTHER_USER, f"this device's data is {self.user}'s, not {welcome.user}'s"))
            self._hang_up(1000, OTHER_USER)
            self._login.forget()
            self._give_up(OTHER_USER)
            return
        if self.user is None:
            with self._store.transaction():
                self._store.save_identity(Identity(self.name, welcome.user))
            self.user = welcome.user
        self._move(Link.OPEN)
        self._login.forgive()
        self._context.counters.connections += 1
        self._context.limits = self._session.welcomed(welcome, self._login.age_s(now), now)
        self._open_closed()

    def _on_error(self, error: Error, now: float) -> None:
        if error.code == Code.DEVICE_FORKED:
            self._change_name(error.message, now)
            return
        if document := answered_by(self.documents.values(), error):
            document.on_error(error, now)
            return
        self._context.emit(Problem.of(error))
        self._stay_away((error.retry_after_ms or 0) / 1000, now)
        if error.retry == Retry.AFTER_AUTH and self._link is Link.OPEN:
            self._session.token_refused(now)
            self._keep_alive(now)

    # --- documents

    def _open(self, name: str) -> None:
        if name not in self.documents:
            DocumentId.parse(name, self.user or "user")
            document = Document(self._context, name)
            assert document.copy is not None  # loads it: damage shows here
            self.documents[name] = document
        self._open_closed()

    def _open_closed(self) -> None:
        if self._link is Link.OPEN:
            for document in self.documents.values():
                if document.phase is Phase.CLOSED and document.retry_at is None:
                    self._context.send(document.opening())

    def _key(self, name: str) -> str:
        """One name for one document: the user's own go without their owner."""
        if name in self.documents:  # opened before the user was known
            return name
        owner, slash, rest = name.rpartition("/")
        return rest if slash and owner == self.user else name

    # --- telling

    def _tell(self, now: float) -> None:
        """Tell the app what changed, and note when all was current."""
        for name, document in self.documents.items():
            self._tell_one(name, document.status())
        status = self.status
        if status.state is State.CURRENT:
            self._backoff.reset()
            if self._told.get(None) != status:
                self.counters.current_at = now
        self._tell_one(None, status)

    def _tell_one(self, name: str | None, status: Status) -> None:
        if self._told.get(name) != status:
            self._told[name] = status
            self._context.emit(StatusChanged(name, status))

    def _move(self, link: Link) -> None:
        self._link = move(LINKS, self._link, link)

"""The device: one connection at a time, the documents on it, and what the app is told.

`handle` changes what must change, then compares what the app knew with what is: no status is told twice or forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from client_sim.core import events, greeting, identity, reasons
from client_sim.core.backoff import Brake, asked_s
from client_sim.core.catchup import Forked
from client_sim.core.context import Context
from client_sim.core.documents import Documents
from client_sim.core.effects import Connect, DataWiped, Effect, FetchToken, Problem
from client_sim.core.errand import Errand, Outcome
from client_sim.core.line import Line
from client_sim.core.login import Login
from client_sim.core.pacing import LEAD_S, Policy
from client_sim.core.ports import DeviceStore, Identity, Randomness, Signer, StoreDamaged, StoreError
from client_sim.core.radio import Radio
from client_sim.core.reporting import About, Reporter
from client_sim.core.routing import DocumentFrame, Router
from client_sim.core.session import GREETING_S, NONCE_S, Session
from client_sim.core.status import CONNECTED, Link, State
from client_sim.core.view import View
from crdt.errors import PeerError
from crdt.protocol import codec, frames
from crdt.protocol.codes import CLOSE, Code, Retry


class Device(View):
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
        about: About | None = None,
        agent: str = "syncline-python/0.1",
    ) -> None:
        """`about` is what it reports of itself. Raises StoreError, StoreDamaged, and StoreRefused: another's store."""
        self._given_name = name
        self._agent = agent
        self._store = store
        context = Context(store, rng)
        self._token_brake = Brake(rng)
        self._session = Session(self._token_brake)
        self._login = Login(key)
        self.name, user = identity.claim(store, name)
        super().__init__(context, Line(context), Documents(context, user))
        self._router = Router(context, self.documents)
        self._radio = Radio(self._context, self.documents, Reporter(about, self.counters))
        self._context.rebuilt(store.salvage())

    # --- events

    def next_deadline(self) -> float | None:
        """When to feed TimePassed, by the clock of `now`; None if only something else can happen."""
        errand = self._context.errand
        deadlines = [self.documents.next_retry(), errand.deadline if errand else None, self._line.deadline]
        if self._line.is_connected:
            deadlines += [self._session.deadline(), self._radio.keepalive.deadline()]
        if self._line.link is Link.OPEN:
            deadlines.append(self._radio.deadline())
        return min((due for due in deadlines if due is not None), default=None)

    def handle(self, event: events.Event, now: float) -> None:
        """Let it happen; `take_effects` then has what to do about it. `drive`, in its own module, does both.

        `now` is in seconds, of any clock that never goes back. Edited, OpenRequested, Pinned and Unblocked raise
        StoreError; for others it is a Problem. A damaged store is rebuilt, which is a Problem, too: then Edited, Pinned
        and Unblocked raise StoreError, and nothing is changed. Inside of an edit all raises EditUnderWay.
        """
        self._context.check_no_edit()
        is_done = False
        try:
            self._act(event, now)
            is_done = True
            self._follow(event, now)
        except StoreDamaged as exc:
            if self._mend(exc, now) and not is_done and isinstance(event, events.OpenRequested):
                self._act(event, now)
                self._follow(event, now)
            elif not is_done and isinstance(event, events.Stored):
                raise StoreError(f"the store was damaged: {exc}") from exc

    def take_effects(self) -> list[Effect]:
        """What is to be executed before anything else is handled, whether `handle` raised or not."""
        return self._context.take_effects()

    def _act(self, event: events.Event, now: float) -> None:
        if isinstance(event, events.DocumentEvent):
            self.documents.handle(event, now)
            if isinstance(event, events.CloseRequested):
                self._teller.forget([self.documents.key(event.document)])
        else:
            self._handle_driver(event, now)

    def _follow(self, event: events.Event, now: float) -> None:
        self._look_after(event, now)
        self._tell(now)
        self._mind_errand(now)
        self._rest_if_done(now)
        self._tell(now)

    def _handle_driver(self, event: events.LinkEvent, now: float) -> None:
        try:
            self._handle_link(event, now)
        except PeerError as exc:
            self._context.emit(Problem(exc.code, exc.message))
            detail = f"{exc.code}: {exc.message}"
            self._drop(CLOSE.get(exc.code, CLOSE[Code.BAD_FRAME]), reasons.DEFECT, detail, now, said=exc.code)
        except StoreError as exc:
            self._on_store_failed(exc, now)

    def _mend(self, damage: StoreDamaged, now: float) -> bool:
        """Rebuild the store from what can be read of it: all documents begin again. False if that fails now."""
        try:
            self._context.rebuilt(self._store.rebuild(str(damage)))
            self.documents.begin_again()
            self.name, self.documents.user = identity.claim(self._store, self._given_name)
        except StoreError as exc:
            self._on_store_failed(exc, now)
            return False
        self._drop(1000, reasons.STORE_REBUILT, str(damage), now)
        self._tell(now)
        return True

    def _on_store_failed(self, exc: StoreError, now: float) -> None:
        self._context.emit(Problem(reasons.STORE_FAILED, str(exc)))
        self._drop(1000, reasons.STORE_FAILED, str(exc), now)

    def _handle_link(self, event: events.LinkEvent, now: float) -> None:
        match event:
            case events.TokenFetched(device, token):
                if device == self.name:
                    self._on_token(token, now)
            case events.TokenFailed(device, reason, refused):
                if device == self.name:
                    self._on_token_failed(reason, now, refused=refused)
            case events.ConnectionMade():
                self._on_upgraded(now)
            case events.ConnectionLost():
                self._on_lost(event, now)
            case events.MessageReceived(data):
                self._on_message(data, now)
            case events.TimePassed():
                self._on_time(now)
            case _:
                self._on_wish(event, now)

    # --- the link

    def _on_wish(self, event: events.Wish, now: float) -> None:
        match event:
            case events.Started():
                self._on_started(now)
            case events.Stopped():
                self._stop(None)
            case events.Suspended():
                self._radio.send_what_waits(now)
                self._stop(reasons.SUSPENDED)
            case events.WindowOpened(within_s, bytes_max):
                self._context.errand = self._context.errand or Errand(within_s, bytes_max, self.counters, now)
                self._radio.send_what_waits(now)
                if self._line.link in (Link.IDLE, Link.WAITING) and self._line.may_connect(now):
                    self._connect(now)
            case events.PolicyChosen(policy, latency_s):
                self._context.pacing.choose(policy, latency_s)
                self._rise(now)
            case events.Hurried():
                self._radio.send_what_waits(now)
                self._rise(now)
            case events.NetworkBack():
                self._on_network_back(now)
            case events.NetworkChanged(network, metered):
                self._on_network_changed(network, metered, now)
            case _:
                assert_never(event)

    def _on_started(self, now: float) -> None:
        self._context.close_window(Outcome.RESUMED, self.pending(now), now)
        if self._line.link in (Link.IDLE, Link.STOPPED, Link.WAITING):
            self._login.forgive()
            self._connect(now)

    def _stop(self, reason: str | None) -> None:
        if self._line.link is not Link.IDLE:
            self._line.hang_up(1000, "")
            self._go_down(Link.IDLE, reason)

    def _on_network_back(self, now: float) -> None:
        self._ask_again(now)
        if self._line.link is Link.WAITING and self._line.reason != reasons.RESTING:
            self._line.try_soon()
            if self._line.may_connect(now):
                self._connect(now)
        self._radio.keepalive.doubt(now)

    def _ask_again(self, now: float) -> None:
        """The app has done something: another token may be taken where the last ones were not."""
        if self._line.link is Link.STOPPED and self._login.is_hopeless:
            self._on_started(now)

    def _on_network_changed(self, network: str | None, metered: bool, now: float) -> None:
        """What was up on another network is dead, though nobody says so."""
        moved = network != self._radio.keepalive.network
        self._context.pacing.metered = metered
        self._radio.keepalive.use(network)
        if moved and self._line.link in (Link.CONNECTING, *CONNECTED):
            self._drop(1000, reasons.UNREACHABLE, "another network", now)
        self._on_network_back(now)
        if self._context.pacing.policy is not Policy.SAVER:
            self._rise(now)

    # --- radio

    def _rise(self, now: float) -> None:
        """The app is there: a connection that rests comes back."""
        if self._line.link is Link.WAITING and self._line.reason == reasons.RESTING:
            self._line.rise()
            if self._line.is_retry_due(now):
                self._connect(now)

    def _look_after(self, event: events.Event, now: float) -> None:
        """Send what it is time for, note how fresh documents are, and keep to the cache's budget.

        The event itself is over: a store that fails here is a Problem, never an edit that was not made.
        """
        try:
            if isinstance(event, events.OpenRequested | events.Unblocked):
                self._rise(now)
            if isinstance(event, events.Unblocked):
                self._ask_again(now)
            if self._line.link is Link.OPEN:
                self.documents.join()
                if isinstance(event, events.Edited | events.Unblocked):
                    self._radio.send_edits(event.document, now)
                self._radio.pace(now)
            self.documents.settle(now, is_open=self._line.link is Link.OPEN)
        except StoreError as exc:
            self._on_store_failed(exc, now)

    def _mind_errand(self, now: float) -> None:
        """A background-sync window ends when all is done, or it is over."""
        errand = self._context.errand
        if errand is not None and (outcome := errand.outcome(self._line.link, self.documents, now)) is not None:
            self._context.close_window(outcome, self.pending(now), now)
            if self._line.link is not Link.STOPPED:
                self._stop(reasons.SUSPENDED)

    def _rest_if_done(self, now: float) -> None:
        if self._line.link is Link.OPEN and self._radio.rests and not self._session.is_fetching:
            self._line.hang_up(1000, reasons.RESTING)
            self._line.rest(reasons.RESTING, now + self._context.pacing.latency_s - LEAD_S)
            self._clear()

    def _connect(self, now: float) -> None:
        self._line.trying(now)
        if self._login.token is None:
            self._line.move(Link.FETCHING)
            self._context.emit(FetchToken(self.name))
        else:
            self._line.move(Link.CONNECTING)
            self._context.emit(Connect())

    def _on_token(self, token: str, now: float) -> None:
        self._session.token_fetched(now)
        if self._line.link is Link.FETCHING and self._login.is_refused(token):
            self._go_down(Link.STOPPED, self._login_reason, self._login.complaint)
            return
        self._login.take(token, now)
        if self._line.link is Link.FETCHING:
            self._connect(now)
        elif self._line.link is Link.OPEN:
            self._context.send(frames.Auth(token))
            for document in self.documents.synced():
                document.ask_again()

    def _on_token_failed(self, reason: str, now: float, *, refused: bool) -> None:
        self._context.emit(Problem(reasons.EXPIRED_LOGIN if refused else "token_failed", reason))
        self._session.token_failed(now)
        if self._line.link is Link.FETCHING:
            if refused:
                self._go_down(Link.STOPPED, self._login_reason, reason)
            else:
                self._wait(reasons.NO_TOKEN, reason, now)

    @property
    def _login_reason(self) -> str:
        """Why there is no token: the login is over, or it is not for this device, or what that is called as a clone."""
        if self.name != self._given_name:
            return Code.DEVICE_FORKED
        return Code.BAD_TOKEN if self._login.is_misfit else reasons.EXPIRED_LOGIN

    def _on_upgraded(self, now: float) -> None:
        if self._login.needs_nonce:
            self._line.move(Link.UPGRADED)
            self._session = Session.greeting(self._token_brake, now + NONCE_S)
        else:
            self._greet(None, now)

    def _greet(self, nonce: bytes | None, now: float) -> None:
        self._line.move(Link.GREETING)
        self._session = Session.greeting(self._token_brake, now + GREETING_S)
        self._context.pushing = True
        opens = greeting.opens(self.documents.synced(), self._context.limits)
        self._context.send(greeting.hello(self._login, nonce, self.name, self._agent, opens))

    def _on_lost(self, lost: events.ConnectionLost, now: float) -> None:
        code = lost.code
        if code == reasons.AUTHENTICATE_AGAIN:
            self._on_login_refused(lost, now)
        elif code == reasons.REVOKED:
            self._wipe(now)
        elif code in reasons.GIVEN_UP:
            self._go_down(Link.STOPPED, reasons.GIVEN_UP[code])
        else:
            if code in reasons.TOO_LARGE and self._line.link is Link.GREETING:  # its limits are known from WELCOME on
                self._context.limits = replace(self._context.limits, opens_per_hello=0)
            elif code in reasons.DEFECTS:
                self._line.stay_away(reasons.DEFECT_WAIT_S, now)
            self._wait(lost.why or reasons.why_lost(code), self._line.how_lost(lost), now)

    def _on_login_refused(self, lost: events.ConnectionLost, now: float) -> None:
        self._login.refuse(lost.reason)
        if self._login.is_hopeless:
            self._go_down(Link.STOPPED, self._login_reason, self._login.complaint or self._line.how_lost(lost))
        else:
            reason = self._login_reason if self._login.is_in_doubt else reasons.UNREACHABLE
            self._wait(reason, self._line.how_lost(lost), now)

    def _drop(self, code: int, reason: str, detail: str, now: float, *, said: str | None = None) -> None:
        """Hang up, and come back after a while. The server is told no more than a code."""
        self._line.hang_up(code, said or reason)
        if self._line.link not in (Link.IDLE, Link.STOPPED, Link.WAITING):
            self._wait(reason, detail, now)

    def _wait(self, reason: str, detail: str, now: float) -> None:
        self.counters.retries += 1
        self._line.wait(reason, detail, now)
        self._clear()

    def _go_down(self, link: Link, reason: str | None, detail: str | None = None) -> None:
        self._line.down(link, reason, detail or None)
        self._clear()

    def _clear(self) -> None:
        """There is no connection any more."""
        self._session = Session(self._token_brake)
        self._radio.keepalive.end()
        self._router.disconnected()
        self.documents.disconnected()

    def _change_name(self, message: str, now: float) -> None:
        """Another device has this identity: take a new one, for all documents, and come back with what is pending."""
        former, self.name = self.name, identity.rename(self._store, Identity(self.name, self.user), self._context.rng)
        self._context.emit(Problem(Code.DEVICE_FORKED, f"{message}: {former} is {self.name} from now on"))
        self._login.forget()
        self.documents.begin_again()
        self.counters.forks += 1
        self._drop(1000, Code.DEVICE_FORKED, message, now)

    def _wipe(self, now: float) -> None:
        """The device was revoked: the app is told so, and nothing of the user stays here."""
        self._go_down(Link.STOPPED, Code.DEVICE_REVOKED)
        self._login.forget()
        self._tell(now)
        with self._store.transaction():
            self._store.wipe()
        self.documents.wipe()
        self._context.emit(DataWiped())

    def _on_time(self, now: float) -> None:
        if self._line.is_retry_due(now):
            self._connect(now)
        if self._line.link is Link.UPGRADED and self._session.is_silent(now):
            self._greet(None, now)
        elif self._line.is_connected:
            self._keep_alive(now)
        if self._line.link is Link.OPEN:
            self.documents.on_time(now)

    def _keep_alive(self, now: float) -> None:
        if self._session.is_silent(now) or self._radio.keepalive.is_dead(now):
            self._drop(1000, reasons.UNREACHABLE, "silence", now)
            return
        if (n := self._radio.keepalive.ping_due(now)) is not None:
            self._context.send(frames.Ping(n))
        if self._session.token_due(now):
            self._context.emit(FetchToken(self.name))

    def _on_message(self, data: bytes, now: float) -> None:
        assert self._line.is_connected, f"a message while {self._line.link}"
        self._context.received(len(data))
        self._radio.keepalive.heard(now)
        self.documents.cache.heard(now)
        frame = codec.decode_server_frame(data)
        match frame:
            case frames.Nonce(nonce) if self._line.link is Link.UPGRADED:
                self._greet(nonce, now)
            case None | frames.Nonce() | frames.Pong():
                pass
            case frames.Welcome():
                self._on_welcome(frame, now)
            case frames.Error():
                self._on_error(frame, now)
            case frames.GoAway():
                self._line.stay_away(asked_s(frame.retry_after_ms), now)
                self._context.pushing = False
            case frames.Expiring():
                self._session.expires_in(frame.seconds, self._login.age_s(now), now)
                self._keep_alive(now)
            case (
                frames.Opened() | frames.Delta() | frames.Ack() | frames.Chunk() | frames.Audited()
                | frames.DevicePresence()
            ):  # fmt: skip
                self._on_document_frame(frame, now)
            case _:
                assert_never(frame)

    def _on_document_frame(self, frame: DocumentFrame, now: float) -> None:
        if self._line.link is not Link.OPEN:
            raise codec.bad_frame("before WELCOME")
        try:
            self._router.deliver(frame, now)
        except Forked as exc:
            self._change_name(str(exc), now)

    def _on_welcome(self, welcome: frames.Welcome, now: float) -> None:
        if self._line.link is not Link.GREETING:
            raise codec.bad_frame("WELCOME twice")
        greeting.check_user(welcome)
        limits = greeting.limits_of(welcome)
        if self.user not in (None, welcome.user):
            self._context.emit(Problem(reasons.OTHER_USER, f"its data is {self.user}'s, not {welcome.user}'s"))
            self._line.hang_up(1000, reasons.OTHER_USER)
            self._login.forget()
            self._go_down(Link.STOPPED, reasons.OTHER_USER)
            return
        if self.user is None:
            renamed = identity.adopt(self._store, self.name, welcome.user)
            self.documents.adopt(welcome.user, renamed)
            self._teller.forget(renamed)
        self._line.opened()
        self._radio.keepalive.begin(welcome.heartbeat_ms / 1000, now)
        self._login.accepted()
        self._context.counters.connections += 1
        self._context.limits = limits
        self._session.welcomed(welcome, self._login.age_s(now), now)

    def _on_error(self, error: frames.Error, now: float) -> None:
        if error.code == Code.DEVICE_FORKED:
            self._change_name(error.message, now)
            return
        if self._router.refuse(error, now):
            return
        self._context.emit(Problem.of(error))
        self._line.stay_away(asked_s(error.retry_after_ms), now)
        if error.retry == Retry.AFTER_AUTH:
            self._login.heard(error)
            if self._line.link is Link.OPEN:
                self._session.token_refused(now)
                self._keep_alive(now)

    def _tell(self, now: float) -> None:
        """Tell the app what changed, and note when all was current."""
        if self._teller.tell(now).state is State.CURRENT:
            self._line.went_well(now)

"""Who may come in, as whom, and until when: HELLO, tokens and keys, one live session a device, who was shut out."""

from __future__ import annotations

from crdt.errors import PeerError
from crdt.ids import DeviceId
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import NONCE_BYTES, PROTOCOL_VERSION
from server.core.auth import Authority, Claims, proves, verify
from server.core.desk import Desk
from server.core.effects import DeviceSeen, HelloAccepted
from server.core.session import Session, SessionState
from server.core.timers import TIMER_SLACK_S, Timer, Timers

TOKEN_LOOK_S = 300.0
"""A token is looked at so often: a session that is gone leaves its timer behind for no longer."""

TAKEOVERS_MAX = 20
TAKEOVERS_WITHIN_S = 60.0
"""A device whose sockets push each other out more often than that is two that share one name, and do not stop."""

AGENT_CHARS_MAX = 128

EPHEMERAL_BYTES = 8
"""Of chance in the name of an ephemeral device."""


class Gate:
    """The sessions of this process by device, and what their tokens say."""

    def __init__(self, desk: Desk, authority: Authority, timers: Timers) -> None:
        self.authority = authority
        self._desk = desk
        self._timers = timers
        self._limits = dict(desk.options.limits.differing())
        self._devices: dict[DeviceId, Session] = {}
        self._revoked: frozenset[DeviceId] = frozenset()

    def __len__(self) -> int:
        """Devices that are connected and greeted."""
        return len(self._devices)

    # --- sockets

    def opened(self, session: Session) -> None:
        """A socket is up: HELLO is due, with a proof over the nonce if the token asks for one."""
        if self._desk.draining:
            self._desk.close(session, 1012, Code.SHUTTING_DOWN)
            return
        if self._desk.options.proof:
            session.nonce = self._desk.entropy(NONCE_BYTES)
            self._desk.send(session.id, frames.Nonce(session.nonce))
        self._timers.set(self._desk.now + self._desk.options.hello_timeout_s, Timer.HELLO, session.id)

    def closed(self, session: Session) -> None:
        """The socket is gone."""
        if self._devices.get(session.device) is session:
            del self._devices[session.device]
            self._saw(session)

    def hello_is_due(self, session: Session) -> None:
        if session.state is SessionState.GREETING:
            self._desk.refuse(session.id, PeerError(Code.AUTH_TIMEOUT, "HELLO did not come in time"))

    # --- tokens

    def greet(self, session: Session, hello: frames.Hello) -> None:
        """HELLO: the session is a device's from now on. Raises PeerError."""
        if hello.version != PROTOCOL_VERSION:
            raise PeerError(
                Code.UNSUPPORTED_VERSION, f"version {hello.version} is not spoken here", versions=[PROTOCOL_VERSION]
            )
        claims = verify(hello.token or session.bearer or "", self.authority, self._desk.wall_s())
        if hello.device != claims.device and not session.ephemeral:
            raise PeerError(Code.BAD_TOKEN, "the token is for another device")
        if claims.key_thumbprint is not None:
            _check_proof(hello, claims, session.nonce)
        device = DeviceId(claims.user, claims.device)
        self._check_not_revoked(device)
        if session.ephemeral:
            device = device.ephemeral(self._desk.entropy(EPHEMERAL_BYTES).hex())
        older = self._devices.get(device)
        if older is not None and not self._take_over(session, older):
            return
        session.bearer = None
        session.device, session.agent = device, _shown(hello.agent)
        session.key_thumbprint = claims.key_thumbprint
        session.deflate = hello.options.get("deflate") is True
        session.wants_state_vector = hello.options.get("sv") is True
        self._desk.enter(session)
        session.state = SessionState.READY
        self._devices[device] = session
        self._saw(session)
        session.heartbeat_s = self._heartbeat_s(hello)
        self._desk.emit(HelloAccepted(session.id, session.heartbeat_s))
        self._desk.send(session.id, self._welcome(session, claims))
        self._bear(session, claims)

    def renew(self, session: Session, token: str) -> Claims:
        """AUTH: the session goes on under a fresh token, whose claims are returned. Raises PeerError."""
        claims = verify(token, self.authority, self._desk.wall_s())
        if DeviceId(claims.user, claims.device) != session.device.registered:
            raise PeerError(Code.BAD_TOKEN, "the token is for another user or device")
        if claims.key_thumbprint not in (None, session.key_thumbprint):
            raise PeerError(Code.REPLAYED, "the token is bound to a key that this connection did not prove to have")
        self._check_not_revoked(session.device)
        self._saw(session)
        self._bear(session, claims)
        return claims

    def _welcome(self, session: Session, claims: Claims) -> frames.Welcome:
        options = self._desk.options
        return frames.Welcome(
            version=PROTOCOL_VERSION,
            session=str(session.id),
            user=claims.user,
            server_time_ms=self._desk.wall_ms(),
            limits=self._limits,
            heartbeat_ms=int((session.heartbeat_s or options.heartbeat_s) * 1000),
            token_expires_ms=int(claims.expires_s * 1000),
        )

    def _heartbeat_s(self, hello: frames.Hello) -> float | None:
        """What a device asked for that is silent for longer than others; None for all that did not."""
        asked_s, options = hello.options.get("quiet_s"), self._desk.options
        if type(asked_s) is not int or asked_s <= options.heartbeat_s:
            return None
        return max(options.heartbeat_s, min(float(asked_s), options.heartbeat_max_s))

    def _take_over(self, session: Session, older: Session) -> bool:
        """One live session a device, and the newer one counts: unless the two have chased each other for a while."""
        recent = [when for when in older.takeovers_s if when > self._desk.now - TAKEOVERS_WITHIN_S]
        if len(recent) >= TAKEOVERS_MAX:
            wait_s = recent[0] + TAKEOVERS_WITHIN_S - self._desk.now
            error = PeerError(Code.RATE_LIMITED, "the device connects too often while it is connected")
            self._desk.refuse(session.id, error, retry_after_ms=round(wait_s * 1000))
            return False
        session.takeovers_s = (*recent, self._desk.now)
        self._desk.refuse(older.id, PeerError(Code.SUPERSEDED, "the device has connected again"))
        return True

    # --- devices

    def shut_out(self, revoked: frozenset[DeviceId]) -> list[DeviceId]:
        """These devices, and no others, may not be here from now on. Returns those that could be here until now."""
        new = sorted(revoked - self._revoked)
        self._revoked = revoked
        for session in [session for device, session in self._devices.items() if device.registered in revoked]:
            self._shut_out(session, _revoked())
        return new

    def _check_not_revoked(self, device: DeviceId) -> None:
        if device.registered in self._revoked:
            raise _revoked()

    def _saw(self, session: Session) -> None:
        self._desk.emit(DeviceSeen(session.device.registered, session.agent, self._desk.wall_ms()))

    # --- the end of a token

    def clock_was_set(self) -> None:
        """Wall time moved against ours: reckon all deadlines in it anew."""
        for session in self._desk.sessions.values():
            if session.claims is not None:
                self._bear(session, session.claims)

    def _bear(self, session: Session, claims: Claims) -> None:
        """The session now acts under these claims."""
        session.claims = claims
        self._look_in(session, claims.expires_s - self._desk.wall_s() - self._desk.options.expiry_warning_s)

    def watch_token(self, session: Session) -> None:
        """Warn of the token's end, end the session with it, and look again when the next of the two is due."""
        assert session.claims is not None
        expires_s = session.claims.expires_s
        left_s = expires_s - self._desk.wall_s()
        if left_s <= TIMER_SLACK_S:
            self._expire(session)
            return
        wait_s = left_s - self._desk.options.expiry_warning_s
        if wait_s <= TIMER_SLACK_S:
            wait_s = left_s
            if session.warned_of_s != expires_s:
                session.warned_of_s = expires_s
                self._desk.send(session.id, frames.Expiring(round(left_s)))
        self._look_in(session, wait_s)

    def _look_in(self, session: Session, wait_s: float) -> None:
        """Have the session's token looked at by then; in the next turn, if that is over."""
        due_s = self._desk.now + max(0.0, min(wait_s, TOKEN_LOOK_S))
        if not self._desk.now < session.watched_s <= due_s:
            session.watched_s = due_s
            self._timers.set(due_s, Timer.TOKEN, session.id)

    def _expire(self, session: Session) -> None:
        self._shut_out(session, PeerError(Code.TOKEN_EXPIRED, "the token has expired"))

    def _shut_out(self, session: Session, error: PeerError) -> None:
        """The device may do nothing more: what it has queued is forgotten."""
        for room in session.rooms.values():
            room.drop_queued(session.device)
        self._desk.refuse(session.id, error)


def _revoked() -> PeerError:
    return PeerError(Code.DEVICE_REVOKED, "the device was shut out")


def _check_proof(hello: frames.Hello, claims: Claims, nonce: bytes | None) -> None:
    """A token that is bound to a key is no good without it, whether or not this server asks for proofs."""
    assert claims.key_thumbprint is not None
    if nonce is None or not proves(hello.options, claims.key_thumbprint, claims.token_id, nonce):
        raise PeerError(Code.REPLAYED, "the token is bound to a key, and HELLO does not prove to have it")


def _shown(agent: str) -> str:
    """What a device calls its software, fit for an operator's terminal."""
    shown = agent[:AGENT_CHARS_MAX]
    return shown if shown.isprintable() else "".join(char if char.isprintable() else "?" for char in shown)

"""One document on one Yjs socket, playing an ephemeral device towards the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_never

import msgpack

from crdt.errors import BadUpdate, PeerError
from crdt.protocol import frames
from crdt.protocol.codec import encode
from crdt.protocol.codes import CLOSE, Code
from crdt.protocol.frames import PROTOCOL_VERSION, Access, Mode, ServerFrame
from crdt.update import EMPTY_STATE_VECTOR, EMPTY_UPDATE, fitting, read_state_vector
from server.yjs import messages
from server.yjs.debts import Debts
from server.yjs.dialect import Dialect, close_code_of, reason_of
from server.yjs.messages import NULL, ClientState, Fragment, Message
from server.yjs.people import People, payload_of
from server.yjs.repeats import READ_BYTES_MAX, Diffs, Doubt, is_deletion
from server.yjs.transfer import Transfer
from server.yjs.upload import LARGE_BYTES, LIVE_BYTES, Upload, Uploads

OPEN_REF = 1

STATELESS_BYTES_MAX = 64 << 10
"""A stateless message goes to all who have the document open."""

TOO_LARGE = ""
"""Stands for a state that is not relayed."""

RENEWED_S_MIN = 30
"""Tokens that are to be renewed more than once live longer than this."""


@dataclass(frozen=True, slots=True)
class End:
    """The document is over on this socket."""

    close_code: int
    reason: str


class Link:
    """`receive` what the client says, `told` what the hub sends. Then `frames` are for the hub, `out` for the client,
    `texts` for the other clients of the document; the caller empties them. After `end` is there, nothing more counts.

    `prefix` comes before each message to the client.
    """

    def __init__(
        self, document: str, dialect: Dialect, uploads: Uploads, presence_bytes_max: int, prefix: bytes = b""
    ) -> None:
        self.prefix = prefix
        self.dialect = dialect
        self.handle: int | None = None
        """The document's, once it is open."""
        self.frames: list[bytes] = []
        self.out: list[bytes | Fragment] = []
        self.texts: list[messages.Stateless] = []
        self.end: End | None = None
        self._document = document
        self._access = Access.WRITE
        self._epoch = b""
        self._next_op = 1
        self._answered = b""
        self._answer_op = 0
        """The op that our last step 1 was answered with."""
        self._is_first = False
        """The answer that comes next may give back what the store has lost."""
        self._asked = False
        """Our step 1 was not answered yet."""
        self._state_vector = EMPTY_STATE_VECTOR
        """What the client had at its last step 1. It may have more by now."""
        self._server_vector = EMPTY_STATE_VECTOR
        self._transfer: Transfer | None = None
        """Of an answer that comes in chunks."""
        self._asks_again = False
        """The client sent step 1 meanwhile."""
        self._uploads = uploads
        self._upload: Upload | None = None
        """Of the client's answer to our step 1, while that goes in by parts."""
        self._diffs = Diffs()
        self._debts = Debts()
        self._people = People()
        self._own: ClientState | None = None
        """What the client shows of itself."""
        self._payload: bytes | None = None
        """What others are to see of it."""
        self._presence_bytes_max = presence_bytes_max
        self._last_error = ""
        self._has_renewed = False

    # --- who it is

    def greet(self, token: str, agent: str) -> None:
        """Say HELLO. An empty token: the socket brought one."""
        self._say(frames.Hello(PROTOCOL_VERSION, token, "", agent, {"sv": True}))

    def renew(self, token: str) -> None:
        """Go on with another token, which may allow more."""
        self._say(frames.Auth(token))
        if self.handle is not None and self._access is Access.READ:
            self._ask_for_state()

    # --- what the client says

    def receive(self, message: Message | None, size: int) -> None:
        """A message of `size` bytes, which cost the client so much of its share. Raises PeerError."""
        before, upload = len(self.frames), self._upload
        match message:
            case messages.StepOne(state_vector):
                self._step_1(state_vector)
            case messages.Changes(update, is_answer):
                self._changes(update, is_answer=is_answer)
            case messages.Awareness(states):
                if len(states) > 1:  # one is paid for by its frame
                    self._charge(size)
                self._awareness(states)
            case messages.QueryAwareness():
                self._tell(self._people.all())
            case messages.Stateless():
                if size > STATELESS_BYTES_MAX:
                    raise PeerError(Code.TOO_BIG, f"a stateless message has at most {STATELESS_BYTES_MAX} bytes")
                self.texts.append(message)
            case messages.Token() | messages.CloseDocument() | None:
                pass
            case _:
                assert_never(message)
        if len(self.frames) == before and self._upload is upload:  # each part of an upload is paid for by its frame
            self._charge(size)

    @property
    def has_more(self) -> bool:
        """A large answer is not all with the hub yet: `go_on` when the hub listens, and others had their turn."""
        return self._upload is not None

    def go_on(self) -> None:
        """Work on for about 20 ms. What is no update ends the document."""
        upload = self._upload
        if upload is None:
            return
        try:
            part = upload.step()
        except BadUpdate as exc:
            self.fail(exc)
            return
        if part is not None:
            self._next_op += 1
            self._debts.add(self._next_op - 1, 0)
            assert self.handle is not None
            self._say(frames.Push(self.handle, self._next_op - 1, (part,), heal=upload.heal))
        if upload.is_over:
            self._end_upload()
            self._server_vector = upload.state_vector
            self._tell_saved(self._debts.add_to_last(upload.updates))
            if upload.left_out:
                self._ask(self._server_vector)

    def _end_upload(self) -> None:
        """What went in was paid for as it went; the rest, which was only read, is now."""
        if self._upload is not None:
            self._uploads.end(self._upload)
            self._charge(min(READING_COSTS * max(0, self._upload.unpaid_bytes), READING_COSTS_MAX))
            self._upload = None

    def _step_1(self, state_vector: bytes) -> None:
        self._state_vector = state_vector
        self._debts.begin()
        if self._upload is not None:
            self._upload.updates = 0
        self._diffs.forget_doubts()
        if self.handle is None:
            self._diffs.ask()
            self._say(frames.Open(OPEN_REF, self._document, None, state_vector))
        elif self._transfer is not None:
            self._asks_again = True
        else:
            self._ask_for_state()

    def _changes(self, update: bytes, *, is_answer: bool) -> None:
        if self.handle is None:
            self._debts.carry()
            return
        if self._upload is not None:
            if not is_answer:
                self._debts.carry()
            self._upload.left_out = True
            return
        if len(update) > LIVE_BYTES and not is_answer and self._access is Access.WRITE:
            self._debts.carry()
            if not self._asked:
                self._ask(self._server_vector)
            return
        updates = 1
        if is_answer:
            updates, self._asked = self._debts.take_carried(), False
        if self._access is Access.READ:
            self._not_taken(update, updates, is_answer=is_answer)
        elif update == EMPTY_UPDATE:
            self._tell_saved(self._debts.add_to_last(updates))
        else:
            self._push(update, updates, is_answer=is_answer)

    def _push(self, update: bytes, updates: int, *, is_answer: bool) -> None:
        assert self.handle is not None
        if len(update) > LARGE_BYTES and is_answer:
            known = read_state_vector(self._server_vector)
            self._upload = self._uploads.begin(update, known, updates, heal=self._is_first)
            self._answer_op, self._answered, self._is_first = 0, b"", False
            return
        op, self._next_op = self._next_op, self._next_op + 1
        if is_answer:
            self._answer_op, self._answered = op, update
        self._debts.add(op, updates)
        self._say(frames.Push(self.handle, op, (update,), heal=is_answer and self._is_first))
        self._is_first = False

    def _not_taken(self, update: bytes, updates: int, *, is_answer: bool) -> None:
        """The client may only read. Of an answer without content nothing is lost, if it repeats deletes."""
        if is_answer and is_deletion(update):
            self._doubt(Doubt(update, updates))
            return
        self._tell_saved(updates, is_saved=False)
        if told := self.dialect.read_only():
            self._tell(told)

    def _doubt(self, doubt: Doubt) -> None:
        """Have the hub tell what the document has deleted, where the client is to be told of that.

        Not while it owes the client a diff: it would give up sending that.
        """
        is_known = doubt.update == EMPTY_UPDATE or self.dialect.saved(is_saved=True) is None
        if is_known or self._diffs.are_due or self._transfer is not None:
            self._tell_saved(doubt.updates)
            return
        assert self.handle is not None
        self._charge(READING_COSTS * min(len(doubt.update), READ_BYTES_MAX))
        self._diffs.ask(doubt)
        self._say(frames.Resync(self.handle, None, self._server_vector))

    def _awareness(self, states: tuple[ClientState, ...]) -> None:
        """The first client that a socket shows is its own, and the last it shows of that one counts. Clients repeat
        what others show, which is left out.
        """
        own = self._own
        for state in states:
            if own is None:
                own = None if state.state == NULL else state
            elif state.client == own.client and state.clock >= own.clock:
                own = state
        if own is not None and own is not self._own:
            self._show(own)

    def _show(self, own: ClientState) -> None:
        """A state over the limit is left out: others see the one before. Raises PeerError for what is no JSON."""
        fits = len(own.state) <= self._presence_bytes_max
        payload = payload_of(own) if fits and own.state != NULL else None
        if not fits or len(payload or b"") > self._presence_bytes_max:
            own, payload = own._replace(state=TOO_LARGE), self._payload
        if self._own is not None and own.state == self._own.state:
            self._tell(self._people.renewed())
        self._own, self._payload = own, payload
        if self.handle is not None and own.state != TOO_LARGE:
            self._say(frames.Presence(self.handle, payload))

    # --- what the hub says

    def told(self, frame: ServerFrame | None) -> None:  # noqa: C901 - one line for each frame
        match frame:
            case frames.Opened():
                self._opened(frame)
            case frames.Chunk():
                self._chunk(frame)
            case frames.Delta():
                self._tell_updates(frame.updates)
            case frames.Ack(_, op, _, _):
                if op >= self._answer_op:
                    self._answered = b""
                self._tell_saved(self._debts.settle(op))
            case frames.DevicePresence(_, device, payload):
                if (shown := self._people.told(device, payload)) is not None:
                    self._tell(shown)
            case frames.Error():
                self._refused(frame)
            case frames.Welcome():
                self._people.clock = frame.server_time_ms
            case frames.Expiring(seconds):
                self._token_ends(seconds)
            case frames.Nonce() | frames.GoAway() | frames.Pong() | frames.Audited() | None:
                pass
            case _:
                assert_never(frame)

    def _token_ends(self, seconds: int) -> None:
        """Ask for another, but not for one short token after the other: each would be about to end at once."""
        told = self.dialect.token_ends()
        if told is not None and (seconds >= RENEWED_S_MIN or not self._has_renewed):
            self._has_renewed = True
            self._tell(told)

    def fail(self, error: PeerError) -> None:
        """What the client said is not taken, and the document ends with it."""
        self._finish(End(close_code_of(error.code), reason_of(error.code, error.message)))

    def left(self) -> None:
        """The client is gone: nothing more will be asked of this."""
        self._end_upload()

    def closed(self, close_code: int, reason: str) -> None:
        """The hub has ended the session."""
        if close_code == CLOSE_RATE_LIMITED:
            close_code = close_code_of(Code.RATE_LIMITED)
        self._finish(End(close_code, self._last_error or reason))

    def _opened(self, opened: frames.Opened) -> None:
        is_first, access = self.handle is None, self._access
        self.handle, self._access = opened.handle, opened.access
        if opened.cursor.epoch != self._epoch:
            self._rewind(opened.acked_op + 1)
            self._epoch = opened.cursor.epoch
            self._is_first = opened.cursor.seq > 0
        self._server_vector = opened.state_vector or self._server_vector
        if (is_first or access is not opened.access) and (told := self.dialect.opened(opened.access)):
            self._tell(told)
        match opened.mode:
            case _ if self._transfer is not None:  # the hub has given the answer up, and half of it is out
                self._finish(End(close_code_of(Code.OVERLOADED), reason_of(Code.OVERLOADED, "too slow a reader")))
            case Mode.NEED_SV:
                self._ask_for_state()
            case Mode.DIFF if (doubt := self._diffs.take()) is not None:
                diff = None if opened.more else opened.updates[0]
                self._tell_saved(doubt.updates, is_saved=not doubt.deletes_more(diff))
            case Mode.DIFF if opened.more:
                self._transfer = Transfer(self.prefix)
            case Mode.DIFF:
                self._answer(opened.updates)
            case Mode.TAIL | Mode.CURRENT:  # the server has brought a slow reader current
                assert not opened.more, "a tail is shorter than a chunk"
                self._tell_updates(opened.updates)
        if is_first and self._payload is not None:
            self._say(frames.Presence(self.handle, self._payload))

    def _chunk(self, chunk: frames.Chunk) -> None:
        if self._transfer is not None:
            fragment = self._transfer.fragment(chunk)
            self.out.append(fragment)
            if fragment.is_last:
                self._transfer = None
                self._ask(self._server_vector)
                if self._asks_again:
                    self._asks_again = False
                    self._ask_for_state()

    def _answer(self, updates: tuple[bytes, ...]) -> None:
        (diff,) = updates
        self._tell(messages.step_2(diff))
        self._ask(self._server_vector)

    def _ask(self, state_vector: bytes) -> None:
        """Have the client send what we lack."""
        self._asked = True
        self._tell(messages.step_1(state_vector))

    def _ask_for_state(self) -> None:
        """Have the hub tell its state, and then the client what we lack of its own."""
        assert self.handle is not None
        self._diffs.ask()
        self._say(frames.Resync(self.handle, None, self._state_vector))

    def _rewind(self, op: int) -> None:
        """Our next op is `op`: what was sent under later numbers is in the answer to our next step 1."""
        self._debts.rewind(op)
        if self._upload is not None:
            self._debts.carry(self._upload.updates)
            self._end_upload()
        self._next_op, self._answer_op = op, 0

    def _refused(self, error: frames.Error) -> None:
        detail = error.detail or {}
        reason = f"{detail['reason']}: " if "reason" in detail else ""
        self._last_error = reason_of(error.code, reason + error.message)
        op = detail.get("op")
        match error.code:
            case Code.MISSING_DEPS | Code.BAD_UPDATE if op == self._answer_op and self._take_part(detail):
                pass
            case Code.MISSING_DEPS if isinstance(op, int) and op != self._answer_op:
                self._rewind(op)
                self._server_vector = detail["sv"]
                if not self._asked:
                    self._ask(self._server_vector)
            case Code.OP_GAP:
                self._rewind(detail["expected"])
                self._ask_for_state()
            case Code.FORBIDDEN | Code.DOC_QUARANTINED if isinstance(op, int):
                self._forbidden_to_write(op)
            case code if code not in CLOSE:  # else the hub ends the session
                self._finish(End(close_code_of(code), self._last_error))
            case _:
                pass

    def _take_part(self, detail: dict[str, Any]) -> bool:
        """The answer to our step 1 has what its client could not place either: take the rest, if there is a rest.

        That is no edit of the client's own: whoever made it will bring what it builds on.
        """
        answered, self._answered = self._answered, b""
        try:
            part = fitting(answered, read_state_vector(detail.get("sv", self._server_vector)))
        except BadUpdate:
            return False
        if part == answered:
            return False
        self._rewind(detail["op"])
        updates = self._debts.take_carried()
        if part == EMPTY_UPDATE:
            self._tell_saved(self._debts.add_to_last(updates))
        else:
            self._push(part, updates, is_answer=True)
            self._answered = b""
        return True

    def _forbidden_to_write(self, op: int) -> None:
        self._access = Access.READ
        self._rewind(op)
        self._tell_saved(self._debts.take_carried(), is_saved=False)
        if told := self.dialect.read_only():
            self._tell(told)

    # --- saying

    def _say(self, frame: frames.DeviceFrame) -> None:
        self.frames.append(encode(frame))

    def _charge(self, size: int) -> None:
        """What is appended to a frame is ignored, and paid for."""
        self.frames.append(encode(frames.Ping(0)) if size <= PING_BYTES else _padded_ping(size))

    def _tell(self, message: bytes) -> None:
        self.out.append(self.prefix + message)

    def _tell_updates(self, updates: tuple[bytes, ...]) -> None:
        for update in updates:
            self._tell(messages.update_message(update))

    def _tell_saved(self, updates: int, *, is_saved: bool = True) -> None:
        if told := self.dialect.saved(is_saved=is_saved):
            for _ in range(updates):
                self._tell(told)

    def _finish(self, end: End) -> None:
        if self.end is None:
            self.end = end


CLOSE_RATE_LIMITED = 4429

PING_BYTES = 16

READING_COSTS = 16
"""So many times its bytes: as what has to be checked struct by struct."""
READING_COSTS_MAX = 4 << 20
"""Bytes: four seconds of a device's share, unless it is set otherwise."""


def _padded_ping(size: int) -> bytes:
    packed: bytes = msgpack.packb([frames.Ping.TYPE, 0, bytes(size)])
    return packed

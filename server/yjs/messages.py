"""The messages of y-protocols and Hocuspocus: read from clients, written for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code
from crdt.update import CLIENT_MAX
from crdt.update.decoder import Decoder, write_uint

_SYNC, _AWARENESS, _AUTH, _QUERY_AWARENESS, _SYNC_REPLY = range(5)
_STATELESS, _BROADCAST_STATELESS, _CLOSE, _SYNC_STATUS, _PING, _PONG = range(5, 11)
_STEP_1, _STEP_2, _UPDATE = range(3)
_TOKEN, _DENIED, _AUTHENTICATED = range(3)
"""Of Hocuspocus; y-protocols knows a refusal only, and numbers it 0."""

Y_PROTOCOLS_KINDS: Final[range] = range(_SYNC, _QUERY_AWARENESS + 1)
HOCUSPOCUS_KINDS: Final[range] = range(_SYNC, _PONG + 1)

AWARENESS_STATES_MAX: Final = 1_000
"""In one message from a client. Clients repeat what others show, mostly one by one; who repeats more is not heard."""

NAME_BYTES_MAX: Final = 512
"""A document's name with its owner, at most 257, and what a Hocuspocus provider adds to it."""

NULL: Final = "null"
"""The state of a client that has gone."""
PING: Final = bytes((_PING,))
"""Of a whole Hocuspocus socket: without a document's name."""
PONG: Final = bytes((_PONG,))
NOBODY_NEW: Final = b"\x01\x01\x00"
"""An awareness message without states. Clients take a server for dead that sends no message for 30 s."""


class ClientState(NamedTuple):
    """What one client shows of itself: JSON, `null` when it has gone. A higher clock counts."""

    client: int
    clock: int
    state: str


@dataclass(frozen=True, slots=True)
class StepOne:
    """Asks for what a document with this state vector lacks."""

    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """An update; `is_answer`: to our own step 1."""

    update: bytes
    is_answer: bool


@dataclass(frozen=True, slots=True)
class Awareness:
    states: tuple[ClientState, ...]


@dataclass(frozen=True, slots=True)
class QueryAwareness:
    pass


@dataclass(frozen=True, slots=True)
class Token:
    token: str


@dataclass(frozen=True, slots=True)
class Stateless:
    """A text that is passed on and not kept; `to_all`: to its sender too."""

    payload: str
    to_all: bool


@dataclass(frozen=True, slots=True)
class CloseDocument:
    pass


class Fragment(NamedTuple):
    """A part of a message to the client that is too large to wait in one piece."""

    data: bytes
    is_first: bool
    is_last: bool


Message: TypeAlias = StepOne | Changes | Awareness | QueryAwareness | Token | Stateless | CloseDocument


def read_name(data: bytes) -> tuple[str, int]:
    """The document's name in front of a Hocuspocus message, and where the rest begins. Raises PeerError."""
    try:
        decoder = Decoder(data)
        if decoder.uint(len(data)) > NAME_BYTES_MAX:
            raise PeerError(Code.BAD_FRAME, f"a document's name has at most {NAME_BYTES_MAX} bytes")
        decoder.at = 0
        return decoder.text(), decoder.at
    except (IndexError, BadUpdate) as exc:
        raise _cut_off() from exc


def read_message(data: bytes, at: int = 0, kinds: range = HOCUSPOCUS_KINDS) -> Message | None:
    """The message that begins there, if it is of one of these kinds; None for any other: apps may have their own.

    What follows it is ignored, as clients do. Raises PeerError.
    """
    decoder = Decoder(data)
    decoder.at = at
    try:
        kind = decoder.uint(CLIENT_MAX)
        return _read(kind, decoder) if kind in kinds else None
    except (IndexError, BadUpdate) as exc:
        raise _cut_off() from exc


def _cut_off() -> PeerError:
    return PeerError(Code.BAD_FRAME, "that is no message of y-protocols")


def _read(kind: int, decoder: Decoder) -> Message | None:
    match kind:
        case 0 | 4:  # _SYNC, _SYNC_REPLY
            return _read_sync(decoder)
        case 1:  # _AWARENESS
            return Awareness(_read_states(decoder.blob()))
        case 2:  # _AUTH
            return Token(decoder.text()) if decoder.uint(CLIENT_MAX) == _TOKEN else None
        case 3:  # _QUERY_AWARENESS
            return QueryAwareness()
        case 5:  # _STATELESS
            return Stateless(decoder.text(), to_all=False)
        case 6:  # _BROADCAST_STATELESS
            return Stateless(decoder.text(), to_all=True)
        case 7:  # _CLOSE
            return CloseDocument()
        case _:
            return None


def _read_sync(decoder: Decoder) -> Message:
    step, data = decoder.uint(CLIENT_MAX), decoder.blob()
    match step:
        case 0:  # _STEP_1
            return StepOne(data)
        case 1 | 2:  # _STEP_2, _UPDATE
            return Changes(data, is_answer=step == _STEP_2)
        case _:
            raise BadUpdate("malformed", "there is no such step")


def _read_states(update: bytes) -> tuple[ClientState, ...]:
    decoder = Decoder(update)
    count = decoder.count()
    if count > AWARENESS_STATES_MAX:
        return ()
    return tuple(
        ClientState(decoder.uint(CLIENT_MAX), decoder.uint(CLIENT_MAX), decoder.text())
        for _ in range(count)
    )  # fmt: skip


# --- what the server says


def step_1(state_vector: bytes) -> bytes:
    return _sync(_STEP_1, state_vector)


def step_2(update: bytes) -> bytes:
    return _sync(_STEP_2, update)


def step_2_head(update_bytes: int) -> bytes:
    """What comes before an update of that length."""
    out = bytearray((_SYNC, _STEP_2))
    write_uint(out, update_bytes)
    return bytes(out)


def update_message(update: bytes) -> bytes:
    return _sync(_UPDATE, update)


def awareness(states: list[ClientState]) -> bytes:
    told = bytearray()
    write_uint(told, len(states))
    for client, clock, state in states:
        write_uint(told, client)
        write_uint(told, clock)
        told += sized(state.encode())
    return bytes((_AWARENESS,)) + sized(bytes(told))


def refused(reason: str) -> bytes:
    """Permission denied, as y-protocols has it."""
    return bytes((_AUTH, 0)) + sized(reason.encode())


def denied(reason: str) -> bytes:
    """The same as Hocuspocus has it."""
    return bytes((_AUTH, _DENIED)) + sized(reason.encode())


def authenticated(scope: str) -> bytes:
    return bytes((_AUTH, _AUTHENTICATED)) + sized(scope.encode())


def token_wanted() -> bytes:
    return bytes((_AUTH, _TOKEN))


def sync_status(*, saved: bool) -> bytes:
    return bytes((_SYNC_STATUS, saved))


def stateless(payload: str) -> bytes:
    return bytes((_STATELESS,)) + sized(payload.encode())


def document_closed(reason: str) -> bytes:
    return bytes((_CLOSE,)) + sized(reason.encode())


def sized(data: bytes) -> bytes:
    """Bytes, or a text, with their length in front."""
    out = bytearray()
    write_uint(out, len(data))
    return bytes(out) + data


def _sync(step: int, data: bytes) -> bytes:
    return bytes((_SYNC, step)) + sized(data)

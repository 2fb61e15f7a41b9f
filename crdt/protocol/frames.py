"""The frames of protocol 1 as values, fields in wire order. docs/PROTOCOL.md is their reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, TypeAlias

PROTOCOL_VERSION = 1
SUBPROTOCOL = "syncline.v1"
PATH = "/v1/sync"

EPOCH_BYTES = 8
CHAIN_BYTES = 8
CHAIN_START = bytes(CHAIN_BYTES)
PAYLOAD_ID_BYTES = 16
DIGEST_BYTES = 16
NONCE_BYTES = 16

SERVER_REF = 0
"""`ref` of an OPENED or ERROR that answers no request of the device: the server brings a slow reader current."""


class Cursor(NamedTuple):
    """How far a replica has read a log: entry `seq` of history `epoch` (8 bytes) is in, and all before it."""

    epoch: bytes
    seq: int


class Resume(NamedTuple):
    """Where a catch-up that was cut goes on: byte `offset` of payload `payload_id` (16 bytes)."""

    payload_id: bytes
    offset: int


class Mode(StrEnum):
    """How an OPENED brings the device current."""

    CURRENT = "current"
    TAIL = "tail"
    DIFF = "diff"
    NEED_SV = "need_sv"


class Access(StrEnum):
    """What a token grants on a document."""

    READ = "r"
    WRITE = "rw"


# --- device to server


@dataclass(frozen=True, slots=True)
class Open:
    TYPE: ClassVar[int] = 2
    ref: int
    doc: str
    cursor: Cursor | None = None
    state_vector: bytes | None = None
    resume: Resume | None = None


@dataclass(frozen=True, slots=True)
class Hello:
    TYPE: ClassVar[int] = 1
    version: int
    token: str
    device: str
    agent: str
    options: dict[str, Any] = field(default_factory=dict)
    opens: tuple[Open, ...] = ()


# One is made for each message of these three: a named tuple takes a third of the time of a frozen dataclass.


class _PushFields(NamedTuple):
    handle: int
    first_op: int
    updates: tuple[bytes, ...]
    heal: bool = False


class Push(_PushFields):
    __slots__ = ()
    TYPE: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class Leave:
    TYPE: ClassVar[int] = 4
    handle: int


@dataclass(frozen=True, slots=True)
class Presence:
    TYPE: ClassVar[int] = 5
    handle: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Auth:
    TYPE: ClassVar[int] = 6
    token: str


@dataclass(frozen=True, slots=True)
class Ping:
    TYPE: ClassVar[int] = 7
    n: int


@dataclass(frozen=True, slots=True)
class Resync:
    TYPE: ClassVar[int] = 8
    handle: int
    cursor: Cursor | None
    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Audit:
    TYPE: ClassVar[int] = 9
    handle: int
    seq: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Report:
    TYPE: ClassVar[int] = 10
    data: dict[str, Any]


# --- server to device


@dataclass(frozen=True, slots=True)
class Nonce:
    TYPE: ClassVar[int] = 32
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    TYPE: ClassVar[int] = 33
    version: int
    session: str
    user: str
    server_time_ms: int
    limits: dict[str, Any]
    heartbeat_ms: int
    token_expires_ms: int


@dataclass(frozen=True, slots=True)
class Opened:
    TYPE: ClassVar[int] = 34
    ref: int
    handle: int
    mode: Mode
    cursor: Cursor
    updates: tuple[bytes, ...]
    acked_op: int
    state_vector: bytes | None
    access: Access
    more: bool
    chain: bytes
    payload_id: bytes | None = None


class _DeltaFields(NamedTuple):
    handle: int
    seq: int
    updates: tuple[bytes, ...]


class Delta(_DeltaFields):
    __slots__ = ()
    TYPE: ClassVar[int] = 35


class _AckFields(NamedTuple):
    handle: int
    op: int
    seq: int
    chain: bytes


class Ack(_AckFields):
    __slots__ = ()
    TYPE: ClassVar[int] = 36


@dataclass(frozen=True, slots=True)
class DevicePresence:
    TYPE: ClassVar[int] = 37
    handle: int
    device: str
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Error:
    TYPE: ClassVar[int] = 38
    ref: int | None
    handle: int | None
    code: str
    message: str
    retry: str
    retry_after_ms: int | None = None
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GoAway:
    TYPE: ClassVar[int] = 39
    reason: str
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Pong:
    TYPE: ClassVar[int] = 40
    n: int
    server_time_ms: int


@dataclass(frozen=True, slots=True)
class Chunk:
    TYPE: ClassVar[int] = 41
    handle: int
    offset: int
    total: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Expiring:
    TYPE: ClassVar[int] = 42
    seconds: int


@dataclass(frozen=True, slots=True)
class Audited:
    TYPE: ClassVar[int] = 43
    handle: int
    seq: int
    ok: bool


DeviceFrame: TypeAlias = (
    Hello | Open | Push | Leave | Presence | Auth | Ping | Resync | Audit | Report
)  # fmt: skip
ServerFrame: TypeAlias = (
    Nonce | Welcome | Opened | Delta | Ack | DevicePresence | Error | GoAway | Pong | Chunk | Expiring | Audited
)  # fmt: skip

OPTIONAL_TYPES = range(64, 128)
"""Frames of these types may be ignored by a peer that does not know them."""

"""What an operator can set: each value by an environment variable SYNCLINE_<NAME>, or by the option of that name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from crdt.limits import Limits
from server.core.admission import AdmissionPolicy
from server.core.auth import TOKEN_CHARS_MAX
from server.core.compaction import CompactionPolicy
from server.core.options import CoreOptions
from server.core.rates import Rates
from server.runtime.transport import TransportOptions

ENV_PREFIX = "SYNCLINE_"
SQLITE_DRIVER = "sqlite+aiosqlite"

_CORE = CoreOptions()
_LIMITS = Limits()
_COMPACTION = CompactionPolicy()
_TRANSPORT = TransportOptions()
_RATES = Rates()
_OVERLOAD = AdmissionPolicy()


class BadSetting(Exception):
    """A setting is not what it must be; the text names it and fits on a line."""


def _read_database_url(text: str) -> str:
    try:
        url = make_url(text)
    except ArgumentError as exc:
        raise ValueError("write it as sqlite:///path/to/file") from exc
    backend = url.get_backend_name()
    if backend == "postgresql":
        raise ValueError("PostgreSQL is not supported yet: use sqlite:///path/to/file")
    if backend != "sqlite" or url.database in (None, "", ":memory:") or url.query:
        raise ValueError("write it as sqlite:///path/to/file")
    return url.set(drivername=SQLITE_DRIVER).render_as_string(hide_password=False)


def _read_list(value: object) -> object:
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


def _read_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """As browsers write them."""
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (origin != f"{parts.scheme}://{parts.netloc}" or not parts.scheme or not parts.hostname):
            raise ValueError("write an origin as https://app.example.com, without a path, or * for any")
    return tuple(origin.lower() for origin in origins)


def _read_workers(count: int) -> int:
    if count != 1:
        raise ValueError("only 1 is supported: a SQLite file belongs to one process")
    return count


# Bounds far beyond what makes sense, and within what fits a frame or a timer.
Bytes: TypeAlias = Annotated[ByteSize, Field(gt=0, le=1 << 50)]
Count: TypeAlias = Annotated[int, Field(gt=0, le=1 << 50)]
CountOrNone: TypeAlias = Annotated[int, Field(ge=0, le=1 << 50)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class StoreSettings(BaseSettings):
    """Where documents are."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, validate_default=True)

    database_url: Annotated[str, AfterValidator(_read_database_url)] = Field(
        default="sqlite:///data/syncline.db", description="Where documents are kept: `sqlite:///` and a file's path."
    )


class KeySettings(StoreSettings):
    """Whose tokens are accepted."""

    jwt_secret: SecretStr | None = Field(
        default=None, description="Secret of HS256 tokens, 32 bytes or more. Never an option: others can see those."
    )
    jwt_public_key: str | None = Field(
        default=None, description="Public key of RS256, ES256 or EdDSA tokens: PEM, or a PEM file's path."
    )
    jwks: str | None = Field(default=None, description="A set of public keys (RFC 7517): a file's path, or https URL.")
    jwks_refresh_s: Seconds = Field(default=3600.0, description="How often the set of keys is read again.")
    jwks_cooldown_s: Seconds = Field(
        default=60.0, description="Least time between two readings, however many unknown keys tokens name."
    )
    jwt_audience: str = Field(default="syncline", min_length=1, description="The `aud` that tokens must have.")
    jwt_issuer: str = Field(default="syncline-dev", min_length=1, description="The `iss` that tokens must have.")
    insecure_dev: bool = Field(
        default=False, description="Without any key: make a secret, and keep it in a file beside the database."
    )


class ServeSettings(KeySettings):
    """All of `syncline serve`. Durations are seconds; sizes are bytes, or with a unit as in `64MiB`."""

    host: str = Field(default="127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(default=8787, ge=0, le=65535, description="The port; 0 takes a free one.")
    tls_cert: Path | None = Field(default=None, description="Certificate chain, PEM file. With it, TLS only.")
    tls_key: Path | None = Field(default=None, description="The certificate's private key, PEM file.")
    origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_list), AfterValidator(_read_origins)] = Field(
        default=(),
        description="Web origins that may connect, comma-separated, or `*`. Apps have none, and always may.",
    )
    proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_read_list)] = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks of proxies, comma-separated: what comes from there is not counted by address.",
    )
    proof: Literal["offered", "off"] = Field(
        default="offered", description="Tokens bound to a device's key: `offered` takes them with a proof, `off` not."
    )
    workers: Annotated[int, AfterValidator(_read_workers)] = Field(
        default=1, description="Server processes. Reserved: only 1 is supported."
    )
    log_format: Literal["console", "json"] = Field(default="console", description="Log lines for people, or JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    shutdown_timeout_s: Seconds = Field(default=30.0, description="From SIGTERM to the end, whatever devices do.")
    heartbeat_s: Annotated[Seconds, Field(ge=0.1)] = Field(
        default=_CORE.heartbeat_s, description="A device silent for so long is pinged, for twice so long dropped."
    )
    heartbeat_max_s: Annotated[Seconds, Field(ge=0.1)] = Field(
        default=_CORE.heartbeat_max_s, description="The most that a device may ask for, to save its battery."
    )
    resident_bytes_max: Bytes = Field(
        default=ByteSize(_CORE.resident_bytes_max), description="Documents held in memory, beyond which idle ones go."
    )
    outbox_bytes_max: Bytes = Field(
        default=ByteSize(_TRANSPORT.outbox_bytes_max),
        description="What may wait for a slow device; beyond, it is resynchronised.",
    )

    handshake_timeout_s: Seconds = Field(
        default=_TRANSPORT.open_timeout_s, description="For a connection's whole first request, and before it for TLS."
    )
    hello_timeout_s: Seconds = Field(default=_CORE.hello_timeout_s, description="From the WebSocket to HELLO.")
    sockets_max: CountOrNone = Field(
        default=20_000, description="Devices connected at once; beyond, they are told to come back. 0: no limit."
    )
    sockets_per_address_max: CountOrNone = Field(
        default=1000, description="The same from one IPv4 address or IPv6 /64; carriers put many phones behind one."
    )
    unverified_max: CountOrNone = Field(
        default=_TRANSPORT.unverified_max,
        description="Connections at once without a verified token; beyond, the oldest goes. 0: no limit.",
    )
    unverified_bytes_max: Annotated[ByteSize, Field(ge=0, le=1 << 50)] = Field(
        default=ByteSize(_TRANSPORT.unverified_bytes_max),
        description="What they may all together have sent that is not whole yet. 0: no limit.",
    )

    compaction_entries_max: Count = Field(
        default=_COMPACTION.entries_max, description="A log of so many entries is folded into a snapshot."
    )
    compaction_bytes_min: Bytes = Field(
        default=ByteSize(_COMPACTION.bytes_min),
        description="So is one of so many bytes, and at least `compaction_snapshot_factor` times its snapshot.",
    )
    compaction_snapshot_factor: float = Field(
        default=_COMPACTION.snapshot_factor, ge=0, allow_inf_nan=False, description="See `compaction_bytes_min`."
    )
    compaction_age_s: Seconds = Field(default=_COMPACTION.age_s, description="So is one whose first entry is so old.")
    compaction_rest_s: Seconds = Field(
        default=_COMPACTION.rest_s,
        description="A log whose first entry is not so old may be five times as long and as large before.",
    )
    compaction_entries_min: Count = Field(
        default=_COMPACTION.entries_min, description="A log with fewer entries is left alone."
    )

    message_bytes: Bytes = Field(default=ByteSize(_LIMITS.message_bytes), description="Limit: one message.")
    hello_bytes: Bytes = Field(
        default=ByteSize(_LIMITS.hello_bytes), description="Limit: one message before the token was verified."
    )
    update_bytes: Bytes = Field(default=ByteSize(_LIMITS.update_bytes), description="Limit: one update.")
    inflated_bytes: Bytes = Field(
        default=ByteSize(_LIMITS.inflated_bytes), description="Limit: a deflated list of updates, inflated."
    )
    updates_per_push: Count = Field(default=_LIMITS.updates_per_push, description="Limit: updates in one PUSH.")
    opens_per_hello: Count = Field(default=_LIMITS.opens_per_hello, description="Limit: documents opened in one HELLO.")
    documents_per_session: Count = Field(
        default=_LIMITS.documents_per_session, description="Limit: documents open on one connection."
    )
    state_vector_bytes: Bytes = Field(
        default=ByteSize(_LIMITS.state_vector_bytes), description="Limit: a device's state vector."
    )
    presence_bytes: Bytes = Field(default=ByteSize(_LIMITS.presence_bytes), description="Limit: a PRESENCE payload.")
    report_bytes: Bytes = Field(default=ByteSize(_LIMITS.report_bytes), description="Limit: a REPORT.")
    token_bytes: Bytes = Field(default=ByteSize(_LIMITS.token_bytes), le=TOKEN_CHARS_MAX, description="Limit: a token.")
    document_bytes: Bytes = Field(
        default=ByteSize(_LIMITS.document_bytes), description="Limit: all updates of one document."
    )

    sessions_per_user: Count = Field(default=_CORE.sessions_per_user, description="Devices of one user at a time.")
    offences_max: Count = Field(
        default=_CORE.offences_max, description="Bad updates and the like, after which a connection is closed."
    )
    asked_max: Count = Field(
        default=_CORE.asked_max, description="Documents that a device asked for and waits for, beyond which it waits."
    )
    updates_per_s: Count = Field(
        default=_RATES.updates_per_s, description="Rate: messages, and updates in them, of one device."
    )
    bytes_per_s: Bytes = Field(default=ByteSize(_RATES.bytes_per_s), description="Rate: bytes received, inflated.")
    answer_bytes_per_s: Bytes = Field(
        default=ByteSize(_RATES.answer_bytes_per_s), description="Rate: bytes of documents read for one device."
    )
    presences_per_s: Count = Field(default=_RATES.presences_per_s, description="Rate: PRESENCEs of one device.")
    burst_s: Seconds = Field(
        default=_RATES.burst_s, description="Rate: so many seconds' worth at once, from a device that was quiet."
    )
    session_queued_bytes_max: Bytes = Field(
        default=ByteSize(_CORE.session_queued_bytes_max),
        description="What of one device may wait for a commit, beyond which it is not read from.",
    )
    queued_bytes_max: Bytes = Field(
        default=ByteSize(_CORE.queued_bytes_max), description="The same of all devices together."
    )
    payload_bytes_max: Bytes = Field(
        default=ByteSize(_CORE.payload_bytes_max), description="Large answers under way, beyond which others wait."
    )
    overload_lag_s: Seconds = Field(
        default=_OVERLOAD.lag_s, description="Nobody new is let in while the event loop is so late."
    )
    overload_memory_bytes: Bytes = Field(
        default=ByteSize(_OVERLOAD.memory_bytes), description="Nor while the process takes so much memory."
    )
    overload_queued_bytes: Bytes = Field(
        default=ByteSize(_OVERLOAD.queued_bytes), description="Nor while so much waits for a commit."
    )
    overload_loads: Count = Field(default=_OVERLOAD.loads, description="Nor while so many documents wait to be loaded.")
    overload_hellos: Count = Field(
        default=_OVERLOAD.hellos, description="Nor while so many wait to have their token verified."
    )
    overload_hellos_per_turn: Count = Field(
        default=_OVERLOAD.hellos_per_turn, description="HELLOs looked at in one turn of the event loop."
    )
    overload_spread_s: Annotated[Seconds, Field(ge=0.001)] = Field(
        default=_OVERLOAD.spread_s, description="Those who were refused come back spread over so long."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: give both or neither")
        if not self.token_bytes < self.hello_bytes <= self.message_bytes:
            raise ValueError("token_bytes must be less than hello_bytes, and that at most message_bytes")
        if self.update_bytes >= self.message_bytes:
            raise ValueError("update_bytes must be less than message_bytes: an update travels in a message")
        return self

    def core_options(self) -> CoreOptions:
        """What the hub is given."""
        return CoreOptions(
            limits=Limits(**{limit.name: int(getattr(self, limit.name)) for limit in fields(Limits)}),
            hello_timeout_s=self.hello_timeout_s,
            heartbeat_s=self.heartbeat_s,
            heartbeat_max_s=self.heartbeat_max_s,
            proof=self.proof == "offered",
            resident_bytes_max=int(self.resident_bytes_max),
            sessions_per_user=self.sessions_per_user,
            offences_max=self.offences_max,
            asked_max=self.asked_max,
            session_queued_bytes_max=int(self.session_queued_bytes_max),
            queued_bytes_max=int(self.queued_bytes_max),
            payload_bytes_max=int(self.payload_bytes_max),
            rates=Rates(**{rate.name: getattr(self, rate.name) for rate in fields(Rates)}),
            admission=AdmissionPolicy(
                **{bound.name: getattr(self, f"overload_{bound.name}") for bound in fields(AdmissionPolicy)}
            ),
            compaction=CompactionPolicy(
                entries_max=self.compaction_entries_max,
                bytes_min=int(self.compaction_bytes_min),
                snapshot_factor=self.compaction_snapshot_factor,
                age_s=self.compaction_age_s,
                entries_min=self.compaction_entries_min,
                rest_s=self.compaction_rest_s,
            ),
        )

    def transport_options(self) -> TransportOptions:
        """What the listener is given. A slow reader's other marks move with `outbox_bytes_max`."""
        outbox_bytes = int(self.outbox_bytes_max)
        return TransportOptions(
            origins=self.origins,
            proxies=self.proxies,
            open_timeout_s=self.handshake_timeout_s,
            sockets_max=self.sockets_max,
            sockets_per_address_max=self.sockets_per_address_max,
            unverified_max=self.unverified_max,
            unverified_bytes_max=int(self.unverified_bytes_max),
            hello_bytes_max=int(self.hello_bytes),
            message_bytes_max=int(self.message_bytes),
            ping_interval_s=self.heartbeat_s,
            ping_timeout_s=self.heartbeat_s,
            outbox_drained_bytes=min(_TRANSPORT.outbox_drained_bytes, outbox_bytes // 4),
            outbox_bytes_max=outbox_bytes,
            outbox_bytes_cap=max(_TRANSPORT.outbox_bytes_cap, 4 * outbox_bytes),
        )


S = TypeVar("S", bound=BaseSettings)


def read_settings(kind: type[S], given: Mapping[str, Any] | None = None) -> S:
    """Settings from the environment, where `given` has nothing. Raises BadSetting."""
    try:
        return kind(**(given or {}))
    except ValidationError as exc:
        raise BadSetting(_explain(exc)) from exc


def misspelled(environment: Mapping[str, str]) -> list[str]:
    """A warning for each variable that is none of ours, and nearly is."""
    ours = [variable(name) for name in ServeSettings.model_fields]
    warnings = []
    for name in sorted(environment):
        near = get_close_matches(name, ours, n=1, cutoff=0.85) if name.startswith(ENV_PREFIX) else []
        if near and name not in ours:
            warnings.append(f"{name} is not a setting, and ignored: did you mean {near[0]}?")
    return warnings


class SettingRow(NamedTuple):
    """A setting as it is documented."""

    name: str
    option: str | None
    variable: str
    default: str
    description: str


def documented() -> Iterator[SettingRow]:
    """Every setting of a server, in the order of this file."""
    for name, info in ServeSettings.model_fields.items():
        yield SettingRow(name, option(name), variable(name), shown_default(info), info.description or "")


def variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def option(name: str) -> str | None:
    """The command line option of a setting; secrets have none, for other users see command lines."""
    is_secret = ServeSettings.model_fields[name].annotation == SecretStr | None
    return None if is_secret else "--" + name.replace("_", "-")


def shown_default(info: FieldInfo) -> str:
    """The default as an operator would write it."""
    match info.default:
        case None:
            return ""
        case bool(value):
            return "true" if value else "false"
        case ByteSize() as size:
            return size.human_readable(separator="").removesuffix("B").replace(".0", "") + "B"
        case float(value):
            return f"{value:g}"
        case tuple(values):
            return ",".join(map(str, values))
        case value:
            return str(value)


def bad_setting(names: Sequence[str], message: str) -> BadSetting:
    """What is wrong with settings, which are named as an operator knows them."""
    named = [" or ".join(filter(None, (option(name), variable(name)))) for name in names]
    return BadSetting(f"{', '.join(named)}: {message}")


def _explain(exc: ValidationError) -> str:
    """The first thing that is wrong, without the value: it may be a secret."""
    error = exc.errors(include_url=False, include_input=False)[0]
    message = str(error.get("ctx", {}).get("error", error["msg"]))
    return str(bad_setting([str(error["loc"][0])], message)) if error["loc"] else message

"""What the server does to each message, update and token before it believes them: CPU of one core, without a server.

A figure is the best of several passes, which is what is left when nothing else runs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pycrdt import Array, Doc, Map, Text, merge_updates
from websockets.frames import Frame, Opcode

from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import decode_device_frame, decode_server_frame, encode
from crdt.replica import Replica
from crdt.update import Layout, StateVector, read_update
from server.core.auth import Authority, VerificationKey, verify
from server.runtime.connection import TURN_FRAMES
from server.runtime.parsers import lent_parser, takes_back
from server.runtime.wire import short_messages

CLIENT = 3_141_592_653
"""A client id of five bytes, as most are."""
AUDIENCE, ISSUER = "syncline", "benchmarks"
NOW_S = 1_800_000_000.0

Edit = Callable[[Doc[Any], int], object]


def workloads(scale: Scale) -> dict[str, Workload]:
    return {
        "updates": lambda: list(_updates_checked(scale)),
        "messages": lambda: list(_messages(scale)),
        "codec": lambda: list(_codec(scale)),
        "tokens": lambda: list(_tokens(scale)),
    }


# --- updates


def _updates_checked(scale: Scale) -> Iterator[Run]:
    """Each update read and admitted; then the layout of a document, which the first push to it needs."""
    count = scale.of(1000, 50)
    for name, edit in _EDITS.items():
        yield _admitting(name, _updates(edit, count), scale)
    merged = merge_updates(*_updates(_EDITS["a character anywhere"], count))
    yield _admitting(f"{count:,} characters anywhere, merged", [merged], scale)
    state = _document(scale.of(1 << 20, 1 << 16))
    packed = Layout.of([state]).pack()
    if Layout.unpack(packed).pack() != packed:
        raise WorkloadFailed("a layout is not what was packed")
    size = f"a document of {len(state) >> 10} KiB"
    yield _run(f"layout of {size}: unpack", partial(Layout.unpack, packed), len(packed), scale)
    yield _run(f"layout of {size}: from its state", partial(Layout.of, [state]), len(state), scale, passes=1)


def _admitting(name: str, updates: list[bytes], scale: Scale) -> Run:
    """What one of the updates costs, each after those before it."""
    known = StateVector()

    def admit_all() -> None:
        nonlocal known
        layout, known = Layout(), StateVector()
        for update in updates:
            read = read_update(update, bounded=True)
            if read.missing(known) is not None:
                raise WorkloadFailed(f"{name}: an honest update was refused")
            layout.admit(read, known)
            read.advance(known)

    run = _run(name, admit_all, sum(map(len, updates)) // len(updates), scale, times=len(updates))
    if known != Replica.load(updates).state_vector():
        raise WorkloadFailed(f"{name}: the check has not seen all that is in the updates")
    return run


def _text(doc: Doc[Any]) -> Text:
    found: Text = doc.get("text", type=Text)
    return found


def _type_in_the_middle(doc: Doc[Any], number: int) -> None:
    text = _text(doc)
    text.insert(0, "before after") if not number else text.insert(6 + number, "x")


def _format(doc: Doc[Any], number: int) -> None:
    text = _text(doc)
    text.insert(0, "x" * 3000) if not number else text.format(number, number + 5, {"bold": True})


def _delete(doc: Doc[Any], number: int) -> None:
    text = _text(doc)
    if not number:
        text.insert(0, "x" * 3000)
    else:
        del text[number : number + 1]


def _set(doc: Doc[Any], number: int) -> None:
    found: Map[Any] = doc.get("map", type=Map)
    found[f"key{number % 50}"] = number


def _todo(doc: Doc[Any], number: int) -> None:
    found: Array[Any] = doc.get("todos", type=Array)
    found.append(Map({"title": "buy milk", "done": False, "order": number}))


_EDITS: dict[str, Edit] = {
    "a character at the end": lambda doc, number: _text(doc).insert(number, "x"),
    "a character in the middle": _type_in_the_middle,
    "an accented character": lambda doc, number: _text(doc).insert(2 * number, "å"),
    "a character anywhere": lambda doc, number: _text(doc).insert(random.Random(number).randint(0, number), "x"),
    "a value of a map": _set,
    "a todo item of three fields": _todo,
    "a format": _format,
    "a deleted character": _delete,
}


def _updates(edit: Edit, count: int) -> list[bytes]:
    replica = Replica(CLIENT)
    made = (replica.edit(lambda doc, number=number: edit(doc, number)) for number in range(count))  # type: ignore[misc]
    return [update for update in made if update is not None]


def _document(size: int) -> bytes:
    """Words written here and there, and todo items."""
    rng = random.Random(0)
    replica = Replica(CLIENT)

    def write(doc: Doc[Any]) -> None:
        text = _text(doc)
        for number in range(300):
            text.insert(rng.randint(0, 12 * number), "eleven bytes")

    def note(doc: Doc[Any]) -> None:
        for number in range(100):
            _todo(doc, number)

    while len(replica.state()) < size:
        replica.edit(write)
        replica.edit(note)
    return replica.state()


# --- messages


def _messages(scale: Scale) -> Iterator[Run]:
    """A short message cut out of what a socket brought, by us and by the library that reads all other frames."""
    payload = encode(frames.Push(1, 100, (_updates(_EDITS["a character at the end"], 100)[50],)))
    for count in (1, 4, TURN_FRAMES):
        read = b"".join(Frame(Opcode.BINARY, payload).serialize(mask=True) for _ in range(count))
        for reader, cut in (("by us", _cut_by_us), ("by the library", _cut_by_the_library)):
            if cut(read) != [payload] * count:
                raise WorkloadFailed(f"{reader}: the messages are not what was sent")
            name = f"one of {count} in a read, {reader}"
            yield _run(name, partial(_repeat, cut, read), len(payload), scale, times=_TIMES * count)


def _cut_by_us(data: bytes) -> list[bytes]:
    found, _ = short_messages(data, 0, TURN_FRAMES, Limits().message_bytes)
    return found


def _cut_by_the_library(data: bytes) -> list[bytes]:
    parser = lent_parser(Limits().message_bytes)
    parser.receive_data(data)
    found = [bytes(frame.data) for frame in parser.events_received() if isinstance(frame, Frame)]
    takes_back(parser)
    return found


# --- frames


def _codec(scale: Scale) -> Iterator[Run]:
    """Frames to bytes and back, on the server's side: what a device sends is decoded, what it is sent encoded."""
    updates = _updates(_EDITS["a character at the end"], 100)
    token = "x" * 300
    hello = frames.Hello(1, token, "phone", "app/1.0", {"deflate": True}, (frames.Open(1, "main", _CURSOR),))
    for name, asked in (
        ("HELLO with one OPEN", hello),
        ("PUSH of one update", frames.Push(1, 100, (updates[50],))),
        ("PUSH of four updates", frames.Push(1, 100, tuple(updates[50:54]))),
        ("PUSH of 100 updates", frames.Push(1, 100, tuple(updates))),
    ):
        data = encode(asked)
        if decode_device_frame(data, Limits()) != asked:
            raise WorkloadFailed(f"{name} is not what was encoded")
        yield _run(
            f"decode {name}", partial(_repeat, decode_device_frame, data, Limits()), len(data), scale, times=_TIMES
        )
    for name, told in (
        ("ACK", frames.Ack(1, 100, 1000, bytes(frames.CHAIN_BYTES))),
        ("DELTA of one update", frames.Delta(1, 1000, (updates[50],))),
        ("DELTA of four updates", frames.Delta(1, 1000, tuple(updates[50:54]))),
    ):
        data = encode(told)
        if decode_server_frame(data) != told:
            raise WorkloadFailed(f"{name} is not what was encoded")
        yield _run(f"encode {name}", partial(_repeat, encode, told), len(data), scale, times=_TIMES)
    whole = frames.Delta(1, 1000, (_document(scale.of(1 << 16, 1 << 12)),))
    deflated = encode(whole, deflate=True)
    yield _run(
        f"encode DELTA of {len(whole.updates[0]) >> 10} KiB, deflated",
        partial(encode, whole, deflate=True), len(deflated), scale,
    )  # fmt: skip


_CURSOR = frames.Cursor(bytes(frames.EPOCH_BYTES), 1000)


# --- tokens


def _tokens(scale: Scale) -> Iterator[Run]:
    """A token verified, as with each HELLO, by the algorithm that signed it."""
    secret = b"a secret for benchmarks, of no use elsewhere"
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    primes = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keys: dict[str, tuple[Any, Any]] = {
        "HS256": (secret, secret),
        "ES256": (curve, curve.public_key()),
        "EdDSA": (edwards, edwards.public_key()),
        "RS256": (primes, primes.public_key()),
    }
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "did": "phone", "jti": "one",
        "iat": NOW_S, "exp": NOW_S + 3600, "docs": {"bob/shared": "rw"},
    }  # fmt: skip
    for algorithm, (private, public) in keys.items():
        token = jwt.encode(claims, private, algorithm=algorithm)
        authority = Authority((VerificationKey(algorithm, public),), AUDIENCE, ISSUER)
        if verify(token, authority, NOW_S + 1).user != "alice":
            raise WorkloadFailed("a token does not say what was signed")
        check = partial(_repeat, verify, token, authority, NOW_S + 1)
        yield _run(f"verify {algorithm}", check, len(token), scale, times=_TIMES)


# --- time


_TIMES = 200
"""How often what takes microseconds is done in a pass."""


def _repeat(call: Callable[..., object], *arguments: object) -> None:
    for _ in range(_TIMES):
        call(*arguments)


def _run(name: str, work: Callable[[], object], size: int, scale: Scale, *, times: int = 1, passes: int = 7) -> Run:
    """CPU of one of the `times` that `work` does a thing, which has `size` bytes."""
    cpu_us = _best_s(work, scale.of(passes, 1)) / times * 1e6
    return Run(name, (Figure("CPU", cpu_us, "us"), Figure("size", size, "bytes", Better.NEITHER)))


def _best_s(work: Callable[[], object], passes: int) -> float:
    best = float("inf")
    for _ in range(passes):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best

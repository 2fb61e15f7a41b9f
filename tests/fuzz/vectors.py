"""State vectors: random, damaged, enormous. What is accepted must say one thing, and do the library no harm."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import Id, read_state_vector, read_update, write_state_vector
from tests.fuzz import mutation
from tests.fuzz.findings import Finding
from tests.fuzz.honest import SCHEMA, Phone
from tests.fuzz.raw import uint

_CLOCKS = (0, 1, 2, 3, 5, 8, 127, 128, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) - 1, 1 << 62, 1 << 70)


@lru_cache(maxsize=1)
def replica() -> Replica:
    """A document of a few hundred edits by six devices."""
    random = Random(0)
    made = Replica()
    phones = [Phone(client) for client in (1, 2, 3, 4, 1 << 32, (1 << 53) - 1)]
    for _ in range(300):
        phone = random.choice(phones)
        update = phone.edit(random, SCHEMA)
        if update is not None:
            made.apply([update])
            for other in phones:
                other.receive(update)
    return made


@lru_cache(maxsize=1)
def _pairs() -> frozenset[Id]:
    return frozenset(read_update(replica().state()).pairs)


def make(random: Random) -> bytes:
    """A state vector, or what looks like one."""
    true = replica().state_vector()
    match random.randrange(7):
        case 0:
            return random.randbytes(random.randrange(30))
        case 1:
            return uint(random.choice(_CLOCKS)) + random.randbytes(random.randrange(30))
        case 2:
            count = random.choice((0, 1, 10, 1000, 20_000))
            pairs = b"".join(uint(random.getrandbits(20)) + uint(random.choice(_CLOCKS[:9])) for _ in range(count))
            return uint(count) + pairs
        case 3:
            return mutation.bytes_changed(random, write_state_vector(true), [write_state_vector(true)])
        case 4:
            clients = random.sample(list(true), random.randrange(len(true)))
            return uint(len(clients)) + b"".join(uint(client) + uint(random.choice(_CLOCKS)) for client in clients)
        case _:
            inside = {client: random.randint(0, clock) for client, clock in true.items()}
            return write_state_vector(inside)


def check(data: bytes) -> str:
    """What became of it. Raises Finding."""
    try:
        read = read_state_vector(data)
    except PeerError as exc:
        if exc.code is not Code.BAD_STATE:
            raise Finding("vector", f"refused as {exc.code}") from exc
        return str(exc.code)
    written = write_state_vector(read)
    if read_state_vector(written) != read:
        raise Finding("vector", "it says something else once it is written again")
    _check_diff(data)
    return "accepted"


def _check_diff(data: bytes) -> None:
    """No device stops within a surrogate pair: who says so gets what it deserves, and harms nobody."""
    before, known = replica().state_vector(), read_state_vector(data)
    try:
        diff = replica().diff(data)
        if any(Id(client, clock) in _pairs() for client, clock in known.items()):
            return
        update = read_update(diff)
    except (ReplicaBroken, BadUpdate) as exc:
        raise Finding("vector", f"no diff for it: {exc}") from exc
    if update.missing(known) is not None and all(known.get(client, 0) <= clock for client, clock in before.items()):
        raise Finding("vector", "its diff lacks something")
    update.advance(known)
    if any(known.get(client, 0) < clock for client, clock in before.items()):
        raise Finding("vector", "its diff does not bring it to where the document is")
    if replica().state_vector() != before:
        raise Finding("vector", "it changed the document")

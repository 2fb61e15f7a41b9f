"""Tokens and documents at random: nobody is shown or writes what the token does not grant."""

from __future__ import annotations

import os
from random import Random

from crdt.ids import DocumentId
from crdt.protocol.frames import Access, Ack, Error, Open, Opened
from crdt.replica import Replica
from tests.unit.server.core.lab import Lab, Writer

PAIRS = 10_000 if os.environ.get("SYNCLINE_SOAK") else 1_000
USERS = [*(f"user-{number}" for number in range(8)), "a", "a.", "A", "a:main"]
NAMES = ["main", "notes", "a", "user-1"]
DOCUMENTS = [DocumentId(owner, name) for owner in USERS for name in NAMES]


def test_no_pair_of_token_and_document_crosses_users() -> None:
    random, lab = Random(21), Lab()
    for number, document in enumerate(DOCUMENTS):
        _write_its_name(lab, document, client=number + 1)
    opened = sum(_try(lab, random, client=1000 + number) for number in range(PAIRS))
    assert PAIRS / 20 < opened < PAIRS / 2
    for document in DOCUMENTS:
        replica = Replica.load(update for entry in lab.durable(document) for update in entry.updates)
        assert replica.values()["own"] == str(document)
        assert all(f"[{document}]" == part for part in replica.values().get("others", "").split())


def _write_its_name(lab: Lab, document: DocumentId, client: int) -> None:
    session, handle = lab.join(document.owner, "writer", document.name)
    lab.push(session, handle, 1, Writer(client).type(str(document), root="own"))
    lab.settle()
    lab.disconnect(session)


def _try(lab: Lab, random: Random, client: int) -> bool:
    """A device with a random token opens a random document and writes to it; True if it may do the first."""
    user, document = random.choice(USERS), random.choice(DOCUMENTS)
    grants = {granted: random.choice(list(Access)) for granted in random.sample(DOCUMENTS, random.randrange(4))}
    expected = Access.WRITE if document.owner == user else grants.get(document)
    name = document.name if document.owner == user and random.random() < 0.5 else str(document)
    docs = {str(granted): access.value for granted, access in grants.items()}
    session = lab.hello(user, f"d{client}", Open(1, name, None, b"\0"), docs=docs)
    lab.settle()
    (answer,) = lab.received(session)
    match answer:
        case Opened():
            assert answer.access is expected
            assert Replica.load(answer.updates).values()["own"] == str(document)
            lab.push(session, answer.handle, 1, Writer(client).type(f"[{document}] ", root="others"))
            lab.settle()
            (written,) = lab.received(session)
            assert isinstance(written, Ack if expected is Access.WRITE else Error)
        case Error():
            assert (answer.code, expected) == ("forbidden", None)
            handle = random.randrange(1, len(DOCUMENTS) + 1)
            lab.push(session, handle, 1, Writer(client).type("[crossed] ", root="others"))
            lab.settle()
            assert [type(frame) for frame in lab.received(session)] == [Error]
        case _:
            raise AssertionError(answer)
    lab.disconnect(session)
    return expected is not None

"""A document that can not be loaded is put aside; nobody else notices."""

from __future__ import annotations

from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Error, Open, Opened
from crdt.update import EMPTY_STATE_VECTOR
from server.core.ports import CorruptDocument
from server.core.records import StoredDocument
from server.storage.memory import MemoryStorage
from tests.unit.server.core.lab import MAIN, Lab, Writer, now_of


class DamagedStorage(MemoryStorage):
    """Finds its main document damaged as often as told."""

    def __init__(self) -> None:
        super().__init__(b"s" * 16)
        self.failures = 0
        self.loads = 0

    async def load(self, document: DocumentId) -> StoredDocument:
        if document == MAIN:
            self.loads += 1
            if self.failures:
                self.failures -= 1
                raise CorruptDocument("entry 3 is damaged")
        return await super().load(document)


def restarted(storage: DamagedStorage) -> Lab:
    """A server that has a document on disk, and nothing in memory."""
    lab = Lab(storage=storage)
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    lab.start()
    storage.loads = 0
    return lab


def opens(lab: Lab, doc: str = "main") -> Error | Opened:
    session = lab.hello("alice", "phone", Open(1, doc, None, EMPTY_STATE_VECTOR))
    lab.settle()
    answer = lab.received(session)[0]
    assert isinstance(answer, Error | Opened)
    return answer


def code_of(answer: Error | Opened) -> str | None:
    return answer.code if isinstance(answer, Error) else None


def test_a_load_that_fails_once_is_tried_again_at_once() -> None:
    storage = DamagedStorage()
    lab = restarted(storage)
    storage.failures = 1
    assert isinstance(opens(lab), Opened)
    assert now_of(storage.load(MAIN)).quarantine is None


def test_one_that_fails_twice_is_quarantined_and_others_go_on() -> None:
    storage = DamagedStorage()
    lab = restarted(storage)
    storage.failures = 2
    assert code_of(opens(lab)) == Code.DOC_QUARANTINED
    assert storage.loads == 2
    assert now_of(storage.load(MAIN)).quarantine == "entry 3 is damaged"
    assert lab.meter.of("quarantined") == [()]
    assert isinstance(opens(lab, "other"), Opened)


def test_it_stays_so_over_a_restart_until_it_is_released() -> None:
    storage = DamagedStorage()
    lab = restarted(storage)
    storage.failures = 2
    opens(lab)
    lab.start()
    assert code_of(opens(lab)) == Code.DOC_QUARANTINED
    assert now_of(storage.release(MAIN))
    assert isinstance(opens(lab), Opened)
    assert not now_of(storage.release(MAIN))

"""Who wrote what, and taking it out again: what is said about it is true, and what can not be done is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pycrdt import Array, Map, Text

from crdt.ids import DeviceId, DocumentId
from crdt.replica import Replica
from crdt.values import Values
from server.core.records import DocumentAppend, History, LogEntry, Snapshot
from server.runtime.excision import Culprit, Report, attribution, excision
from server.storage.compaction import build_snapshot
from server.storage.memory import MemoryStorage
from tests.unit.crdt.documents import Change, array, mapping, text

DOCUMENT = DocumentId("alice", "main")
PHONE, LAPTOP = DeviceId("alice", "phone"), DeviceId("alice", "laptop")
OPERATOR = DeviceId("", "import")
HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
ALWAYS = Culprit(PHONE, 0, 1 << 53)


def typing_(at: int, what: str) -> Change:
    return lambda doc: text(doc).insert(at, what)


def erasing(start: int, end: int) -> Change:
    return lambda doc: text(doc).__delitem__(slice(start, end))


def setting(key: str, value: Any) -> Change:
    return lambda doc: mapping(doc).__setitem__(key, value)


@dataclass
class World:
    """Devices that are always in step, a store, and a clock that an hour passes on for each edit."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    replicas: dict[DeviceId, Replica] = field(default_factory=lambda: {PHONE: Replica(11), LAPTOP: Replica(22)})
    ops: dict[DeviceId, int] = field(default_factory=dict)
    seq: int = 0

    @property
    def now_ms(self) -> int:
        return START_MS + self.seq * HOUR_MS

    async def edit(self, device: DeviceId, *changes: Change, heal: bool = False) -> None:
        for change in changes:
            update = self.replicas[device].edit(change)
            assert update is not None
            await self.put(device, update, heal=heal)

    async def put(self, device: DeviceId, update: bytes, *, heal: bool = False) -> None:
        self.seq += 1
        op = self.ops[device] = self.ops.get(device, 0) + 1
        entry = LogEntry(self.seq, device, op, op, b"chain..8", (update,), self.now_ms, heal)
        epoch = (await self.storage.load(DOCUMENT)).epoch
        (result,) = await self.storage.append([DocumentAppend(DOCUMENT, epoch, (entry,))])
        assert result.committed
        for other, replica in self.replicas.items():
            replica.apply([update] if other != device else [])

    async def compact(self, times: int = 2) -> None:
        """Twice takes out of the log all that is in it, but for an edit between the two."""
        for _ in range(times):
            stored = await self.storage.load(DOCUMENT)
            await self.storage.save_snapshot(DOCUMENT, build_snapshot(stored, self.now_ms))
            await self.edit(LAPTOP, setting("compacted", self.seq))

    async def history(self) -> History:
        return await self.storage.history(DOCUMENT)

    async def excise(self, culprit: Culprit = ALWAYS) -> Report:
        """And put the edit in, if there is one."""
        report = excision(await self.history(), culprit, client_id=33)
        if report["update"] is not None:
            await self.put(OPERATOR, report["update"])
        return report

    @property
    def values(self) -> Values:
        values = self.replicas[LAPTOP].values()
        assert values == self.replicas[PHONE].values()
        values.get("map", {}).pop("compacted", None)
        return {name: value for name, value in values.items() if value}


@pytest.fixture
async def world() -> World:
    """The laptop's work: `Dear Bob, hello` and a map."""
    world = World()
    await world.edit(LAPTOP, typing_(0, "Dear Bob, hello"), setting("colour", "red"), setting("size", 3))
    return world


async def test_what_a_device_inserted_goes_and_what_it_deleted_comes_back_in_its_place(world: World) -> None:
    before = world.values
    await world.edit(PHONE, erasing(5, 8), typing_(5, "Eve"), setting("colour", "black"), setting("new", 1))
    await world.edit(PHONE, lambda doc: mapping(doc).pop("size"))
    report = await world.excise()
    assert world.values == before
    assert (report["ops"], report["goes"], report["comes_back"]) == (5, 5, 5)
    assert report["changes"] == [
        {"at": "map.colour", "after": None, "removed": "black", "added": "red"},
        {"at": "map.new", "after": None, "removed": "1", "added": None},
        {"at": "map.size", "after": None, "removed": None, "added": "3"},
        {"at": "text", "after": "Dear ", "removed": "Eve", "added": "Bob"},
    ]


async def test_nested_types_come_back_with_what_was_in_them(world: World) -> None:
    await world.edit(LAPTOP, lambda doc: array(doc).extend([1, Map({"deep": Array([Text("in"), 2])}), 3]))
    before = world.values
    await world.edit(PHONE, lambda doc: array(doc).pop(1), lambda doc: array(doc).insert(0, "evil"))
    await world.excise()
    assert world.values == before


async def test_what_others_wrote_beside_it_stays_and_what_they_wrote_in_it_goes_and_is_told(world: World) -> None:
    await world.edit(PHONE, typing_(15, " EVIL"), setting("box", Map({})))
    await world.edit(LAPTOP, typing_(17, "ab"), lambda doc: mapping(doc)["box"].__setitem__("mine", 1))
    report = await world.excise()
    assert world.values["text"] == "Dear Bob, helloab"
    assert "box" not in world.values["map"]
    assert report["goes_too"] == [{"device": "alice/laptop", "units": 1}]


async def test_a_key_that_was_set_since_keeps_its_value(world: World) -> None:
    await world.edit(PHONE, setting("colour", "black"))
    await world.edit(LAPTOP, setting("colour", "blue"))
    report = await world.excise()
    assert world.values["map"]["colour"] == "blue"
    assert (report["goes"], report["comes_back"], report["stays_away"]) == (0, 0, 1)


async def test_what_others_deleted_too_stays_deleted(world: World) -> None:
    away = Replica.load([world.replicas[LAPTOP].state()], client_id=44)
    both = away.edit(erasing(4, 8))
    assert both is not None
    await world.edit(PHONE, erasing(0, 8))
    await world.put(LAPTOP, both)
    world.replicas[LAPTOP].apply([both])
    report = await world.excise()
    assert world.values["text"] == "Dear, hello"
    assert (report["comes_back"], report["stays_deleted"]) == (4, 4)


@pytest.mark.parametrize("heal", [True, False])
async def test_a_copy_of_all_deletes_is_not_taken_for_somebodys_own(world: World, heal: bool) -> None:
    """What a device sends after `missing_deps`, or in a new epoch, has all deletes that it knows of."""
    await world.edit(LAPTOP, erasing(0, 1))
    await world.edit(PHONE, erasing(4, 7))
    state_vector = world.replicas[LAPTOP].state_vector_bytes()
    await world.put(LAPTOP, world.replicas[LAPTOP].diff(state_vector), heal=heal)
    report = await world.excise()
    assert (report["comes_back"], report["stays_deleted"]) == (3, 0)
    assert world.values["text"] == "ear Bob, hello"


async def test_only_the_device_and_the_times_asked_for_are_taken_out(world: World) -> None:
    await world.edit(PHONE, typing_(0, "one "), typing_(0, "two "), typing_(0, "three "))
    first_ms = START_MS + 4 * HOUR_MS
    report = await world.excise(Culprit(PHONE, first_ms + HOUR_MS, first_ms + 2 * HOUR_MS))
    assert (report["entries"], world.values["text"]) == (1, "three one Dear Bob, hello")
    assert (await world.excise(Culprit(DeviceId("bob", "phone"), 0, 1 << 53)))["update"] is None


async def test_a_second_time_changes_nothing_even_if_somebody_deleted_what_came_back(world: World) -> None:
    await world.edit(PHONE, erasing(5, 8), typing_(5, "Eve"), setting("colour", "black"))
    await world.excise()
    await world.edit(LAPTOP, erasing(5, 8))
    after = world.values
    assert (await world.excise())["update"] is None
    await world.compact()
    report = await world.excise()
    assert (report["update"], report["lost"], world.values) == (None, [], after)


async def test_one_compaction_loses_nothing_and_two_are_told_of(world: World) -> None:
    before = world.values
    await world.edit(PHONE, erasing(5, 8), typing_(5, "Eve"))
    await world.compact(1)
    assert excision(await world.history(), ALWAYS, 33)["lost"] == []
    await world.compact(1)
    report = await world.excise()
    assert world.values["text"] == "Dear , hello"
    assert before["text"] == "Dear Bob, hello"
    (lost,) = report["lost"]
    assert (lost["lost"], lost["ranges"], lost["device"]) == (3, [[22, 5, 8]], "alice/phone")
    assert (lost["first_ms"], lost["first_seq"]) == (START_MS + 4 * HOUR_MS, 4)
    assert (report["goes"], report["inserted"]) == (3, 3)


async def test_what_compaction_has_mixed_with_other_times_is_left_and_told_of(world: World) -> None:
    await world.edit(PHONE, typing_(0, "a"), typing_(0, "b"))
    await world.compact()
    report = await world.excise(Culprit(PHONE, START_MS + 4 * HOUR_MS + 1, 1 << 53))
    assert report["update"] is None
    (unclear,) = report["unclear"]
    assert (unclear["inserted"], unclear["first_seq"], unclear["last_seq"]) == (2, 4, 5)


async def test_what_a_device_gave_back_after_a_loss_is_left_and_told_of(world: World) -> None:
    await world.edit(PHONE, typing_(0, "given back "), heal=True)
    report = await world.excise()
    assert (report["update"], [row["heal"] for row in report["unclear"]]) == (None, [True])


async def test_entries_that_nobody_knows_the_writer_of_are_told_of(world: World) -> None:
    history = await world.history()
    base = Snapshot(1, b"epoch..8", history.entries[0].updates[0], {}, START_MS)
    told = History((), base, history.entries[1:])
    assert attribution(told, None, 0, text=False)["unknown_seqs"] == 1
    assert excision(told, ALWAYS, 33)["unknown_seqs"] == 1


# --- who wrote what


def rows(report: Report, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in report["rows"]]


async def test_attribution_says_who_inserted_and_deleted_how_much(world: World) -> None:
    await world.edit(PHONE, erasing(5, 8), typing_(5, "Eve"))
    report = attribution(await world.history(), None, 0, text=False)
    assert rows(report, "device", "first_seq", "last_seq", "ops", "inserted", "deleted") == [
        ("alice/laptop", 1, 2, 2, 16, 0),
        ("alice/laptop", 3, 3, 1, 1, 0),
        ("alice/phone", 4, 5, 2, 3, 3),
    ]
    assert rows(attribution(await world.history(), PHONE, START_MS + 5 * HOUR_MS, text=False), "inserted") == [(3,)]


async def test_compaction_changes_nothing_of_what_is_attributed(world: World) -> None:
    await world.edit(PHONE, erasing(5, 8), typing_(5, "Eve"))
    before = rows(attribution(await world.history(), PHONE, 0, text=False), "device", "inserted", "deleted", "last_ms")
    await world.compact()
    after = rows(attribution(await world.history(), PHONE, 0, text=False), "device", "inserted", "deleted", "last_ms")
    assert after == before


async def test_what_is_still_to_be_seen_is_told_apart_by_device(world: World) -> None:
    await world.edit(PHONE, erasing(5, 8), typing_(5, "Eve"), setting("new", {"a": [1]}), setting("colour", "black"))
    await world.edit(LAPTOP, typing_(6, "X"), setting("colour", "blue"))
    assert attribution(await world.history(), None, 0, text=True)["visible"] == [
        {"device": "alice/laptop", "values": {"map": {"colour": "blue", "size": 3}, "text": "Dear X, hello"}},
        {"device": "alice/phone", "values": {"map": {"new": {"a": [1]}}, "text": "Eve"}},
    ]

"""Devices that keep the protocol, hubs and a storage that may fail at every point, driven by one random generator."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

import msgpack
from pycrdt import Text

from crdt import chain
from crdt.ids import DeviceId
from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame
from crdt.protocol.codes import Code
from crdt.protocol.frames import CHAIN_START, Ack, Chunk, Cursor, Delta, DeviceFrame, Error, Mode, Open, Opened, Resume
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR, EMPTY_UPDATE, read_update
from server.core import effects, events
from server.core.compaction import CompactionPolicy
from server.core.records import AppendResult, DocumentAppend, LogEntry
from server.storage.memory import MemoryStorage
from tests.unit.server.core.lab import MAIN, Lab, now_of


class RecordingStorage(MemoryStorage):
    """Remembers every entry that was ever committed, though compaction drops it."""

    def __init__(self) -> None:
        super().__init__(b"s" * 16)
        self.written: list[LogEntry] = []

    async def append(self, batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        results = await super().append(batch)
        for append, result in zip(batch, results, strict=True):
            if result.committed:
                self.written.extend(append.entries)
        return results

    def replay(self) -> Replica:
        """The log taken in order: every update fits when its turn comes."""
        replica = Replica()
        for entry in self.written:
            for update in entry.updates:
                assert read_update(update).missing(replica.state_vector()) is None, f"entry {entry.seq} comes too early"
                replica.apply((update,))
        return replica


class WatchedLab(Lab):
    """A hub whose every frame is held against what is durable at that moment (I1)."""

    storage: RecordingStorage

    def _deliver(self, session: int, data: bytes) -> None:
        self._watch(data)
        super()._deliver(session, data)

    def _watch(self, data: bytes) -> None:
        match decode_server_frame(data):
            case Delta(_, seq, updates):
                assert self.storage.written[seq - 1].updates == updates
            case Ack(_, op, seq, hash_) if seq:
                entry = self.storage.written[seq - 1]
                assert (entry.last_op, entry.chain) == (op, hash_)
            case Opened() as opened:
                assert opened.cursor.seq <= len(self.storage.written)
                durable = self.storage.replay().state_vector()
                for update in opened.updates:
                    for client, (_, end) in read_update(update).sections.items():
                        assert end <= durable.get(client, 0), "an OPENED shows what is not durable"
            case _:
                pass


class Device:
    """An honest device with one document. What it sends waits in `uplink`, what it is sent in the lab's inbox."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.id = DeviceId("alice", name)
        self.replica = Replica(world.fresh_client())
        self.cursor: Cursor | None = None
        self.acked = 0
        self.chains = [CHAIN_START]
        """By op number, from 0; those acknowledged before this epoch's first OPENED are not known."""
        self.outbox: list[bytes] = []
        self.uplink: deque[DeviceFrame] = deque()
        self.lab: WatchedLab | None = None
        self.session = 0
        self.handle = 0
        self.phase = "closed"
        self.download: tuple[bytes, bytearray, Opened, Cursor | None, bytes] | None = None

    # --- what the app and the network do

    def edit(self, random: Random) -> None:
        def change(doc: Any) -> None:
            text = doc.get("t", type=Text)
            at = random.randint(0, len(text))
            if at < len(text) and random.random() < 0.3:
                del text[at : at + 1]
            else:
                text.insert(at, random.choice("abcdefgh") * random.choice((1, 1, 1, 20)))

        update = self.replica.edit(change)
        if update is not None:
            self._enqueue(update)
            if self.phase == "live":
                self._push(len(self.outbox) - 1)

    def connect(self, lab: WatchedLab) -> None:
        self.lab, self.phase = lab, "opening"
        self.session = lab.hello("alice", self.id.name, self._open(1), ttl_s=1e6)

    def disconnect(self) -> None:
        if self.lab is not None and self.session not in self.lab.gone:
            self.lab.disconnect(self.session)
        self.lab = None
        self.phase = "closed"
        self.uplink.clear()

    def send_one(self) -> None:
        if self.lab is not None and self.uplink and self.session not in self.lab.paused:
            self.lab.send(self.session, self.uplink.popleft())

    def receive_one(self) -> None:
        if self.lab is not None and self.lab.inbox[self.session]:
            self._receive(self.lab.inbox[self.session].pop(0))

    # --- the protocol

    def _open(self, ref: int) -> Open:
        if self.download is not None:
            payload_id, data, _, cursor, state_vector = self.download
            return Open(ref, "main", cursor, state_vector, Resume(payload_id, len(data)))
        without = self.cursor is not None and self.world.random.random() < 0.5
        return Open(ref, "main", self.cursor, None if without else self.replica.state_vector_bytes())

    def _resync(self, cursor: Cursor | None) -> None:
        self.phase, self.download = "resyncing", None
        self.uplink.append(frames.Resync(self.handle, cursor, self.replica.state_vector_bytes()))

    def _enqueue(self, update: bytes) -> None:
        self.outbox.append(update)
        self.chains.append(chain.link(self.chains[-1], update))

    def _push(self, first: int) -> None:
        """Send the outbox from its index `first` on, in one frame or several."""
        while first < len(self.outbox):
            size = self.world.random.randint(1, 4)
            updates = tuple(self.outbox[first : first + size])
            self.uplink.append(frames.Push(self.handle, self.acked + 1 + first, updates))
            first += size

    def _drop(self, op: int, hash_: bytes) -> None:
        """Ops up to `op` are acknowledged."""
        assert self.cursor is not None
        if op > self.acked:
            assert op <= self.acked + len(self.outbox), "acknowledged what was never made"
            assert hash_ == self.chains[op], "the server has other ops under these numbers"
            self.outbox = self.outbox[op - self.acked :]
            self.acked = op
            self.world.acknowledged[self.id] = (self.cursor.epoch, op, hash_)

    def _receive(self, frame: frames.ServerFrame) -> None:
        match frame:
            case Opened():
                self._opened(frame)
            case Chunk():
                self._chunk(frame)
            case Delta(_, seq, updates) if self.phase == "live":
                assert self.cursor is not None
                assert seq == self.cursor.seq + 1, "a gap"
                self._apply(updates)
                self.cursor = self.cursor._replace(seq=seq)
            case Ack(_, op, seq, hash_) if self.phase in ("live", "chunking", "resyncing"):
                if self.cursor is None or self.phase != "live":
                    return
                if seq:
                    assert seq == self.cursor.seq + 1, "a gap"
                    self.cursor = self.cursor._replace(seq=seq)
                self._drop(op, hash_)
            case Error():
                self._error(frame)
            case _:
                pass

    def _apply(self, updates: Sequence[bytes]) -> None:
        for update in updates:
            assert read_update(update).missing(self.replica.state_vector()) is None, "an update does not fit"
            self.replica.apply((update,))

    def _opened(self, opened: Opened) -> None:
        if self.phase == "resyncing" and opened.state_vector is None:
            return  # it crossed the RESYNC, and goes on from frames that were ignored since
        self.handle = opened.handle
        new_epoch = self.cursor is not None and self.cursor.epoch != opened.cursor.epoch
        if opened.mode is Mode.NEED_SV or (new_epoch and opened.state_vector is None):
            self._resync(None if new_epoch else self.cursor)
            return
        if not new_epoch and opened.acked_op < self.acked:
            assert len(self.world.labs) > 1, "acknowledged ops are gone"
            self.disconnect()  # this process lags behind the one that acknowledged them
            return
        if opened.more:
            assert opened.payload_id is not None
            if self.download is None or self.download[0] != opened.payload_id:
                state_vector = self.replica.state_vector_bytes()
                self.download = (opened.payload_id, bytearray(), opened, self.cursor, state_vector)
            self.phase = "chunking"
            return
        self.download = None
        self._arrive(opened, opened.updates)

    def _chunk(self, chunk: Chunk) -> None:
        if self.phase != "chunking" or self.download is None:
            return
        _, data, opened, _, _ = self.download
        assert chunk.offset == len(data)
        data += chunk.data
        if len(data) == chunk.total:
            self.download = None
            self._arrive(opened, msgpack.unpackb(bytes(data)))

    def _arrive(self, opened: Opened, updates: Sequence[bytes]) -> None:
        """The answer is complete: the replica is at its cursor, and what is not acknowledged goes out."""
        if self.cursor is not None and self.cursor.epoch != opened.cursor.epoch:
            self._heal(opened, updates)
        else:
            self._apply(updates)
            self.cursor = opened.cursor
            if opened.acked_op >= self.acked:
                self._drop(opened.acked_op, opened.chain)
        self.phase = "live"
        self._push(0)

    def _heal(self, opened: Opened, updates: Sequence[bytes]) -> None:
        self._apply(updates)
        self.replica = Replica.load([self.replica.state()], self.world.fresh_client())
        self.cursor, self.acked, self.outbox = opened.cursor, opened.acked_op, []
        self.chains = [CHAIN_START] * opened.acked_op + [opened.chain]
        assert opened.state_vector is not None
        lost = self.replica.diff(opened.state_vector)
        if lost != EMPTY_UPDATE:
            self._enqueue(lost)

    def _error(self, error: Error) -> None:
        op = (error.detail or {}).get("op")
        match error.code, op:
            case Code.NOT_SAVED, int() if self.phase == "live":
                if op > self.acked:
                    self._push(op - self.acked - 1)
            case Code.NOT_SAVED, None if error.ref:
                self.uplink.append(self._open(error.ref + 1))
                self.phase = "opening"
            case Code.NOT_SAVED, None if self.phase == "resyncing":
                self._resync(self.cursor)
            case Code.OP_GAP, int() if self.phase == "live":
                self._resync(self.cursor)
            case Code.MISSING_DEPS, int() if self.phase == "live":
                detail = error.detail or {}
                self.outbox = self.outbox[: op - self.acked - 1]
                self.chains = self.chains[:op]
                self._enqueue(self.replica.diff(detail["sv"]))
                self._push(len(self.outbox) - 1)
            case ((Code.NOT_SAVED | Code.OP_GAP | Code.MISSING_DEPS), _):
                pass
            case Code.SUPERSEDED, _:
                pass
            case _:
                raise AssertionError(f"an honest device was told {error}")


class World:
    """`step` does one random thing; `finish` lets everything end well and checks what must be true then."""

    def __init__(self, seed: int, *, labs: int = 1) -> None:
        self.random = Random(seed)
        self.storage = RecordingStorage()
        self._clients = 0
        options: dict[str, Any] = {
            "resident_bytes_max": self.random.choice((0, 20_000, 1 << 30)),
            "tail_bytes_max": self.random.choice((0, 1_000, 1 << 20)),
            "payload_bytes_max": self.random.choice((0, 1 << 20)),
            "session_queued_bytes_max": self.random.choice((1_000, 1 << 20)),
            "compaction": CompactionPolicy(entries_max=self.random.choice((5, 10_000)), entries_min=2, rest_s=0.0),
        }
        self.labs = [WatchedLab(storage=self.storage, entropy=1000 * index, **options) for index in range(labs)]
        self.devices = [Device(self, name) for name in ("phone", "laptop", "tablet")]
        self.acknowledged: dict[DeviceId, tuple[bytes, int, bytes]] = {}
        self.epochs = self.random.random() < 0.3
        self._intruders = 0

    def fresh_client(self) -> int:
        self._clients += 1
        return self._clients

    # --- one random thing

    def step(self) -> None:  # noqa: C901 - one line for each thing that can happen
        device, lab = self.random.choice(self.devices), self.random.choice(self.labs)
        match self.random.choices(
            ("edit", "send", "receive", "turn", "storage", "drain", "link", "crash", "congest", "epoch", "tick"),
            (20, 30, 40, 25, 25, 10, 4, 0.5, 3, 0.3 if self.epochs else 0, 1),
        )[0]:
            case "edit":
                device.edit(self.random)
            case "send":
                device.send_one()
            case "receive":
                device.receive_one()
            case "turn":
                lab.turn()
            case "storage":
                self._answer(lab)
            case "drain":
                if lab.awaiting_drain:
                    lab.drain(self.random.choice(lab.awaiting_drain))
            case "link":
                self._relink(device, lab)
            case "crash":
                self._crash(lab)
            case "congest":
                if device.lab is not None:
                    device.lab.feed(events.OutboxOverfull(device.session))
            case "epoch":
                self._set_back(lab)
            case _:
                lab.now += 61.0

    def _answer(self, lab: WatchedLab) -> None:
        if not lab.held:
            return
        lab.held.rotate(-self.random.randrange(len(lab.held)))
        chance = self.random.random()
        if chance < 0.8:
            lab.answer()
        else:
            lab.fail(durable=chance < 0.9)

    def _relink(self, device: Device, lab: WatchedLab) -> None:
        """A lost connection, that the server may not have noticed; or a new one."""
        if device.lab is None:
            device.connect(lab)
        elif self.random.random() < 0.5:
            device.disconnect()
        else:
            old, session = device.lab, device.session
            device.lab = None
            device.uplink.clear()
            device.connect(lab)
            if session not in old.gone:
                old.disconnect(session)

    def _crash(self, lab: WatchedLab) -> None:
        for effect in lab.held:
            if isinstance(effect, effects.Append) and self.random.random() < 0.5:
                now_of(self.storage.append(effect.batch))
        lab.start()
        for device in self.devices:
            if device.lab is lab:
                device.disconnect()
        self.check_acknowledged()

    def _set_back(self, lab: WatchedLab) -> None:
        """A device turns up that knows more than the log: as after a restore from a backup."""
        self._intruders += 1
        cursor = Cursor(lab.epoch(), len(self.storage.written) + 5)
        lab.hello("alice", f"intruder{self._intruders}", Open(1, "main", cursor, EMPTY_STATE_VECTOR), ttl_s=1e6)

    # --- what must be true

    def check_acknowledged(self) -> None:
        stored = now_of(self.storage.load(MAIN))
        ops = stored.ops()
        for device, (epoch, op, _) in self.acknowledged.items():
            if epoch == stored.epoch:
                assert ops[device].op >= op, "what was acknowledged is not in the log"

    def finish(self) -> None:
        for _ in range(2 if len(self.labs) > 1 else 1):
            for device in self.devices:
                if device.lab is None:
                    device.connect(self.labs[0])
            self.quiesce()
            for lab in self.labs:
                self._check_at_rest(lab)
            self._check_log()
            if len(self.labs) > 1:
                for lab in self.labs:
                    self._crash(lab)
        if len(self.labs) > 1:
            for device in self.devices:
                device.connect(self.labs[0])
            self.quiesce()
        self._check_equal()

    def quiesce(self) -> None:
        """Everybody is connected, nothing fails, until nothing happens any more."""
        for _ in range(200):
            for lab in self.labs:
                lab.advance(61.0)
                while lab.awaiting_drain:
                    lab.drain(lab.awaiting_drain[0])
                lab.settle()
            for device in self.devices:
                if device.lab is None:
                    device.connect(self.labs[0])
                while device.uplink and device.lab is not None and device.session not in device.lab.paused:
                    device.send_one()
                while device.lab is not None and device.lab.inbox[device.session]:
                    device.receive_one()
            if not any(self._busy(device) for device in self.devices) and not any(lab.held for lab in self.labs):
                return
        raise AssertionError("it never comes to rest: " + str([(d.phase, len(d.outbox)) for d in self.devices]))

    def _busy(self, device: Device) -> bool:
        assert device.lab is not None or device.phase == "closed"
        return bool(device.uplink or device.outbox or device.phase != "live" or device.lab is None)

    def _check_at_rest(self, lab: WatchedLab) -> None:
        assert lab.paused == []
        assert lab.hub._desk.queued_bytes == 0
        assert all(account.queued_bytes == 0 for account in lab.hub._desk.accounts)
        assert all(session.asked == 0 for session in lab.hub._desk.sessions.values())

    def _check_log(self) -> None:
        self.check_acknowledged()
        stored = now_of(self.storage.load(MAIN))
        assert [entry.seq for entry in self.storage.written] == list(range(1, len(self.storage.written) + 1))
        last: dict[DeviceId, int] = {}
        for entry in self.storage.written:
            if entry.seq > stored.epoch_seq:
                assert entry.first_op == last.get(entry.device, 0) + 1
                last[entry.device] = entry.last_op

    def _check_equal(self) -> None:
        replayed = self.storage.replay()
        stored = Replica.load(now_of(self.storage.load(MAIN)).state_updates())
        assert stored.digest() == replayed.digest()
        for device in self.devices:
            assert device.replica.digest() == replayed.digest()

"""What the world is made of: time, links, stores that fail, and a truth that nobody can talk round."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from client_sim.core.ports import Identity, StoreError
from client_sim.core.roots import Roots
from client_sim.sim import operators, thief
from client_sim.sim.database import Database
from client_sim.sim.handset import FlakyStore
from client_sim.sim.history import History
from client_sim.sim.issuer import Issuer
from client_sim.sim.keys import PocketKey
from client_sim.sim.link import Link, Moment
from client_sim.sim.plan import Action, Deed, make
from client_sim.sim.thief import Loot
from client_sim.sim.timetable import Restless, Sleep, Timetable
from client_sim.sim.truth import Broken, Chronicle, Truth
from client_sim.sim.weather import Span, Weather, draw
from client_sim.sim.world import World
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.codec import encode
from crdt.protocol.frames import NONCE_BYTES, Delta, Hello
from crdt.protocol.proof import OPTION_KEY, OPTION_PROOF, signed_bytes
from crdt.replica import Replica
from crdt.update.ranges import Ranges
from server.core.auth import proves
from server.core.ports import CorruptDocument
from server.core.records import History as StoredHistory
from server.core.records import LogEntry

MAIN = DocumentId("alice", "main")
PHONE, LAPTOP = DeviceId("alice", "phone"), DeviceId("alice", "laptop")
NONCE = b"2" * NONCE_BYTES


class Ends:
    """Both ends of a link, and what comes to them."""

    def __init__(self, weather: Weather) -> None:
        self.timetable = Timetable()
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.told: list[str] = []
        ends = self

        class Device:
            def connected(self) -> None:
                ends.told.append("connected")

            def received(self, data: bytes) -> None:
                ends.down.append(data)

            def lost(self, code: int | None, reason: str) -> None:
                ends.told.append(f"device lost {code}")

        class Server:
            def opened(self, link: Link) -> None:
                ends.told.append("opened")

            def received(self, link: Link, data: bytes) -> None:
                ends.up.append(data)

            def lost(self, link: Link) -> None:
                ends.told.append("server lost")

            def drained(self, link: Link) -> None:
                ends.told.append("drained")

            def overfull(self, link: Link) -> None:
                ends.told.append("overfull")

        self.link = Link(self.timetable, Random(1), weather, Device(), Server(), "a link")
        self.pass_time(5.0)

    def pass_time(self, seconds: float) -> None:
        self.timetable.run_until(self.timetable.now + seconds)


@pytest.fixture
def ends() -> Ends:
    return Ends(draw(Random(3), "calm"))


def test_a_link_keeps_order(ends: Ends) -> None:
    sent = [bytes([number]) * (1 + 997 * number % 1000) for number in range(50)]
    for data in sent:
        ends.link.send_up(data)
        ends.link.send_down(data)
    ends.pass_time(5.0)
    assert ends.up == ends.down == sent
    assert ends.told == ["opened", "connected"]


@pytest.mark.parametrize(("moment", "arrives"), [(Moment.BEFORE, 0), (Moment.WITHIN, 0), (Moment.AFTER, 1)])
def test_a_link_is_cut_around_a_message(ends: Ends, moment: Moment, arrives: int) -> None:
    ends.link.arm(False, moment)
    ends.link.send_up(b"x")
    ends.pass_time(100.0)
    ends.link.send_up(b"too late")
    ends.pass_time(100.0)
    assert len(ends.up) == arrives
    assert sorted(ends.told[2:]) == ["device lost None", "server lost"]


def test_of_a_half_open_link_only_deadlines_tell(ends: Ends) -> None:
    ends.link.fall_silent()
    ends.link.send_up(b"x")
    ends.pass_time(ends.link.silence_s - 1)
    assert ends.told == ["opened", "connected"]
    ends.pass_time(2)
    assert (ends.up, ends.told[2:]) == ([], ["server lost"])


def test_what_is_not_read_is_kept_in_order(ends: Ends) -> None:
    ends.link.pause()
    for data in (b"1", b"2"):
        ends.link.send_up(data)
        ends.pass_time(1.0)
    assert ends.up == []
    ends.link.resume()
    ends.link.send_up(b"3")
    ends.pass_time(1.0)
    assert ends.up == [b"1", b"2", b"3"]


def test_a_slow_reader_is_told_of_once_and_drains(ends: Ends) -> None:
    ends.link.outbox_max, ends.link.down.bandwidth = 1_000, 100.0
    for _ in range(30):
        ends.link.send_down(bytes(100))
    ends.link.await_drain()
    ends.pass_time(1.0)
    assert ends.told[2:] == ["overfull"]
    ends.pass_time(60.0)
    assert ends.told[2:] == ["overfull", "drained"]


def test_a_close_comes_after_what_was_sent(ends: Ends) -> None:
    ends.link.send_down(b"last")
    ends.link.close(4401, "bad_token")
    ends.link.send_down(b"never")
    ends.pass_time(5.0)
    assert ends.down == [b"last"]
    assert ends.told[2:] == ["device lost 4401", "server lost"]


def test_work_sleeps_and_ends_with_its_process() -> None:
    timetable, done = Timetable(), list[float]()

    async def work() -> None:
        while True:
            await Sleep(10.0)
            done.append(timetable.now)

    running = timetable.spawn(work())
    timetable.run_until(25.0)
    running.cancel()
    timetable.run_until(100.0)
    assert done == [10.0, 20.0]


def test_work_that_was_to_begin_when_all_ended_never_does() -> None:
    timetable, begun = Timetable(), list[bool]()

    async def work() -> None:
        begun.append(True)

    timetable.spawn(work())
    timetable.end()
    timetable.run_until(1.0)
    assert begun == []


def test_what_goes_round_is_found() -> None:
    timetable = Timetable()

    def again() -> None:
        timetable.after(0.0, again)

    again()
    with pytest.raises(Restless):
        timetable.run_until(1.0)


def test_a_store_that_fails_has_what_it_had() -> None:
    full = [False]
    store = FlakyStore(lambda: full[0])
    with store.transaction():
        store.save_identity(Identity("phone", None))
    full[0] = True
    with pytest.raises(StoreError), store.transaction():
        store.save_identity(Identity("phone", "alice"))
    assert store.restarted().identity() == Identity("phone", None)


def test_what_is_not_in_the_log_may_not_be_sent() -> None:
    with pytest.raises(Broken, match="durable before visible"):
        Truth().check_delta(DocumentId("alice", "main"), Delta(1, 1, (b"\x00\x00",)))


def typed(change: Callable[[Roots], object], client_id: int = 1) -> bytes:
    update = Replica(client_id).edit(lambda doc: change(Roots(doc)))
    assert update is not None
    return update


def entry(seq: int, device: DeviceId, op: int, update: bytes) -> LogEntry:
    return LogEntry(seq, device, op, op, bytes(8), (update,), 0)


def test_what_parts_an_emoji_may_not_be_in_the_log() -> None:
    chronicle = Chronicle(MAIN)
    chronicle.append([entry(1, PHONE, 1, typed(lambda roots: roots.text("body").insert(0, "a😀b")))], b"epoch..1")
    between = bytes.fromhex("0101" + "0200" + "c4" + "0101" + "0102" + "0178" + "00")
    with pytest.raises(Broken, match="emoji stay whole"):
        chronicle.append([entry(2, PHONE, 2, between)], b"epoch..1")
    with pytest.raises(Broken, match="emoji stay whole"):
        chronicle.append([entry(2, LAPTOP, 1, Ranges([(1, 2, 3)]).as_deletion())], b"epoch..1")
    chronicle.append([entry(2, LAPTOP, 2, Ranges([(1, 1, 3)]).as_deletion())], b"epoch..1")


def test_a_key_follows_from_its_seed_and_signs_in_one_way() -> None:
    key, same, other = PocketKey(Random(1)), PocketKey(Random(1)), PocketKey(Random(2))
    assert key.thumbprint == same.thumbprint != other.thumbprint
    assert key.sign(b"x") == same.sign(b"x")
    assert proves(options_of(key, NONCE), key.thumbprint, "t1", NONCE)


def options_of(key: PocketKey, nonce: bytes) -> dict[str, object]:
    return {OPTION_PROOF: key.sign(signed_bytes(nonce, "t1")), OPTION_KEY: key.public.jwk}


@pytest.mark.parametrize("name", sorted(thief._TRICKS))
def test_a_thief_has_what_its_owner_said_and_proves_nothing(name: str) -> None:
    key = PocketKey(Random(1))
    token = Issuer(0.0).token("alice", "phone", 0.0, 60.0, key.thumbprint)
    said = encode(Hello(1, token, "phone", "app", {**options_of(key, b"1" * NONCE_BYTES), "deflate": True}, ()))
    loot = Loot.of(said)
    assert loot is not None
    assert (loot.device, loot.token, sorted(loot.proof)) == ("phone", token, [OPTION_KEY, OPTION_PROOF])
    assert not proves(thief._TRICKS[name](loot, NONCE, Random(3)), key.thumbprint, loot.token_id, NONCE)


def test_a_token_for_everybody_is_no_loot() -> None:
    token = Issuer(0.0).token("alice", "phone", 0.0, 60.0)
    assert Loot.of(encode(Hello(1, token, "phone", "app", {}, ()))) is None


def test_a_damaged_document_can_not_be_read_until_it_is_mended() -> None:
    timetable, truth = Timetable(), Truth()
    database = Database(Random(1), draw(Random(3), "calm"), truth, History(lambda: timetable.now))
    read: list[object] = []

    async def load() -> None:
        try:
            read.append((await database.load(MAIN)).head_seq)
        except CorruptDocument:
            read.append("damaged")

    for is_damaged in (False, True, False):
        database.unreadable = {MAIN: None} if is_damaged else {}
        timetable.spawn(load())
        timetable.run_until(timetable.now + 10.0)
    assert read == [0, "damaged", 0]
    assert list(truth.rotten) == [MAIN]


def test_an_excision_takes_what_one_device_wrote_and_nothing_else() -> None:
    mine = typed(lambda roots: roots.text("body").insert(0, "mine"), 1)
    stolen = typed(lambda roots: roots.text("other").insert(0, "stolen"), 2)
    history = StoredHistory((), None, (entry(1, PHONE, 1, mine), entry(2, LAPTOP, 1, stolen)))
    assert operators.culprits(history) == [LAPTOP, PHONE]
    update = operators.excision(history, LAPTOP, Random(1))
    assert update is not None
    assert Replica.load([mine, stolen, update]).values() == {"body": "mine"}


def test_a_clone_of_a_device_that_was_let_in_again_may_be_wiped_like_it() -> None:
    """A server learns of both only when it reads the list of the revoked again."""
    world = World(make(1, "calm"))
    (phone, *_) = world.handsets
    phone.boot()
    for deed, act in ((Deed.REVOKE, world.revoke), (Deed.READMIT, world.readmit), (Deed.CLONE, world.clone)):
        act(Action(0.0, deed, 0, 0))
    world.timetable.run_until(1.0)
    clone = world.handsets[-1]
    assert clone.label == f"{phone.label}~1"
    assert (clone.is_revoked, clone.was_revoked) == (False, True)


def test_spans_are_drawn_within_their_bounds() -> None:
    rng, span = Random(1), Span(0.1, 100.0)
    drawn = sorted(span.draw(rng) for _ in range(1000))
    assert 0.1 <= drawn[0] < 0.12
    assert 80 < drawn[-1] <= 100
    assert 2 < drawn[500] < 5

"""REPORT: what a device counted, rarely, and never for its own sake."""

from __future__ import annotations

from client_sim.core import events
from client_sim.core.device import Device
from client_sim.core.reporting import EVERY_S, FIRST_S, About
from crdt.protocol.frames import Ping, Push, Report
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def reports(rig: Rig) -> list[dict[str, object]]:
    return [frame.data for frame in rig.sent if isinstance(frame, Report)]


class ReportingRig(Rig):
    about = About("linux", "1.2.3")

    def _boot(self) -> Device:
        self.device = Device(self.name, self.store, self.rng, about=self.about)
        for name in self.names:
            self.feed(events.OpenRequested(name))
        return self.device


def test_a_report_goes_along_with_something_else_and_not_often() -> None:
    rig = ReportingRig(FakeServer()).start()
    rig.type("a").settle()
    assert not rig.frames(Report)
    rig.now = FIRST_S
    rig.type("b")
    assert [type(frame) for frame in rig.sent[-2:]] == [Push, Report]
    rig.settle()
    rig.now = FIRST_S + EVERY_S - 1
    rig.type("c").settle()
    assert len(rig.frames(Report)) == 1
    rig.now += 1
    rig.type("d").settle()
    assert len(rig.frames(Report)) == 2


def test_a_report_has_what_was_counted_since_the_one_before() -> None:
    rig = ReportingRig(FakeServer()).start().lose().wait().settle()
    rig.now = FIRST_S + 1
    rig.type("a")
    first = reports(rig)[0]
    assert (first["platform"], first["version"], first["retries"], first["crashes"]) == ("linux", "1.2.3", 1, 0)
    assert (first["outbox_ops"], first["outbox_age_s"], first["current_s"]) == (1, 0.0, 0.0)
    rig.settle()
    rig.now += EVERY_S
    rig.type("b")
    second = reports(rig)[1]
    assert second["retries"] == 0
    assert isinstance(up := second["bytes_up"], int)
    assert isinstance(before := first["bytes_up"], int)
    assert 0 < up < before


def test_a_crash_is_told_of_at_once_and_once() -> None:
    class Crashed(ReportingRig):
        about = About("ios", "7", crashes=2)

    rig = Crashed(FakeServer()).start().type("a").settle()
    assert [data["crashes"] for data in reports(rig)] == [2]


def test_a_keepalive_takes_a_report_along() -> None:
    rig = ReportingRig(FakeServer()).start()
    while not rig.frames(Report):
        rig.wait()
        assert isinstance(rig.sent[-1], Ping | Report)
        rig.settle()
    assert rig.now < 100


def test_a_server_that_takes_only_short_reports_gets_none() -> None:
    server = FakeServer()
    server.limits = {"report_bytes": 60}
    rig = ReportingRig(server).start()
    rig.now = FIRST_S
    assert not rig.type("a").settle().frames(Report)


def test_who_says_nothing_of_itself_reports_nothing() -> None:
    rig = Rig(FakeServer()).start()
    rig.now = 10 * EVERY_S
    assert not rig.type("a").settle().frames(Report)

"""Fleets as a user runs them: real devices, sockets, stores and a server's process that is killed."""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from client_sim.errors import NotPossible
from client_sim.fleet.command import read_duration, run
from client_sim.fleet.figures import Figures
from client_sim.fleet.habits import Habits
from client_sim.fleet.ledger import Ledger
from client_sim.fleet.phone import Phone
from client_sim.fleet.plan import Plan
from client_sim.fleet.profiles import PROFILES
from client_sim.fleet.quantiles import Quantiles
from client_sim.fleet.request import Address, Request, StoreKind, try_server
from client_sim.fleet.run import Fleet
from client_sim.fleet.view import PlainView
from tests.server_fixture import SECRET, running_server

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
LONGER = 5 if SOAK else 1
PAUSES = Quantiles.of((0.0, 0.05), (0.5, 0.2), (1.0, 1.0))
KEEN = Habits(pause=PAUSES, present=0.6, stays_open=0.3, suspended=0.4, killed=0.8)


def plan(profile: str, **more: Any) -> Plan:
    settings: dict[str, Any] = {"users": 6, "devices": 2, "duration_s": 2.0 * LONGER, "speed": 200.0}
    settings |= {"habits": KEEN, "budget_s": 30.0}
    return Plan(profile=PROFILES[profile], **settings | more)


def request(folder: Path, what: Plan, **more: Any) -> Request:
    settings: dict[str, Any] = {
        "server": None, "secret_file": None, "report": folder / "fleet.html", "json": folder / "fleet.json",
        "plain": True, "store": StoreKind.SQLITE, "recorded": None, "command": "python -m client_sim fleet",
    }  # fmt: skip
    return Request(what, **settings | more)


def test_everything_converges_through_a_kill_of_the_server(tmp_path: Path) -> None:
    written = StringIO()
    what = plan("3g-commute", restart_at_s=1.0, bursts_s=(0.5,), old_stores=0.3, seed=5)
    assert run(Console(file=written, width=200), request(tmp_path, what)) == 0
    assert "nothing acknowledged is lost" in written.getvalue()

    figures = json.loads((tmp_path / "fleet.json").read_text())
    assert figures["verdict"] == {
        "converged": True, "problems": [], "devices": 12, "documents": 6,
        "converged_within_s": figures["verdict"]["converged_within_s"],
    }  # fmt: skip
    assert [event["what"] for event in figures["events"]][:3] == [
        "a notification: everybody opens the app",
        "the server is killed with -9",
        "the server is back, on the same file and port",
    ]
    total = figures["total"]
    assert total["edits"] > 20
    assert total["upgrades"] >= 1
    assert total["lives"] >= 12
    assert total["bytes_up"] > 1000
    assert total["awake_s"] > 0
    assert sum(figures["catch_ups"].values()) >= 12
    assert figures["queue_age_s"]["count"] > 0

    page = (tmp_path / "fleet.html").read_text()
    assert "everything converged, nothing acknowledged was lost" in page
    assert "a model, not a measurement" in page
    assert "441 stalls of 1 s or more in 5.8 h" in page, "where the network's figures come from"
    for title in ("Time to current", "From an edit to another device", "Catch-ups by mode, retries and errors"):
        assert title in page
    assert "retries: ops sent again" in page


@pytest.mark.parametrize("profile", PROFILES if SOAK else ["captive-portal", "flaky"])
async def test_networks_of_all_kinds(tmp_path: Path, profile: str) -> None:
    async with running_server(tmp_path) as server:
        what = plan(profile, stores=tmp_path, duration_s=1.0 * LONGER, users=3)
        outcome = await Fleet(what, server.url, SECRET, PlainView(Console(file=StringIO()), 6)).perform()
    assert outcome.verdict.problems == ()
    assert outcome.figures.opened
    assert all(spent.bytes_up for spent in outcome.spent.values())


class ForgetfulLedger(Ledger):
    """Believes that more was acknowledged than there is."""

    def acknowledged(self, writer: str, visits: Any) -> None:
        super().acknowledged(writer, [*visits, "a visit that never was"])


class Vandal(Phone):
    """Changes what it has at the end, behind the server's back."""

    async def live(self) -> None:
        await super().live()
        self.values = {"body": "something else"}


async def test_what_is_lost_or_different_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_sim.fleet.run.Ledger", ForgetfulLedger)
    monkeypatch.setattr("client_sim.fleet.run.Phone", Vandal)
    async with running_server(tmp_path) as server:
        what = plan("office", users=1, duration_s=1.0)
        outcome = await Fleet(what, server.url, SECRET, PlainView(Console(file=StringIO()), 2)).perform()
    told = "\n".join(outcome.verdict.problems)
    assert "device-0 has other values than the server" in told
    assert "lost, though acknowledged: the visit a visit that never was" in told


async def test_who_does_not_converge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phone, "is_current", False)
    async with running_server(tmp_path) as server:
        what = plan("office", users=1, duration_s=0.5, budget_s=1.0)
        outcome = await Fleet(what, server.url, SECRET, PlainView(Console(file=StringIO()), 2)).perform()
    assert outcome.verdict.converged_s is None
    assert "device-0 is current, with 0 edits pending" in outcome.verdict.problems[0]
    assert isinstance(outcome.figures, Figures)


@pytest.mark.parametrize(
    ("option", "more", "of_plan"),
    [
        ("--report .* is a folder", {"report": Path()}, {}),
        ("--report .* no folder", {"report": Path("missing/fleet.html")}, {}),
        ("--json .* no folder", {"json": Path("missing/fleet.json")}, {}),
        ("--report and --json", {"report": Path("fleet.html"), "json": Path("fleet.html")}, {}),
        ("--secret-file", {"secret_file": Path("secret")}, {}),
        ("--secret-file can not be read", {"secret_file": Path("missing"), "server": "ws://127.0.0.1:1"}, {}),
        ("--server", {"server": "http://127.0.0.1:1"}, {}),
        ("secret is needed", {"server": "ws://127.0.0.1:1"}, {}),
        ("--restart-at is for", {"server": "ws://127.0.0.1:1"}, {"restart_at_s": 1.0}),
        ("--restart-at at 2 s", {}, {"restart_at_s": 2.0, "duration_s": 2.0}),
        ("--burst at 60 s", {}, {"bursts_s": (0.5, 60.0), "duration_s": 2.0}),
        ("--duration", {}, {"duration_s": 0.0}),
        ("--budget", {}, {"budget_s": 0.0}),
        ("--speed", {}, {"speed": float("inf")}),
        ("--latency", {}, {"latency_s": 30.0}),
        ("--old-stores", {}, {"old_stores": float("nan")}),
    ],
)
def test_what_can_not_be_done_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, more: dict[str, Any], of_plan: dict[str, Any]
) -> None:
    monkeypatch.delenv("SYNCLINE_JWT_SECRET", raising=False)
    monkeypatch.chdir(tmp_path)
    written = StringIO()
    with pytest.raises(NotPossible, match=option):
        run(Console(file=written), request(tmp_path, plan("office", **of_plan), **more))
    assert not written.getvalue()
    assert not [*tmp_path.iterdir()]


async def test_a_server_is_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server(tmp_path) as server:
        await try_server(Address(server.url, SECRET))
        with pytest.raises(NotPossible, match="is the secret its own"):
            await try_server(Address(server.url, "a secret of thirty-two characters"))
    monkeypatch.setattr("client_sim.fleet.request.TRY_S", 0.2)
    with pytest.raises(NotPossible, match="does not answer within"):
        await try_server(Address("ws://127.0.0.1:1/v1/sync", SECRET))


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("500ms", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


def test_what_is_no_duration() -> None:
    with pytest.raises(ValueError, match="no duration"):
        read_duration("soon")

"""The fleet's memory of who wrote what."""

from __future__ import annotations

from client_sim.fleet.ledger import Ledger, Seen

ONLINE, APART = {"laptop": True}, {"laptop": False}


def test_an_edit_is_seen_once_by_those_who_were_there() -> None:
    ledger = Ledger()
    ledger.wrote("phone", {}, {7: 1}, 10.0, ONLINE)
    ledger.wrote("phone", {7: 1}, {7: 2}, 11.0, APART)
    ledger.wrote("phone", {7: 2}, {7: 3}, 12.0, {})
    assert list(ledger.saw("laptop", {7: 1}, 10.5)) == [Seen(0.5, True)]
    assert list(ledger.saw("laptop", {7: 1}, 10.6)) == []
    assert list(ledger.saw("laptop", {7: 3}, 20.0)) == [Seen(9.0, False)]
    assert list(ledger.saw("phone", {7: 3}, 20.0)) == []
    assert ledger.edits == 3


def test_what_was_acknowledged_has_to_be_there() -> None:
    ledger = Ledger()
    ledger.wrote("phone", {}, {7: 5}, 1.0, {})
    ledger.acknowledged("phone", ["phone/1"])
    ledger.wrote("phone", {7: 5}, {7: 9}, 2.0, {})
    assert ledger.missing({7: 5}, ["phone/1"]) == []
    assert ledger.missing({7: 4}, ["phone/1"]) == ["phone's edits up to 5, of which 4 are there"]
    assert ledger.missing({7: 9}, []) == ["the visit phone/1"]


def test_a_restarted_device_writes_under_another_client() -> None:
    ledger = Ledger()
    ledger.wrote("phone", {}, {7: 1}, 1.0, ONLINE)
    ledger.wrote("phone", {7: 1}, {7: 1, 8: 1}, 2.0, ONLINE)
    assert [seen.seconds for seen in ledger.saw("laptop", {7: 1, 8: 1}, 3.0)] == [2.0, 1.0]
    ledger.acknowledged("phone", [])
    assert ledger.missing({7: 1}, []) == ["phone's edits up to 1, of which 0 are there"]

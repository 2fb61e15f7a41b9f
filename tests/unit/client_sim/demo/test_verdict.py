"""The demo finds out what is not as promised."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from client_sim.demo.history import History, build
from client_sim.demo.verdict import judge
from tests.unit.client_sim.demo.test_history import ALPHABET, SEQUENTIAL

HISTORY: History = build(SEQUENTIAL, 26, Random(1))
GOOD: dict[str, Any] = {"text": ALPHABET, "typed": dict(zip(HISTORY.devices, HISTORY.ends, strict=True))}


def verdict(**devices: Any) -> list[str]:
    return judge(HISTORY, {"the database": GOOD, "phone": GOOD, **devices})


def test_equal_values_that_are_the_end_are_fine() -> None:
    assert verdict(laptop=GOOD) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({**GOOD, "text": ALPHABET[:4] + "x" + ALPHABET[5:]}, "26 characters for 26; at 4 'xfghij"),
        ({**GOOD, "text": ALPHABET[:-1]}, "25 characters for 26; at 25 '' and not 'z'"),
        ({"text": ALPHABET}, "in how many edits there are"),
        ({}, "0 characters for 26"),
    ],
)
def test_a_device_with_something_else_is_named(values: dict[str, Any], says: str) -> None:
    (problem,) = verdict(laptop=values)
    assert problem.startswith("laptop")
    assert says in problem


def test_an_end_that_is_not_the_historys_is_found_out_where_all_agree() -> None:
    wrong = {**GOOD, "text": "something else"}
    (problem,) = judge(HISTORY, {"the database": wrong, "phone": wrong})
    assert "the text that the history ends with" in problem


def test_lost_edits_are_found_out_where_the_text_is_right() -> None:
    fewer = {**GOOD, "typed": {**GOOD["typed"], "phone": 1}}
    (problem,) = judge(HISTORY, {"the database": fewer, "phone": fewer})
    assert "edits" in problem

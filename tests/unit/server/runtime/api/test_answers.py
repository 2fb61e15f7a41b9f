"""Answers to clients that take them slowly are bounded, all together and each in time."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Scope

from server.runtime.api import answers
from server.runtime.api.answers import SLICE_BYTES, Answers
from server.runtime.visits import Refused
from tests.support import wait_until

SCOPE: Scope = {"type": "http"}


async def nothing() -> MutableMapping[str, Any]:
    raise AssertionError("nothing is received")


class Client:
    """Takes what it is sent while `takes` is set."""

    def __init__(self) -> None:
        self.takes = asyncio.Event()
        self.parts: list[MutableMapping[str, Any]] = []

    async def send(self, part: MutableMapping[str, Any]) -> None:
        self.parts.append(part)
        await self.takes.wait()

    def asks(self, answer: Response) -> asyncio.Task[None]:
        return asyncio.create_task(answer(SCOPE, nothing, self.send))


async def test_an_answer_goes_out_slice_by_slice_as_the_client_takes_it() -> None:
    client, body = Client(), bytes(range(256)) * 1_000
    sending = client.asks(Answers().answer(body, "text/plain", {"ETag": "x"}))
    await wait_until(lambda: client.parts)
    assert [part["type"] for part in client.parts] == ["http.response.start"]
    client.takes.set()
    await sending
    sent = [part["body"] for part in client.parts[1:]]
    assert b"".join(sent) == body
    assert {len(part) for part in sent[:-1]} == {SLICE_BYTES}
    assert [part["more_body"] for part in client.parts[1:]] == [True] * (len(sent) - 1) + [False]


async def test_what_waits_for_all_clients_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "UNSENT_BYTES_MAX", 100)
    both, client = Answers(), Client()
    first = client.asks(both.answer(bytes(60), "text/plain", {}))
    with pytest.raises(Refused, match="overloaded"):
        both.answer(bytes(60), "text/plain", {})
    client.takes.set()
    await first
    await client.asks(both.answer(bytes(200), "text/plain", {}))  # one alone always goes


async def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SENDING_S", 0.01)
    monkeypatch.setattr(answers, "UNSENT_BYTES_MAX", 100)
    both, client = Answers(), Client()
    await client.asks(both.answer(bytes(60), "text/plain", {}))
    assert len(client.parts) == 1
    both.answer(bytes(60), "text/plain", {})

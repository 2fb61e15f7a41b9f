"""An address at which there is no server: the device says what it tried, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from client_sim import AsyncDevice, State, explain
from client_sim.core.status import Status
from client_sim.live.connection import shown


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Something that answers so, whatever it is asked; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def status_at(url: str) -> Status:
    async with AsyncDevice(url, token="t", device="phone") as phone:
        await phone.open()
        await phone.wait(lambda: phone.status.state is State.OFFLINE and bool(phone.status.reason), 10)
        return phone.status


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "wrong_address", "HTTP 404 Not Found"),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "come_back_later", "HTTP 429"),
        (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", "come_back_later", "HTTP 408 Request Timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "wrong_address", "HTTP 200 OK"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "wrong_address", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "come_back_later", "HTTP 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "wrong_address", "HTTP"),
        (b"", "unreachable", ""),
    ],
)
async def test_what_answers_is_told(answer: bytes, reason: str, detail: str) -> None:
    async with answering(answer) as port:
        status = await status_at(f"ws://127.0.0.1:{port}/v1/sync?token=secret")
    assert status.reason == reason
    assert f"ws://127.0.0.1:{port}/v1/sync: " in str(status.detail)
    assert detail in str(status.detail)
    assert "secret" not in str(status.detail)


async def test_tls_to_a_server_without_is_a_wrong_address() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        status = await status_at(f"wss://127.0.0.1:{port}/v1/sync")
    assert status.reason == "wrong_address"
    assert "SSL" in str(status.detail)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "ws://", "", "ws://[::1", "ftp://example.com/x", "ws://a/\ud800", "ws://\ud800/"]
)
async def test_what_is_no_address_is_a_wrong_one(url: str) -> None:
    status = await status_at(url)
    assert status.reason == "wrong_address"
    assert str(status).encode()  # whatever was in it, a log takes it
    assert explain("wrong_address").advice.startswith("Check the address")


async def test_where_nobody_is_the_network_may_be_at_fault() -> None:
    status = await status_at("ws://127.0.0.1:1/v1/sync")
    assert status.reason == "unreachable"
    assert "ws://127.0.0.1:1/v1/sync: " in str(status.detail)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("wss://user:password@example.com:8443/sync?token=secret#x", "wss://example.com:8443/sync"),
        ("ws://[::1", "the server's address"),
        ("ws://127.0.0.1:1/\ud800", "ws://127.0.0.1:1/\\ud800"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, told: str) -> None:
    assert shown(url) == told

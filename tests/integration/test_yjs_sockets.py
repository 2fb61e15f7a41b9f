"""Yjs sockets, message by message: what is refused, what is held back, what is bounded, and what no log tells."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from crdt.ids import DocumentId
from crdt.protocol.frames import Hello
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core.admission import AdmissionPolicy
from server.core.options import CoreOptions
from server.core.rates import Rates
from server.runtime import yjs_socket
from server.runtime.connection import Connection
from server.runtime.transport import TransportOptions
from server.yjs import messages
from server.yjs.messages import ClientState, Fragment
from tests.device_key import DeviceKey
from tests.integration.server_peers import WITHIN_S, new_device, raw_socket, text_updates, write
from tests.server_fixture import RunningServer, make_token, running_server
from tests.support import wait_until

MAIN = DocumentId("alice", "main")


class Peer:
    """A Yjs client without a mind. `prefix` comes before each message."""

    def __init__(self, socket: ClientConnection, prefix: bytes = b"") -> None:
        self._socket = socket
        self._prefix = prefix
        self.replica = Replica()

    async def say(self, *said: bytes) -> None:
        for message in said:
            await self._socket.send(self._prefix + message)

    async def say_text(self, text: str) -> None:
        await self._socket.send(text)

    async def hear(self) -> bytes:
        """The next message. Raises ConnectionClosed."""
        async with asyncio.timeout(WITHIN_S):
            message = await self._socket.recv(decode=False)
        assert message.startswith(self._prefix)
        return message.removeprefix(self._prefix)

    async def hear_of(self, kind: int) -> bytes:
        """The next message whose first byte is this; others are passed over, updates taken."""
        while (message := await self.hear())[0] != kind:
            self.take(message)
        return message

    def take(self, message: bytes) -> None:
        read = messages.read_message(message)
        if isinstance(read, messages.Changes):
            self.replica.apply([read.update])

    async def sync(self) -> None:
        """Ask for the state, and take it."""
        await self.say(messages.step_1(self.replica.state_vector_bytes()))
        while (message := await self.hear())[:2] != b"\x00\x01":
            self.take(message)
        self.take(message)

    async def closed_with(self) -> tuple[int | None, str]:
        with suppress(ConnectionClosed):
            while True:
                await self.hear()
        return self._socket.close_code, self.close_reason.partition(":")[0]

    @property
    def close_reason(self) -> str:
        return self._socket.close_reason or ""


@asynccontextmanager
async def y_peer(
    server: RunningServer,
    document: str = "main",
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    max_queue: int | None = None,
) -> AsyncIterator[Peer]:
    """On /yjs, with a token in the query."""
    host, port = server.address
    query = f"?token={make_token('alice', 'web') if token is None else token}" if headers is None else ""
    async with connect(
        f"ws://{host}:{port}/yjs/{document}{query}", compression=None, proxy=None, ping_interval=None,
        max_queue=max_queue, close_timeout=1, max_size=None, additional_headers=headers,
    ) as socket:  # fmt: skip
        yield Peer(socket)


@asynccontextmanager
async def h_peer(server: RunningServer, name: str = "main", *, token: str | None = None) -> AsyncIterator[Peer]:
    """On /hocuspocus, with a token in the first message; none if it is empty."""
    host, port = server.address
    async with connect(
        f"ws://{host}:{port}/hocuspocus",
        compression=None,
        proxy=None,
        ping_interval=None,
        close_timeout=1,
        max_size=None,
    ) as socket:
        peer = Peer(socket, messages.sized(name.encode()))
        if token != "":
            await peer.say(b"\x02\x00" + messages.sized((token or make_token("alice", "web")).encode()))
        yield peer


# --- tokens


async def test_no_log_tells_a_token_however_it_came(tmp_path: Path) -> None:
    """The log is looked through as each server of the tests ends."""
    transport = TransportOptions(origins=("https://app.example.com",))
    async with running_server(tmp_path, transport=transport) as server:
        token = make_token("alice", "web")
        async with y_peer(server, token=token) as peer:
            await peer.sync()
        async with y_peer(server, headers={"Authorization": f"Bearer {token}"}) as peer:
            await peer.sync()
        async with y_peer(server, token=token + "x") as peer:
            assert await peer.closed_with() == (4401, "bad_token")
        host, port = server.address
        refused = [
            (f"ws://{host}:{port}/yjs/main?token={token}", {"Origin": "https://evil.example.com"}, 403),
            (f"ws://{host}:{port}/hocuspocus?token={token}", {}, 400),
            (f"ws://{host}:{port}/v1/sync?token={token}", {}, 400),
            (f"ws://{host}:{port}/elsewhere?token={token}", {}, 400),
        ]
        for url, headers, status in refused:
            with pytest.raises(InvalidStatus) as refusal:
                async with connect(url, proxy=None, additional_headers=headers):
                    pass
            assert refusal.value.response.status_code == status
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET /yjs/main?token={token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 4")
        writer.close()


async def test_a_token_among_the_subprotocols(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        host, port = server.address
        offered = [Subprotocol(f"syncline.token.{make_token('alice', 'web')}"), Subprotocol("syncline.yjs")]
        async with connect(f"ws://{host}:{port}/yjs/main", subprotocols=offered, proxy=None) as socket:
            assert socket.subprotocol == "syncline.yjs"
            await Peer(socket).sync()


async def test_a_token_that_is_bound_to_a_key_is_no_good_here(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        bound = make_token("alice", "web", cnf=DeviceKey().bound)
        async with y_peer(server, token=bound) as peer:
            assert await peer.closed_with() == (4401, "replayed")


async def test_names_are_as_long_as_anywhere(tmp_path: Path) -> None:
    user, device, name = "u" * 128, "d" * 128, "n" * 128
    async with running_server(tmp_path) as server:
        for document in (name, f"{user}/{name}"):
            async with y_peer(server, document, token=make_token(user, device)) as peer:
                await peer.sync()
            async with h_peer(server, document, token=make_token(user, device)) as peer:
                await peer.sync()
        for claim in ("sub", "did", "jti"):
            too_long: dict[str, Any] = {claim: "x" * 129}
            async with y_peer(server, token=make_token("alice", "web", **too_long)) as peer:
                assert await peer.closed_with() == (4401, "bad_token")
                assert f"{claim} is missing, or is no name: 1 to 128 of" in peer.close_reason


async def test_no_native_device_can_take_an_ephemeral_name(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, raw_socket(server.url) as raw:
        await raw.send(Hello(1, make_token("alice", "web!1"), "web!1", "raw", {}))
        await raw.rest()
        assert raw.close == (4401, "bad_token")


# --- messages


GARBAGE = [
    b"",
    b"\x00",
    b"\x00\x00",
    b"\x00\x01\xff\xff\xff",
    b"\x00\x07\x01\x00",
    b"\x00\x00\x02\xff\xff",
    b"\x00\x02\x03\x01\x01\x01",
    b"\x01\x05\x01\x01\x01\x01{",
    b"\x01\x04\x05\x01\x01\x01",
    b"\xff" * 12,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage.hex())
async def test_garbage_closes_its_own_socket_only(tmp_path: Path, garbage: bytes) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as bystander, y_peer(server) as peer:
        await bystander.sync()
        await peer.sync()
        await peer.say(garbage)
        assert (await peer.closed_with())[0] == 4400
        (update,) = text_updates(1, ["still here"])
        await bystander.say(messages.update_message(update))
        async with y_peer(server) as late:
            while not late.replica.values():
                await late.sync()
            assert late.replica.values() == {"body": "still here"}


async def test_any_bytes_on_a_yjs_socket_harm_nobody_else(tmp_path: Path) -> None:
    rng = Random(7)
    async with running_server(tmp_path) as server, y_peer(server) as bystander:
        await bystander.sync()
        for _ in range(60):
            async with y_peer(server) as peer:
                await peer.sync()
                try:
                    for _ in range(5):
                        kind = bytes((rng.randrange(12),)) if rng.random() < 0.8 else b""
                        await peer.say(kind + rng.randbytes(rng.randrange(40)))
                except ConnectionClosed:
                    pass
        for _ in range(60):
            async with h_peer(server) as peer:
                try:
                    for _ in range(5):
                        await peer.say(bytes((rng.randrange(12),)) + rng.randbytes(rng.randrange(40)))
                except ConnectionClosed:
                    pass
        await bystander.sync()


async def test_messages_of_an_apps_own_are_ignored(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as peer, h_peer(server) as other:
        await peer.sync()
        await other.sync()
        await peer.say(b"\x05\xff\xff", b"\x66anything")
        await other.say(b"\x05" + messages.sized(b"a word"))
        await peer.sync()
        assert (await peer.hear())[:2] == b"\x00\x00", "what Hocuspocus clients tell each other is not told here"


async def test_what_else_hocuspocus_clients_say(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, h_peer(server) as peer, h_peer(server) as other:
        await peer.sync()
        await other.sync()
        await other.say(messages.awareness([ClientState(9, 1, '{"here":true}')]))
        assert await peer.hear_of(1) == messages.awareness([ClientState(9, 1, '{"here":true}')])
        await peer.say(b"\x03")
        assert await peer.hear_of(1) == messages.awareness([ClientState(9, 1, '{"here":true}')])
        await peer.say(b"\x06" + messages.sized(b"to all"))
        assert await peer.hear_of(5) == messages.stateless("to all") == await other.hear_of(5)
        await other.say(b"\x07")
        assert await peer.hear_of(1) == messages.awareness([ClientState(9, 1, "null")])
        await other.say(b"\x02\x00" + messages.sized(make_token("alice", "web").encode()))
        await other.sync()


async def test_a_hocuspocus_socket_is_kept_alive_by_messages(tmp_path: Path) -> None:
    transport = TransportOptions(ping_interval_s=0.05)
    async with running_server(tmp_path, transport=transport) as server:
        host, port = server.address
        async with connect(f"ws://{host}:{port}/hocuspocus", proxy=None, ping_interval=None) as socket:
            async with asyncio.timeout(WITHIN_S):
                assert await socket.recv(decode=False) == messages.PING
                await socket.send(messages.PING)
                assert await socket.recv(decode=False) in (messages.PONG, messages.PING)


async def test_many_who_come_at_once_are_let_in_one_after_the_other(tmp_path: Path) -> None:
    options = CoreOptions(admission=AdmissionPolicy(hellos_per_turn=1), asked_max=1)
    async with running_server(tmp_path, options=options) as server, AsyncExitStack() as stack:

        async def one(number: int) -> None:
            join = h_peer if number % 2 else y_peer
            peer = await stack.enter_async_context(join(server, f"document-{number % 5}"))
            await peer.sync()
            await peer.sync()

        await asyncio.gather(*map(one, range(40)))


async def test_text_is_no_message(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as peer:
        await peer.say_text("hello")
        assert await peer.closed_with() == (4400, "bad_frame")


async def test_a_malformed_update_is_answered_by_a_close_with_its_reason(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as peer:
        await peer.sync()
        await peer.say(messages.update_message(b"\x01\x01\x01\x00\x84\x01\x05\x01a\x07"))
        assert await peer.closed_with() == (4400, "bad_update")


async def test_a_message_over_its_limit_is_final_where_it_would_come_again(tmp_path: Path) -> None:
    """Apps do not come back after 4413. What they said before their token was known they say differently next time."""
    async with running_server(tmp_path) as server:
        for join in (y_peer, h_peer):
            async with join(server) as peer:
                await peer.sync()
                with suppress(ConnectionClosed):  # it is not read to its end
                    await peer.say(messages.update_message(bytes(4 << 20)))
                assert await peer.closed_with() == (4413, "too_big")
        async with h_peer(server, token="") as peer:
            with suppress(ConnectionClosed):
                await peer.say(bytes(257 << 10))
            assert (await peer.closed_with())[0] == 1009
        async with new_device(server.url) as device:  # the library's parser is lent to all
            await (await device.open("main")).wait_current(WITHIN_S)


async def test_a_presence_over_its_limit_is_not_relayed_and_nothing_ends(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as peer, y_peer(server) as other:
        await other.sync()
        await peer.say(messages.step_1(EMPTY_STATE_VECTOR))
        await peer.say(messages.awareness([ClientState(9, 1, f'"{"x" * 5_000}"')]))
        await peer.sync()
        for clock, state in ((2, '"ж"'), (3, f'"{"x" * 5_000}"'), (4, f'"{"語" * 1_350}"'), (5, '"end"')):
            await peer.say(messages.awareness([ClientState(9, clock, state)]))
        for clock, state in ((2, '"ж"'), (4, f'"{"語" * 1_350}"'), (5, '"end"')):
            assert await other.hear_of(1) == messages.awareness([ClientState(9, clock, state)])
        await peer.sync()


@pytest.mark.parametrize("state", ["{nope", "NaN", "1e999", "[" * 3_000])
@pytest.mark.parametrize("is_open", [False, True], ids=["before it is open", "open"])
async def test_awareness_that_is_no_json_ends_its_document(tmp_path: Path, state: str, is_open: bool) -> None:
    said = messages.awareness([ClientState(9, 1, state)])
    async with running_server(tmp_path) as server:
        async with y_peer(server) as peer:
            await (peer.sync() if is_open else peer.say(messages.step_1(EMPTY_STATE_VECTOR)))
            await peer.say(said)
            assert await peer.closed_with() == (4400, "bad_frame")
        async with h_peer(server) as peer:
            await (peer.sync() if is_open else peer.say(messages.step_1(EMPTY_STATE_VECTOR)))
            await peer.say(said)
            while (message := await peer.hear())[:2] != b"\x02\x01":
                pass
            assert message[3:].startswith(b"bad_frame")
            socket = peer._socket
            other = messages.sized(b"other")
            await socket.send(other + b"\x02\x00" + messages.sized(make_token("alice", "web").encode()))
            await socket.send(other + messages.step_1(EMPTY_STATE_VECTOR))
            async with asyncio.timeout(WITHIN_S):
                while not (await socket.recv(decode=False)).startswith(other + b"\x00\x01"):
                    pass


async def test_a_gap_is_answered_by_asking_for_the_clients_state(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as peer:
        first, second = text_updates(1, ["one ", "two"])
        await peer.sync()
        assert (await peer.hear())[:2] == b"\x00\x00"
        await peer.say(messages.step_2(b"\x00\x00"), messages.update_message(second))
        assert (await peer.hear()) == messages.step_1(EMPTY_STATE_VECTOR)
        whole = Replica.load([first, second])
        await peer.say(messages.step_2(whole.state()))
        async with y_peer(server) as late:
            while late.replica.values() != {"body": "one two"}:
                await late.sync()


async def test_what_is_known_already_is_not_written_again(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as peer, h_peer(server) as other:
        author = Replica.load(text_updates(1, [f"word {number} " for number in range(100)]))
        await peer.sync()
        await peer.say(messages.step_2(author.state()))
        await other.sync()
        while other.replica.values() != author.values():
            await other.sync()
        head_seq = (await server.storage.load(MAIN)).head_seq
        await other.hear_of(0)
        for _ in range(3):
            await other.say(messages.step_2(author.state()))
        assert await other.hear_of(8) == b"\x08\x01"
        assert (await server.storage.load(MAIN)).head_seq == head_seq
        more = Replica.load([author.state(), *text_updates(2, ["new"])])
        await other.say(messages.step_2(more.state()))
        stored = await server.storage.load(MAIN)
        while stored.head_seq == head_seq:
            stored = await server.storage.load(MAIN)
        assert stored.entries[-1].update_bytes < len(author.state()), "only what is new was logged"


async def test_a_guest_is_not_shown_under_the_client_id_of_who_has_left(tmp_path: Path) -> None:
    guests = make_token("guest", "web", docs={"alice/main": "r"})
    async with running_server(tmp_path) as server, y_peer(server) as reader:
        await reader.sync()
        async with y_peer(server) as tab:
            await tab.sync()
            await tab.say(messages.awareness([ClientState(17, 1, '{"name":"Alice"}')]))
            assert await reader.hear_of(1) == messages.awareness([ClientState(17, 1, '{"name":"Alice"}')])
        assert await reader.hear_of(1) == messages.awareness([ClientState(17, 1, "null")])
        async with y_peer(server, "alice/main", token=guests) as thief, y_peer(server) as tab:
            await thief.sync()
            await thief.say(messages.awareness([ClientState(17, 1 << 50, '{"name":"Alice"}')]))
            await thief.sync()  # it was heard
            await tab.sync()
            await tab.say(messages.awareness([ClientState(17, 2, '{"name":"Alice"}')]))
            assert await reader.hear_of(1) == messages.awareness([ClientState(17, 2, '{"name":"Alice"}')])


# --- bounds


async def test_who_opens_no_document_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yjs_socket, "TOKEN_WITHIN_S", 0.1)
    async with running_server(tmp_path) as server, h_peer(server, token="") as peer:
        assert await peer.closed_with() == (4401, "auth_timeout")


async def test_a_hocuspocus_socket_may_be_there_long_before_its_first_document(tmp_path: Path) -> None:
    options, transport = CoreOptions(hello_timeout_s=0.1), TransportOptions(ping_interval_s=0.05, ping_timeout_s=0.5)
    async with running_server(tmp_path, options=options, transport=transport) as server:
        host, port = server.address
        async with connect(f"ws://{host}:{port}/hocuspocus", proxy=None, ping_interval=None) as socket:
            async with asyncio.timeout(WITHIN_S):
                for _ in range(2):  # more than any device has for its HELLO
                    assert await socket.recv(decode=False) == messages.PING
            peer = Peer(socket, messages.sized(b"main"))
            await peer.say(b"\x02\x00" + messages.sized(make_token("alice", "web").encode()))
            await socket.send(messages.sized(b"main") + messages.step_1(EMPTY_STATE_VECTOR))
            while (await socket.recv(decode=False))[:7] != messages.sized(b"main") + b"\x00\x01":
                pass


async def test_an_overloaded_server_sends_apps_away_for_a_while(tmp_path: Path) -> None:
    options = CoreOptions(admission=AdmissionPolicy(memory_bytes=1))
    async with running_server(tmp_path, options=options) as server:
        await wait_until(lambda: server.metric("syncline_overloaded"))
        async with y_peer(server) as peer:
            assert await peer.closed_with() == (1013, "overloaded")
        async with h_peer(server) as peer:
            assert await peer.closed_with() == (1013, "overloaded")


async def test_a_user_has_a_bounded_number_of_documents_open(tmp_path: Path) -> None:
    async with running_server(tmp_path, options=CoreOptions(sessions_per_user=1)) as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(y_peer(server, str(number))) for number in range(5)]
        assert await peers[-1].closed_with() == (1013, "rate_limited")
        await peers[0].sync()
        device = await stack.enter_async_context(new_device(server.url))
        await (await device.open("main")).wait_current(WITHIN_S)


async def test_a_flood_is_slowed_down_however_little_it_says(tmp_path: Path) -> None:
    options = CoreOptions(rates=Rates(updates_per_s=50, burst_s=0.2))
    async with running_server(tmp_path, options=options) as server, y_peer(server) as peer:
        await peer.sync()
        for _ in range(60):
            await peer.say(b"\x03")
        await wait_until(lambda: server.metric("syncline_reading_paused_total", {"why": "rate"}) > 0)
        await peer.sync()


async def test_a_reader_that_takes_nothing_is_brought_current_later(tmp_path: Path) -> None:
    transport = TransportOptions(outbox_bytes_max=64 << 10, outbox_drained_bytes=16 << 10, outbox_bytes_cap=512 << 10)
    async with (
        running_server(tmp_path, transport=transport) as server,
        y_peer(server, max_queue=1) as peer,
        new_device(server.url) as device,
    ):
        await peer.sync()
        connection = next(iter(server.driver.links._members.values())).socket._connection
        assert isinstance(connection, Connection)
        raw: socket.socket = connection._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        document = await device.open("main")
        while not server.metric("syncline_resyncs_total"):
            assert device.counters.ops_made < 500, "the server did not notice"
            write(document, "some text " * 3_000)
            await document.wait_durable(WITHIN_S)
            assert connection.buffered_bytes <= transport.outbox_bytes_max + 40_000
        for _ in range(3):
            write(document, "some text " * 3_000)
        await document.wait_durable(WITHIN_S)
        while peer.replica.values() != document.values():
            peer.take(await peer.hear())


async def test_a_name_that_no_document_can_have_is_not_kept(tmp_path: Path) -> None:
    longest = f"alice/{'a' * 128}\0".ljust(messages.NAME_BYTES_MAX, "s")
    async with running_server(tmp_path) as server:
        async with h_peer(server, longest) as peer:
            await peer.sync()
        async with h_peer(server, longest + "s") as peer:
            assert await peer.closed_with() == (4400, "bad_frame")


@pytest.mark.parametrize(
    ("said", "count"),
    [(b"\x03", 1_100), (b"\x03" + bytes(200_000), 60)],
    ids=["small", "large"],
)
async def test_what_is_for_no_open_document_is_bounded(tmp_path: Path, said: bytes, count: int) -> None:
    async with running_server(tmp_path) as server, y_peer(server) as bystander, h_peer(server, token="") as peer:
        with suppress(ConnectionClosed):
            for _ in range(count):
                await peer.say(said)
        assert (await peer.closed_with())[0] == 4400
        await bystander.sync()


async def test_pings_of_a_hocuspocus_socket_are_bounded(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        host, port = server.address
        async with connect(f"ws://{host}:{port}/hocuspocus", proxy=None, ping_interval=None) as socket:
            peer = Peer(socket)
            with suppress(ConnectionClosed):
                for _ in range(1_100):
                    await peer.say(messages.PING)
            assert await peer.closed_with() == (4400, "bad_frame")


async def test_a_silent_client_hears_a_message_before_it_takes_the_server_for_dead(tmp_path: Path) -> None:
    transport = TransportOptions(ping_interval_s=0.05)
    async with running_server(tmp_path, transport=transport) as server, y_peer(server) as peer:
        await peer.sync()
        await peer.hear_of(0)
        assert await peer.hear() == messages.NOBODY_NEW


@pytest.mark.parametrize("join", [y_peer, h_peer])
async def test_no_sign_of_life_comes_within_a_large_answer(
    tmp_path: Path, join: Callable[[RunningServer], AbstractAsyncContextManager[Peer]]
) -> None:
    """It would be a message within a message, and such a client would never have its document."""
    transport = TransportOptions(ping_interval_s=60)
    async with running_server(tmp_path, transport=transport) as server, join(server) as peer:
        await peer.sync()
        (member,) = server.driver.links._members.values()
        connection = member.socket._connection
        assert isinstance(connection, Connection)
        told = messages.stateless("in two parts")
        member.socket._send_fragment(member, Fragment(member.link.prefix + told[:4], is_first=True, is_last=False))
        connection._heard_at = float("-inf")
        connection._watch()
        member.socket._send_fragment(member, Fragment(told[4:], is_first=False, is_last=True))
        assert await peer.hear_of(5) == told
        await peer.sync()


async def test_a_document_may_be_larger_than_what_may_wait_for_a_reader(tmp_path: Path) -> None:
    options = CoreOptions(rates=Rates(bytes_per_s=1 << 30))
    transport = TransportOptions(outbox_bytes_max=64 << 10, outbox_drained_bytes=16 << 10, outbox_bytes_cap=512 << 10)
    async with running_server(tmp_path, options=options, transport=transport) as server, y_peer(server) as peer:
        await peer.sync()
        for update in text_updates(1, ["x" * 100_000] * 20):
            await peer.say(messages.update_message(update))
        stored = await server.storage.load(MAIN)
        while sum(entry.update_bytes for entry in stored.entries) < 2_000_000:
            stored = await server.storage.load(MAIN)
        async with y_peer(server) as late, h_peer(server) as other:
            await late.sync()
            assert late.replica.v1_bytes > 2_000_000
            assert (await late.hear())[:2] == b"\x00\x00", "the message has ended where it should"
            await other.sync()
            assert other.replica.v1_bytes > 2_000_000

"""A WebSocket of the transport, from its handshake to its end, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import pytest
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from crdt.protocol.frames import PATH, SUBPROTOCOL
from server.runtime.listener import Listener
from server.runtime.transport import TransportOptions
from server.runtime.wire import encode_message
from tests.integration.transport_peers import Peer, RecordingSink, close_frame, masked, request, serving
from tests.support import wait_until

SMALL = TransportOptions(head_bytes_max=2048, hello_bytes_max=100, message_bytes_max=1000, idle_frames_max=50)
SOON_S = 0.05


# --- handshake


async def test_a_library_client_is_served() -> None:
    async with serving(sink=RecordingSink(echo=True)) as served:
        host, port = served.listener.address
        uri = f"ws://{host}:{port}{PATH}?app=notes"
        headers = {"Authorization": "Bearer a.b.c"}
        subprotocols = [websockets.Subprotocol(SUBPROTOCOL)]
        async with websockets.asyncio.client.connect(
            uri, subprotocols=subprotocols, additional_headers=headers
        ) as client:
            assert client.subprotocol == SUBPROTOCOL
            assert client.response is not None
            assert "Sec-WebSocket-Extensions" not in client.response.headers
            await client.send(b"hello")
            assert await client.recv() == b"hello"
            assert (await client.ping()) is not None
        assert client.close_code == 1000
        assert served.sink.bearers == ["a.b.c"]
        await wait_until(lambda: served.sink.closed == [1])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 101),
        ({"Sec_WebSocket_Protocol": "other, syncline.v1"}, 101),
        ({"Sec_WebSocket_Protocol": "other"}, 400),
        ({"Sec_WebSocket_Version": "8"}, 400),
        ({"Upgrade": "h2c"}, 426),
        ({"Origin": "https://app.example"}, 101),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_what_is_negotiated(headers: dict[str, str], status: int) -> None:
    async with serving(TransportOptions(origins=("https://app.example",))) as served, Peer.tcp(served) as peer:
        answer = await peer.upgrade(headers=headers)
        assert answer.split(b" ")[1] == str(status).encode()
        if status == 101:
            assert (b"sec-websocket-protocol" in answer.lower()) == ("Sec_WebSocket_Protocol" in headers)
        else:
            await peer.at_end()
            assert served.listener.counters.handshakes_refused == 1
            assert not served.sink.connections


@pytest.mark.parametrize(("origins", "status"), [((), 403), (("*",), 101)])
async def test_browsers_are_served_where_their_origin_is_listed(origins: tuple[str, ...], status: int) -> None:
    async with serving(TransportOptions(origins=origins)) as served, Peer.tcp(served) as peer:
        answer = await peer.upgrade(headers={"Origin": "https://anything.example"})
        assert answer.split(b" ")[1] == b"%d" % status


@pytest.mark.parametrize("query", ["token=a.b.c", "x=1&Access_Token=", "%74oken=a", "token"])
@pytest.mark.parametrize("path", [PATH, "/healthz"])
async def test_a_token_in_a_url_is_refused(path: str, query: str) -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        assert b" 400 " in await peer.upgrade(f"{path}?{query}")
        assert b"token does not belong in a URL" in await peer.at_end()
        assert not served.sink.connections


async def test_what_follows_the_request_in_its_segment_is_received() -> None:
    async with serving(sink=RecordingSink(echo=True)) as served, Peer.tcp(served) as peer:
        early = masked(Frame(Opcode.PING, b"early"), Frame(Opcode.BINARY, b"hello"))
        assert b" 101 " in await peer.upgrade(then=early)
        frames = [await peer.frame(), await peer.frame()]
        assert sorted(frame.opcode for frame in frames) == [Opcode.BINARY, Opcode.PONG]
        assert served.sink.messages == [b"hello"]


async def test_a_request_may_come_byte_by_byte() -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        for byte in request():
            peer.writer.write(bytes((byte,)))
            await peer.writer.drain()
        assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("said", [b"", b"GET /v1/sync HT", request()[:-2]])
async def test_a_head_that_is_not_whole_in_time_is_refused(said: bytes) -> None:
    async with serving(TransportOptions(open_timeout_s=SOON_S)) as served, Peer.tcp(served) as peer:
        peer.writer.write(said)
        assert b" 408 " in await peer.at_end()


@pytest.mark.parametrize("path", [PATH, "/healthz"])
async def test_a_head_without_end_is_refused_at_its_bound(path: str) -> None:
    async with serving(SMALL) as served, Peer.tcp(served) as peer:
        peer.writer.write(request(path)[:-2] + b"X: " + bytes(SMALL.head_bytes_max))
        assert b" 431 " in await peer.at_end()


async def test_a_whole_head_over_the_bound_is_refused_as_well() -> None:
    async with serving(SMALL) as served, Peer.tcp(served) as peer:
        peer.writer.write(request(X="x" * SMALL.head_bytes_max))
        assert b" 431 " in await peer.at_end()


# --- messages


async def test_messages_of_every_length_come_through_in_order() -> None:
    async with serving(sink=RecordingSink(echo=True)) as served, Peer.websocket(served) as peer:
        messages = [bytes(length) for length in (0, 1, 125, 126, 65535, 65536, 200_000)]
        peer.say(*messages)
        assert [await peer.message() for _ in messages] == messages


async def test_fragments_make_one_message_with_pings_answered_between_them() -> None:
    async with serving() as served, Peer.websocket(served) as peer:
        peer.send(
            Frame(Opcode.BINARY, b"one ", fin=False),
            Frame(Opcode.PING, b"1"),
            Frame(Opcode.CONT, b"", fin=False),
            Frame(Opcode.CONT, b"two ", fin=False),
            Frame(Opcode.PING, b"2"),
            Frame(Opcode.CONT, b"three"),
            Frame(Opcode.BINARY, b"next"),
        )
        pongs = [await peer.frame(), await peer.frame()]
        assert [(frame.opcode, bytes(frame.data)) for frame in pongs] == [(Opcode.PONG, b"1"), (Opcode.PONG, b"2")]
        assert served.sink.messages == [b"one two three", b"next"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (masked(Frame(Opcode.TEXT, b"hello")), 4400),
        (masked(Frame(Opcode.TEXT, b"hel", fin=False), Frame(Opcode.CONT, b"lo")), 4400),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (b"\xc2\x80\x00\x00\x00\x00", 1002),
        (encode_message(b"not masked"), 1002),
        (masked(Frame(Opcode.CONT, b"of nothing")), 1002),
        (masked(Frame(Opcode.BINARY, b"", fin=False), Frame(Opcode.BINARY, b"")), 1002),
        (masked(Frame(Opcode.CLOSE, b"\x03\xe8\xff")), 1007),
    ],
    ids=[
        "text",
        "text in fragments",
        "reserved opcode",
        "reserved bit",
        "not masked",
        "continues nothing",
        "message within a message",
        "reason is not UTF-8",
    ],
)
async def test_who_breaks_the_protocol_is_closed_and_what_came_before_counts(bad: bytes, code: int) -> None:
    async with serving() as served, Peer.websocket(served) as peer:
        peer.writer.write(masked(Frame(Opcode.BINARY, b"good")) + bad + masked(Frame(Opcode.BINARY, b"late")))
        closed, reason = await peer.closed_with()
        assert closed == code
        if code == 4400:
            assert reason == "bad_frame"
        assert served.sink.messages == [b"good"]


async def test_large_messages_are_for_those_who_said_hello() -> None:
    async with serving(SMALL) as served:
        async with Peer.websocket(served) as peer:
            peer.say(bytes(100), bytes(101))
            assert (await peer.closed_with())[0] == 1009
        async with Peer.websocket(served) as peer:
            await wait_until(lambda: 2 in served.sink.connections)
            served.sink.connections[2].accept_large_messages()
            peer.say(bytes(1000))
            peer.send(Frame(Opcode.BINARY, bytes(600), fin=False), Frame(Opcode.CONT, bytes(401)))
            assert (await peer.closed_with())[0] == 1009
        assert [len(message) for message in served.sink.messages] == [100, 1000]


@pytest.mark.parametrize("frame", [Frame(Opcode.PING, b""), Frame(Opcode.PONG, b"")])
async def test_a_flood_of_control_frames_is_cut_off(frame: Frame) -> None:
    async with serving(SMALL) as served, Peer.websocket(served) as peer:
        peer.send(*[frame] * 1000)
        while (answer := await peer.frame()).opcode is Opcode.PONG:
            pass
        assert answer.opcode is Opcode.CLOSE


async def test_a_flood_of_empty_fragments_is_cut_off() -> None:
    async with serving(SMALL) as served, Peer.websocket(served) as peer:
        peer.send(Frame(Opcode.BINARY, b"", fin=False), *[Frame(Opcode.CONT, b"", fin=False)] * 1000)
        assert (await peer.closed_with())[0] == 1008


# --- signs of life


async def test_a_silent_peer_is_pinged_and_cut_when_it_does_not_answer() -> None:
    async with (
        serving(TransportOptions(ping_interval_s=SOON_S, ping_timeout_s=SOON_S)) as served,
        Peer.websocket(served) as peer,
    ):
        assert (await peer.frame()).opcode is Opcode.PING
        await wait_until(lambda: served.sink.closed == [1])
        assert served.listener.counters.connections_aborted == 1


async def test_any_traffic_is_life() -> None:
    options = TransportOptions(ping_interval_s=SOON_S, ping_timeout_s=0.2)
    async with serving(options) as served, Peer.websocket(served) as peer:
        for n in range(4):
            assert (await peer.frame()).opcode is Opcode.PING
            peer.send(Frame(Opcode.PONG, b"") if n % 2 else Frame(Opcode.BINARY, b"not a pong"))
        assert served.sink.closed == []


# --- ends


async def test_the_server_closes_after_what_it_had_queued() -> None:
    async with serving() as served, Peer.websocket(served) as peer:
        connection = served.sink.connections[1]
        connection.send(encode_message(b"one"))
        connection.send(encode_message(b"two"))
        connection.close(4409, "superseded")
        connection.close(1011, "a second close changes nothing")
        connection.send(encode_message(b"too late"))
        assert [await peer.message(), await peer.message()] == [b"one", b"two"]
        assert await peer.closed_with() == (4409, "superseded")
        peer.say(b"nobody listens")
        peer.send(close_frame(4409))
        assert await peer.at_end() == b""
        await wait_until(lambda: served.sink.closed == [1])
        assert served.sink.messages == []
        assert served.listener.counters.connections_aborted == 0


async def test_a_peer_that_does_not_answer_the_close_is_cut() -> None:
    async with serving(TransportOptions(close_timeout_s=SOON_S)) as served, Peer.websocket(served) as peer:
        served.sink.connections[1].close(1012, "shutting_down")
        assert await peer.closed_with() == (1012, "shutting_down")
        await wait_until(lambda: served.sink.closed == [1])
        assert served.listener.counters.connections_aborted == 1


async def test_the_peers_last_message_and_close_in_one_segment_both_count() -> None:
    async with serving() as served, Peer.websocket(served) as peer:
        peer.send(Frame(Opcode.BINARY, b"last"), close_frame(1000, "bye"))
        assert await peer.closed_with() == (1000, "bye")
        assert served.sink.messages == [b"last"]
        assert served.sink.closed == [1], "told at the close frame, not at the end of TCP"
        assert await peer.at_end() == b""


async def test_a_sink_may_close_while_the_peers_close_waits_behind_the_message() -> None:
    class Closing(RecordingSink):
        def messages_received(self, session: int, messages: list[bytes]) -> None:
            super().messages_received(session, messages)
            self.connections[session].close(4400, "bad_frame")
            assert self.closed == [], "never told from inside a call"

    async with serving(sink=Closing()) as served, Peer.websocket(served) as peer:
        peer.send(Frame(Opcode.BINARY, b"bad"), close_frame(1000))
        assert (await peer.closed_with())[0] == 4400
        await wait_until(lambda: served.sink.closed == [1])
        assert served.errors == []


async def test_a_half_closed_socket_ends_the_session() -> None:
    async with serving() as served, Peer.websocket(served) as peer:
        peer.say(b"last")
        peer.writer.write_eof()
        assert await peer.at_end() == b""
        await wait_until(lambda: served.sink.closed == [1])
        assert served.sink.messages == [b"last"]


@pytest.mark.parametrize(
    "said",
    [b"", b"\x82", masked(Frame(Opcode.BINARY, b"half", fin=False))],
    ids=["nothing", "half a frame", "a fragment"],
)
async def test_a_reset_connection_ends_the_session(said: bytes) -> None:
    async with serving() as served, Peer.websocket(served) as peer:
        peer.writer.write(said)
        await peer.writer.drain()
        raw: socket.socket = peer.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        peer.writer.transport.abort()
        await wait_until(lambda: served.sink.closed == [1])
        connection = served.sink.connections[1]
        connection.send(encode_message(b"to nobody"))
        connection.close(1000)
        connection.await_drain()
        connection.pause_reading()
        connection.resume_reading()
        connection.abort()
        assert connection.buffered_bytes == 0


@pytest.mark.parametrize("failing", ["socket_opened", "messages_received", "socket_closed"])
async def test_what_a_sink_raises_costs_that_connection_only(failing: str) -> None:
    @dataclass
    class Failing(RecordingSink):
        fail: bool = True

        def check(self, method: str) -> None:
            if self.fail and method == failing:
                self.fail = False
                raise RuntimeError(method)

        def socket_opened(self, connection: object, bearer: str | None) -> int:
            self.check("socket_opened")
            return super().socket_opened(connection, bearer)  # type: ignore[arg-type]

        def messages_received(self, session: int, messages: list[bytes]) -> None:
            self.check("messages_received")
            super().messages_received(session, messages)

        def socket_closed(self, session: int) -> None:
            super().socket_closed(session)
            self.check("socket_closed")

    async with serving(sink=Failing(echo=True)) as served:
        async with Peer.websocket(served) as peer:
            peer.say(b"first")
            if failing != "socket_closed":
                assert await peer.closed_with() == (1011, "internal")
        await wait_until(lambda: served.errors)
        async with Peer.websocket(served) as peer:
            peer.say(b"second")
            assert await peer.message() == b"second"
        assert [str(error) for error in served.errors] == [failing]


# --- the listener


async def test_a_port_in_use_is_the_callers_to_report() -> None:
    async with serving() as served:
        _, port = served.listener.address
        with pytest.raises(OSError, match="in use"):
            await Listener.open("127.0.0.1", port, sink=RecordingSink(), app=served.app, on_error=served.errors.append)


async def test_shutdown_refuses_the_new_and_closes_the_old() -> None:
    async with (
        serving(TransportOptions(close_timeout_s=SOON_S)) as served,
        Peer.websocket(served) as polite,
        Peer.websocket(served) as deaf,
        Peer.tcp(served) as undecided,
    ):
        served.listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*served.listener.address)
        served.listener.close_all(1012, "shutting_down")
        assert await polite.closed_with() == (1012, "shutting_down")
        polite.send(close_frame(1012))
        assert await undecided.at_end() == b""
        await served.listener.wait_closed(within_s=5)
        assert await deaf.closed_with() == (1012, "shutting_down")
        assert sorted(served.sink.closed) == [1, 2]


async def test_bytes_and_connections_are_counted() -> None:
    async with serving(sink=RecordingSink(echo=True)) as served:
        async with Peer.websocket(served) as peer:
            before = served.listener.counters.bytes_received, served.listener.counters.bytes_sent
            peer.say(bytes(40))
            await peer.message()
            counters = served.listener.counters
            assert (counters.bytes_received - before[0], counters.bytes_sent - before[1]) == (46, 42)
            assert (counters.connections_accepted, counters.sockets_opened, counters.sockets_closed) == (1, 1, 0)
        await wait_until(lambda: counters.sockets_closed == 1)


async def test_messages_to_many_go_out_in_one_write_each() -> None:
    async with serving() as served, Peer.websocket(served) as one, Peer.websocket(served) as two:
        frames = [encode_message(b"%d" % n) for n in range(100)]
        before = served.listener.counters.bytes_sent
        for frame in frames:
            for connection in served.sink.connections.values():
                connection.send(frame)
        assert served.listener.counters.bytes_sent == before, "nothing is written before the turn ends"
        assert await one.message() == await two.message() == b"0"
        assert served.listener.counters.bytes_sent == before + 2 * sum(map(len, frames))


async def test_a_client_of_the_library_is_told_why() -> None:
    async with serving() as served:
        host, port = served.listener.address
        async with websockets.asyncio.client.connect(f"ws://{host}:{port}{PATH}") as client:
            await client.send("text")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4400, "bad_frame")

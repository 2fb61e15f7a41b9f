"""What the Sans-I/O core of websockets does that the transport rests on."""

from __future__ import annotations

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol


def server() -> ServerProtocol:
    return ServerProtocol(state=OPEN)


def masked(payload: bytes, *, fin: bool = True, opcode: Opcode = Opcode.BINARY) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=True)


def test_frames_of_a_server_are_unmasked_and_equal_for_every_receiver() -> None:
    sent = []
    for protocol in (server(), server()):
        protocol.send_binary(b"payload")
        sent.append(b"".join(protocol.data_to_send()))
    assert sent[0] == sent[1] == b"\x82\x07payload"
    assert Frame(Opcode.BINARY, b"payload").serialize(mask=False) == sent[0]


def test_events_are_frames_not_messages() -> None:
    protocol = server()
    protocol.receive_data(masked(b"one ", fin=False) + masked(b"", opcode=Opcode.PING))
    protocol.receive_data(masked(b"message", opcode=Opcode.CONT))
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    assert [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames] == [
        (Opcode.BINARY, b"one ", False),
        (Opcode.PING, b"", True),
        (Opcode.CONT, b"message", True),
    ]


def test_an_unmasked_frame_of_a_device_ends_the_connection() -> None:
    protocol = server()
    protocol.receive_data(Frame(Opcode.BINARY, b"payload").serialize(mask=False))
    assert protocol.parser_exc is not None
    assert protocol.close_expected()

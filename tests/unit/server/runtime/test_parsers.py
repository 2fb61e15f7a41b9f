"""A parser goes back only where the next connection can tell nothing of the one before."""

from __future__ import annotations

from websockets.frames import Frame, Opcode

from server.runtime.parsers import Parser, lent_parser, takes_back


def fed(frame: Frame) -> Parser:
    parser = lent_parser(1000)
    parser.receive_data(frame.serialize(mask=True))
    parser.data_to_send()
    parser.events_received()
    return parser


def test_between_two_messages_it_is_free_for_others_with_bounds_of_their_own() -> None:
    parser = fed(Frame(Opcode.BINARY, b"whole"))
    assert takes_back(parser)
    assert lent_parser(7) is parser
    assert parser.max_message_size == 7
    assert not parser.events_received()
    assert not parser.data_to_send()


def test_it_is_kept_within_a_message_and_from_the_first_close_frame_on() -> None:
    assert not takes_back(fed(Frame(Opcode.BINARY, b"part", fin=False)))
    assert not takes_back(fed(Frame(Opcode.CLOSE, b"")))
    assert not takes_back(fed(Frame(Opcode.CONT, b"of nothing")))

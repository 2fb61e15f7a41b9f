"""The frames that the golden files hold, as values: one coherent story, which docs/PROTOCOL.md tells too.

Alice's phone opens her empty document, writes `Hi` and then `Hi!`, and her laptop sets `x` to 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from crdt.protocol import frames
from crdt.protocol.frames import Access, Cursor, DeviceFrame, Mode, Open, Resume, ServerFrame

FILE = Path(__file__).parent / "v1.0" / "frames.json"

EPOCH = bytes.fromhex("0f1e2d3c4b5a6978")
OLD_EPOCH = bytes.fromhex("aaaaaaaaaaaaaaaa")
PAYLOAD = bytes(range(0xA0, 0xB0))
HI = bytes.fromhex("010105000401057469746c6502486900")
"""Client 5 writes `Hi` into the text `title`."""
BANG = bytes.fromhex("01010502840501012100")
"""Client 5 writes `!` after it."""
SET_X = bytes.fromhex("01010900280104646174610178017d0100")
"""Client 9 sets `x` of the map `data` to 1."""
CHAIN_1 = bytes.fromhex("4bc1839aad27a3c4")
CHAIN_2 = bytes.fromhex("a22d4013e7302b90")
DIGEST = bytes.fromhex("39ca690f47399689d62b42355de4c6cf")
LONG = (b"a" * 700, b"b" * 500)
"""Long enough to be deflated. Not Yjs updates: the codec does not look into them."""

TOKEN = "eyJ.e30.c2ln"

EXACT: dict[str, DeviceFrame | ServerFrame] = {
    "hello": frames.Hello(1, TOKEN, "phone", "demo/1", {"deflate": True}, (Open(1, "main", None, b"\x00"),)),
    "hello-bearer": frames.Hello(1, "", "phone", "", {}, ()),
    "open": Open(2, "bob/shared", Cursor(EPOCH, 300), b"\x01\x05\x02"),
    "open-cursor-only": Open(3, "main", Cursor(EPOCH, 1)),
    "open-resume": Open(4, "main", Cursor(EPOCH, 1), b"\x01\x05\x02", Resume(PAYLOAD, 65536)),
    "push": frames.Push(3, 1, (HI,)),
    "push-second": frames.Push(3, 2, (BANG,)),
    "push-two": frames.Push(3, 1, (HI, BANG)),
    "push-heal": frames.Push(3, 1, (HI,), heal=True),
    "leave": frames.Leave(3),
    "presence": frames.Presence(3, b"\x81\xa1x\x07"),
    "presence-gone": frames.Presence(3, None),
    "auth": frames.Auth(TOKEN),
    "ping": frames.Ping(1),
    "resync": frames.Resync(3, Cursor(EPOCH, 2), b"\x02\x05\x02\x09\x01"),
    "resync-no-cursor": frames.Resync(3, None, b"\x00"),
    "audit": frames.Audit(3, 3, DIGEST),
    "report": frames.Report({"sync_failures": 2, "outbox_age_s": 1.5}),
    "nonce": frames.Nonce(PAYLOAD),
    "welcome": frames.Welcome(1, "s-1", "alice", 1_767_225_600_000, {"update_bytes": 65536}, 30_000, 1_767_229_200_000),
    "opened": frames.Opened(1, 3, Mode.DIFF, Cursor(EPOCH, 0), (), 0, None, Access.WRITE, False, frames.CHAIN_START),
    "opened-current": frames.Opened(3, 3, Mode.CURRENT, Cursor(EPOCH, 1), (), 1, None, Access.WRITE, False, CHAIN_1),
    "opened-tail": frames.Opened(0, 3, Mode.TAIL, Cursor(EPOCH, 3), (SET_X,), 2, None, Access.READ, False, CHAIN_2),
    "opened-new-epoch": frames.Opened(
        1, 3, Mode.DIFF, Cursor(OLD_EPOCH, 9), (HI,), 0, b"\x01\x05\x02", Access.WRITE, False, frames.CHAIN_START
    ),
    "opened-need-sv": frames.Opened(3, 3, Mode.NEED_SV, Cursor(EPOCH, 9), (), 1, None, Access.WRITE, False, CHAIN_1),
    "opened-chunked": frames.Opened(
        4, 3, Mode.DIFF, Cursor(EPOCH, 9), (), 1, None, Access.WRITE, True, CHAIN_1, PAYLOAD
    ),
    "delta": frames.Delta(3, 2, (SET_X,)),
    "delta-empty": frames.Delta(3, 4, ()),
    "ack": frames.Ack(3, 1, 1, CHAIN_1),
    "ack-second": frames.Ack(3, 2, 3, CHAIN_2),
    "ack-again": frames.Ack(3, 2, 0, CHAIN_2),
    "device-presence": frames.DevicePresence(3, "alice/laptop", b"\x81\xa1x\x07"),
    "device-presence-gone": frames.DevicePresence(3, "alice/laptop", None),
    "error": frames.Error(
        None, 3, "missing_deps", "needs (9, 0)", "after_resync", None, {"op": 2, "sv": b"\x01\x05\x02"}
    ),
    "error-open": frames.Error(2, None, "forbidden", "no grant", "never"),
    "error-later": frames.Error(None, None, "rate_limited", "slow down", "later", 1500, {"op": 7}),
    "goaway": frames.GoAway("restart", 4200),
    "pong": frames.Pong(1, 1_767_225_600_123),
    "chunk": frames.Chunk(3, 65536, 65541, b"\xc4\x02\x00\x00\x01"),
    "expiring": frames.Expiring(60),
    "audited": frames.Audited(3, 3, True),
}
"""Frames by the names of their golden encodings: these decode to the value, and the value encodes to these bytes."""

READ: dict[str, DeviceFrame | ServerFrame | None] = {
    "hello-appended": EXACT["hello"],
    "open-short": Open(2, "main"),
    "open-appended": EXACT["open"],
    "push-short": EXACT["push"],
    "push-appended": EXACT["push"],
    "push-deflated": frames.Push(3, 7, LONG),
    "opened-short": EXACT["opened"],
    "opened-appended": EXACT["opened-chunked"],
    "opened-deflated": frames.Opened(1, 3, Mode.DIFF, Cursor(EPOCH, 9), LONG, 0, None, Access.READ, False, bytes(8)),
    "delta-deflated": frames.Delta(3, 5, LONG),
    "delta-appended": EXACT["delta"],
    "error-short": EXACT["error-open"],
    "audited-appended": EXACT["audited"],
    "device-optional": None,
    "server-optional": None,
}
"""Encodings that must be understood but are not what our encoder writes: shorter, longer, deflated by some zlib."""

ALL: dict[str, DeviceFrame | ServerFrame | None] = {**EXACT, **READ}


class Golden(NamedTuple):
    """One encoding. `sender` is `device` or `server`."""

    sender: str
    data: bytes


def load() -> dict[str, Golden]:
    """The golden encodings by name."""
    entries = json.loads(FILE.read_text())
    return {name: Golden(entry["from"], bytes.fromhex(entry["hex"])) for name, entry in entries.items()}

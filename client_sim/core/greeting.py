"""What goes into HELLO, and what WELCOME has to say."""

from __future__ import annotations

from collections.abc import Iterable

from client_sim.core.document import Document
from client_sim.core.keepalive import OPTION_QUIET, QUIET_S
from client_sim.core.login import Login
from crdt.ids import is_name
from crdt.limits import Limits
from crdt.protocol.codec import bad_frame
from crdt.protocol.frames import PROTOCOL_VERSION, Hello, Open, Welcome

STATE_VECTOR_BYTES = 128 << 10
"""State vectors in HELLO, all together: half of what it may have. Documents beyond it open after WELCOME."""


def opens(documents: Iterable[Document], limits: Limits) -> tuple[Open, ...]:
    """As many as it may have: all these documents are current after one round trip."""
    first: list[Open] = []
    size = 0
    most = min(limits.opens_per_hello, limits.documents_per_session)
    for document in documents:
        if len(first) == most or size > STATE_VECTOR_BYTES:
            break
        first.append(document.opening())
        size += len(first[-1].state_vector or b"")
    return tuple(first)


def hello(login: Login, nonce: bytes | None, name: str, agent: str, opens: tuple[Open, ...]) -> Hello:
    """There must be a token."""
    assert login.token is not None
    options = {"deflate": True, OPTION_QUIET: QUIET_S, **login.proof(nonce)}
    return Hello(PROTOCOL_VERSION, login.token, name, agent, options, opens)


def check_user(welcome: Welcome) -> None:
    """Raises PeerError for a user who has no name."""
    if not is_name(welcome.user):
        raise bad_frame(f"WELCOME to {welcome.user!r:.40}, which is nobody's name")


def limits_of(welcome: Welcome) -> Limits:
    """The server's; names that are not known are of a later version. Raises PeerError for what is no limit."""
    known = {name: value for name, value in welcome.limits.items() if name in Limits.__dataclass_fields__}
    for name, value in known.items():
        if type(value) is not int or value < 1:
            raise bad_frame(f"WELCOME with {value!r:.40} as the limit {name}")
    return Limits(**known)

"""Why a device or a document is not current: the codes, and what they mean to a user.

docs/DEVICES.md has the same table. Who is told of a reason is never told less than what to do.
"""

from __future__ import annotations

from typing import NamedTuple

from crdt.protocol.codes import CLOSE, Code

UNREACHABLE = "unreachable"
COME_BACK_LATER = "come_back_later"
NO_TOKEN = "no_token"
DEFECT = "defect"
STORE_FAILED = "store_failed"
STORE_REBUILT = "store_rebuilt"
OWNER_UNKNOWN = "owner_unknown"
SUSPENDED = "suspended"
RESTING = "resting"
EXPIRED_LOGIN = "expired_login"
OTHER_USER = "other_user"
WRONG_ADDRESS = "wrong_address"
"""What is at the server's address is no server of this protocol, or it is no address."""
TOO_MANY_OPEN = "too_many_open"
"""A server lets so many documents be open at once: this one waits for another to be closed."""
UNREADABLE = "unreadable"
"""A document's whole state, as the server sent it, can not be integrated."""

PLANNED = (None, SUSPENDED, RESTING)
"""Why a device is offline that is as it should be."""

AUTHENTICATE_AGAIN = 4401
REVOKED = CLOSE[Code.DEVICE_REVOKED]
TOO_LARGE = (CLOSE[Code.TOO_BIG], 1009)
DEFECTS = (CLOSE[Code.BAD_FRAME], *TOO_LARGE)
DEFECT_WAIT_S = 30.0
"""Close codes that mean a mistake in a program, which the next try will make again."""
GIVEN_UP = {
    CLOSE[Code.SUPERSEDED]: Code.SUPERSEDED,
    CLOSE[Code.UNSUPPORTED_VERSION]: Code.UNSUPPORTED_VERSION,
}
"""Close codes after which the device stays away until the app asks, with the reason that the app sees."""
SERVER_BUSY = (CLOSE[Code.SHUTTING_DOWN], CLOSE[Code.OVERLOADED], 4429)


def why_lost(code: int | None) -> str:
    """The reason of a connection that ended with this close code, None if it never was or broke."""
    if code in DEFECTS:
        return DEFECT
    return COME_BACK_LATER if code in SERVER_BUSY else UNREACHABLE


class Explanation(NamedTuple):
    """`what` is wrong, for the user; `advice` says what they, or their app, can do. Both are plain sentences."""

    what: str
    advice: str


_WAITS = "Nothing needs to be done: your changes are kept on this device, and are sent when it works again."
_KEPT = "What you changed is kept on this device."

EXPLANATIONS: dict[str, Explanation] = {
    UNREACHABLE: Explanation("The server can not be reached.", f"Check the network. {_WAITS}"),
    WRONG_ADDRESS: Explanation(
        "What answers at the server's address is not the server.",
        f"Check the address, and whether this network asks you to log in first. {_KEPT}",
    ),
    COME_BACK_LATER: Explanation("The server is busy or restarts.", _WAITS),
    NO_TOKEN: Explanation("The login service can not be reached.", f"Check the network. {_WAITS}"),
    DEFECT: Explanation(
        "This app and the server do not understand each other.", f"Update the app, or tell its makers. {_KEPT}"
    ),
    STORE_FAILED: Explanation(
        "The storage of this device is full or does not work.", "Free some space: nothing can be received until then."
    ),
    STORE_REBUILT: Explanation(
        "The storage of this device was damaged.", "What could be read was saved; the rest comes from the server."
    ),
    OWNER_UNKNOWN: Explanation(
        "The storage of this device was damaged, and does not say any more whose changes these are.",
        "Look at them, then let them go on, or put them away.",
    ),
    SUSPENDED: Explanation("The app is in the background.", "Open it to go on."),
    RESTING: Explanation("The connection rests to save the battery.", "It comes back by itself."),
    EXPIRED_LOGIN: Explanation("Your login has expired.", f"Log in again. {_KEPT}"),
    Code.BAD_TOKEN: Explanation(
        "The server does not accept this login for this device.",
        f"Log in again. If that does not help, tell the app's makers. {_KEPT}",
    ),
    OTHER_USER: Explanation(
        "Somebody else is logged in than whose data this is.", f"Log in as the user you were, or start afresh. {_KEPT}"
    ),
    TOO_MANY_OPEN: Explanation("Too many documents are open at once.", f"Close some of them. {_KEPT}"),
    UNREADABLE: Explanation("The document on the server can not be read here.", f"Update the app. {_KEPT}"),
    Code.DEVICE_REVOKED: Explanation(
        "This device was shut out by its owner.", "Its data was deleted. Log in again if you may use it."
    ),
    Code.SUPERSEDED: Explanation(
        "The same device is connected from somewhere else.", "Close the other one, or choose to go on here."
    ),
    Code.UNSUPPORTED_VERSION: Explanation("This app is too old for the server.", f"Update the app. {_KEPT}"),
    Code.DEVICE_FORKED: Explanation(
        "This device is a copy of another one, and needs a login of its own.", f"Log in again. {_KEPT}"
    ),
    Code.FORBIDDEN: Explanation(
        "You may not change this document, or not see it any more.", f"Ask its owner to share it with you. {_KEPT}"
    ),
    Code.TOO_BIG: Explanation(
        "The document is full, or a change is larger than the server takes.",
        f"Delete something or split the change. {_KEPT}",
    ),
    Code.TOO_EXPENSIVE: Explanation("A change is too complicated for the server.", f"Make it in parts. {_KEPT}"),
    Code.BAD_UPDATE: Explanation(
        "The server refuses a change made here.", "Export what was put aside, then go on with the server's document."
    ),
    Code.DOC_QUARANTINED: Explanation(
        "The server can not read this document; its operator was told.", f"Try again later. {_KEPT}"
    ),
    Code.RESET_REQUIRED: Explanation(
        "The document was reset on the server.", "Export what you changed, then take over the server's document."
    ),
}  # fmt: skip

UNKNOWN = Explanation("The server refuses, for a reason that this app does not know.", f"Update the app. {_KEPT}")


def explain(reason: str) -> Explanation:
    """What to tell a user of a status with this reason."""
    return EXPLANATIONS.get(reason, UNKNOWN)

"""One document of a device, for an asyncio app."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from client_sim.core import events
from client_sim.core.cache import Cache
from client_sim.core.checking import check_type
from client_sim.core.document import Document
from client_sim.core.pending import Pending
from client_sim.core.roots import Roots
from client_sim.core.status import State, Status
from client_sim.live import arguments
from crdt.update import StateVector
from crdt.values import Values


class Blocked(Exception):
    """What was waited for does not come of itself: `status.reason` says what the app, or the user, has to do."""

    def __init__(self, what: str, status: Status) -> None:
        super().__init__(f"{what} is {status}")
        self.status = status


def check_unblocked(what: str, status: Status) -> None:
    """Raises Blocked."""
    if status.state is State.BLOCKED:
        raise Blocked(what, status)


class Edits:
    """The edits that a document has now. `find` says who has it then; None if nobody has to any more."""

    def __init__(self, find: Callable[[], Document | None]) -> None:
        self._find = find
        self._look(find())

    def _look(self, holder: Document | None) -> None:
        self._holder = holder
        self._last_position = holder.copy.last_position if holder else 0

    @property
    def are_acknowledged(self) -> bool:
        """Where another one has the document since, all that was made until then counts."""
        if (holder := self._find()) is not self._holder:
            self._look(holder)
        return holder is None or holder.copy.is_acknowledged(self._last_position)


class Home(Protocol):
    """What a document needs of its device."""

    @property
    def status(self) -> Status: ...

    def feed(self, event: events.Event) -> None: ...

    def now(self) -> float: ...

    def core_of(self, name: str) -> Document: ...

    def key_of(self, name: str) -> str: ...

    def status_of(self, name: str) -> Status: ...

    def current_at(self, name: str) -> float | None: ...

    @property
    def cache(self) -> Cache: ...

    def close(self, name: str) -> None: ...

    async def wait(self, done: Callable[[], bool], within_s: float | None = None) -> None: ...


class AsyncDocument:
    """One document of an AsyncDevice. Reads and edits are local and immediate, online or not.

    It works as long as the device has the document open, and again when it is opened again. Everything raises NotOpen
    in between, and so do those who wait when it is closed.
    """

    def __init__(self, device: Home, name: str) -> None:
        self._device = device
        self._name = name
        self.max_stale_s: float | None = None
        """How old what is here may be for the app, in seconds; None: any age will do."""

    @property
    def name(self) -> str:
        """A document of the user's own goes without its owner once it is known who the user is."""
        self._name = self._device.key_of(self._name)
        return self._name

    @property
    def _core(self) -> Document:
        """Which the device has under this name now: after `close` and `open` another one. Raises NotOpen."""
        return self._device.core_of(self.name)

    @property
    def status(self) -> Status:
        """How it stands, why, and since when, in seconds since 1970."""
        return self._device.status_of(self.name)

    @property
    def pending(self) -> Pending:
        """Edits that the server has not acknowledged: how many, of how many bytes, the oldest of how many seconds."""
        return self._core.backlog(self._device.now())

    @property
    def peers(self) -> dict[str, bytes]:
        """What the others' devices, as `user/name`, tell of themselves now."""
        return dict(self._core.presence.peers)

    @property
    def aside(self) -> list[bytes]:
        """Edits, as v1 updates, that the server refused for good. Export them before `unblock`, which drops them."""
        return self._core.aside

    @property
    def as_of(self) -> float | None:
        """All that the server had then is here, in seconds since 1970; None if it has never answered."""
        return self._device.cache.as_of(self.name)

    @property
    def stale(self) -> bool:
        """True if what is here is older than `max_stale_s`, or the server has never answered; never of what is live."""
        return self._device.cache.is_stale(self.name, self.max_stale_s, self._device.now())

    def version(self) -> StateVector:
        """How much it has of each writer: whoever has the same has all that this device has, but for deletions."""
        return self._core.replica.state_vector()

    # --- reading; each costs a load of the whole document

    def values(self) -> Values:
        """The content as JSON values, by root; roots without content are left out."""
        return self._core.values()

    def text(self, root: str) -> str:
        """A text root's characters; empty if there are none."""
        check_type("root", root, str)
        return str(self.values().get(root, ""))

    def map(self, root: str) -> dict[str, Any]:
        """A map root's values by key, as JSON has them; empty if there are none."""
        check_type("root", root, str)
        value = self.values().get(root, {})
        return value if isinstance(value, dict) else {}

    def list(self, root: str) -> list[Any]:
        """A list root's elements, as JSON has them; empty if there are none."""
        check_type("root", root, str)
        value = self.values().get(root, [])
        return value if isinstance(value, list) else []

    # --- writing

    def edit(self, change: Callable[[Roots], object]) -> None:
        """Run `change(roots)` as one edit, which is durable on this device when this returns.

        It goes to the server as the device's policy says. Raises what `change` raises, EditTooBig (over the server's
        `update_bytes`, 20,000 things put in or values nested 32 deep: split it) and StoreError (the disk is full): then
        the document is as it was. Inside of `change` read what it is given: another edit, or another read of the
        document, raises RuntimeError.
        """
        arguments.check_function("change", change)
        self._device.feed(events.Edited(self.name, change))

    def set_presence(self, payload: bytes | None) -> None:
        """Tell the others on the document something ephemeral, of at most 4,096 bytes; None takes it back."""
        check_type("payload", payload, bytes, None)
        self._device.feed(events.PresenceSet(self.name, payload))

    def audit(self) -> None:
        """Compare with the server's document, and mend a difference. Only where nothing is pending."""
        self._device.feed(events.AuditRequested(self.name))

    def unblock(self) -> None:
        """Go on, after the app has seen why the document is blocked."""
        self._device.feed(events.Unblocked(self.name))

    def close(self) -> None:
        """As AsyncDevice.close."""
        self._device.close(self.name)

    # --- waiting

    async def wait_current(self, within_s: float | None = None) -> None:
        """Return once the server's state is in and all edits are acknowledged. Raises TimeoutError and Blocked.

        Who waits is not made to wait for the policy: what waits is sent now, and a connection that rests comes back.
        """
        asked_at = self._device.now()
        self._device.feed(events.Hurried())
        await self._device.wait(lambda: self._is_current(asked_at), within_s)

    def _is_current(self, asked_at: float) -> bool:
        """A saver hangs up as soon as it is current: it counts that it was."""
        since = self._device.current_at(self.name)
        return self._unblocked().state is State.CURRENT or (since is not None and since > asked_at)

    async def wait_fresh(self, within_s: float | None = None) -> None:
        """Return once it is not `stale`, or the server has been heard since. Raises TimeoutError and Blocked.

        Edits of this device may still wait. As `wait_current` it does not wait for the policy.
        """
        asked_at = time.time()
        if self.stale:
            self._device.feed(events.Hurried())
        await self._device.wait(lambda: self._is_fresh(asked_at), within_s)

    def _is_fresh(self, asked_at: float) -> bool:
        as_of = self.as_of
        if not self.stale or (as_of is not None and as_of > asked_at):
            return True
        self._unblocked()
        return False

    async def wait_durable(self, within_s: float | None = None) -> None:
        """Return once every edit made so far is durable on the server. Raises TimeoutError and Blocked.

        As `wait_current` it sends now what waits.
        """
        edits = Edits(lambda: self._core)
        self._device.feed(events.Hurried())
        await self._device.wait(lambda: bool(self._unblocked()) and edits.are_acknowledged, within_s)

    def _unblocked(self) -> Status:
        for what, status in ((self.name, self.status), ("the device", self._device.status)):
            check_unblocked(what, status)
        return self.status

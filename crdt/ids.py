"""Names of documents and devices, as they travel on the wire."""

from __future__ import annotations

import re
from typing import NamedTuple

NAME_CHARS_MAX = 128
_NAME = re.compile(rf"[A-Za-z0-9._\-~@:+]{{1,{NAME_CHARS_MAX}}}")


def is_name(text: str) -> bool:
    """True if `text` may name a user, a document or a device: 1 to 128 of `A-Z a-z 0-9 . _ - ~ @ : +`."""
    return _NAME.fullmatch(text) is not None


class DocumentId(NamedTuple):
    """A document: who owns it, and its name among the owner's documents."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    @classmethod
    def parse(cls, text: str, user: str | None = None) -> DocumentId:
        """Read `owner/name`, or `name` alone for `user`'s own document.

        Raises ValueError if `text` is neither, or has no owner while no user is given.
        """
        owner, slash, name = text.rpartition("/")
        if not slash:
            if user is None:
                raise ValueError(f"{text!r} does not say whose document it is: write owner/name")
            owner = user
        if not (is_name(owner) and is_name(name)):
            raise ValueError(f"{text!r} is not a document: [owner/]name of 1 to 128 A-Z a-z 0-9 . _ - ~ @ : +")
        return cls(owner, name)


_EPHEMERAL = "!"
"""In no name that a token may have."""


class DeviceId(NamedTuple):
    """A device: alice's `phone` and bob's `phone` are two.

    An *ephemeral* one lives as long as its connection, and never comes back. It acts for the registered device whose
    token it brought.
    """

    user: str
    name: str

    def __str__(self) -> str:
        return f"{self.user}/{self.name}"

    def ephemeral(self, name: str) -> DeviceId:
        """One that acts for this device."""
        return DeviceId(self.user, f"{self.name}{_EPHEMERAL}{name}")

    @property
    def is_ephemeral(self) -> bool:
        return _EPHEMERAL in self.name

    @property
    def registered(self) -> DeviceId:
        """The device that an ephemeral one acts for; any other itself."""
        return DeviceId(self.user, self.name.partition(_EPHEMERAL)[0]) if self.is_ephemeral else self

    def is_or_acts_for(self, device: DeviceId) -> bool:
        return device in (self, self.registered)

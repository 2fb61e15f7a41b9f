"""What the commands and the examples say when they can not go on."""

from __future__ import annotations


class NotPossible(Exception):
    """What was asked for can not be done here: in one line, without anything of a token."""

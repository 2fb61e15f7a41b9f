"""The order in which an update's structs can be placed."""

from __future__ import annotations

from collections.abc import Iterator

from crdt.errors import BadUpdate
from crdt.update.model import Id, Struct, Update


def in_order(update: Update) -> list[Struct]:
    """The structs, each after those of other clients that it refers to, and each client's by clock.

    Raises BadUpdate where they refer to each other in a circle.
    """
    if len(update.sections) <= 1:
        return update.structs
    return list(_placed(update))


def _placed(update: Update) -> Iterator[Struct]:
    placed = {client: start for client, (start, _) in update.sections.items()}
    waiting = {client: _Queue() for client in update.sections}
    for struct in update.structs:
        waiting[struct.client].structs.append(struct)
    for first in update.sections:
        stack = [first]
        on_stack = {first}
        while stack:
            client = stack[-1]
            queue = waiting[client]
            if queue.next == len(queue.structs):
                on_stack.remove(stack.pop())
                continue
            struct = queue.structs[queue.next]
            blocker = _blocker(struct, placed, update.sections)
            if blocker is None:
                queue.next += 1
                placed[client] = struct.clock + struct.length
                yield struct
                if len(stack) > 1:  # whoever waits for this client may have what it waits for
                    on_stack.remove(stack.pop())
            elif blocker in on_stack:
                raise BadUpdate("malformed", "structs refer to each other in a circle")
            else:
                stack.append(blocker)
                on_stack.add(blocker)


class _Queue:
    """One client's structs, and how many of them are placed."""

    __slots__ = ("next", "structs")

    def __init__(self) -> None:
        self.structs: list[Struct] = []
        self.next = 0


def _blocker(struct: Struct, placed: dict[int, int], sections: dict[int, tuple[int, int]]) -> int | None:
    """The client of which more must be placed first; None if nothing is in the way."""
    for ref in (struct.origin, struct.right_origin, struct.parent):
        if type(ref) is not Id or ref.client == struct.client or ref.client not in sections:
            continue
        if placed[ref.client] <= ref.clock < sections[ref.client][1]:
            return ref.client
    return None

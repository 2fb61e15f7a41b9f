"""What only the whole document can tell about an update: where its structs would go, and whether they may."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from crdt.errors import BadUpdate
from crdt.update import packing
from crdt.update.model import TYPES, Content, DeleteRange, Id, StateVector, Struct, Update
from crdt.update.neighbours import LOOKS_MAX, SameRun, check_between
from crdt.update.ordering import in_order
from crdt.update.ranges import Ranges
from crdt.update.reader import CLIENTS_MAX, STRUCTS_MAX, read_update
from crdt.update.rules import CLASS_OF_CONTENT, IN_LIST, KIND_OF_TYPE, TOLD_BY, UNDER_KEY, Class, Kind
from crdt.update.writer import CLASS_MASK, FIRST, LANE_SHIFT, NONE, Writer, pack_id

NESTING_MAX = 100
"""Types within types."""

RANGES_MAX = 10_000
"""Delete ranges in one update beyond twice those that the document has: an honest diff carries all of them."""

_DEAD: Final = 0
"""The lane of what nobody knows the place of: it was deleted with what it was in."""
_DEAD_CODE: Final = _DEAD << LANE_SHIFT | Class.UNKNOWN

_TEXT: Final = int(Class.TEXT)
_OPEN: Final = int(Kind.OPEN)

_NOWHERE: Final = (1 << 32) - 1
"""What a root is in."""

_KEY_BITS: Final = 32
_KEY_MASK: Final = (1 << _KEY_BITS) - 1


@dataclass(slots=True)
class _Admission:
    """An update on its way in, which may still be refused: how the tables were before it, and what it changed."""

    containers: int
    lanes: int
    keys: int
    roots: int
    writers: int
    looks_left: int
    steps: int
    """How many items the library may have to walk past."""
    grown: list[int]
    wide: list[tuple[int, int, int]]
    """Clocks of several values of one key in one struct."""
    told: list[int]
    deleted: list[int]
    unclear: list[Id] | None
    """Structs that go behind and before the same run; None: they are refused."""


class Layout:
    """Where all content of one document is, as far as the check of updates must know.

    A *container* is a root or a nested type. A *lane* is the list of a container, or the values of one of its keys:
    the neighbours of every struct are in its own lane. What was deleted together with its container is in no lane that
    anyone knows; it is *dead*, and what is put beside it is dead too.
    """

    __slots__ = (
        "by_number",
        "deleted",
        "depths",
        "items",
        "keys",
        "kinds",
        "lane_ids",
        "lanes",
        "outer",
        "ranges",
        "roots",
        "sizes",
        "writers",
    )

    def __init__(self) -> None:
        self.writers: dict[int, Writer] = {}
        self.by_number: list[Writer] = []
        self.roots: dict[str, int] = {}
        self.keys: dict[str, int] = {}
        self.lanes = array("Q", (0,))
        """Container and key (0: none) of each lane."""
        self.lane_ids = {0: _DEAD}
        self.sizes = array("I", (0,))
        """How many items the library has in each lane, at most."""
        self.kinds = bytearray((Kind.DEAD,))
        self.depths = bytearray((0,))
        self.outer = array("I", (0,))
        """The container that a type is in."""
        self.deleted: set[int] = {0}
        self.items = 0
        """All sizes together."""
        self.ranges = 0
        """About how many delete ranges the document has; more than that."""

    @classmethod
    def of(cls, updates: Iterable[bytes]) -> Layout:
        """Of a document's stored updates, in order. Raises BadUpdate if they are not ones that were admitted."""
        layout = cls()
        known: StateVector = {}
        for stored in updates:
            update = read_update(stored)
            admission = layout._begin()
            layout._take(update, known, admission)
            layout._settle(update, admission)
            update.advance(known)
        return layout

    def pack(self) -> bytes:
        """To be kept beside a snapshot."""
        return packing.pack(self)

    @classmethod
    def unpack(cls, packed: bytes) -> Layout:
        """Raises ValueError for what another version packed."""
        layout = cls()
        packing.unpack(packed, layout)
        return layout

    @property
    def resident_bytes(self) -> int:
        """About how much memory this takes."""
        return 1500 + 700 * len(self.writers) + 120 * len(self.lanes) + 24 * len(self.kinds) + 28 * self.items

    def goes_on(self, client: int) -> bool:
        """True if a string right behind the last thing that `client` wrote would change nothing here."""
        writer = self.writers.get(client)
        if writer is None or not writer.codes:
            return False
        return writer.codes[-1] & CLASS_MASK == _TEXT and writer.rights[-1] == NONE

    def admit(
        self,
        update: Update,
        known: Mapping[int, int],
        steps_max: int | None = None,
        unclear: list[Id] | None = None,
    ) -> int:
        """Check an update that lacks nothing (`Update.missing`) and take it in; `known` is the state vector before it.

        Raises BadUpdate, and is unchanged then. What was known before is skipped.

        Returns the most that it may cost to apply, in steps of about 0.1 us: items to walk past, ranges to split.
        An honest update of a few structs takes as many as the list that it changes has items; up to `STEPS_SMALL` are
        harmless. A few kilobytes of another can take seconds. What takes more than `steps_max` is not taken in.

        `unclear` gets structs of which the caller has to leave out the right neighbours (`without_right_origins`): with
        them they mean different places to different devices. Without it they are refused.
        """
        if len(update.structs) == 1 and not update.deletes and self._is_typing(update.structs[0], update, known):
            return 0
        self._check_size(update, known)
        admission = self._begin(unclear)
        try:
            self._take(update, known, admission)
        except BadUpdate:
            self._roll_back(admission, update, known)
            raise
        steps = admission.steps + _STEPS_OF_RANGE * len(update.deletes) + len(update.structs) ** 2 // _SQUARE_OF_STEP
        if steps_max is not None and steps > steps_max:
            self._roll_back(admission, update, known)
        else:
            self._settle(update, admission)
        return steps

    def truncate(self, known: Mapping[int, int]) -> None:
        """Forget what lies at or after these clocks: what was admitted, but never became durable."""
        for client, writer in self.writers.items():
            writer.cut(known.get(client, 0))
        for container in self.roots.values():
            self.kinds[container] = Kind.OPEN
        for writer in self.writers.values():
            for code in writer.codes:
                place = self.lanes[code >> LANE_SHIFT]
                if not place & _KEY_MASK:
                    self._tell(place >> _KEY_BITS, code & CLASS_MASK)

    # --- admitting

    def _is_typing(self, struct: Struct, update: Update, known: Mapping[int, int]) -> bool:
        """True for a string behind the last thing that its client wrote, with nothing else to check or to note."""
        client, clock, _, content, origin, right_origin, _, _ = struct
        if content is not Content.STRING or origin != (client, clock - 1) or update.pairs or clock != known.get(client):
            return False
        writer = self.writers[client]
        if writer.codes[-1] & CLASS_MASK != _TEXT:
            return False
        if right_origin is None:
            return writer.rights[-1] == NONE
        return writer.rights[-1] == self._pack(right_origin)

    def _check_size(self, update: Update, known: Mapping[int, int]) -> None:
        if len(update.deletes) > RANGES_MAX + 2 * self.ranges:
            raise BadUpdate("limit", "too many delete ranges")
        if len(update.structs) <= STRUCTS_MAX and len(update.sections) <= CLIENTS_MAX:
            return
        clients = [client for client, (_, end) in update.sections.items() if end > known.get(client, 0)]
        structs = sum(struct.clock + struct.length > known.get(struct.client, 0) for struct in update.structs)
        if structs > STRUCTS_MAX or len(clients) > CLIENTS_MAX:
            raise BadUpdate("limit", f"more than {STRUCTS_MAX} new structs, or {CLIENTS_MAX} clients")

    def _take(self, update: Update, known: Mapping[int, int], admission: _Admission) -> None:
        if update.pairs:
            self._take_pairs(update.pairs, known)
        if update.deletes:
            self._delete(update.deletes, admission)
        for struct in in_order(update):
            floor = known.get(struct.client, 0)
            if struct.clock + struct.length > floor:
                self._take_struct(struct, floor, admission)
            else:  # Yjs splits what is beside it all the same
                self._check_neighbours(struct)
        if admission.wide and Ranges(admission.wide) - Ranges.deleted_by(update):
            # The library takes all but the last value of a key for deleted, and reads freed memory where one is not.
            raise BadUpdate("schema", "several values of a key that are not deleted")
        if update.deletes:
            self._check_ranges(update.deletes)
            if len(self.kinds) > admission.containers:
                self._delete(update.deletes, admission)

    def _settle(self, update: Update, admission: _Admission) -> None:
        """The update is in."""
        self.items += len(admission.grown)
        if update.deletes:
            self.ranges = max(self.ranges + min(len(update.deletes), _FEW), len(update.deletes))

    def _take_pairs(self, pairs: list[Id], known: Mapping[int, int]) -> None:
        for client, clock in pairs:
            floor = known.get(client, 0)
            if clock > floor:
                self._writer(client).halves.append(clock)
            elif clock == floor:
                raise BadUpdate("surrogate_split", "an update goes on within a surrogate pair")

    def _delete(self, ranges: list[DeleteRange], admission: _Admission) -> None:
        """Note which containers are gone."""
        for client, start, end in ranges:
            writer = self.writers.get(client)
            if writer is None or not writer.type_clocks:
                continue
            for container in writer.containers_in(start, end):
                if container not in self.deleted:
                    self.deleted.add(container)
                    admission.deleted.append(container)

    def _check_ranges(self, ranges: list[DeleteRange]) -> None:
        for client, start, end in ranges:
            writer = self.writers.get(client)
            if writer is not None and writer.halves and (writer.is_second_half(start) or writer.is_second_half(end)):
                raise BadUpdate("surrogate_split", "a delete range begins or ends within a surrogate pair")

    def _take_struct(self, struct: Struct, floor: int, admission: _Admission) -> None:
        """Place what of a struct is at or after clock `floor`."""
        client, clock, _, content, origin, right_origin, _, _ = struct
        writer = self._writer(client)
        in_chain = clock < floor or origin == (client, clock - 1)
        if clock < floor:
            clock = floor
        lane = _DEAD if content is Content.GC else self._lane_of(struct, floor)
        if lane == _DEAD:  # whatever it holds, and whatever is put within that, is deleted at once
            writer.add(clock, _DEAD_CODE, writer.is_dead_at_end(), NONE, NONE, True)
            return
        self._check_content(struct, lane, admission)
        if content in TYPES:
            self._make_container(writer, clock, content, lane)
        if origin is right_origin and not in_chain:  # it names no neighbours
            first, left, right, alone = self._check_first(writer, lane), NONE, NONE, True
        else:
            first, (left, right, alone) = 0, self._neighbours(struct, clock, admission)
        writer.add(clock, lane << LANE_SHIFT | first | CLASS_OF_CONTENT[content], in_chain, left, right, alone)
        if not in_chain or clock == floor:
            admission.steps += self.sizes[lane]
        self.sizes[lane] += 1
        admission.grown.append(lane)

    def _neighbours(self, struct: Struct, clock: int, admission: _Admission) -> tuple[int, int, bool]:
        """The packed neighbours of a struct that begins at `clock`, or the rest of which does; whether it is alone."""
        origin, right_origin = struct.origin, struct.right_origin
        left = NONE if origin is None else self._pack(origin)
        if clock > struct.clock:  # the rest goes right behind the beginning
            left = pack_id(self.writers[struct.client].number, clock - 1)
        right = NONE if right_origin is None else self._pack(right_origin)
        writer = self.writers[struct.client]
        try:
            looks, right, alone = check_between(self.by_number, writer, left, right, admission.looks_left)
        except SameRun:
            if admission.unclear is None or origin is None:  # whoever puts back what was there names both
                raise
            admission.unclear.append(Id(struct.client, struct.clock))
            return left, NONE, True
        admission.looks_left -= looks
        return left, right, alone

    def _check_first(self, writer: Writer, lane: int) -> int:
        """A client names no value before its own only where the key has none: never twice, while the key is there."""
        place = self.lanes[lane]
        if not place & _KEY_MASK:
            return 0
        if lane not in writer.firsts:
            writer.firsts.add(lane)
            return FIRST
        if not self._is_deleted(place >> _KEY_BITS):
            raise BadUpdate("schema", "a value passes over what its own client wrote under the same key")
        return 0

    def _check_content(self, struct: Struct, lane: int, admission: _Admission) -> None:
        place = self.lanes[lane]
        container = place >> _KEY_BITS
        kind = self.kinds[container]
        if place & _KEY_MASK:
            if struct.content not in UNDER_KEY[kind]:
                raise BadUpdate("schema", f"content of kind {struct.content} under a key of a {Kind(kind).name}")
            if struct.right_origin is not None:
                raise BadUpdate("schema", "a value before another one of its key")
            if struct.length > 1 and struct.content is Content.ANY:
                admission.wide.append((struct.client, struct.clock, struct.clock + struct.length))
            return
        if struct.content not in IN_LIST[kind]:
            raise BadUpdate("schema", f"content of kind {struct.content} in a {Kind(kind).name}")
        if kind == _OPEN and self._tell(container, CLASS_OF_CONTENT[struct.content]):
            admission.told.append(container)

    def _tell(self, container: int, content_class: int) -> bool:
        """Note what an open root is, if this content tells."""
        told = TOLD_BY.get(content_class)
        if told is None or self.kinds[container] != Kind.OPEN:
            return False
        self.kinds[container] = told
        return True

    def _make_container(self, writer: Writer, clock: int, content: Content, lane: int) -> None:
        outer = self.lanes[lane] >> _KEY_BITS
        if self.depths[outer] >= NESTING_MAX:
            raise BadUpdate("limit", f"types are nested more than {NESTING_MAX} deep")
        writer.type_clocks.append(clock)
        writer.type_ids.append(self._add_container(KIND_OF_TYPE[content], self.depths[outer] + 1, outer))

    # --- finding places

    def _lane_of(self, struct: Struct, floor: int) -> int:
        """The one lane that a struct's neighbours, parent and beginning are in."""
        client, clock, _, _, origin, right_origin, parent, key = struct
        found = None
        if parent is not None:
            found = self._lane(self._container(parent, struct), key)
        if origin is not None:
            found = self._beside(origin, origin.clock + 1, struct)
        if clock < floor:  # the rest of a struct goes right behind its beginning
            found = self._common(found, self.writers[client].code_at(floor - 1) >> LANE_SHIFT)
        if right_origin is not None:
            found = self._common(found, self._beside(right_origin, right_origin.clock, struct))
        assert found is not None
        return found

    def _check_neighbours(self, struct: Struct) -> None:
        if struct.origin is not None:
            self._beside(struct.origin, struct.origin.clock + 1, struct)
        if struct.right_origin is not None:
            self._beside(struct.right_origin, struct.right_origin.clock, struct)

    def _beside(self, ref: Id, border: int, struct: Struct) -> int:
        """The lane of a neighbour, before or behind which a border is wanted at clock `border`."""
        client, clock = ref
        if client == struct.client and clock >= struct.clock:
            raise BadUpdate("malformed", "a struct refers to itself, or to what its client wrote later")
        writer = self.writers[client]
        if writer.halves and writer.is_second_half(border):
            raise BadUpdate("surrogate_split", "a neighbour is half a surrogate pair")
        return writer.code_at(clock) >> LANE_SHIFT

    def _pack(self, ref: Id) -> int:
        return pack_id(self.writers[ref.client].number, ref.clock)

    def _common(self, one: int | None, other: int) -> int:
        if one is None or one == other:
            return other
        if _DEAD in (one, other) and self._is_deleted(self.lanes[one or other] >> _KEY_BITS):
            return _DEAD
        raise BadUpdate("schema", "a struct has neighbours in different places")

    def _is_deleted(self, container: int) -> bool:
        while container not in self.deleted:
            container = self.outer[container]
            if container == _NOWHERE:
                return False
        return True

    def _lane(self, container: int, key: str | None) -> int:
        if not container:
            return _DEAD
        place = container << _KEY_BITS
        if key is not None:
            place |= self.keys.setdefault(key, len(self.keys) + 1)
        lane = self.lane_ids.get(place)
        if lane is None:
            lane = self.lane_ids[place] = len(self.lanes)
            self.lanes.append(place)
            self.sizes.append(0)
        return lane

    def _container(self, parent: str | Id, struct: Struct) -> int:
        """A root, or the type at an id; 0 if what is there was deleted before anyone told what it is."""
        if isinstance(parent, str):
            container = self.roots.get(parent)
            if container is None:
                container = self.roots[parent] = self._add_container(Kind.OPEN, 0, _NOWHERE)
            return container
        client, clock = parent
        if client == struct.client and clock >= struct.clock:
            raise BadUpdate("malformed", "a struct refers to itself, or to what its client wrote later")
        writer = self.writers[client]
        made = writer.container_at(clock)
        if made is None and writer.code_at(clock) & CLASS_MASK != Class.UNKNOWN:
            raise BadUpdate("schema", "a parent is no container")
        return made or 0

    def _add_container(self, kind: Kind, depth: int, outer: int) -> int:
        self.kinds.append(kind)
        self.depths.append(depth)
        self.outer.append(outer)
        return len(self.kinds) - 1

    def _writer(self, client: int) -> Writer:
        writer = self.writers.get(client)
        if writer is None:
            writer = self.writers[client] = Writer(client, len(self.by_number))
            self.by_number.append(writer)
        return writer

    # --- taking back

    def _begin(self, unclear: list[Id] | None = None) -> _Admission:
        return _Admission(
            len(self.kinds),
            len(self.lanes),
            len(self.keys),
            len(self.roots),
            len(self.writers),
            LOOKS_MAX,
            0,
            [],
            [],
            [],
            [],
            unclear,
        )

    def _roll_back(self, admission: _Admission, update: Update, known: Mapping[int, int]) -> None:
        for client in update.sections:
            if client in self.writers:
                self.writers[client].cut(known.get(client, 0))
        for container in admission.told:
            self.kinds[container] = Kind.OPEN
        self.deleted.difference_update(admission.deleted)
        del self.kinds[admission.containers :], self.depths[admission.containers :], self.outer[admission.containers :]
        for lane in admission.grown:
            self.sizes[lane] -= 1
        del self.lanes[admission.lanes :], self.sizes[admission.lanes :]
        del self.by_number[admission.writers :]
        tables = (
            (self.lane_ids, admission.lanes),
            (self.keys, admission.keys),
            (self.roots, admission.roots),
            (self.writers, admission.writers),
        )
        for table, size in tables:
            while len(table) > size:
                table.popitem()


STEPS_SMALL = 500_000
"""Up to this many steps an update is applied within about 60 ms."""

_STEPS_OF_RANGE = 300
"""Where it splits a string of a megabyte."""

_SQUARE_OF_STEP = 100
"""Each struct of an update costs the library time and memory for each other."""

_FEW = 16
"""Delete ranges that an edit adds; an update with more is taken to carry the whole delete set."""

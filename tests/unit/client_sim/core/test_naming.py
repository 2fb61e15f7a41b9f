"""A device that gives up its name gets another of the same stem."""

from __future__ import annotations

from client_sim.core.naming import SUFFIX_BITS, is_same_device, renamed
from crdt.ids import NAME_CHARS_MAX, is_name

LONGEST = "x" * NAME_CHARS_MAX
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def test_a_new_name_keeps_the_stem_and_does_not_grow() -> None:
    assert renamed("phone", 0x3F9A2C) == "phone-00000000003f9a2c"
    assert renamed(renamed("phone", 1), 2) == "phone-0000000000000002"
    assert renamed(UUID, 0).startswith(UUID)


def test_a_new_name_is_a_name() -> None:
    for name in ("a", "-", LONGEST, renamed(LONGEST, 1)):
        for entropy in (0, (1 << SUFFIX_BITS) - 1):
            new = renamed(name, entropy)
            assert is_name(new)
            assert new != name


def test_other_entropy_is_another_name() -> None:
    assert len({renamed(name, entropy) for name in ("phone", LONGEST) for entropy in range(100)}) == 200


def test_a_renamed_device_is_known_by_either_name() -> None:
    for name in ("phone", UUID, LONGEST):
        once = renamed(name, 1)
        assert is_same_device(name, name)
        assert is_same_device(name, once)
        assert is_same_device(once, renamed(once, 2))
    assert not is_same_device("phone", "laptop")
    assert not is_same_device("phone", "phone-2")
    assert not is_same_device("phone", renamed("phone-2", 1))

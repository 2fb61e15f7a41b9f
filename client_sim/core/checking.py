"""Arguments of a wrong type are named where the app hands them in."""

from __future__ import annotations


def check_type(argument: str, value: object, *types: type | None) -> None:
    """None among the types is None itself. Raises TypeError; also for a bool where a number is asked for."""
    if value is None and None in types:
        return
    kinds = tuple(kind for kind in types if kind is not None)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join("None" if kind is None else kind.__name__ for kind in types)
        raise TypeError(f"{argument} has to be {expected}, not {type(value).__name__}")

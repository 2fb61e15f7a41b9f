"""What the CRDT library may do instead of returning."""

from __future__ import annotations

from types import TracebackType

from crdt.errors import ReplicaBroken


class guarded:  # noqa: N801 - called like a function
    """Turn what the library raises, its panics included, into ReplicaBroken."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(exc, Exception):
            raise ReplicaBroken(f"{type(exc).__name__}: {exc}") from exc
        if type(exc).__name__ == "PanicException":  # pyo3's, which no module exports
            raise ReplicaBroken(f"panic: {exc}") from exc

"""How an object of plain threads has the methods of its asynchronous twin: the same names, arguments and docstrings."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


class Runner(Protocol):
    """Who has the event loop that the twins live in."""

    def call(self, act: Callable[[], T]) -> T:
        """What `act`, which does not wait, gives in the loop's thread."""
        ...

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives that runs in the loop."""
        ...


class Twin(Generic[A]):
    """`asynchronous` is only touched by what `runner` runs."""

    def __init__(self, runner: Runner, asynchronous: A) -> None:
        self._runner = runner
        self.asynchronous = asynchronous


def called(method: Callable[Concatenate[A, P], T]) -> Callable[Concatenate[Twin[A], P], T]:
    """A method of the twin that does not wait."""

    @wraps(method)
    def call(self: Twin[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._runner.call(lambda: method(self.asynchronous, *args, **kwargs))

    return call


def awaited(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Twin[A], P], T]:
    """A method of the twin that is awaited there: here it waits."""

    @wraps(method)
    def wait(self: Twin[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._runner.wait_for(method(self.asynchronous, *args, **kwargs))

    return wait

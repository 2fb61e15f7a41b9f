"""A process that forks servers: it has everything imported, which takes a second, and the library preloaded.

Each line of standard input is an Order. On standard output come the server's process id, and ENDED once it has ended;
then the next order is taken.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple

from server.cli.app import main
from server.runtime.worker import Worker, prepare_workers
from server.storage import engines

ENDED = "ended"


class Order(NamedTuple):
    arguments: tuple[str, ...]
    environment: dict[str, str]
    output: str
    errors: str
    """Files where what the server says goes."""
    pragmas: dict[str, object]


def run() -> None:
    prepare_workers()
    for line in sys.stdin:
        order = Order(*json.loads(line))
        pid = os.fork()
        if pid == 0:
            sys.exit(_serve(order))
        print(pid, flush=True)  # noqa: T201 - it is what this process is for
        os.waitpid(pid, 0)
        print(ENDED, flush=True)  # noqa: T201


def _serve(order: Order) -> int:
    for path, descriptor in ((order.output, 1), (order.errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    for name in [name for name in os.environ if name.startswith("SYNCLINE_")]:
        del os.environ[name]
    os.environ.update(order.environment)
    _set(order.pragmas)
    setattr(Worker, "run_within", _run_here)  # noqa: B010 - a worker takes a second to start: few of these live so long
    return main(tuple(order.arguments))


async def _run_here(_worker: Worker, _timeout_s: float, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _set(pragmas: dict[str, object]) -> None:
    """What is set here is not checked; the server checks the rest as ever."""
    settings: Any = engines
    settings._PRAGMAS = [(name, pragmas.get(name, value)) for name, value in engines._PRAGMAS]
    settings._PRAGMAS_REQUIRED = [(name, value) for name, value in engines._PRAGMAS_REQUIRED if name not in pragmas]


if __name__ == "__main__":
    run()

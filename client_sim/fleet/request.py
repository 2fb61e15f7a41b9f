"""What a fleet is asked for, looked at before anything begins: what is wrong costs its user no ten minutes."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from client_sim.core.pacing import Policy
from client_sim.errors import NotPossible
from client_sim.fleet.inspection import NAME
from client_sim.fleet.phone import DOCUMENT
from client_sim.fleet.plan import Plan
from client_sim.live import AsyncDevice, Blocked
from client_sim.pair import read_url
from client_sim.tokens import mint

SECRET_VARIABLE = "SYNCLINE_JWT_SECRET"
TRIED_AS = "fleet"
TRY_S = 10.0
DEVICES_MAX = 20_000
"""In one process, whose one thread plays them all: a device that does nothing takes 30 KB, and more with a socket."""


class StoreKind(StrEnum):
    SQLITE = "sqlite"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Request:
    """`server` is an address; without one the fleet starts its own. `command` repeats it all."""

    plan: Plan
    server: str | None
    secret_file: Path | None
    report: Path | None
    json: Path | None
    plain: bool
    store: StoreKind
    recorded: str | None
    command: str


@dataclass(frozen=True, slots=True)
class Address:
    """A server of somebody else's."""

    url: str
    secret: str


def check(request: Request) -> Address | None:
    """Where the server is; None for one of the fleet's own. Raises NotPossible, which names the option."""
    if request.report is not None and find_spec("plotly") is None:
        raise NotPossible("--report needs plotly: pip install 'syncline[report]'")
    if (devices := request.plan.users * request.plan.devices) > DEVICES_MAX:
        raise NotPossible(f"--users times --devices is {devices:,} devices: a process has room for {DEVICES_MAX:,}")
    _check_times(request.plan)
    _check_file("--report", request.report)
    _check_file("--json", request.json)
    if request.report is not None and request.report == request.json:
        raise NotPossible("--report and --json are the same file")
    if request.server is None:
        if request.secret_file is not None:
            raise NotPossible("--secret-file is for a server of somebody else's: give --server, too")
        return None
    if request.plan.restart_at_s is not None:
        raise NotPossible("--restart-at is for a server of the fleet's own: leave out --server")
    try:
        url = read_url(request.server)
    except NotPossible as exc:
        raise NotPossible(f"--server: {exc}") from exc
    return Address(url, _read_secret(request.secret_file))


def _check_times(plan: Plan) -> None:
    for option, number in (("--duration", plan.duration_s), ("--budget", plan.budget_s), ("--speed", plan.speed)):
        if not 0 < number < math.inf:
            raise NotPossible(f"{option} is {number:g}: it has to be more than nothing, and less than for ever")
    happenings = [("--burst", at_s) for at_s in plan.bursts_s]
    happenings += [("--restart-at", plan.restart_at_s)] if plan.restart_at_s is not None else []
    for option, at_s in happenings:
        if not 0 <= at_s < plan.duration_s:
            raise NotPossible(f"{option} at {at_s:g} s would not be within the --duration of {plan.duration_s:g} s")
    if plan.latency_s is not None and plan.policy in (None, Policy.INTERACTIVE):
        raise NotPossible("--latency is for --policy balanced and saver: otherwise edits wait for nothing")
    if not 0 <= plan.old_stores <= 1:
        raise NotPossible(f"--old-stores is {plan.old_stores:g}: a share is from 0 to 1")


def _check_file(option: str, path: Path | None) -> None:
    """Whether it can be written when all is over; nothing is made of it before."""
    if path is None:
        return
    if path.is_dir():
        raise NotPossible(f"{option} {path} is a folder: name a file")
    if not path.parent.is_dir():
        raise NotPossible(f"{option} {path} can not be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise NotPossible(f"{option} {path} can not be written: its permissions are against it")


def _read_secret(file: Path | None) -> str:
    """The server's, from a file or the environment: never an option, which others can see. Raises NotPossible."""
    try:
        secret = file.read_text(encoding="utf-8").strip() if file is not None else os.environ.get(SECRET_VARIABLE, "")
    except (OSError, UnicodeDecodeError) as exc:
        raise NotPossible(f"--secret-file can not be read: {exc}") from exc
    if not secret:
        raise NotPossible(f"the server's secret is needed to make tokens: set {SECRET_VARIABLE}, or --secret-file")
    return secret


async def try_server(address: Address) -> None:
    """Whether it is there, and takes the fleet's tokens. Raises NotPossible."""
    token = mint(address.secret, TRIED_AS, NAME, 2 * TRY_S)
    async with AsyncDevice(address.url, token=token, device=NAME) as device:
        document = await device.open(DOCUMENT)
        try:
            await document.wait_current(TRY_S)
        except Blocked as exc:
            raise NotPossible(f"--server refuses the fleet's tokens: is the secret its own? ({exc})") from exc
        except TimeoutError as exc:
            raise NotPossible(f"--server {address.url} does not answer within {TRY_S:g} s: {device.status}") from exc

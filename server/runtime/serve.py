"""One server process from start to end: storage, driver, port, control socket, signals."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog
import uvloop

from crdt.protocol.codes import CLOSE, Code
from server.config import BadSetting, ServeSettings, bad_setting
from server.runtime.driver import Driver
from server.runtime.http import probes
from server.runtime.listener import Listener
from server.runtime.service import running_driver
from server.runtime.telemetry import Telemetry, configure_logging
from server.runtime.tls import server_tls
from server.runtime.transport import TransportOptions
from server.runtime.worker import prepare_workers

GARBAGE_THRESHOLDS: Final = (2_000, 20, 500)
"""With 5,000 connections a full collection holds up everybody for 0.2 s; Python begins one at each quarter of growth.

Ours begins after 20 million objects that stayed: what ends here leaves no cycles behind that would have to wait for it.
"""
GIL_SWITCH_S: Final = 0.0005
"""A commit is several steps of another thread, each of which waits so long for a loop that is busy; Python: 5 ms."""
DESCRIPTORS_MAX: Final = 1 << 20
DESCRIPTORS_RESERVED: Final = 128
"""For the store, worker processes, the control socket and what libraries open."""


def run(settings: ServeSettings, announce: Callable[[tuple[str, int]], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. `announce` is told the address once devices can connect.

    Raises StorageError, BadKeys, BadSetting, OSError where the server can not start.
    """
    configure_logging(settings.log_format, settings.log_level)
    sys.setswitchinterval(GIL_SWITCH_S)
    prepare_workers()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    gc.freeze()  # what was imported stays
    return uvloop.run(serve(settings, announce))


async def serve(settings: ServeSettings, announce: Callable[[tuple[str, int]], None] | None = None) -> int:
    """As `run`, on a loop that is there. 0 if everything was saved and said goodbye to in time, else 1."""
    log = structlog.get_logger("syncline")
    telemetry = Telemetry()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    ready = False
    tls = server_tls(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    options = within_descriptors(settings.transport_options(), raise_descriptor_limit())
    async with running_driver(settings, telemetry) as driver:
        try:
            listener = await Listener.open(
                settings.host,
                settings.port,
                sink=driver,
                entrance=driver.links,
                app=probes(telemetry.registry, lambda: ready, driver.api),
                on_error=lambda error: log.error("sink_failed", exc_info=error),
                options=options,
                tls=tls,
            )
        except OSError as exc:
            raise _cannot_listen(settings, exc) from exc
        telemetry.watch(listener.counters)
        ready = True
        host, port = listener.address
        log.info("listening", host=host, port=port, tls=tls is not None, sockets_max=options.sockets_max)
        if announce is not None:
            announce(listener.address)
        await stopping.wait()
        ready = False
        return await _shut_down(driver, listener, settings.shutdown_timeout_s)


def raise_descriptor_limit() -> int:
    """Let this process open as many files as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def within_descriptors(options: TransportOptions, descriptors: int) -> TransportOptions:
    """The same options, but that connections leave some descriptors: the store must always find one."""
    connections = max(1, descriptors - DESCRIPTORS_RESERVED)
    unverified = min(options.unverified_max or connections, max(1, connections // 4))
    sockets = min(options.sockets_max or connections, max(1, connections - unverified))
    return replace(options, unverified_max=unverified, sockets_max=sockets)


def _cannot_listen(settings: ServeSettings, exc: OSError) -> BadSetting:
    if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
        return bad_setting(["host"], f"{settings.host} is not an address of this machine")
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    return bad_setting(["port"], f"cannot listen on {settings.host}, port {settings.port}: {reason.lower()}")


async def _shut_down(driver: Driver, listener: Listener, within_s: float) -> int:
    """Accept nothing more, save what is queued, say goodbye; cut what is left when the time is over."""
    log = structlog.get_logger("syncline")
    log.info("stopping", within_s=within_s)
    deadline = asyncio.get_running_loop().time() + within_s
    listener.stop_accepting()
    saved = True
    try:
        async with asyncio.timeout_at(deadline):
            await driver.drain()
    except TimeoutError:
        saved = False
        log.error("stopped_unsaved")
    listener.close_all(CLOSE[Code.SHUTTING_DOWN], Code.SHUTTING_DOWN)
    await listener.wait_closed(max(0.0, deadline - asyncio.get_running_loop().time()))
    log.info("stopped", saved=saved)
    return 0 if saved else 1

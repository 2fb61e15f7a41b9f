"""Devices: what a day of typing costs on the wire and a radio by policy, and what a month's absence does.

A recorded history, with its pauses of more than ten minutes cut to that, is typed on one device while another one has
the document open. Both are the device of `client_sim` on a clock of their own, and the server is a real one. The
radio's figures are a model: it stays up for ten seconds after each byte, either way.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.histories import ROOT
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.workloads import _y_websocket
from benchmarks.workloads._virtual_device import VirtualDevice, close_all
from client_sim import traces
from client_sim.core.pacing import LATENCY_S, Policy
from client_sim.core.roots import Roots
from client_sim.traces import Patch

RECORDING = "json-crdt-patch.sequential.json.gz"
PAUSE_S = 600.0
EDITS_PER_S = 4.0
ABSENCE_S = 30 * 86_400.0
OWN_EDITS, OTHERS_EDITS = 5_000, 50_000
AT_ONCE = 200
"""Edits of an interactive writer that goes on before it looks for answers, where time does not matter."""
LETTERS = "aaabcddeeeeefghiiijklmnnnoooopqrrrssstttuuvwxyz      "
USER = "alice"
SETTINGS = {"SYNCLINE_UPDATES_PER_S": "10000000", "SYNCLINE_BYTES_PER_S": "1GiB"}

TARGETS = {
    Policy.BALANCED: "target: both at most 1.3 of the final v1 state",
    Policy.SAVER: "target: at most a fifth of the radio time of interactive",
}


def workloads(scale: Scale) -> dict[str, Workload]:
    return {
        "typing": lambda: [_typed(_history(scale), policy) for policy in Policy],
        "typing-yjs": lambda: [_typed_in_yjs(scale)],
        "absence": lambda: [_absence(scale)],
    }


Typed = tuple[float, list[Patch]]


def _recording() -> Path | None:
    folder = traces.folder()
    return folder / RECORDING if folder is not None and (folder / RECORDING).exists() else None


def _history(scale: Scale) -> list[Typed]:
    """Edits and when they are made, in seconds; made up where the recording is not at hand, or in a smoke run."""
    recording = _recording()
    if scale.quick or recording is None:
        return [(number / EDITS_PER_S, [Patch(number, 0, "x")]) for number in range(scale.of(20_000, 200))]
    trace = traces.load(recording)
    typed: list[Typed] = []
    now, last = 0.0, None
    for at, patches in zip(trace.times_s, trace.transactions(), strict=True):
        now += 1 / EDITS_PER_S if at is None or last is None else min(PAUSE_S, max(0.0, at - last))
        last = at
        typed.append((now, patches))
    return typed


def _change(roots: Roots, patches: list[Patch]) -> None:
    text = roots.text(ROOT)
    for at, delete, insert in patches:
        if delete:
            text.delete(at, at + delete)
        if insert:
            text.insert(at, insert)


@contextmanager
def _devices(*names: str) -> Iterator[list[VirtualDevice]]:
    with (
        tempfile.TemporaryDirectory(prefix="syncline-devices-") as folder,
        server_process(database=Path(folder) / "devices.db", settings=SETTINGS) as server,
    ):
        devices = [_device(server, name, seed) for seed, name in enumerate(names)]
        try:
            yield devices
        finally:
            close_all(devices)


def _device(server: ServerProcess, name: str, seed: int) -> VirtualDevice:
    url = f"ws://{server.host}:{server.port}/v1/sync"
    return VirtualDevice(url, lambda device: server.token(USER, device), name, seed)


def _typed(history: list[Typed], policy: Policy) -> Run:
    with _devices("writer", "reader") as (writer, reader):
        for device in (writer, reader):
            device.start(policy)
        latest_s = 0.0
        for at, patches in history:
            for device in (writer, reader):
                device.pass_time(at)
            reader.follow(writer.seq)
            latest_s = max(latest_s, writer.device.pending(at).age_s)
            writer.edit(lambda roots, patches=patches: _change(roots, patches))  # type: ignore[misc]
            writer.settle()
        end_s = history[-1][0] + LATENCY_S[policy] + 1.0
        for device in (writer, reader):
            device.pass_time(end_s)
        for device in (writer, reader):
            device.hurry()
        reader.follow(writer.seq)
        return _run_of(policy, writer, reader, latest_s, end_s)


def _typed_in_yjs(scale: Scale) -> Run:
    """The same by apps on y-websocket."""
    if scale.quick:
        return _y_websocket.left_out("a smoke run installs nothing")
    if _recording() is None:
        return _y_websocket.left_out(f"{RECORDING} is not in {traces.FOLDER_VARIABLE}")
    history = _history(scale)
    return _y_websocket.typed([patches for _, patches in history], lasts_s=history[-1][0])


def _run_of(policy: Policy, writer: VirtualDevice, reader: VirtualDevice, latest_s: float, end_s: float) -> Run:
    replica = writer.document.copy.replica
    if replica.digest() != reader.document.copy.replica.digest():
        raise WorkloadFailed("the two devices do not have the same")
    if latest_s > LATENCY_S[policy] + 1.0:
        raise WorkloadFailed(f"an edit waited for {latest_s:.1f} s")
    state_bytes = len(replica.state())
    wrote, read = writer.bytes_up + writer.bytes_down, reader.bytes_up + reader.bytes_down
    figures = [
        Figure("final v1 state", state_bytes, "B", Better.NEITHER),
        Figure("writer, up", writer.bytes_up, "B"),
        Figure("writer, down", writer.bytes_down, "B"),
        Figure("reader, up", reader.bytes_up, "B"),
        Figure("reader, down", reader.bytes_down, "B"),
        Figure("writer of state", wrote / state_bytes, "x"),
        Figure("reader of state", read / state_bytes, "x"),
        Figure("both of state", (wrote + read) / state_bytes, "x"),
        Figure("ops", writer.device.counters.ops_acked, "", Better.NEITHER),
        Figure("longest wait of an edit", latest_s, "s", Better.NEITHER),
        Figure("writer's wake-ups", writer.wake_ups, ""),
        Figure("writer's radio", writer.awake_s, "s"),
        Figure("reader's radio", reader.awake_s, "s"),
        Figure("history", end_s, "s", Better.NEITHER),
    ]
    return Run(str(policy), tuple(figures), note=TARGETS.get(policy, ""))


def _absence(scale: Scale) -> Run:
    """One device is offline for a month and writes all the same; another one writes ten times as much meanwhile."""
    own, others = scale.of(OWN_EDITS, 50), scale.of(OTHERS_EDITS, 500)
    with _devices("away", "at-home") as (away, home):
        away.start(Policy.INTERACTIVE)
        home.start(Policy.INTERACTIVE)
        away.stop()
        rng = Random(1)
        for number in range(own):
            away.edit(lambda roots, n=number: _change(roots, [Patch(n, 0, rng.choice(LETTERS))]))  # type: ignore[misc]
        for number in range(others):
            home.edit(lambda roots, n=number: _change(roots, [Patch(n, 0, rng.choice(LETTERS))]))  # type: ignore[misc]
            if number % AT_ONCE == 0:
                home.settle()
        home.hurry()
        home.pass_time(home.now)
        away.now += ABSENCE_S
        before, began = (away.bytes_up, away.bytes_down), time.perf_counter()
        catch_ups = sum(away.device.counters.catch_ups.values())
        away.start(Policy.INTERACTIVE)
        took_s = time.perf_counter() - began
        home.follow(away.seq)
        if away.document.copy.replica.digest() != home.document.copy.replica.digest():
            raise WorkloadFailed("the two devices do not have the same")
        figures = (
            Figure("catch-ups", sum(away.device.counters.catch_ups.values()) - catch_ups, ""),
            Figure("up", away.bytes_up - before[0], "B"),
            Figure("down", away.bytes_down - before[1], "B"),
            Figure("until current", took_s * 1000, "ms"),
            Figure("state", len(away.document.copy.replica.state()), "B", Better.NEITHER),
        )
        return Run(f"30 days, {own:,} own edits and {others:,} of others", figures)

"""What a Yjs app on y-websocket sends and gets for a history that is typed in it: its own packages, its own server."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Better, Figure, Run, WorkloadFailed
from benchmarks.histories import ROOT
from benchmarks.peers import packages
from benchmarks.peers.servers import PEERS
from client_sim.traces import Patch

CASE = "y-websocket"
TAKES_AT_MOST_S = 600
RENEWAL_S = 15.0
"""An app tells all others that it is there so often, if it has nothing else to tell."""


def typed(transactions: Sequence[Sequence[Patch]], *, lasts_s: float) -> Run:
    """One app types, another one has the document open. The text has no characters beyond UTF-16's first plane.

    Time does not pass between the edits; what renewals would have cost in `lasts_s` is a figure of its own.
    """
    peer = PEERS[CASE]
    try:
        home = packages.node_folder("y-websocket-app", packages.Y_WEBSOCKET_APP)
        with tempfile.TemporaryDirectory(prefix="syncline-yjs-") as folder, peer.start(Path(folder)) as server:
            said = _play(home, f"ws://{server.host}:{server.port}", Path(folder) / "history.json", transactions)
    except packages.NotInstalled as exc:
        return left_out(str(exc))
    if not said["equal"]:
        raise WorkloadFailed("the two apps do not have the same")
    return _run_of(said, lasts_s / RENEWAL_S)


def left_out(why: str) -> Run:
    return Run(CASE, (), note=f"left out: {why}")


def _play(home: Path, url: str, history: Path, transactions: Sequence[Sequence[Patch]]) -> dict[str, Any]:
    history.write_text(json.dumps(transactions))
    command = ["node", "y_websocket_pair.mjs", url, str(history), ROOT]
    try:
        done = subprocess.run(command, cwd=home, check=True, capture_output=True, text=True, timeout=TAKES_AT_MOST_S)
    except subprocess.CalledProcessError as exc:
        raise WorkloadFailed(f"the apps failed: {exc.stderr[-400:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise WorkloadFailed(f"the apps took over {TAKES_AT_MOST_S} s") from exc
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _run_of(said: dict[str, Any], renewals: float) -> Run:
    state_bytes = said["state_bytes"]
    wrote, read = sum(said["writer"]), sum(said["reader"])
    figures = [
        Figure("final v1 state", state_bytes, "B", Better.NEITHER),
        Figure("writer, up", said["writer"][0], "B"),
        Figure("writer, down", said["writer"][1], "B"),
        Figure("reader, up", said["reader"][0], "B"),
        Figure("reader, down", said["reader"][1], "B"),
        Figure("writer of state", wrote / state_bytes, "x"),
        Figure("reader of state", read / state_bytes, "x"),
        Figure("both of state", (wrote + read) / state_bytes, "x"),
        Figure("writer, renewals", renewals * (sum(said["writer_renewed"]) - wrote), "B"),
        Figure("reader, renewals", renewals * (sum(said["reader_renewed"]) - read), "B"),
    ]
    return Run(CASE, tuple(figures), note="typed at once; renewals of presence are those of the history's length")

"""Long histories through `Replica`: one author's (B4 of crdt-benchmarks), and several authors' along their merges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Run
from benchmarks.workloads._crdt_suite import edited
from benchmarks.workloads._edits import TEXT, change_text
from benchmarks.workloads._histories import ConcurrentHistory, concurrent_histories, history
from benchmarks.workloads._measuring import (
    average_update,
    document_figures,
    expect,
    expect_converged,
    ms,
    timed,
)
from client_sim.traces import unseen
from crdt.replica import Replica


def b4(edits_max: int) -> list[Run]:
    """One author writes a text, every edit a transaction, and another gets every update. Raises WorkloadFailed."""
    written = history(edits_max)
    writer, reader = Replica(client_id=1), Replica()
    edits = [partial(change_text, patches=patches) for patches in written.edits]
    updates, edit_s = timed(lambda: edited(writer, edits))
    _, apply_s = timed(lambda: reader.apply(updates))
    expect(writer.values() == {TEXT: written.text}, "the text is not the one that was written")
    expect_converged([writer, reader])
    figures = [ms("time", edit_s), ms("apply", apply_s), average_update(updates), *document_figures(writer)]
    return [Run(f"[B4] {written.name}", tuple(figures), note=written.note)]


def along_merges(edits_max: int) -> list[Run]:
    """Every concurrent history. Raises WorkloadFailed."""
    return [_along_merges(written) for written in concurrent_histories(edits_max)]


def _along_merges(written: ConcurrentHistory) -> Run:
    """Each author's replica takes what the author saw, when it was seen; then all get the rest."""
    replicas = [Replica() for _ in range(max(written.authors) + 1)]
    steps = [(replicas[author], updates) for author, updates in _steps(written)]

    def merge() -> None:
        for replica, updates in steps:
            replica.apply(updates)

    _, merge_s = timed(merge)
    whole, load_s = timed(lambda: Replica.load(written.updates))
    expect_converged([whole, *replicas])
    expect(whole.values() == {TEXT: written.text}, "the text is not the one that was written")
    figures = [
        ms("time", merge_s), ms("apply", load_s), average_update(written.updates), *document_figures(whole),
    ]  # fmt: skip
    return Run(written.name, tuple(figures), note=written.note)


def _steps(written: ConcurrentHistory) -> Iterator[tuple[int, list[bytes]]]:
    """Who takes which updates, in order: before each of its own what that was made on top of, at last all the rest."""
    seen: list[set[int]] = [set() for _ in range(max(written.authors) + 1)]
    for index, author in enumerate(written.authors):
        news = [*unseen(written.parents, index, seen[author]), index]
        seen[author].update(news)
        yield author, [written.updates[each] for each in news]
    for author, known in enumerate(seen):
        yield author, [update for index, update in enumerate(written.updates) if index not in known]

"""One page about one run, to be looked at in a browser without a network: what was simulated, when what happened to
whom, and the history line by line; of a run that broke a promise, first of all what is left of it when it is shrunk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from client_sim.html import STYLE
from client_sim.html import rows as table_rows
from client_sim.sim.history import Line
from client_sim.sim.plan import Plan
from client_sim.sim.run import Outcome
from client_sim.sim.tally import rows
from client_sim.sim.timeline import clock, figure


@dataclass(frozen=True, slots=True)
class Subject:
    """What a page is about. `shrunken` is there if `outcome` is a failure; `command` plays it again."""

    plan: Plan
    profile: str
    command: str
    outcome: Outcome
    shrunken: Outcome | None = None
    actions_left: int = 0
    """Of the plan, in what is left of it."""


def write(subject: Subject, folder: Path) -> Path:
    """The page, in a file of its own."""
    path = folder / f"seed-{subject.plan.seed}.html"
    path.write_text(page(subject), encoding="utf-8")
    return path


def page(subject: Subject) -> str:
    """All of it, plotly's script too."""
    outcome, shrunken, parts = subject.outcome, subject.shrunken, list[str]()
    if shrunken is not None:
        left, planned = subject.actions_left, len(subject.plan.actions)
        parts += _part("shrunken", f"Without what it does not need: {left} of {planned} actions", shrunken, open_=True)
    parts += _part("whole", "The whole run", outcome, open_=False)
    failure = outcome.failure
    verdict = f"broken: {failure.promise}, at {clock(failure.at_s)}" if failure else "every promise held"
    return _PAGE.substitute(
        title=escape(f"Seed {subject.plan.seed}: {verdict}"),
        kind="broken" if failure else "held",
        message=f"<pre>{escape(failure.message)}</pre>" if failure else "",
        summary=table_rows(_about(subject)),
        style=STYLE,
        tally=table_rows(rows(outcome.days, outcome.device_days, outcome.counts)),
        plotly=get_plotlyjs(),
        parts="\n".join(parts),
    )


def _about(subject: Subject) -> Iterable[tuple[str, str]]:
    place, weather = subject.plan.place, subject.plan.weather
    yield "repeat it with", subject.command
    yield "profile", subject.profile
    yield "faults drawn", ", ".join(weather.faults) or "none"
    yield "devices of alice", str(place.handsets)
    yield "guests", ", ".join(f"{name} ({access})" for name, access in place.grants.items()) or "none"
    yield "server processes", str(place.processes)
    yield "documents", ", ".join(place.documents)
    yield "limits", "tiny" if place.tiny else "as by default"
    yield "length", f"{place.days:g} days, {len(subject.plan.actions)} actions planned"
    chances = {name: value for name, value in asdict(weather).items() if isinstance(value, float) and value}
    yield "chances and rates", ", ".join(f"{name} {value:.3g}" for name, value in chances.items())
    spans = {name: value for name, value in asdict(weather).items() if name != "faults" and isinstance(value, tuple)}
    yield "seconds", ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in spans.items())


def _part(name: str, title: str, outcome: Outcome, *, open_: bool) -> list[str]:
    """A timeline, and the history that it shows: a click on a mark leads to its line."""
    if not outcome.lines:
        return [f"<h2>{escape(title)}</h2><p>Nothing happened.</p>"]
    picture = figure(outcome).to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False},
        post_script=_CLICK.substitute(name=name),
    )  # fmt: skip
    history = "\n".join(_row(name, number, line) for number, line in enumerate(outcome.lines) if not line.repeats)
    return [
        f"<h2>{escape(title)}</h2>",
        picture,
        f'<details id="{name}"{" open" if open_ else ""}><summary>Its history: who, when, what</summary>',
        f"<table class=history><tr><th>when</th><th>who</th><th>what</th><th></th></tr>{history}",
        _end(outcome),
        "</table></details>",
    ]


def _row(name: str, number: int, line: Line) -> str:
    quiet = " class=quiet" if line.what in ("is", "state", "was acknowledged") else ""
    cells = (clock(line.time_s), line.who, line.what, line.detail)
    return f'<tr id="{name}-{number}"{quiet}>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _end(outcome: Outcome) -> str:
    failure = outcome.failure
    if failure is None:
        return ""
    return f"<tr class=broken><td>{clock(failure.at_s)}</td><td colspan=3>broken: {escape(failure.message)}</td></tr>"


_CLICK = Template("""
document.getElementById('{plot_id}').on('plotly_click', function (event) {
  const line = event.points[0].customdata, row = document.getElementById('$name-' + line);
  if (line === undefined || !row) return;
  document.getElementById('$name').open = true;
  document.querySelectorAll('.chosen').forEach(other => other.classList.remove('chosen'));
  row.classList.add('chosen');
  row.scrollIntoView({block: 'center'});
});
""")

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$title</title>
<style>
$style
summary { cursor: pointer; margin: 8px 0; font-weight: 600; }
.history { font: 12px/1.5 ui-monospace, monospace; }
.history td:first-child { text-align: right; white-space: nowrap; } .history td:nth-child(2) { white-space: nowrap; }
.quiet { color: #8c8c8c; } tr.broken { color: #cb181d; font-weight: bold; } .chosen { background: #fee391; }
</style>
<h1 class=$kind>$title</h1>
$message
<div class=head><table>$summary</table><table>$tally</table></div>
<script>$plotly</script>
$parts
</html>
""")

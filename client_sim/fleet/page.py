"""One page about one run of a fleet, to be looked at in a browser without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from string import Template
from typing import Any

import plotly.graph_objects as plotly
from plotly.offline import get_plotlyjs

from client_sim.fleet.figures import HOUR_S, Timed
from client_sim.fleet.plan import Plan
from client_sim.fleet.profiles import Profile
from client_sim.fleet.quantiles import Quantiles, plain
from client_sim.fleet.run import Outcome
from client_sim.html import STYLE
from client_sim.html import rows as table_rows

POINTS_MAX = 400
"""Of a curve: more are not to be told apart."""
OPEN_MIN_S = 10.0
"""A device that was open for less says nothing about an hour."""
MOMENT_S = 0.001
_TICKS = [mantissa * 10.0**exponent for exponent in range(-3, 4) for mantissa in (1, 3)]
_BLUE, _GREEN, _RED, _GREY, _ORANGE = "#2171b5", "#238b45", "#cb181d", "#737373", "#ec7014"


def page(plan: Plan, outcome: Outcome, figures: Mapping[str, Any]) -> str:
    """All of it, plotly's script too."""
    verdict = outcome.verdict
    problems = "\n".join(verdict.problems)
    title = "not as promised" if problems else "everything converged, nothing acknowledged was lost"
    pictures = [
        picture.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
        for picture in _pictures(outcome, figures)
    ]
    return _PAGE.substitute(
        title=escape(f"{plan.users} users, {verdict.devices} devices, {plan.profile.name}: {title}"),
        kind="broken" if problems else "held",
        style=STYLE,
        problems=f"<pre>{escape(problems)}</pre>" if problems else "",
        about=table_rows(_about(plan, figures)),
        figures=table_rows(_figures(outcome, figures)),
        plotly=get_plotlyjs(),
        pictures="\n".join(pictures),
        open_min_s=f"{OPEN_MIN_S:g}",
        network=table_rows(_network(plan.profile, figures)),
    )


# --- tables


def _about(plan: Plan, figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    about = figures["about"]
    yield "repeat it with", about["command"]
    yield "users, devices of each", f"{plan.users:,}, {plan.devices}"
    yield "network", plan.profile.name + (f", rates of {about['throughput']}" if about["throughput"] else "")
    yield "length", f"{plan.duration_s:g} s; people come and go {plan.speed:g} times as fast as they do"
    for event in figures["events"]:
        yield f"at {event['at_s']:.1f} s", event["what"]


def _figures(outcome: Outcome, figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    total, hour = figures["total"], figures["per_device_hour"]
    verdict = outcome.verdict
    yield "converged", "no" if verdict.converged_s is None else f"yes, in {verdict.converged_s:.1f} s at the end"
    yield "edits", f"{total['edits']:,} in {verdict.documents:,} documents"
    yield "current after a reconnect", _told(figures["time_to_current_s"]["after_reconnect"])
    yield "current after opening", _told(figures["time_to_current_s"]["after_opening"])
    yield "edit to other device, both online", _told(figures["edit_to_other_device_s"]["both_online"])
    yield "edit to other device, one offline", _told(figures["edit_to_other_device_s"]["one_offline"])
    yield "age of the oldest pending edit", _told(figures["queue_age_s"])
    yield "device-hours open", f"{figures['device_hours_open']:.2f}"
    yield "bytes per device and hour", f"{hour['bytes_up']:,.0f} up, {hour['bytes_down']:,.0f} down"
    yield (
        "radio per device and hour",
        (
            f"awake {hour['radio_awake_s']:,.0f} s, {hour['radio_wakeups']:,.0f} wake-ups,"
            f" {hour['radio_joules']:,.0f} J (a model)"
        ),
    )
    yield "apps", f"{total['lives']:,} starts, {total['kills']:,} kills, {total['upgrades']:,} stores upgraded"
    yield (
        "retries",
        (
            f"{total['failures']:,} of {total['attempts']:,} attempts to connect failed;"
            f" {total['resent']:,} ops sent again; {total['resyncs']:,} resyncs; {total['heals']:,} heals"
        ),
    )
    yield "catch-ups", _counts(figures["catch_ups"])
    yield "background syncs", _counts(figures["background_syncs"])
    yield "errors", _counts(figures["errors"])
    yield "this process's own delay", f"{_told(figures['own_delay_s'])}: it is in every time above"


def _told(quantiles: Mapping[str, float | None]) -> str:
    if not quantiles["count"]:
        return "never"
    shown = ", ".join(f"{name} {plain(quantiles[name] or 0.0)}" for name in ("p50", "p95", "p99", "p100"))
    return f"{shown} s (of {quantiles['count']:,})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _network(profile: Profile, figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "round trip", profile.ping.told(1000, "ms")
    yield "down", profile.down.told(8e-6, "Mbit/s")
    yield "up", profile.up.told(8e-6, "Mbit/s")
    yield "loss", f"{100 * profile.loss:g} % of packets, each a wait of 0.2 s and a round trip, doubled each time"
    yield "sources", "; ".join(profile.sources)
    for trouble in profile.troubles:
        yield (
            str(trouble.reach),
            (f"apart {trouble.apart.told(1, 's')}; lasts {_lasting(trouble.lasts)}. Source: {trouble.source}"),
        )
    yield "radio", f"{profile.radio.name}. The energy is {figures['about']['energy']}"


def _lasting(lasts: Quantiles) -> str:
    return lasts.told(1, "s") if lasts.at(1.0) >= MOMENT_S else "a moment"


# --- pictures


def _pictures(outcome: Outcome, figures: Mapping[str, Any]) -> Iterator[Any]:
    measured = outcome.figures
    reconnected, opened = _seconds(measured.reconnected), _seconds(measured.opened)
    yield _shares("Time to current", {"after a reconnect": reconnected, "after opening the app": opened})
    live, late = _seconds(measured.seen_live), _seconds(measured.seen_open)
    yield _shares("From an edit to another device", {"both online": live, "one offline": late})
    yield _over_time(
        "Age of the oldest pending edit, of devices in use", "seconds", figures,
        {"longest": ("age_max_s", _RED), "p95": ("age_p95_s", _ORANGE)},
    )  # fmt: skip
    yield _over_time(
        "Devices",
        "devices",
        figures,
        {
            "open": ("open", _GREY),
            "current": ("current", _GREEN),
            "behind": ("behind", _RED),
            "behind, suspended": ("asleep", _ORANGE),
        },
    )
    yield _rates(figures)
    yield _per_device(
        "Bytes of a device, for each hour its app is open", "bytes", outcome, {"up": "bytes_up", "down": "bytes_down"}
    )
    yield _per_device(
        "Radio awake, for each hour the app is open (a model)", "seconds, with the tails after it is closed",
        outcome, {"awake": "awake_s"},
    )  # fmt: skip
    yield _bars("Catch-ups by mode, retries and errors", figures)
    yield _over_time("This process's own delay", "seconds", figures, {"delay": ("lag_s", _GREY)})


def _seconds(timed: Sequence[Timed]) -> list[float]:
    return [item.seconds for item in timed]


def _laid_out(figure: Any, title: str, **more: Any) -> Any:
    figure.update_layout(
        title={"text": title, "y": 0.96, "yanchor": "top"}, template="plotly_white", height=330,
        margin={"l": 60, "r": 20, "t": 70, "b": 45},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"}, **more,
    )  # fmt: skip
    return figure


def _shares(title: str, series: Mapping[str, Sequence[float]]) -> Any:
    """How much of each was done within how long."""
    figure = plotly.Figure()
    for (name, seconds), colour in zip(series.items(), (_BLUE, _ORANGE), strict=True):
        ordered = sorted(seconds)
        numbers = range(0, len(ordered), max(1, len(ordered) // POINTS_MAX))
        shown = [*numbers, len(ordered) - 1] if ordered else []
        figure.add_scatter(
            x=[max(ordered[number], 1e-3) for number in shown],
            y=[100 * (number + 1) / len(ordered) for number in shown],
            name=f"{name} ({len(ordered):,})", mode="lines", line={"color": colour, "shape": "hv"},
        )  # fmt: skip
    return _laid_out(
        figure, title,
        xaxis={"type": "log", "title": "within seconds", "tickvals": _TICKS, "ticktext": [*map(plain, _TICKS)]},
        yaxis={"title": "% of them", "range": [0, 102]},
    )  # fmt: skip


def _over_time(title: str, unit: str, figures: Mapping[str, Any], series: Mapping[str, tuple[str, str]]) -> Any:
    figure, samples = plotly.Figure(), figures["samples"]
    for name, (key, colour) in series.items():
        figure.add_scatter(
            x=[sample["at_s"] for sample in samples], y=[sample[key] for sample in samples],
            name=name, mode="lines", line={"color": colour},
        )  # fmt: skip
    axes = {"xaxis": {"title": "seconds of the run"}, "yaxis": {"title": unit, "rangemode": "tozero"}}
    return _with_events(_laid_out(figure, title, **axes), figures)


def _rates(figures: Mapping[str, Any]) -> Any:
    figure, samples = plotly.Figure(), figures["samples"]
    for name, key, colour in (("up", "bytes_up", _BLUE), ("down", "bytes_down", _GREEN)):
        figure.add_scatter(
            x=[after["at_s"] for _, after in pairwise(samples)],
            y=[(after[key] - before[key]) / (after["at_s"] - before["at_s"]) for before, after in pairwise(samples)],
            name=name, mode="lines", line={"color": colour},
        )  # fmt: skip
    axes = {"xaxis": {"title": "seconds of the run"}, "yaxis": {"title": "bytes a second", "rangemode": "tozero"}}
    return _with_events(_laid_out(figure, "Traffic of all devices", **axes), figures)


def _with_events(figure: Any, figures: Mapping[str, Any]) -> Any:
    for event in figures["events"]:
        figure.add_vline(event["at_s"], line={"color": _GREY, "width": 1, "dash": "dot"})
    return figure


def _per_device(title: str, unit: str, outcome: Outcome, series: Mapping[str, str]) -> Any:
    figure = plotly.Figure()
    for (name, key), colour in zip(series.items(), (_BLUE, _GREEN), strict=False):
        figure.add_box(
            x=[
                getattr(spent, key) * HOUR_S / spent.open_s
                for spent in outcome.spent.values()
                if spent.open_s >= OPEN_MIN_S
            ],
            name=name, boxpoints=False, marker={"color": colour},
        )  # fmt: skip
    axes = {"xaxis": {"title": unit, "rangemode": "tozero"}, "yaxis": {"autorange": "reversed"}}
    return _laid_out(figure, title, showlegend=False, **axes)


def _bars(title: str, figures: Mapping[str, Any]) -> Any:
    figure, total = plotly.Figure(), figures["total"]
    retries = {"attempts that failed": total["failures"], "ops sent again": total["resent"]}
    retries |= {name: total[name] for name in ("resyncs", "heals") if total[name]}
    for name, counts, colour in (
        ("catch-ups", figures["catch_ups"], _BLUE), ("retries", retries, _ORANGE), ("errors", figures["errors"], _RED),
    ):  # fmt: skip
        figure.add_bar(
            y=[f"{name}: {key}" for key in counts], x=list(counts.values()), name=name, orientation="h",
            marker={"color": colour}, text=list(counts.values()),
        )  # fmt: skip
    axes = {"xaxis": {"title": "times"}, "yaxis": {"automargin": True, "autorange": "reversed"}}
    return _laid_out(figure, title, showlegend=False, **axes)


_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$title</title>
<style>
$style
.pictures { display: grid; gap: 8px 24px; margin: 16px 0; }
.pictures { grid-template-columns: repeat(auto-fill, minmax(520px, 1fr)); }
.pictures > div { min-width: 0; overflow: hidden; }
</style>
<h1 class=$kind>$title</h1>
$problems
<div class=head><table>$about</table><table>$figures</table></div>
<script>$plotly</script>
<div class=pictures>
$pictures
</div>
<p>Dotted lines: what happened then is in the first table. Boxes: the middle half of all devices that were open for
$open_min_s s at least, the line within is the median, the whiskers reach to the least and the most.</p>
<h2>The network, and where its figures come from</h2>
<table>$network</table>
</html>
""")

"""The report as one page of HTML: no scripts, no network, charts as SVG inside it."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["page"]

WIDTH, HEIGHT = 760, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 150, 14, 34
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
TICKS = 5

Point = tuple[float, float]

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
body{color:#1f2328;background:#fff}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid #d1d9e0;padding:.25rem .7rem;text-align:right}
th:first-child,td:first-child{text-align:left}
.kept{color:#1a7f37}.broken,.void{color:#d1242f}
svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#57606a}
h2{margin-top:2rem}.note{color:#57606a;max-width:46rem}
"""

WHAT = {
    "up": "caller to model, by marks in the audio",
    "down": "model to caller, by marks in the audio",
    "up_frame": "caller to model, frames passed through unchanged",
    "down_frame": "model to caller, messages passed through unchanged",
    "turn": "caller's last sound to the bot's first",
    "barge_in": "caller's first sound over the bot to the bot's last",
    "setup": "due to begin, to answered",
    "late": "the generator's own lateness (within every figure above)",
    "read_late": "the generator reads, after the kernel received (within none)",
}
"""Durations, in the order of the table."""


def page(report: Mapping[str, Any]) -> str:
    """The page of a report, as `Report.as_json` gives it."""
    stages: Sequence[Mapping[str, Any]] = report["stages"]
    seconds: Sequence[Mapping[str, Any]] = report["seconds"]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Load test</title>',
        f"<style>{STYLE}</style></head><body>",
        _head(report),
        "<h2>Levels</h2>",
        _levels(stages),
    ]
    if len(stages) > 1:
        parts += ["<h2>Capacity</h2>", _capacity(stages)]
    if stages:
        best = _shown_stage(report)
        parts += [f"<h2>Durations at {_text(best['name'])}</h2>", _durations(best), _distribution(best)]
    if seconds:
        parts += ["<h2>Over time</h2>", *_over_time(seconds)]
    parts += [_counts(report["total"]), _test(report), "</body></html>"]
    return "\n".join(part for part in parts if part)


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return _text(value)


def _head(report: Mapping[str, Any]) -> str:
    verdict = report["verdict"]
    lines = [f"<h1>Load test: <span class='{_text(verdict)}'>{_text(verdict).upper()}</span></h1>"]
    test = report["test"]
    lines.append(f"<p>{_text(test['carrier'])} callers to <code>{_text(test['url'])}</code></p>")
    if report["is_interrupted"]:
        lines.append("<p>The run was stopped early.</p>")
    if report["void"]:
        items = "".join(f"<li>{_text(reason)}</li>" for reason in report["void"])
        lines.append(f"<p class='void'>These figures must not be believed:</p><ul>{items}</ul>")
    knee = report["knee"]
    if knee is not None:
        broken = knee["broken_calls"]
        end = f"; {broken} calls broke one" if broken is not None else "; none tried broke one"
        lines.append(f"<p>Every limit was kept up to <b>{knee['kept_calls']} calls</b>{end}.</p>")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{one}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{one}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"


def _levels(stages: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for stage in stages:
        durations = stage["durations"]
        broken = [*stage["void"], *stage["breaches"]]
        mark = "void" if stage["void"] else "broken" if stage["breaches"] else "kept"
        rows.append(
            [
                _text(stage["name"]),
                _number(stage["live"]),
                _number(stage["counts"].get("failed", 0)),
                *(_number(durations[way][q]) for way in ("up", "down") for q in ("p50_ms", "p99_ms")),
                _number(durations["turn"]["p95_ms"]),
                _number(stage["cpu_percent"]),
                _number(stage["cpu_ms"]),
                _number(stage["kib_per_call"]),
                _number(round(100 * stage["own_share"], 1)),
                f"<span class='{mark}'>{_text('; '.join(broken) or 'kept')}</span>",
            ]
        )
    head = (
        "level", "calls", "failed", "up p50 ms", "up p99", "down p50", "down p99", "turn p95",
        "CPU %", "CPU ms per call-s", "KiB per call", "generator %", "limits",
    )  # fmt: skip
    return _table(head, rows)


def _shown_stage(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The highest level that was kept, else the last."""
    stages: Sequence[Mapping[str, Any]] = report["stages"]
    kept = [stage for stage in stages if not stage["breaches"] and not stage["void"]]
    return max(kept, key=lambda stage: stage["live"]) if kept else stages[-1]


def _durations(stage: Mapping[str, Any]) -> str:
    names = ("n", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")
    rows = [
        [_text(WHAT[what]), *(_number(stage["durations"][what][name]) for name in names)]
        for what in WHAT
        if stage["durations"][what]["n"]
    ]
    return _table(("ms", *(name.removesuffix("_ms") for name in names)), rows)


def _distribution(stage: Mapping[str, Any]) -> str:
    """Shares on an axis that stretches the tail: 90, 99, 99.9 % are equally far apart."""
    series = {
        what: [(-math.log10(max(1 - q, 1e-6)), ms) for q, ms in stage["curves"].get(what, ())]
        for what in ("up", "down", "up_frame", "down_frame", "late")
    }
    shown = {_text(name): points for name, points in series.items() if len(points) > 1}
    return _chart(
        "Share of all that is at most so late",
        shown,
        unit="ms",
        x_ticks=[(0, "0 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %"), (4, "99.99 %")],
    )


def _capacity(stages: Sequence[Mapping[str, Any]]) -> str:
    def line(*path: str) -> list[Point]:
        points = []
        for stage in sorted(stages, key=lambda one: one["live"]):
            value: Any = stage
            for key in path:
                value = value[key]
            if value is not None:
                points.append((float(stage["live"]), float(value)))
        return points

    late = {
        "up p99": line("durations", "up", "p99_ms"),
        "down p99": line("durations", "down", "p99_ms"),
        "up p50": line("durations", "up", "p50_ms"),
    }
    cost = {"server CPU": line("cpu_percent")}
    memory = {"server memory": line("rss_mib")}
    charts = [
        _chart("Latency by calls", late, unit="ms"),
        _chart("CPU by calls", cost, unit="%"),
        _chart("Memory by calls", memory, unit="MiB"),
    ]
    return "".join(charts)


def _over_time(seconds: Sequence[Mapping[str, Any]]) -> list[str]:
    def line(name: str, scale: float = 1.0) -> list[Point]:
        return [(one["at_s"], one[name] * scale) for one in seconds if one[name] is not None]

    ways = {name.replace("_", " ").removesuffix(" ms"): line(name) for name in (
        "up_p50_ms", "up_p99_ms", "down_p50_ms", "down_p99_ms", "late_p99_ms"
    )}  # fmt: skip
    return [
        _chart("Latency", ways, unit="ms"),
        _chart(
            "Calls", {"live": line("live"), "opening": line("opening"), "failed": line("failed")}, unit=""
        ),
        _chart("CPU", {"server": line("cpu_percent"), "generator": line("own_share", 100)}, unit="%"),
        _chart("Memory of the server", {"RSS": line("rss_mib")}, unit="MiB"),
        _chart("Turns, median of each second", {"turn": line("turn_p50_ms")}, unit="ms"),
    ]


def _chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    unit: str,
    x_ticks: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over a common axis; nothing when there is nothing to draw."""
    shown = {name: points for name, points in series.items() if points}
    if not shown:
        return ""
    xs = [x for points in shown.values() for x, _ in points]
    low_x, high_x = min(xs), max(*xs, min(xs) + 1e-9)
    high_y = _round_up(max(y for points in shown.values() for _, y in points))
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(point: Point) -> str:
        x = LEFT + (point[0] - low_x) / (high_x - low_x) * wide
        y = TOP + tall - point[1] / high_y * tall
        return f"{x:.1f},{y:.1f}"

    parts = [f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{_text(title)}'>"]
    for i in range(TICKS):
        value = high_y * i / (TICKS - 1)
        y = TOP + tall - tall * i / (TICKS - 1)
        parts.append(f"<line x1='{LEFT}' y1='{y:.1f}' x2='{LEFT + wide}' y2='{y:.1f}' stroke='#d1d9e0'/>")
        parts.append(
            f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{value:.3g} {_text(unit)}</text>"
        )
    steps = [low_x + (high_x - low_x) * i / (TICKS - 1) for i in range(TICKS)]
    for value, label in x_ticks or [(one, f"{one:.3g}") for one in steps]:
        if low_x <= value <= high_x:
            x = LEFT + (value - low_x) / (high_x - low_x) * wide
            parts.append(f"<text x='{x:.1f}' y='{HEIGHT - 12}' text-anchor='middle'>{_text(label)}</text>")
    for i, (name, points) in enumerate(shown.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(place(point) for point in points)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>")
        if len(points) == 1:
            left, top = path.split(",")
            parts.append(f"<circle cx='{left}' cy='{top}' r='3' fill='{colour}'/>")
        y = TOP + 14 + 18 * i
        parts.append(f"<rect x='{LEFT + wide + 12}' y='{y - 9}' width='12' height='4' fill='{colour}'/>")
        parts.append(f"<text x='{LEFT + wide + 30}' y='{y - 2}'>{_text(name)}</text>")
    return f"<h3>{_text(title)}</h3>" + "".join(parts) + "</svg>"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999)


def _counts(total: Mapping[str, Any]) -> str:
    rows = [
        [_text(name.replace("_", " ")), _number(value)] for name, value in total["counts"].items() if value
    ]
    failures = [[_text(reason), _number(n)] for reason, n in total["failures"].items()]
    parts = ["<h2>Counts of the whole run</h2>", _table(("", ""), rows)]
    if failures:
        parts += ["<h3>Why calls failed</h3>", _table(("", ""), failures)]
    return "".join(parts)


def _test(report: Mapping[str, Any]) -> str:
    test, machine = report["test"], report["machine"]
    rows = [
        [_text(name), _text(value)] for name, value in {**test, **machine}.items() if value not in (None, "")
    ]
    note = (
        "Latencies begin when a frame was due, not when it was sent, and end when the kernel received it. "
        "docs/load.md of FastAgent tells how each figure is measured."
    )
    return f"<h2>The test</h2>{_table(('', ''), rows)}<p class='note'>{note}</p>"

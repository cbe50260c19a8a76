"""Pictures of the page, as SVG written by hand: bars with a goal across them, and lines over the number of calls.

The kernels' picture is `benches.picture`'s, which draws them beside their peers and wants matplotlib.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from benches.page.findings import Findings
from benches.page.goals import CPU_RATIO_PASSTHROUGH, KIB_PER_FURTHER_CALL, P99_LIMIT_MS, cpu_ratios
from benches.peers.climb import Climb, highest

__all__ = ["Bar", "Line", "bars", "lines", "pictures_of"]

OURS = "#0b7285"
GREYS = ("#868e96", "#adb5bd", "#ced4da", "#dee2e6")
LINES = {
    "fastagent": OURS,
    "relay": "#495057",
    "fastapi": "#e8590c",
    "agents": "#7048e8",
    "pipecat": "#2f9e44",
}
OTHER_LINE = "#868e96"
GOAL, INK, SOFT_INK, GRID = "#f08c00", "#212529", "#6c757d", "#eceff2"
FONT = "font-family='system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"
WIDTH = 760
LEFT = 210
RIGHT = 90
HEAD = 58
ROW = 30
BAR = 18
PLOT = 300
FOOT = 46
"""All in pixels."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what it stands for, how long it is, and whether it is ours."""

    label: str
    value: float
    is_ours: bool = False
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, its colour and points of (calls, value)."""

    label: str
    colour: str
    points: tuple[tuple[int, float], ...]


def pictures_of(findings: Findings) -> dict[str, str]:
    """The pictures that these findings allow, by file name."""
    drawn: dict[str, str] = {}
    climbs = findings.peers
    if calls := highest(climbs):
        at = {one.name: step for one in climbs if (step := one.step(calls)) is not None}
        titles = {one.name: one.title for one in climbs}
        drawn["peers-cpu.svg"] = bars(
            f"CPU of one talking call, {calls} calls at once",
            "ms per second",
            [Bar(titles[name], step.cpu_ms_per_call_s, name == "fastagent") for name, step in at.items()],
        )
        drawn["peers-memory.svg"] = bars(
            "Memory per further call",
            "KiB",
            [
                Bar(titles[name], step.kib_per_further_call, name == "fastagent")
                for name, step in at.items()
                if step.kib_per_further_call is not None
            ],
        )
    if climbs:
        drawn["peers-p99.svg"] = _latencies("Latency p99, the worse way", climbs, None)
    if findings.capacity:
        drawn["capacity-p99.svg"] = _latencies(
            "Latency p99 on one core, the worse way", findings.capacity, P99_LIMIT_MS
        )
        drawn["capacity-core.svg"] = lines(
            "Use of the server's core",
            "%",
            [
                Line(
                    one.title,
                    LINES.get(one.name, OTHER_LINE),
                    tuple((s.calls, s.core_percent) for s in one.steps if s.core_percent),
                )
                for one in findings.capacity
            ],
            limit=None,
        )
        slopes = [
            Bar(
                one.title,
                slope,
                one.name == "fastagent",
                KIB_PER_FURTHER_CALL if one.name == "fastagent" else None,
            )
            for one in findings.capacity
            if (slope := _last_slope(one)) is not None
        ]
        if slopes:
            drawn["capacity-memory.svg"] = bars("Memory per further call", "KiB", slopes)
    if findings.relay is not None:
        drawn["relay-cpu.svg"] = bars(
            "CPU beside a byte relay",
            "×",
            [
                Bar(media_format, ratio, is_ours=True, goal=CPU_RATIO_PASSTHROUGH if is_passthrough else 2.0)
                for media_format, ratio, is_passthrough in _ratios(findings)
            ],
        )
    return drawn


def _ratios(findings: Findings) -> list[tuple[str, float, bool]]:
    from benches.relay.report import needs_no_conversion

    assert findings.relay is not None
    return [
        (name, ratio, needs_no_conversion(name)) for name, ratio in cpu_ratios(findings.relay.trials).items()
    ]


def _last_slope(one: Climb) -> float | None:
    return next(
        (s.kib_per_further_call for s in reversed(one.steps) if s.kib_per_further_call and not s.failure),
        None,
    )


def _latencies(title: str, climbs: Sequence[Climb], limit: float | None) -> str:
    return lines(
        title,
        "ms",
        [
            Line(
                f"{one.title}",
                LINES.get(one.name, OTHER_LINE),
                tuple((s.calls, s.p99_ms) for s in one.steps if s.p99_ms > 0),
            )
            for one in climbs
        ],
        limit=limit,
        is_logarithmic=True,
    )


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars in the order given, each with its figure; a mark across a bar is its goal."""
    height = HEAD + ROW * len(rows) + 14
    longest = max([bar.value for bar in rows] + [bar.goal for bar in rows if bar.goal is not None] + [1e-9])
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [*_frame(title, unit, height)]
    for number, bar in enumerate(rows):
        top = HEAD + ROW * number
        colour = OURS if bar.is_ours else GREYS[0]
        width = max(1.0, bar.value * scale)
        middle = top + BAR / 2 + 4
        weight = " font-weight='600'" if bar.is_ours else ""
        parts += [
            f"<text x='{LEFT - 10}' y='{middle:.0f}' text-anchor='end' font-size='13'{weight} fill='{INK}'>{escape(bar.label)}</text>",
            f"<rect x='{LEFT}' y='{top}' width='{width:.1f}' height='{BAR}' rx='2' fill='{colour}'/>",
            f"<text x='{LEFT + width + 7:.1f}' y='{middle:.0f}' font-size='13'{weight} fill='{INK}'>{_figure(bar.value)}</text>",
        ]
        if bar.goal is not None:
            x = LEFT + bar.goal * scale
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top - 4}' y2='{top + BAR + 4}' stroke='{GOAL}' stroke-width='3'>"
                f"<title>goal {_figure(bar.goal)} {escape(unit)}</title></line>"
            )
    if any(bar.goal is not None for bar in rows):
        parts.append(_legend_of_goal())
    return _svg(parts, height)


def lines(
    title: str, unit: str, series: Sequence[Line], *, limit: float | None, is_logarithmic: bool = False
) -> str:
    """Lines over the number of calls; the calls' axis is logarithmic, the other one on request."""
    drawn = [line for line in series if line.points]
    height = HEAD + PLOT + FOOT + 20 * ((len(drawn) + 2) // 3)
    parts = [*_frame(title, unit, height)]
    if not drawn:
        return _svg(parts, height)
    values = [value for line in drawn for _, value in line.points] + ([limit] if limit is not None else [])
    calls = sorted({count for line in drawn for count, _ in line.points})
    left, right, top, bottom = 64, WIDTH - 30, HEAD, HEAD + PLOT
    if is_logarithmic:
        low, high = floor(log10(min(values))), ceil(log10(max(values)))
        high = max(high, low + 1)
        ticks = [10.0**power for power in range(low, high + 1)]
    else:
        low, high, ticks = 0, 1, []
        step = 10 ** floor(log10(max(values))) / 2
        while step * (len(ticks) - 1) < max(values):
            ticks.append(step * len(ticks))

    def y_of(value: float) -> float:
        share = (log10(value) - low) / (high - low) if is_logarithmic else value / ticks[-1]
        return bottom - share * (bottom - top)

    def x_of(count: int) -> float:
        first, last = log10(calls[0]), log10(max(calls[-1], calls[0] + 1))
        return left + 20 + (log10(count) - first) / (last - first) * (right - left - 40)

    for tick in ticks:
        y = y_of(tick)
        parts += [
            f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='{GRID}'/>",
            f"<text x='{left - 8}' y='{y + 4:.1f}' text-anchor='end' font-size='12' fill='{SOFT_INK}'>{_figure(tick)}</text>",
        ]
    shown = float("-inf")
    for count in calls:
        if x_of(count) - shown < 34:
            continue
        shown = x_of(count)
        parts.append(
            f"<text x='{shown:.1f}' y='{bottom + 18}' text-anchor='middle' font-size='12' fill='{SOFT_INK}'>{count}</text>"
        )
    parts.append(
        f"<text x='{right}' y='{bottom + 36}' text-anchor='end' font-size='12' fill='{SOFT_INK}'>calls</text>"
    )
    if limit is not None:
        y = y_of(limit)
        parts += [
            f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='{GOAL}' stroke-width='2' stroke-dasharray='6 4'/>",
            f"<text x='{right}' y='{y - 6:.1f}' text-anchor='end' font-size='12' fill='{GOAL}'>goal {_figure(limit)} {escape(unit)}</text>",
        ]
    for number, line in enumerate(drawn):
        places = [(x_of(count), y_of(value)) for count, value in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{line.colour}' stroke-width='2.5'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{line.colour}'/>" for x, y in places]
        x, y = left + 20 + 230 * (number % 3), bottom + FOOT + 10 + 20 * (number // 3)
        parts += [
            f"<rect x='{x}' y='{y - 9}' width='14' height='6' fill='{line.colour}'/>",
            f"<text x='{x + 20}' y='{y}' font-size='13' fill='{INK}'>{escape(line.label)}</text>",
        ]
    return _svg(parts, height)


def _frame(title: str, unit: str, height: int) -> list[str]:
    return [
        f"<rect width='{WIDTH}' height='{height}' rx='6' fill='#ffffff'/>",
        f"<text x='16' y='28' font-size='16' font-weight='600' fill='{INK}'>{escape(title)}"
        f"<tspan font-weight='400' font-size='13' fill='{SOFT_INK}'>  {escape(unit)}</tspan></text>",
    ]


def _legend_of_goal() -> str:
    return (
        f"<line x1='{WIDTH - 70}' x2='{WIDTH - 70}' y1='14' y2='32' stroke='{GOAL}' stroke-width='3'/>"
        f"<text x='{WIDTH - 62}' y='28' font-size='13' fill='{SOFT_INK}'>goal</text>"
    )


def _svg(parts: Sequence[str], height: int) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' "
        f"{FONT}>\n{body}\n</svg>\n"
    )


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"

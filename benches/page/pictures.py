"""Pictures of the page, as SVG written by hand: bars with a goal across them, and lines over calls.

The kernels' picture is `benches.picture`'s, which draws them beside their peers and wants matplotlib.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from benches.page.findings import Findings
from benches.page.goals import CPU_RATIO_PASSTHROUGH, KIB_PER_FURTHER_CALL, P99_LIMIT_MS, cpu_ratios
from benches.peers.climb import Climb, highest
from benches.relay.report import CPU_RATIO_TRANSCODING, needs_no_conversion

__all__ = ["Bar", "Line", "bars", "lines", "pictures_of"]

OURS, OURS_WITH_EARS = "#0b7285", "#66a9b5"
PEER = "#868e96"
LINES = {
    "fastagent": OURS,
    "fastagent-ears": OURS_WITH_EARS,
    "relay": "#495057",
    "fastapi": "#e8590c",
    "agents": "#7048e8",
    "pipecat": "#2f9e44",
}
OTHER_LINE = "#868e96"
GOAL, INK, SOFT_INK, GRID = "#f08c00", "#212529", "#6c757d", "#eceff2"
FONT = "font-family='system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"
TICKS_MAX = 6
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
    if calls := highest([one for one in climbs if one.has_carried]):
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
            Bar(one.title, slope, is_ours, KIB_PER_FURTHER_CALL if is_ours else None)
            for one in findings.capacity
            for is_ours in (one.name == "fastagent",)
            if (slope := one.kib_per_further_call) is not None
        ]
        if slopes:
            drawn["capacity-memory.svg"] = bars("Memory per further call", "KiB", slopes)
    if findings.relay is not None:
        drawn["relay-cpu.svg"] = bars(
            "CPU beside a byte relay",
            "×",
            [
                Bar(
                    media_format,
                    ratio,
                    is_ours=True,
                    goal=CPU_RATIO_PASSTHROUGH
                    if needs_no_conversion(media_format)
                    else CPU_RATIO_TRANSCODING,
                )
                for media_format, ratio in cpu_ratios(findings.relay.trials).items()
            ],
        )
    return drawn


def _latencies(title: str, climbs: Sequence[Climb], limit: float | None) -> str:
    return lines(
        title,
        "ms",
        [
            Line(
                one.title,
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
        colour = OURS if bar.is_ours else PEER
        width = max(1.0, bar.value * scale)
        middle = top + BAR / 2 + 4
        parts += [
            _text(LEFT - 10, middle, bar.label, anchor="end", is_bold=bar.is_ours),
            f"<rect x='{LEFT}' y='{top}' width='{width:.1f}' height='{BAR}' rx='2' fill='{colour}'/>",
            _text(LEFT + width + 7, middle, _figure(bar.value), is_bold=bar.is_ours),
        ]
        if bar.goal is not None:
            x = LEFT + bar.goal * scale
            parts.append(_rule(x, top - 4, x, top + BAR + 4, GOAL, 3))
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
        low, high = 0, 1
        step = _tick_step(max(values))
        ticks = [step * number for number in range(ceil(max(values) / step) + 1)]

    def y_of(value: float) -> float:
        share = (log10(value) - low) / (high - low) if is_logarithmic else value / ticks[-1]
        return bottom - share * (bottom - top)

    def x_of(count: int) -> float:
        first, last = log10(calls[0]), log10(max(calls[-1], calls[0] + 1))
        return left + 20 + (log10(count) - first) / (last - first) * (right - left - 40)

    for tick in ticks:
        y = y_of(tick)
        parts += [
            _rule(left, y, right, y, GRID, 1),
            _text(left - 8, y + 4, _figure(tick), anchor="end", size=12, colour=SOFT_INK),
        ]
    shown = float("-inf")
    for count in calls:
        if x_of(count) - shown < 34:
            continue
        shown = x_of(count)
        parts.append(_text(shown, bottom + 18, str(count), anchor="middle", size=12, colour=SOFT_INK))
    parts.append(_text(right, bottom + 36, "calls", anchor="end", size=12, colour=SOFT_INK))
    if limit is not None:
        y = y_of(limit)
        parts += [
            _rule(left, y, right, y, GOAL, 2),
            _text(right, y - 6, f"goal {_figure(limit)} {unit}", anchor="end", size=12, colour=GOAL),
        ]
    for number, line in enumerate(drawn):
        places = [(x_of(count), y_of(value)) for count, value in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{line.colour}' stroke-width='2.5'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{line.colour}'/>" for x, y in places]
        x, y = left + 20 + 230 * (number % 3), bottom + FOOT + 10 + 20 * (number // 3)
        parts += [
            f"<rect x='{x}' y='{y - 9}' width='14' height='6' fill='{line.colour}'/>",
            _text(x + 20, y, line.label),
        ]
    return _svg(parts, height)


def _tick_step(most: float) -> float:
    """The least round number that reaches ``most`` in `TICKS_MAX` steps."""
    decade = 10.0 ** floor(log10(most / TICKS_MAX))
    return next(decade * factor for factor in (1, 2, 5, 10) if decade * factor * TICKS_MAX >= most)


def _frame(title: str, unit: str, height: int) -> list[str]:
    return [
        f"<rect width='{WIDTH}' height='{height}' rx='6' fill='#ffffff'/>",
        f"<text x='16' y='28' font-size='16' font-weight='600' fill='{INK}'>{escape(title)}"
        f"<tspan font-weight='400' font-size='13' fill='{SOFT_INK}'>  {escape(unit)}</tspan></text>",
    ]


def _legend_of_goal() -> str:
    return _rule(WIDTH - 70, 14, WIDTH - 70, 32, GOAL, 3) + _text(WIDTH - 62, 28, "goal", colour=SOFT_INK)


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' "
        f"stroke='{colour}' stroke-width='{width}'/>"
    )


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = 13,
    colour: str = INK,
    is_bold: bool = False,
) -> str:
    weight = " font-weight='600'" if is_bold else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}'{weight} fill='{colour}'>"
        f"{escape(words)}</text>"
    )


def _svg(parts: Sequence[str], height: int) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
        f"width='{WIDTH}' height='{height}' {FONT}>\n{body}\n</svg>\n"
    )


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"

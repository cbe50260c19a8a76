"""The kernels beside their peers as one picture: ``python -m benches.picture [OUT] [--stored]``.

Bars are nanoseconds per 20 ms frame (shortest round, logarithmic scale): ours in colour, peers in grey, with
how many times ours they take. The line across our bar is the goal; diamonds are the stored baseline. Writes
OUT.png and OUT.svg.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from benches.baseline import FRAME, OURS, ROOT, Subject, load, machine_class, measure, stored

__all__ = ["draw", "panels"]

OUT = ROOT / "build" / "benches" / "kernels"
OURS_COLOUR, VARIANT_COLOUR, OVER_COLOUR, PEER_COLOUR = "#0b7285", "#66a9b5", "#c92a2a", "#d5dae0"
GOAL_COLOUR, INK, SOFT_INK, GRID_COLOUR = "#f08c00", "#212529", "#6c757d", "#eceff2"
# Inches.
COLUMN, BAR, GAP = 7.6, 0.19, 0.11
HEADING, MARGIN, HEAD = 0.62, 0.25, 1.2
LABELS = 1.95
"""Room left of the bars for what is measured."""
DECADES = {
    1.0: "1 ns",
    1e1: "10 ns",
    1e2: "100 ns",
    1e3: "1 µs",
    1e4: "10 µs",
    1e5: "100 µs",
    1e6: "1 ms",
    1e7: "10 ms",
}


@dataclass(frozen=True, slots=True)
class Work:
    """A subject as it is drawn: without its kernel's name, and with what it took before."""

    name: str
    now: Subject
    before: Subject | None

    def rows(self) -> list[str]:
        """Implementations from top to bottom: ours, then peers from quick to slow."""
        return [
            *sorted(self.now.ours()),
            *sorted(self.now.peers(), key=lambda peer: self.now.figures[peer].min_ns),
        ]


def panels(subjects: Mapping[str, Subject], baseline: Mapping[str, Subject]) -> dict[str, list[Work]]:
    """What is drawn, by kernel: the first word of a subject names it."""
    drawn: dict[str, list[Work]] = {}
    for name, subject in sorted(subjects.items()):
        if subject.unit == FRAME:
            kernel, _, work = name.partition(" ")
            drawn.setdefault(kernel, []).append(
                Work(work.strip(" ,:") or kernel, subject, baseline.get(name))
            )
    return drawn


def _is_over(work: Work) -> bool:
    ours = work.now.figures.get(OURS)
    return ours is not None and work.now.goal_ns is not None and ours.min_ns > work.now.goal_ns


def _inches(works: Sequence[Work]) -> float:
    return sum(len(work.now.figures) * BAR + GAP for work in works)


def _columns(drawn: Mapping[str, Sequence[Work]]) -> list[list[str]]:
    """The kernels in two columns of about the same height, each in the order given."""
    heights = {kernel: _inches(works) + HEADING for kernel, works in drawn.items()}
    names = list(drawn)

    def of(choice: int) -> list[list[str]]:
        places = [choice >> index & 1 for index in range(len(names))]
        return [[name for name, at in zip(names, places, strict=True) if at == column] for column in (0, 1)]

    def tallest(choice: int) -> float:
        return max(sum(heights[kernel] for kernel in column) for column in of(choice))

    # Even numbers leave the first kernel in the first column.
    return [column for column in of(min(range(0, 1 << len(names), 2), key=tallest)) if column]


def _time(nanoseconds: float) -> str:
    for size, unit in ((1e6, "ms"), (1e3, "µs"), (1.0, "ns")):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{nanoseconds:.2g} ns"


def _draw_row(axes: Axes, work: Work, row: str, at: float) -> None:
    figures, ours = work.now.figures[row], work.now.figures.get(OURS)
    goal_ns = work.now.goal_ns if row == OURS else None
    is_ours = row.startswith(OURS)
    left = axes.get_xlim()[0]
    colour = OURS_COLOUR if row == OURS else VARIANT_COLOUR if is_ours else PEER_COLOUR
    if row == OURS and _is_over(work):
        colour = OVER_COLOUR
    axes.barh(at, figures.min_ns - left, left=left, height=BAR * 0.86, color=colour, linewidth=0)
    note_at = figures.min_ns
    if goal_ns is not None:
        axes.plot(
            [goal_ns] * 2, [at - BAR * 0.62, at + BAR * 0.62], color=GOAL_COLOUR, linewidth=2.4, zorder=4
        )
        if figures.min_ns < goal_ns < figures.min_ns * 30:
            note_at = goal_ns
    before = None if work.before is None else work.before.figures.get(row)
    if before is not None:
        axes.plot(before.min_ns, at, marker="D", markersize=3.4, color="white", markeredgecolor=INK, zorder=5)
        note_at = max(note_at, before.min_ns)
    note = _time(figures.min_ns)
    if not is_ours and ours is not None:
        note += (
            f" · {figures.min_ns / ours.min_ns:.2g}×"
            if figures.min_ns < 100 * ours.min_ns
            else (f" · {figures.min_ns / ours.min_ns:.0f}×")
        )
    label = axes.annotate(
        row, (note_at, at), (6, 0), textcoords="offset points", va="center_baseline", fontsize=7.5,
        color=INK if is_ours else SOFT_INK, fontweight="bold" if is_ours else "normal",
    )  # fmt: skip
    axes.annotate(
        note,
        (1, 0.5),
        (5, 0),
        xycoords=label,
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=SOFT_INK,
    )


def _draw_kernel(axes: Axes, kernel: str, works: Sequence[Work]) -> None:
    ticks: list[tuple[float, str]] = []
    at = (BAR + GAP) / 2
    for index, work in enumerate(works):
        if index:
            axes.axhline(at - (BAR + GAP) / 2, color=GRID_COLOUR, linewidth=0.8, zorder=0)
        rows = work.rows()
        ticks.append((at + (len(rows) - 1) * BAR / 2, work.name))
        for row in rows:
            _draw_row(axes, work, row, at)
            at += BAR
        at += GAP
    axes.set_ylim(_inches(works), 0)
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=8.5, color=INK)
    axes.set_title(kernel, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=5)


def _dress(axes: Axes, left: float, right: float) -> None:
    """A logarithmic scale of times, and no more ink than that."""
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    shown = {at: name for at, name in DECADES.items() if left <= at <= right}
    axes.set_xticks(list(shown), list(shown.values()), fontsize=7.5, color=SOFT_INK)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=GRID_COLOUR, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#adb5bd")


def _head(figure: Figure, has_baseline: bool, has_goals: bool, has_misses: bool) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        MARGIN / width,
        1 - 0.42 / height,
        "What a 20 ms frame costs",
        fontsize=17,
        fontweight="bold",
        color=INK,
    )
    told = f"time per frame, called from Python; shortest round; logarithmic scale  ·  {machine_class()}"
    figure.text(MARGIN / width, 1 - 0.68 / height, told, fontsize=9, color=SOFT_INK)
    keys: list[Any] = [
        Patch(color=OURS_COLOUR, label="fastagent"),
        Patch(color=PEER_COLOUR, label="peer (times ours)"),
    ]
    if has_goals:
        keys.append(Line2D([], [], color=GOAL_COLOUR, linewidth=2.4, label="goal"))
    if has_misses:
        keys.append(Patch(color=OVER_COLOUR, label="over its goal"))
    if has_baseline:
        keys.append(
            Line2D(
                [],
                [],
                marker="D",
                color="white",
                markeredgecolor=INK,
                markersize=4.5,
                label="stored baseline",
            )
        )
    figure.legend(
        handles=keys, loc="upper left", ncols=len(keys),
        bbox_to_anchor=((MARGIN - 0.08) / width, 1 - 0.76 / height),
        frameon=False, fontsize=8.5, handlelength=1.3, borderpad=0.2, labelcolor=INK,
    )  # fmt: skip


def draw(
    subjects: Mapping[str, Subject], out: Path, baseline: Mapping[str, Subject] | None = None
) -> list[Path]:
    """Draw the subjects that are counted in frames; gives the two files.

    Args:
        out: the files' name without its ending.
        baseline: figures to mark beside the bars.

    Raises:
        ValueError: no subject is counted in frames.
    """
    drawn = panels(subjects, baseline or {})
    if not drawn:
        raise ValueError(f"expected subjects with the unit {FRAME!r}, got none")
    works = [work for column in drawn.values() for work in column]
    times = [figures.min_ns for work in works for figures in work.now.figures.values()]
    # The slowest bar leaves a third of the width to its label.
    left = 10.0 ** floor(log10(min(times)) - 0.3)
    right = max(times) * (max(times) / left) ** 0.5
    columns = _columns(drawn)
    tall = max(sum(_inches(drawn[kernel]) + HEADING for kernel in column) for column in columns)
    width, height = COLUMN * len(columns) + MARGIN, tall + HEAD + MARGIN
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "none", "svg.hashsalt": "fastagent"}):
        figure = Figure(figsize=(width, height), facecolor="white")
        has_goals = any(work.now.goal_ns is not None for work in works)
        _head(figure, baseline is not None, has_goals, any(_is_over(work) for work in works))
        for place, column in enumerate(columns):
            below = HEAD
            for kernel in column:
                inches = _inches(drawn[kernel])
                below += HEADING - 0.24
                axes = figure.add_axes(
                    (
                        (MARGIN + place * COLUMN + LABELS) / width,
                        1 - (below + inches) / height,
                        (COLUMN - LABELS - MARGIN) / width,
                        inches / height,
                    )
                )
                _dress(axes, left, right)
                _draw_kernel(axes, kernel, drawn[kernel])
                below += inches + 0.24
        out.parent.mkdir(parents=True, exist_ok=True)
        files = [out.parent / f"{out.name}.{kind}" for kind in ("png", "svg")]
        for path in files:
            figure.savefig(path, dpi=144, metadata={"Date": None} if path.suffix == ".svg" else {})
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or read the baseline, and draw."""
    parser = argparse.ArgumentParser(description="Draw the kernels beside their peers.")
    parser.add_argument(
        "out", type=Path, nargs="?", default=OUT, help="files without ending (default %(default)s)"
    )
    parser.add_argument("--stored", action="store_true", help="draw the stored baseline; measure nothing")
    parser.add_argument("--runs", type=int, default=1, help="runs over all benches (default %(default)s)")
    options, pytest_arguments = parser.parse_known_args(arguments)
    out = options.out.with_suffix("") if options.out.suffix in (".png", ".svg") else options.out
    if options.stored:
        files = draw(load(stored()), out)
    else:
        baseline = load(stored()) if stored().exists() else None
        files = draw(measure(options.runs, pytest_arguments), out, baseline)
    print(*files, sep="\n")


if __name__ == "__main__":
    main()

"""A flame graph: each frame a box, as wide as the share of samples it was part of, its callees above it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from fastagent.profile.stacks import Group, Stacks, group_of

__all__ = ["draw_flame"]

WIDTH = 1200
ROW = 17
MARGIN = 10
HEAD = 44
LEAST_WIDTH = 0.4
"""Narrower boxes are left out: nobody could point at them."""
CHARACTER_WIDTH = 6.6

COLOURS: Mapping[Group, str] = {
    Group.FASTAGENT: "#f59e0b",
    Group.FASTAGENT_PYTHON: "#fcd34d",
    Group.PICOWS: "#84cc16",
    Group.LOOP: "#38bdf8",
    Group.PYTHON: "#c4b5fd",
    Group.INTERPRETER: "#d8b4fe",
    Group.KERNEL: "#f87171",
    Group.OTHER: "#d4d4d4",
}


@dataclass(slots=True)
class _Box:
    """A frame on a path, with what it called."""

    samples: int = 0
    callees: dict[str, "_Box"] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        deepest, level = 0, [self]
        while level := [callee for box in level for callee in box.callees.values()]:
            deepest += 1
        return deepest


def draw_flame(stacks: Stacks, title: str) -> str:
    """The picture as SVG; frames tell their share when they are pointed at."""
    root = _Box()
    for stack, n in stacks.folded.items():
        root.samples += n
        box = root
        for frame in stack:
            box = box.callees.setdefault(frame, _Box())
            box.samples += n
    height = HEAD + (root.depth + 1) * ROW + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="ui-monospace, monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="16" font-size="13">{escape(title)}</text>',
        *_legend(),
    ]
    if root.samples:
        scale = (WIDTH - 2 * MARGIN) / root.samples
        _draw(parts, root, "all", MARGIN, height - MARGIN - ROW, scale, root.samples)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _legend() -> list[str]:
    parts, x = [], MARGIN
    for group, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="24" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="33">{escape(group)}</text>')
        x += 30 + round(len(group) * CHARACTER_WIDTH)
    return parts


def _draw(parts: list[str], box: _Box, name: str, x: float, y: float, scale: float, total: int) -> None:
    # A stack of its own, not the interpreter's: samples may be deep.
    waiting = [(box, name, x, y)]
    while waiting:
        box, name, x, y = waiting.pop()
        width = box.samples * scale
        if width < LEAST_WIDTH:
            continue
        colour = "#e5e5e5" if name == "all" else COLOURS[group_of(name)]
        share = 100 * box.samples / total
        text = escape(name)
        parts.append(
            f'<g><title>{text}: {box.samples} samples, {share:.1f} %</title><rect x="{x:.1f}" y="{y}" '
            f'width="{max(0.1, width - 0.3):.1f}" height="{ROW - 1}" rx="1" fill="{colour}"/>'
        )
        room = int((width - 6) / CHARACTER_WIDTH)
        if room >= 3:
            shown = name if len(name) <= room else name[: room - 1] + "…"
            parts.append(f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(shown)}</text>')
        parts.append("</g>")
        at = x
        for callee_name, callee in sorted(box.callees.items()):
            waiting.append((callee, callee_name, at, y - ROW))
            at += callee.samples * scale

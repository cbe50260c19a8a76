"""SVG: a graph drawn in layers, readable as it is and in a browser."""

from html import escape
from itertools import pairwise

from fastagent.afsm.coverage import ANY_STATE, Coverage, Way, ways_of
from fastagent.afsm.drawing.layout import Box, Layout, place
from fastagent.afsm.drawing.mermaid import words_of
from fastagent.afsm.graph import Graph
from fastagent.afsm.spec import Event

__all__ = ["to_svg"]

MARGIN = 48.0
CHARACTER_WIDTH = 7.4
LABEL_CHARACTER_WIDTH = 6.2
LINE_HEIGHT = 13.0
MIN_WIDTH = 80.0
LOOP = 26.0

STYLE = """\
text { font: 13px sans-serif; fill: #1f2328; text-anchor: middle }
.label { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
.box { fill: #f2f5f9; stroke: #57606a; stroke-width: 1.2 }
.end { stroke-width: 2.6 }
.any { fill: #ffffff; stroke-dasharray: 3 }
.way { fill: none; stroke: #57606a; stroke-width: 1.2; marker-end: url(#arrow) }
.event { stroke-dasharray: 5 3 }
.walked { fill: #d9f2e0; stroke: #1a7f37 }
.missed { fill: #fbe9e7; stroke: #b3261e; stroke-dasharray: 4 }
.way.walked { fill: none }
.way.missed { fill: none }"""


def to_svg(graph: Graph, coverage: Coverage | None = None, title: str = "") -> str:
    """Draw a graph as SVG; with coverage, what was walked is green and what was not is red and dashed."""
    ways = ways_of(graph)
    names = [*graph.specs, *([ANY_STATE] if any(way.origin == ANY_STATE for way in ways) else [])]
    texts = {name: _text(name, coverage) for name in names}
    widths = {name: max(MIN_WIDTH, len(text) * CHARACTER_WIDTH + 28) for name, text in texts.items()}
    pairs: dict[tuple[str, str], list[Way]] = {}
    for way in ways:
        pairs.setdefault((way.origin, way.target), []).append(way)
    words = {pair: _words_width(together, coverage) for pair, together in pairs.items()}
    layout = place(widths, list(pairs), graph.initial_state, words)
    loops = max((LOOP + words[pair] for pair in pairs if pair[0] == pair[1]), default=0.0)
    width = layout.width + 2 * MARGIN + loops
    height = layout.height + 2 * MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{escape(title or graph.initial_state)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#57606a"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<g transform="translate({MARGIN:.0f} {MARGIN:.0f})">',
    ]
    first = layout.boxes[graph.initial_state]
    drawn.append(
        f'<path class="way" d="M{first.x:.1f} {-MARGIN * 0.7:.1f}V{first.y - first.height / 2:.1f}"/>'
    )
    labels: list[str] = []
    for pair, together in pairs.items():
        path, (x, y) = _path(layout, pair)
        drawn.append(f'<path class="{_way_class(together, coverage)}" d="{path}"/>')
        labels.append(_label(together, coverage, x, y, is_loop=pair[0] == pair[1]))
    for name in names:
        drawn.append(_box(name, texts[name], layout.boxes[name], graph, coverage))
    # Words come last, so that no line runs over them.
    return "\n".join([*drawn, *filter(None, labels), "</g>", "</svg>", ""])


def _text(name: str, coverage: Coverage | None) -> str:
    if name == ANY_STATE:
        return "any state"
    return name if coverage is None else f"{name} ×{coverage.states[name]}"


def _box(name: str, text: str, box: Box, graph: Graph, coverage: Coverage | None) -> str:
    classes, radius, about = ["box"], 6.0, ""
    if name == ANY_STATE:
        classes.append("any")
    else:
        spec = graph.specs[name]
        about = spec.description
        if spec.is_terminal and not spec.is_digression:
            classes, radius = ["box", "end"], box.height / 2
        if coverage is not None:
            classes.append("walked" if coverage.states[name] else "missed")
    return (
        f'<g><title>{escape(about or name)}</title><rect class="{" ".join(classes)}" '
        f'x="{box.x - box.width / 2:.1f}" y="{box.y - box.height / 2:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{radius:.0f}"/>'
        f'<text x="{box.x:.1f}" y="{box.y + 4.5:.1f}">{escape(text)}</text></g>'
    )


def _way_class(together: list[Way], coverage: Coverage | None) -> str:
    classes = ["way"]
    if all(way.cause != Event.INPUT for way in together):
        classes.append("event")
    if coverage is not None:
        classes.append("walked" if any(coverage.times(way) for way in together) else "missed")
    return " ".join(classes)


def _path(layout: Layout, pair: tuple[str, str]) -> tuple[str, tuple[float, float]]:
    """(the path, where its words go)."""
    origin, target = layout.boxes[pair[0]], layout.boxes[pair[1]]
    if pair[0] == pair[1]:
        right, y = origin.x + origin.width / 2, origin.y
        return (
            f"M{right:.1f} {y - 9:.1f}C{right + LOOP:.1f} {y - 16:.1f} {right + LOOP:.1f} {y + 16:.1f} "
            f"{right:.1f} {y + 9:.1f}",
            (right + LOOP, y),
        )
    is_down = target.y > origin.y
    start = origin.x, origin.y + (origin.height / 2 if is_down else -origin.height / 2)
    end = target.x, target.y - (target.height / 2 if is_down else -target.height / 2)
    points = [start, *layout.bends[pair], end]
    path = f"M{start[0]:.1f} {start[1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        path += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    return path, layout.words[pair]


def _words(together: list[Way], coverage: Coverage | None) -> list[str]:
    return list(filter(None, (words_of(way, coverage) for way in together)))


def _words_width(together: list[Way], coverage: Coverage | None) -> float:
    return max((len(words) for words in _words(together, coverage)), default=0) * LABEL_CHARACTER_WIDTH


def _label(together: list[Way], coverage: Coverage | None, x: float, y: float, *, is_loop: bool) -> str:
    words = _words(together, coverage)
    if not words:
        return ""
    top = y + 4 - (len(words) - 1) * LINE_HEIGHT / 2
    anchor = ' style="text-anchor: start"' if is_loop else ""
    lines = "".join(
        f'<tspan x="{x:.1f}" y="{top + number * LINE_HEIGHT:.1f}">{escape(text)}</tspan>'
        for number, text in enumerate(words)
    )
    return f'<text class="label"{anchor}>{lines}</text>'

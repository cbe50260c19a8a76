"""Layers: where the states of a graph stand, after Sugiyama, Tagawa and Toda (1981).

Ways that close a circle are turned round; each state stands one layer below the lowest that leads to it; each
layer is sorted by the mean place of its neighbours, up and down, and the order with the fewest crossings is
kept. Then the places of a layer are moved toward their neighbours as far as their widths let them. Ways over
several layers are cut by places without a box; the words at a way are such a place between two layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Box", "Layout", "place"]

SWEEPS = 12
GAP_X = 18.0
BOX_HEIGHT = 38.0
HALF_LAYER = 58.0
"""From a layer of boxes to the places between it and the next."""
BEND_WIDTH = 6.0


@dataclass(frozen=True, slots=True)
class Box:
    """Where a state stands: its middle and its size, in pixels."""

    x: float
    y: float
    width: float
    height: float = BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes by name, the bends of each way between two of them, and the size of the whole."""

    boxes: Mapping[str, Box]
    bends: Mapping[tuple[str, str], tuple[tuple[float, float], ...]]
    """By (origin, target), in the direction of the way; ways to the origin itself have none."""
    words: Mapping[tuple[str, str], tuple[float, float]]
    """The middle of each way's words."""
    width: float
    height: float


def place(
    widths: Mapping[str, float],
    ways: Sequence[tuple[str, str]],
    first: str,
    words: Mapping[tuple[str, str], float],
) -> Layout:
    """Place states.

    Args:
        widths: of the boxes, by name, in the order in which they are told.
        ways: pairs of names, each once.
        first: stands on top.
        words: widths of what stands at the ways; none needs no place.
    """
    names = [first, *(name for name in widths if name != first)]
    down = _without_circles(names, [way for way in ways if way[0] != way[1]])
    layer_of = {name: 2 * level for name, level in _layers(names, list(down.values())).items()}
    chains: dict[tuple[str, str], list[object]] = {}
    worded: dict[tuple[str, str], object] = {}
    layers: list[list[object]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for name in names:
        layers[layer_of[name]].append(name)
    links: list[tuple[object, object]] = []
    for way, (upper, lower) in down.items():
        bends: list[object] = [(way, level) for level in range(layer_of[upper] + 1, layer_of[lower])]
        for level, bend in enumerate(bends, layer_of[upper] + 1):
            layers[level].append(bend)
        chains[way] = bends
        # Near the origin, as more ways meet at a target.
        worded[way] = bends[0] if way == (upper, lower) else bends[-1]
        links += pairwise([upper, *bends, lower])
    neighbours = _Neighbours(links)
    layers = _ordered(layers, neighbours)
    sizes: dict[object, float] = {bend: BEND_WIDTH for bends in chains.values() for bend in bends}
    sizes.update({worded[way]: max(BEND_WIDTH, words.get(way, 0.0)) for way in chains})
    sizes.update(widths)
    x_of = _spread(layers, neighbours, sizes)
    left = min(x_of[place] - sizes[place] / 2 for place in sizes)
    x_of = {place: x - left for place, x in x_of.items()}
    boxes = {
        name: Box(x_of[name], BOX_HEIGHT / 2 + layer_of[name] * HALF_LAYER, widths[name]) for name in names
    }
    found: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {}
    word_at: dict[tuple[str, str], tuple[float, float]] = {}
    for way, bends in chains.items():
        points = [
            (x_of[bend], BOX_HEIGHT / 2 + (layer_of[down[way][0]] + number) * HALF_LAYER)
            for number, bend in enumerate(bends, 1)
        ]
        word_at[way] = points[bends.index(worded[way])]
        found[way] = tuple(points if down[way] == way else reversed(points))
    return Layout(
        boxes,
        found,
        word_at,
        max(x_of[place] + sizes[place] / 2 for place in sizes),
        BOX_HEIGHT + (len(layers) - 1) * HALF_LAYER,
    )


def _without_circles(
    names: Sequence[str], ways: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Each way with the direction it is placed in: (upper, lower)."""
    successors: dict[str, list[str]] = {name: [] for name in names}
    for origin, target in ways:
        successors[origin].append(target)
    finished: set[str] = set()
    left: list[str] = []
    for start in names:
        # Depth first without recursion, as a graph may be deeper than Python's stack.
        if start in finished:
            continue
        open_now = {start}
        stack = [(start, iter(successors[start]))]
        while stack:
            name, rest = stack[-1]
            below = next(rest, None)
            if below is None:
                stack.pop()
                open_now.discard(name)
                finished.add(name)
                left.append(name)
            elif below not in finished and below not in open_now:
                open_now.add(below)
                stack.append((below, iter(successors[below])))
    # What is left last stands above all it leads to, but for the ways that close a circle.
    order = {name: -position for position, name in enumerate(left)}
    return {way: way if order[way[0]] < order[way[1]] else (way[1], way[0]) for way in ways}


def _layers(names: Sequence[str], links: Sequence[tuple[str, str]]) -> dict[str, int]:
    """One below the lowest that leads there."""
    above: dict[str, list[str]] = {name: [] for name in names}
    below: dict[str, list[str]] = {name: [] for name in names}
    for upper, lower in links:
        above[lower].append(upper)
        below[upper].append(lower)
    waits = {name: len(above[name]) for name in names}
    ready = [name for name in names if not waits[name]]
    layer_of = dict.fromkeys(names, 0)
    while ready:
        name = ready.pop(0)
        for lower in below[name]:
            layer_of[lower] = max(layer_of[lower], layer_of[name] + 1)
            waits[lower] -= 1
            if not waits[lower]:
                ready.append(lower)
    return layer_of


class _Neighbours:
    def __init__(self, links: Sequence[tuple[object, object]]) -> None:
        self.above: dict[object, list[object]] = {}
        self.below: dict[object, list[object]] = {}
        for upper, lower in links:
            self.above.setdefault(lower, []).append(upper)
            self.below.setdefault(upper, []).append(lower)


def _ordered(layers: list[list[object]], neighbours: _Neighbours) -> list[list[object]]:
    best, fewest = layers, _crossings(layers, neighbours)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        is_down = sweep % 2 == 0
        layers = [list(layer) for layer in layers]
        levels = range(1, len(layers)) if is_down else range(len(layers) - 2, -1, -1)
        for level in levels:
            fixed = layers[level - 1] if is_down else layers[level + 1]
            at = {place: position for position, place in enumerate(fixed)}
            beside = neighbours.above if is_down else neighbours.below
            means = {
                place: (
                    sum(at[one] for one in beside[place]) / len(beside[place])
                    if beside.get(place)
                    else float(position)
                )
                for position, place in enumerate(layers[level])
            }
            layers[level].sort(key=means.__getitem__)
        crossings = _crossings(layers, neighbours)
        if crossings < fewest:
            best, fewest = layers, crossings
    return best


def _crossings(layers: list[list[object]], neighbours: _Neighbours) -> int:
    total = 0
    for upper, lower in pairwise(layers):
        at = {place: position for position, place in enumerate(lower)}
        ends = [sorted(at[one] for one in neighbours.below.get(place, ())) for place in upper]
        seen: list[int] = []
        for targets in ends:
            total += sum(1 for target in targets for earlier in seen if earlier > target)
            seen += targets
    return total


def _spread(
    layers: list[list[object]], neighbours: _Neighbours, sizes: Mapping[object, float]
) -> dict[object, float]:
    x_of: dict[object, float] = {}
    for layer in layers:
        right = 0.0
        for place in layer:
            x_of[place] = right + sizes[place] / 2
            right += sizes[place] + GAP_X
    for sweep in range(SWEEPS):
        is_down = sweep % 2 == 0
        for layer in layers if is_down else reversed(layers):
            wanted = []
            for place in layer:
                beside = [*neighbours.above.get(place, ()), *neighbours.below.get(place, ())]
                wanted.append(sum(x_of[one] for one in beside) / len(beside) if beside else x_of[place])
            for place, x in zip(layer, _apart(layer, wanted, sizes), strict=True):
                x_of[place] = x
    return x_of


def _apart(layer: Sequence[object], wanted: Sequence[float], sizes: Mapping[object, float]) -> list[float]:
    """As near to the wanted places as the widths allow: the mean of pushing right and pushing left."""
    gaps = [(sizes[one] + sizes[other]) / 2 + GAP_X for one, other in pairwise(layer)]
    right, left = list(wanted), list(wanted)
    for position, gap in enumerate(gaps, 1):
        right[position] = max(right[position], right[position - 1] + gap)
    for position in range(len(gaps) - 1, -1, -1):
        left[position] = min(left[position], left[position + 1] - gaps[position])
    return [(one + other) / 2 for one, other in zip(right, left, strict=True)]

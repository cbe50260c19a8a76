"""Mermaid: a graph as the text of a flow chart, which code hosts and editors draw."""

from fastagent.afsm.coverage import ANY_STATE, Coverage, Way, ways_of
from fastagent.afsm.graph import Graph
from fastagent.afsm.spec import Event

__all__ = ["to_mermaid", "words_of"]

_SPECIAL = {character: f"#{ord(character)};" for character in '"#&;<>[]{}()|`\\'}
MAX_LABEL = 60


def to_mermaid(graph: Graph, coverage: Coverage | None = None) -> str:
    """Write a graph as a Mermaid flow chart; with coverage, what was never walked is dashed and pale."""
    numbers = {name: f"s{position}" for position, name in enumerate(graph.specs)}
    lines = ["flowchart TD", "    start((( )))"]
    for name, spec in graph.specs.items():
        times = "" if coverage is None else f" ×{coverage.states[name]}"
        shape = "[]"
        if spec.is_digression or spec.is_terminal:
            shape = "[[]]" if spec.is_digression else "([])"
        half = len(shape) // 2
        opening, closing = shape[:half], shape[half:]
        lines.append(f'    {numbers[name]}{opening}"{_escaped(name)}{times}"{closing}')
    ways = ways_of(graph)
    if any(way.origin == ANY_STATE for way in ways):
        lines.append('    any(("any state"))')
        numbers[ANY_STATE] = "any"
    lines.append(f"    start --> {numbers[graph.initial_state]}")
    for way in ways:
        words = _escaped(words_of(way, coverage))
        is_walked = coverage is None or bool(coverage.times(way))
        arrow = "-->" if way.cause == Event.INPUT and is_walked else "-.->"
        label = f'|"{words}"|' if words else ""
        lines.append(f"    {numbers[way.origin]} {arrow}{label} {numbers[way.target]}")
    if coverage is not None:
        lines += [
            "    classDef walked fill:#d9f2e0,stroke:#1a7f37",
            "    classDef missed fill:#fbe9e7,stroke:#b3261e,stroke-dasharray:4",
        ]
        missed, missed_ways = coverage.missed(graph)
        for kind, names in (
            ("walked", [name for name in graph.specs if name not in missed]),
            ("missed", missed),
        ):
            if names:
                lines.append(f"    class {','.join(numbers[name] for name in names)} {kind}")
        # Links are numbered as they were written; the first one is that of the start.
        if positions := [str(position) for position, way in enumerate(ways, 1) if way in missed_ways]:
            lines.append(f"    linkStyle {','.join(positions)} stroke:#b3261e")
    return "\n".join(lines) + "\n"


def words_of(way: Way, coverage: Coverage | None = None) -> str:
    """What stands at an arrow: the cause, if it is no answer, the guard, and how often it was walked."""
    cause = "" if way.cause == Event.INPUT else way.cause.replace("_", " ")
    label = way.label.removeprefix("python:")
    if len(label) > MAX_LABEL:
        label = label[: MAX_LABEL - 1] + "…"
    times = "" if coverage is None else f"×{coverage.times(way)}"
    text = f"{cause}: {label}" if cause and label else cause or label
    return f"{text} {times}".strip()


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))

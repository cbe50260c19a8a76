"""Coverage: which states and ways of a graph were walked, in recorded calls or in tests.

In a test, a coverage takes part in a run as its observer::

    coverage = Coverage()
    machine = Machine(graph, context, control, ask=ask, observer=coverage.note)
    ...
    assert coverage.missed(graph) == ([], [])
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fastagent.afsm.graph import Graph
from fastagent.afsm.spec import Event
from fastagent.journal import Entry

__all__ = ["ANY_STATE", "Coverage", "Way", "ways_of"]

ANY_STATE = "*"
"""Origin of a way that leads on from wherever a run is."""
_ANSWERS = ("answer", "continue")
_FROM_ANYWHERE = {"digression": "digression", "supervisor": "watch"}


@dataclass(frozen=True, slots=True)
class Way:
    """What is drawn as an arrow: a declared move, the entry of a digression, or what a watch does."""

    origin: str
    target: str
    cause: str
    """An `Event`, ``digression`` or ``watch``."""
    label: str = field(default="", compare=False)
    """Its guard, or what else decides."""

    def __str__(self) -> str:
        return f"{self.origin} → {self.target} ({self.cause})"


def ways_of(graph: Graph) -> list[Way]:
    """The ways of a graph, in the order of its states; those from anywhere come last."""
    found = [
        Way(name, move.target, move.on.value, move.guard)
        for name, spec in graph.specs.items()
        for move in spec.transitions
    ]
    found += [Way(ANY_STATE, name, "digression", guard.text) for name, guard in graph.digressions]
    found += [
        Way(ANY_STATE, step.next_state, "watch", watch.name)
        for watch in graph.spec.supervisor
        for step in watch.steps
        if step.next_state
    ]
    return list(dict.fromkeys(found))


class Coverage:
    """How often states were entered and ways walked."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        """By name: how often it was entered."""
        self.runs = 0
        self.runs_of_other_versions = 0
        """Runs of the same task whose graph was another one."""
        self._ways: Counter[tuple[str, str, str]] = Counter()

    def note(self, from_state: str, to_state: str, reason: str) -> None:
        """Count a move, as a machine tells it to its observer."""
        self.states[to_state] += 1
        self.runs += reason == "start"
        if reason in _FROM_ANYWHERE:
            self._ways[ANY_STATE, to_state, _FROM_ANYWHERE[reason]] += 1
        else:
            cause = Event.INPUT.value if reason in _ANSWERS else reason
            self._ways[from_state, to_state, cause] += 1

    def read(self, entries: Iterable[Entry], graph: Graph, task: str = "") -> None:
        """Count the moves of a journal.

        Args:
            entries: of one conversation.
            graph: of the task, to tell its versions apart.
            task: only runs of this task count, and those that do not name theirs; empty counts all.
        """
        others: set[str] = set()
        for entry in entries:
            data, run = entry.data, str(entry.data.get("run", ""))
            if entry.kind == "opened":
                if task and data.get("task", task) != task:
                    others.add(run)
                elif data.get("graph_hash", graph.content_hash) != graph.content_hash:
                    self.runs_of_other_versions += 1
            elif entry.kind == "transition" and run not in others:
                self.note(str(data.get("from", "")), str(data.get("to", "")), str(data.get("reason", "")))

    def times(self, way: Way) -> int:
        """How often a way was walked."""
        return self._ways[way.origin, way.target, way.cause]

    def missed(self, graph: Graph) -> tuple[list[str], list[Way]]:
        """States never entered, and ways never walked."""
        return (
            [name for name in graph.specs if not self.states[name]],
            [way for way in ways_of(graph) if not self.times(way)],
        )

    def summary(self, graph: Graph) -> str:
        """One line of figures."""
        states, ways = self.missed(graph)
        all_ways = len(ways_of(graph))
        other = f", {self.runs_of_other_versions} of other versions" if self.runs_of_other_versions else ""
        return (
            f"{self.runs} runs{other}: {len(graph.specs) - len(states)} of {len(graph.specs)} states, "
            f"{all_ways - len(ways)} of {all_ways} ways"
        )

"""Subject: a graph as the checks look at it, with its edges of all kinds and the code of its classes."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fastagent.afsm.graph import Graph, Move
from fastagent.afsm.guards import Scope
from fastagent.afsm.spec import Event, StateSpec
from fastagent.afsm.state import AFSMState
from fastagent.afsm.verify.finding import Finding, Level
from fastagent.afsm.verify.source import StateCode, place_of, read_code

__all__ = ["Edge", "Subject"]


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one state to another, declared or made by the machine."""

    origin: str
    target: str
    cause: str
    """An `Event`, or ``digression``, ``return``, ``watch``."""
    guard: str = ""

    @property
    def is_answer(self) -> bool:
        """An answer leads there, so the required slots of the origin are filled."""
        return self.cause == Event.INPUT


@dataclass
class Subject:
    """One task's graph.

    Args:
        graph: what is checked.
        task: its task's name; empty for a graph by itself.
        arguments: names of what the model may pass along; None when that is not known.
        has_model: the agent has a model that proposes to the states the engine runs; None: not known.
        facts: that other tasks of the agent write.
    """

    graph: Graph
    task: str = ""
    arguments: Collection[str] | None = None
    has_model: bool | None = None
    facts: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)

    def add(self, level: Level, kind: str, state: str, message: str, mend: str, at: str = "") -> None:
        """Note a finding.

        Args:
            at: the path within the state's definition (``guards.confirm``), or a ``file:line``.
        """
        place = at if _is_file_place(at) else self.place(state, at)
        found = Finding(level, kind, message, mend, self.task, state, place)
        if found not in self.findings:
            self.findings.append(found)

    def place(self, state: str, path: str = "") -> str:
        """Where a state, or a part of its definition, stands."""
        if state not in self.graph.specs:
            return path
        if self.graph.specs[state].kind == "json":
            return f"states[{self._positions[state]}]" + (f".{path}" if path else "")
        return place_of(type(self.graph.states[state]))

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {name: position for position, name in enumerate(self.graph.specs)}

    @cached_property
    def code(self) -> Mapping[str, StateCode]:
        """The code of each state."""
        return {name: read_code(state) for name, state in self.graph.states.items()}

    @property
    def specs(self) -> Mapping[str, StateSpec]:
        """The states by name."""
        return self.graph.specs

    def state(self, name: str) -> AFSMState:
        """The object that runs a state."""
        return self.graph.states[name]

    def is_engines(self, name: str) -> bool:
        """The engine runs it: slots, guards and templates decide."""
        return name in self.graph.run_by_engine

    def answers(self, name: str) -> list[Move]:
        """The moves an answer may make."""
        return [move for move in self.graph.moves[name] if move.spec.on is Event.INPUT]

    def is_asked_of_model(self, name: str) -> bool:
        """A model proposes for it."""
        if self.has_model is None:
            return bool(self.specs[name].llm_config_json)
        return self.has_model

    def asks(self, name: str) -> bool:
        """It waits for the caller."""
        spec = self.specs[name]
        if spec.is_terminal:
            return bool(spec.slots) and self.is_engines(name)
        if not self.is_engines(name):
            return not self.code[name].is_silent
        ways = self.answers(name)
        if any(slot.is_required for slot in spec.slots):
            return True
        if spec.slots or self._decides_by_itself(name):
            return False
        is_asked = bool(spec.llm_config_json) and self.is_asked_of_model(name)
        return len(ways) != 1 or bool(ways[0].spec.guard) or is_asked

    def _decides_by_itself(self, name: str) -> bool:
        return type(self.state(name))._determine_next_state is not AFSMState._determine_next_state

    # Edges

    @cached_property
    def constants(self) -> Mapping[tuple[str, int], bool]:
        """Guards that look at nothing, by state and number of the move: what they always are."""
        return {
            (name, position): move.guard.holds(Scope())
            for name, moves in self.graph.moves.items()
            for position, move in enumerate(moves)
            if move.guard is not None and not move.guard.names
        }

    @cached_property
    def declared(self) -> list[Edge]:
        """What the states declare, without moves whose guard never holds."""
        return [
            Edge(name, move.spec.target, move.spec.on.value, move.spec.guard)
            for name, moves in self.graph.moves.items()
            for position, move in enumerate(moves)
            if self.constants.get((name, position), True)
        ]

    @cached_property
    def _onward(self) -> list[Edge]:
        """Declared moves, ways into digressions, and what watches do."""
        entered = [
            Edge(origin, name, "digression", guard.text)
            for name, guard in self.graph.digressions
            for origin in self.specs
            if origin != name and (guard.names or guard.holds(Scope()))
        ]
        watched = [
            Edge(origin, step.next_state, "watch", watch.when)
            for watch in self.graph.spec.supervisor
            for step in watch.steps
            for origin in self.specs
            if step.next_state and step.next_state != origin
        ]
        return [*self.declared, *entered, *watched]

    @cached_property
    def edges(self) -> list[Edge]:
        """All ways onward, and those back from digressions to where they may have begun."""
        into: dict[str, list[str]] = {name: [] for name in self.specs}
        for edge in self._onward:
            if self.specs[edge.target].is_digression:
                into[edge.origin].append(edge.target)
        back = [
            Edge(one, origin, "return")
            for origin in self.specs
            if origin in self.reachable and not self.specs[origin].is_digression
            for one in sorted(self.closure(into[origin], into.__getitem__))
            if self.specs[one].is_terminal
        ]
        return [*self._onward, *back]

    @cached_property
    def reachable(self) -> frozenset[str]:
        """States a run may come to."""
        onward: dict[str, list[str]] = {}
        for edge in self._onward:
            onward.setdefault(edge.origin, []).append(edge.target)
        return self.closure([self.graph.initial_state], lambda name: onward.get(name, ()))

    def successors(self, name: str) -> list[str]:
        """Where a state may lead."""
        return self._next.get(name, [])

    @cached_property
    def _next(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for edge in self.edges:
            found.setdefault(edge.origin, []).append(edge.target)
        return found

    @staticmethod
    def closure(start: Iterable[str], successors: Callable[[str], Iterable[str]]) -> frozenset[str]:
        """All that can be come to from a start, itself too."""
        found = set(start)
        waiting = deque(found)
        while waiting:
            for name in successors(waiting.popleft()):
                if name not in found:
                    found.add(name)
                    waiting.append(name)
        return frozenset(found)

    @property
    def ends(self) -> frozenset[str]:
        """States in which a run may be over, by an end of its own or by a deadline."""
        return frozenset(
            name
            for name, spec in self.specs.items()
            if (spec.is_terminal and (not spec.is_digression or name == self.graph.initial_state))
            or (spec.deadline_s is not None and not spec.targets(Event.DEADLINE))
        )

    def path(self, to: str, avoiding: Collection[str] = ()) -> list[str]:
        """A shortest way from the beginning to a state, through none of some others; empty: there is none."""
        start = self.graph.initial_state
        came: dict[str, str] = {start: ""}
        waiting = deque([start])
        while waiting:
            name = waiting.popleft()
            if name == to:
                way = [name]
                while came[way[0]]:
                    way.insert(0, came[way[0]])
                return way
            if name in avoiding:
                continue
            for target in self.successors(name):
                if target not in came:
                    came[target] = name
                    waiting.append(target)
        return []

    def watches(self, event: Event) -> bool:
        """A watch beside the states takes this event, whatever the state."""
        return any(watch.on is event and not watch.words for watch in self.graph.spec.supervisor)


def _is_file_place(at: str) -> bool:
    return ".py:" in at

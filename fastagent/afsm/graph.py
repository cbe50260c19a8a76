"""Graph: the frozen set of states and moves of one task, and the objects that run them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from fastagent.afsm.definition import JsonState
from fastagent.afsm.guards import Guard, Scope, parse_guard
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import Event, GraphSpec, StateSpec, TransitionSpec, WatchSpec
from fastagent.afsm.state import AFSMState, GuardFunction
from fastagent.context import ConversationContext
from fastagent.errors import ConfigurationError

__all__ = ["Graph", "Move"]


@dataclass(frozen=True, slots=True)
class Move:
    """A declared move and its guard, ready to be asked."""

    spec: TransitionSpec
    guard: Guard | None = None
    function: GuardFunction | None = None

    def holds(self, scope: Scope, context: ConversationContext) -> bool:
        """Tell whether the move may be made now; a guard that raises does not hold."""
        if self.guard is not None:
            return self.guard.holds(scope)
        if self.function is not None:
            try:
                return self.function(context) is True
            except Exception:  # an author's code
                return False
        return True

    @property
    def looks_at(self) -> frozenset[str]:
        """The names a guard expression looks at."""
        return frozenset() if self.guard is None else self.guard.names


@dataclass(frozen=True, slots=True)
class Graph:
    """States by name, the moves each may make, and where a run begins. Make it with `from_states`."""

    states: Mapping[str, AFSMState]
    transitions: Mapping[str, frozenset[str]]
    """The states an answer may lead to."""
    initial_state: str
    spec: GraphSpec
    specs: Mapping[str, StateSpec]
    moves: Mapping[str, tuple[Move, ...]]
    slots: Mapping[str, tuple[Slot, ...]]
    digressions: tuple[tuple[str, Guard], ...]
    """Digressions that an answer may lead to from anywhere, with their condition."""
    functions: Mapping[str, Callable[..., Any]]
    """What carries out the effects of JSON states, by name."""
    run_by_engine: frozenset[str]
    redacted: frozenset[str]
    """Slots whose values stay out of records."""

    @classmethod
    def from_states(
        cls,
        states: Iterable[AFSMState | Mapping[str, Any]],
        initial_state: str = "",
        *,
        supervisor: Iterable[WatchSpec] = (),
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Self:
        """Check the states against one another and freeze them.

        Args:
            states: AFSMState objects and JSON definitions, in any mixture.
            initial_state: empty takes the one JSON state that says it is the initial one.
            supervisor: watches beside the states.
            functions: carry out the effects (and undos) of JSON states, by name.

        Raises:
            ConfigurationError: no states, a nameless or doubled one, a move or a beginning leading nowhere.
        """
        by_name: dict[str, AFSMState] = {}
        specs: dict[str, StateSpec] = {}
        for position, given in enumerate(states):
            state = JsonState.read(given, f"states[{position}]") if isinstance(given, Mapping) else given
            _check_state(state, by_name)
            by_name[state.name] = state
            specs[state.name] = state.spec()
        if not by_name:
            raise ConfigurationError("a task needs at least one state")
        _check_targets(specs)
        marked = [
            name for name, state in by_name.items() if isinstance(state, JsonState) and state.is_initial
        ]
        if not initial_state and len(marked) == 1:
            initial_state = marked[0]
        if initial_state not in by_name or any(name != initial_state for name in marked):
            raise ConfigurationError(f"initial_state {initial_state!r} is not one of {sorted(by_name)}")
        watches = tuple(supervisor)
        _check_watches(watches, by_name)
        functions = dict(functions or {})
        for name, spec in specs.items():
            if spec.kind == "json":
                for effect in spec.effects:
                    for needed in filter(None, (effect.name, effect.undo)):
                        if needed not in functions:
                            raise ConfigurationError(f"state {name!r}: there is no function {needed!r}")
        return cls(
            states=MappingProxyType(by_name),
            transitions=MappingProxyType({name: frozenset(spec.targets()) for name, spec in specs.items()}),
            initial_state=initial_state,
            spec=GraphSpec.of(tuple(specs.values()), initial_state, watches),
            specs=MappingProxyType(specs),
            moves=MappingProxyType(
                {
                    name: tuple(_move(by_name[name], move) for move in specs[name].transitions)
                    for name in specs
                }
            ),
            slots=MappingProxyType({name: state.read_slots() for name, state in by_name.items()}),
            digressions=tuple(
                (name, parse_guard(spec.enter_when)) for name, spec in specs.items() if spec.enter_when
            ),
            functions=MappingProxyType(functions),
            run_by_engine=frozenset(name for name, state in by_name.items() if state.is_run_by_engine),
            redacted=frozenset(
                slot.name for spec in specs.values() for slot in spec.slots if slot.is_redacted
            ),
        )

    @property
    def content_hash(self) -> str:
        """sha256 of the description, with the code of classes: the version of the graph."""
        return self.spec.content_hash

    def allows(self, from_state: str, to_state: str) -> bool:
        """Tell whether an answer may lead there; staying always is allowed. Guards are not asked."""
        return to_state == from_state or to_state in self.transitions[from_state]

    def allows_on(self, event: Event, from_state: str, to_state: str) -> bool:
        """Tell whether an event may lead there. Guards are not asked."""
        return to_state == from_state or any(
            move.spec.target == to_state and move.spec.on is event for move in self.moves[from_state]
        )

    def move(self, from_state: str, to_state: str, on: Event = Event.INPUT) -> Move | None:
        """The declared move, or None."""
        for move in self.moves[from_state]:
            if move.spec.target == to_state and move.spec.on is on:
                return move
        return None

    def is_redacted(self, slot: str) -> bool:
        """Tell whether a slot's value stays out of records."""
        return slot in self.redacted

    def is_terminal(self, name: str) -> bool:
        """Tell whether a run (or a digression) ends in this state."""
        return not self.moves[name]


def _check_state(state: object, by_name: Mapping[str, AFSMState]) -> None:
    if not isinstance(state, AFSMState):
        raise ConfigurationError(
            f"a state must be an AFSMState object or a JSON definition, got {_kind(state)}"
        )
    if not isinstance(state.name, str) or not state.name:
        raise ConfigurationError(f"{type(state).__name__} has no name")
    if state.name in by_name:
        raise ConfigurationError(f"two states are named {state.name!r}")
    if isinstance(state.allowed_transitions, str):
        raise ConfigurationError(
            f"state {state.name!r}: allowed_transitions must be a list of names, got one string"
        )


def _check_targets(specs: Mapping[str, StateSpec]) -> None:
    for name, spec in specs.items():
        if unknown := sorted({move.target for move in spec.transitions} - specs.keys()):
            raise ConfigurationError(
                f"state {name!r} may move to {unknown[0]!r}, which is not one of {sorted(specs)}"
            )


def _check_watches(watches: tuple[WatchSpec, ...], by_name: Mapping[str, AFSMState]) -> None:
    names = [watch.name for watch in watches]
    if len(set(names)) < len(names):
        raise ConfigurationError("two watches of the supervisor have one name")
    for watch in watches:
        if watch.when:
            parse_guard(watch.when)
        for step in watch.steps:
            if step.next_state and step.next_state not in by_name:
                raise ConfigurationError(
                    f"watch {watch.name!r} moves to {step.next_state!r}, not one of {sorted(by_name)}"
                )


def _move(state: AFSMState, spec: TransitionSpec) -> Move:
    guard = state.guards.get(spec.target)
    if isinstance(guard, tuple):
        guard = guard[0]
    if guard is None:
        return Move(spec)
    return Move(spec, parse_guard(guard)) if isinstance(guard, str) else Move(spec, function=guard)


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"

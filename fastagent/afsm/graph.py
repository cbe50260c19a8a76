"""Graph: the frozen set of states and moves of one task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from fastagent.afsm.state import AFSMState
from fastagent.errors import ConfigurationError

__all__ = ["Graph"]


@dataclass(frozen=True, slots=True)
class Graph:
    """States by name, the moves each may make, and where a run begins. Make it with `from_states`."""

    states: Mapping[str, AFSMState]
    transitions: Mapping[str, frozenset[str]]
    initial_state: str

    @classmethod
    def from_states(cls, states: Iterable[AFSMState], initial_state: str) -> Self:
        """Check the states against one another and freeze them.

        Raises:
            ConfigurationError: no states, a nameless or doubled one, a move or a beginning leading nowhere.
        """
        by_name: dict[str, AFSMState] = {}
        transitions: dict[str, frozenset[str]] = {}
        for state in states:
            if not isinstance(state, AFSMState):
                raise ConfigurationError(f"a state must be an AFSMState object, got {_kind(state)}")
            if not isinstance(state.name, str) or not state.name:
                raise ConfigurationError(f"{type(state).__name__} has no name")
            if state.name in by_name:
                raise ConfigurationError(f"two states are named {state.name!r}")
            if isinstance(state.allowed_transitions, str):
                raise ConfigurationError(
                    f"state {state.name!r}: allowed_transitions must be a list of names, got one string"
                )
            by_name[state.name] = state
            transitions[state.name] = frozenset(state.allowed_transitions)
        if not by_name:
            raise ConfigurationError("a task needs at least one state")
        for name, targets in transitions.items():
            if unknown := sorted(targets - by_name.keys()):
                raise ConfigurationError(
                    f"state {name!r} may move to {unknown[0]!r}, which is not one of {sorted(by_name)}"
                )
        if initial_state not in by_name:
            raise ConfigurationError(f"initial_state {initial_state!r} is not one of {sorted(by_name)}")
        return cls(MappingProxyType(by_name), MappingProxyType(transitions), initial_state)

    def allows(self, from_state: str, to_state: str) -> bool:
        """Tell whether a move is listed; staying always is."""
        return to_state == from_state or to_state in self.transitions[from_state]

    def is_terminal(self, name: str) -> bool:
        """Tell whether a run ends in this state."""
        return not self.transitions[name]


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"

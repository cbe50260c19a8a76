"""Digressions: the ways back from states that were entered in between."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastagent.afsm.graph import Graph
from fastagent.afsm.guards import Scope
from fastagent.afsm.run.slot_book import BookPosition

__all__ = ["Digressions", "WayBack"]


@dataclass(frozen=True, slots=True)
class WayBack:
    """Where a digression began."""

    state: str
    question: str = field(repr=False)
    """What was open there."""
    position: BookPosition
    time_left_s: float | None
    """Of the state's deadline: it stands still meanwhile."""


class Digressions:
    """The digressions a run is in, one within another.

    Args:
        max_depth: how many may be open.
        refuse: takes (to_state, reason) of one that is not entered.
    """

    def __init__(self, graph: Graph, max_depth: int, refuse: Callable[[str, str], None]) -> None:
        self._graph = graph
        self._max_depth = max_depth
        self._refuse = refuse
        self._ways_back: list[WayBack] = []

    @property
    def depth(self) -> int:
        """How many are open."""
        return len(self._ways_back)

    @property
    def ways_back(self) -> tuple[WayBack, ...]:
        """Those that are open, the innermost last."""
        return tuple(self._ways_back)

    def restore(self, ways_back: Iterable[WayBack]) -> None:
        """Go on within these."""
        self._ways_back = list(ways_back)

    def entered_by(self, scope: Scope, state: str) -> str:
        """Name the digression that an answer leads into; empty for none."""
        for name, when in self._graph.digressions:
            if name != state and when.holds(scope):
                if any(way.state == name for way in self._ways_back):
                    self._refuse(name, f"the digression {name!r} is open already")
                elif len(self._ways_back) >= self._max_depth:
                    self._refuse(name, f"digressions may be {self._max_depth} deep")
                else:
                    return name
        return ""

    def move(self, origin: str, target: str, *, is_push: bool) -> bool:
        """Take note of a move; tell whether its way back is to be kept.

        A move to a state that is no digression forgets all ways back.

        Args:
            is_push: an answer led there, so that a digression may be entered from within another.
        """
        if not self._graph.specs[target].is_digression:
            self._ways_back.clear()
            return False
        return is_push or not self._graph.specs[origin].is_digression

    def keep(self, way_back: WayBack) -> None:
        """Keep a way back until its digression is left."""
        self._ways_back.append(way_back)

    def leave(self) -> WayBack | None:
        """End the innermost digression; None when none is open."""
        return self._ways_back.pop() if self._ways_back else None

"""The effects of a graph, found before any of them is run: for claims, for undoing, for a restart."""

from fastagent.afsm.effects.rules import RULES_MARK, BoundEffect, bind
from fastagent.afsm.graph import Graph

__all__ = ["effects_of"]


def effects_of(graph: Graph) -> list[BoundEffect]:
    """Give each effect of a graph's states with its functions.

    Methods of classes are bound to the graph's own state objects, which have no call.

    Raises:
        ConfigurationError: see `bind`.
    """
    found: dict[str, BoundEffect] = {}
    for name, spec in graph.specs.items():
        if spec.kind == "json":
            for effect in spec.effects:
                function, undo = graph.functions[effect.name], graph.functions.get(effect.undo)
                found[effect.name] = bind(function, effect.name, undo=undo, key=effect.key)
            continue
        state = graph.states[name]
        for attribute in dir(type(state)):
            if hasattr(getattr(type(state), attribute), RULES_MARK):
                bound = bind(getattr(state, attribute))
                found[bound.rules.name] = bound
    return list(found.values())

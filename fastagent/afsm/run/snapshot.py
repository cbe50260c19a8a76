"""Snapshot: a run at rest, as JSON values, so that another process can go on with it.

Nothing is run again to get there: a resumed run stands in its state, with what was confirmed, and asks its
open question. What must stay out of records stays out of a snapshot, too, and is asked for once more. States
of one's own keep their ``scratchpad`` and what they put into the context; their other attributes begin anew.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.digressions import WayBack
from fastagent.afsm.run.slot_book import BookPosition
from fastagent.afsm.run.standing import SaidBack
from fastagent.afsm.slots import Slot

__all__ = [
    "SNAPSHOT_VERSION",
    "position_in",
    "position_of",
    "said_back_in",
    "typed_values",
    "values_of",
    "way_back_in",
    "way_back_of",
]

SNAPSHOT_VERSION = 1


def _slots_by_name(graph: Graph) -> dict[str, Slot]:
    return {slot.name: slot for slots in graph.slots.values() for slot in slots}


def values_of(graph: Graph, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that JSON can hold and records may, as JSON values."""
    slots = _slots_by_name(graph)
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if graph.is_redacted(name):
            continue
        try:
            if name in slots:
                value = slots[name].adapter.dump_python(value, mode="json")
            plain[name] = orjson.loads(orjson.dumps(value))
        except (TypeError, ValueError):
            continue  # an object of this process only
    return plain


def typed_values(graph: Graph, plain: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the types of their slots; those that do not fit any more are left out."""
    slots = _slots_by_name(graph)
    typed: dict[str, Any] = {}
    for name, value in plain.items():
        if name in slots:
            value, complaint = slots[name].check(value)
            if complaint is not None:
                continue
        typed[name] = value
    return typed


def position_of(position: BookPosition, *, without: Iterable[str]) -> dict[str, Any]:
    """A position as JSON values; one about a value that is left out begins anew."""
    if position.open in set(without):
        position = BookPosition(position.open, False, 0)
    return {
        "open": position.open,
        "is_confirming": position.is_confirming,
        "attempts": position.attempts,
        "implicit": list(position.implicit),
    }


def position_in(data: Mapping[str, Any]) -> BookPosition:
    """The position that `position_of` wrote."""
    return BookPosition(data["open"], data["is_confirming"], data["attempts"], tuple(data["implicit"]))


def way_back_of(way_back: WayBack, *, without: Iterable[str]) -> dict[str, Any]:
    """A way back as JSON values."""
    return {
        "state": way_back.state,
        "question": way_back.question,
        "position": position_of(way_back.position, without=without),
        "time_left_s": way_back.time_left_s,
    }


def way_back_in(data: Mapping[str, Any]) -> WayBack:
    """The way back that `way_back_of` wrote."""
    return WayBack(data["state"], data["question"], position_in(data["position"]), data["time_left_s"])


def said_back_in(data: Mapping[str, Any] | None) -> SaidBack | None:
    """What a "no" is about, as it was written."""
    return None if data is None else SaidBack(data["state"], tuple(data["slots"]))

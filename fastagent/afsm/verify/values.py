"""Checks of values: slots nobody fills or asks for, and templates, guards and effects that look at them.

Values flow along the ways: an answer that leads on has filled the required slots of its state, run its
effects and the writes of its code; an event leads on before that. ``always`` holds on every path to a state,
``ever`` on some.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from fastagent.afsm.effects.rules import KEY_ARGUMENT
from fastagent.afsm.guards import parse_guard
from fastagent.afsm.template import template_names
from fastagent.afsm.verify.finding import Level
from fastagent.afsm.verify.subject import Subject

__all__ = ["check_values"]

ALWAYS_KNOWN_FACTS = frozenset(("is_recording_refused",))
"""Facts the machine itself writes."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """What is written when a state is entered."""

    always: Mapping[str, frozenset[str]]
    ever: Mapping[str, frozenset[str]]


def check_values(subject: Subject) -> None:
    """Add what is wrong with slots and with what looks at them."""
    flow = _Flow(_flow(subject, is_must=True), _flow(subject, is_must=False))
    written = frozenset().union(*(_may_write(subject, name) for name in subject.specs))
    _slots(subject)
    _same_names(subject)
    for name in subject.specs:
        if name in subject.reachable:
            _template(subject, name, flow, written)
            _guards(subject, name, flow, written)
            _effect_arguments(subject, name, flow)
    for position, watch in enumerate(subject.graph.spec.supervisor):
        for looked_at in sorted(parse_guard(watch.when).names) if watch.when else ():
            table, _, variable = looked_at.partition(".")
            if table == "slots" and looked_at not in written and "slots.*" not in written:
                subject.add(
                    Level.ERROR,
                    "unknown_slot",
                    "",
                    f"watch {watch.name!r} looks at the slot {variable!r}, which no state fills",
                    "declare the slot in a state, or mend the name",
                    f"supervisor[{position}].when",
                )


def _filled(subject: Subject, name: str, *, is_must: bool) -> frozenset[str]:
    """What a state's own slots give once it is done."""
    if not subject.is_engines(name):
        return frozenset()
    slots = subject.graph.slots[name]
    return frozenset(
        f"slots.{slot.name}"
        for slot in slots
        if slot.is_required or (not is_must and (slot.is_recognisable or subject.is_asked_of_model(name)))
    )


def _effects_of(subject: Subject, name: str) -> frozenset[str]:
    spec = subject.specs[name]
    return (
        frozenset(f"slots.{effect.name}" for effect in spec.effects) if spec.kind == "json" else frozenset()
    )


def _may_write(subject: Subject, name: str) -> frozenset[str]:
    return (
        _filled(subject, name, is_must=False)
        | _effects_of(subject, name)
        | frozenset(subject.code[name].writes)
    )


def _flow(subject: Subject, *, is_must: bool) -> dict[str, frozenset[str]]:
    everything = frozenset().union(*(_may_write(subject, name) for name in subject.specs))
    start = subject.graph.initial_state
    at_entry = {name: everything if is_must else frozenset() for name in subject.specs}
    at_entry[start] = frozenset()
    # Back from a digression a state is what it was, and more: that way takes nothing away.
    ways = [
        edge
        for edge in subject.edges
        if edge.origin in subject.reachable and not (is_must and edge.cause == "return")
    ]
    changed = True
    while changed:
        changed = False
        for name in subject.specs:
            arriving = [
                at_entry[edge.origin]
                | frozenset(subject.code[edge.origin].writes)
                | (
                    _filled(subject, edge.origin, is_must=is_must) | _effects_of(subject, edge.origin)
                    if edge.is_answer or edge.cause == "return" or not is_must
                    else frozenset()
                )
                for edge in ways
                if edge.target == name
            ]
            if name == start:
                arriving.append(frozenset())
            if not arriving:
                continue
            joined = frozenset.intersection(*arriving) if is_must else frozenset().union(*arriving)
            if joined != at_entry[name]:
                at_entry[name], changed = joined, True
    return at_entry


def _template(subject: Subject, name: str, flow: _Flow, written: frozenset[str]) -> None:
    spec = subject.specs[name]
    if not spec.prompt_template or subject.code[name].has_process:
        return  # code of one's own fills it in
    own: frozenset[str] = frozenset()
    if subject.is_engines(name):
        own = _filled(subject, name, is_must=True)
        if spec.slots or not subject.asks(name):
            own |= _effects_of(subject, name)
    ready = flow.always[name] | own
    for variable in dict.fromkeys(template_names(spec.prompt_template)):
        table, _, bare = variable.rpartition(".")
        candidates = {variable} if table else {f"slots.{bare}", f"facts.{bare}", f"profile.{bare}"}
        if table == "profile" or candidates & ready or bare in ALWAYS_KNOWN_FACTS:
            continue
        if "slots.*" in written or "facts.*" in written or bare in subject.facts:
            continue
        if not candidates & (written | own):
            subject.add(
                Level.WARNING if table == "facts" else Level.ERROR,
                "template_never_written",
                name,
                f"its words use {{{variable}}}, which nothing ever writes",
                "declare a slot of this name, write it in code, or say {profile.…} where it is known",
                "prompt_template",
            )
            continue
        writers = {one for one in subject.specs if candidates & _may_write(subject, one)} - {name}
        way = subject.path(name, writers) or subject.path(name)
        subject.add(
            Level.ERROR,
            "template_before_write",
            name,
            f"its words use {{{variable}}}, which is not written on the way {' → '.join(way)}",
            "fill it on every way here (a required slot that is asked for), or leave it out of the words",
            "prompt_template",
        )


def _guards(subject: Subject, name: str, flow: _Flow, written: frozenset[str]) -> None:
    spec = subject.specs[name]
    ready = flow.ever[name] | _filled(subject, name, is_must=False) | _effects_of(subject, name)
    ready |= frozenset(subject.code[name].writes)
    looked_at = [
        (f"the guard of the move to {move.spec.target!r}", f"guards.{move.spec.target}", variable)
        for move in subject.graph.moves[name]
        for variable in sorted(move.looks_at)
    ]
    if spec.enter_when:
        looked_at += [
            ("its enter_when", "enter_when", variable)
            for variable in sorted(parse_guard(spec.enter_when).names)
        ]
    for what, at, variable in looked_at:
        table, _, bare = variable.partition(".")
        if table == "slots" and "slots.*" not in written:
            if variable not in written:
                subject.add(
                    Level.ERROR,
                    "unknown_slot",
                    name,
                    f"{what} looks at the slot {bare!r}, which no state fills",
                    "declare the slot, or mend the name",
                    at,
                )
            elif variable not in ready and at != "enter_when":
                subject.add(
                    Level.ERROR,
                    "slot_filled_too_late",
                    name,
                    f"{what} looks at the slot {bare!r}, which is filled on no way here",
                    "fill the slot before, or move the guard to where it is filled",
                    at,
                )
        elif table == "facts" and variable not in written and "facts.*" not in written:
            if bare not in subject.facts | ALWAYS_KNOWN_FACTS:
                subject.add(
                    Level.WARNING,
                    "unknown_fact",
                    name,
                    f"{what} looks at the fact {bare!r}, which nothing writes",
                    "write it with add_salient_fact, or mend the name",
                    at,
                )
        elif table == "arguments" and subject.arguments is not None and bare not in subject.arguments:
            subject.add(
                Level.ERROR,
                "unknown_argument",
                name,
                f"{what} looks at {variable!r}, which is no parameter of the task",
                "add it to the task's parameters, or mend the name",
                at,
            )


def _slots(subject: Subject) -> None:
    for name, slots in subject.graph.slots.items():
        for position, slot in enumerate(slots):
            at = f"slots[{position}]"
            if not subject.is_engines(name):
                code = subject.code[name]
                if slot.name not in code.words and "slots.*" not in code.writes:
                    subject.add(
                        Level.ERROR,
                        "slot_never_filled",
                        name,
                        f"the slot {slot.name!r} is never filled: process() is its own and does not name it",
                        "fill context.slots in process, or leave process to the engine",
                        at,
                    )
            elif (
                not slot.is_required
                and not slot.is_recognisable
                and not subject.is_asked_of_model(name)
                and slot.name not in (subject.arguments or ())
            ):
                subject.add(
                    Level.WARNING,
                    "slot_never_asked",
                    name,
                    f"the slot {slot.name!r} is optional, so nobody asks for it, and its values cannot "
                    "be told from other words",
                    "require it, give it choices or a parse function, or give the state an llm_config",
                    at,
                )


def _same_names(subject: Subject) -> None:
    """One name for two kinds of value."""
    slots: dict[str, tuple[str, str]] = {}
    for name, spec in subject.specs.items():
        for position, slot in enumerate(spec.slots):
            first, schema = slots.setdefault(slot.name, (name, slot.schema_json))
            if schema != slot.schema_json:
                subject.add(
                    Level.WARNING,
                    "slot_type_clash",
                    name,
                    f"the slot {slot.name!r} has another type in state {first!r}",
                    "give one of them another name, or both one type",
                    f"slots[{position}]",
                )
    for name, spec in subject.specs.items():
        for position, effect in enumerate(spec.effects):
            if spec.kind == "json" and effect.name in slots:
                subject.add(
                    Level.ERROR,
                    "slot_overwritten",
                    name,
                    f"what the effect {effect.name!r} gives overwrites the slot of that name",
                    "give the slot another name",
                    f"effects[{position}]",
                )


def _effect_arguments(subject: Subject, name: str, flow: _Flow) -> None:
    """The engine passes slots by name; a parameter without one fails the call of the function."""
    spec = subject.specs[name]
    if spec.kind != "json":
        return
    ready = flow.always[name] | _filled(subject, name, is_must=True)
    for position, effect in enumerate(spec.effects):
        try:
            parameters = inspect.signature(subject.graph.functions[effect.name]).parameters.values()
        except (TypeError, ValueError):
            continue
        for one in parameters:
            is_needed = one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
            if is_needed and one.name != KEY_ARGUMENT and f"slots.{one.name}" not in ready | {"slots.*"}:
                subject.add(
                    Level.ERROR,
                    "effect_argument_missing",
                    name,
                    f"the effect {effect.name!r} needs {one.name!r}, which is not filled on every way here",
                    "collect it in a required slot before, or give the parameter a default",
                    f"effects[{position}]",
                )
        ready |= {f"slots.{effect.name}"}

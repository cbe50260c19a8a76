"""Checks of what reaches beyond the graph: effects, and the names of tools."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from fastagent.afsm.effects.rules import CALL_ID, RULES_MARK, EffectRules
from fastagent.afsm.spec import EFFECT_MARK, EffectSpec, StateSpec
from fastagent.afsm.verify.finding import Finding, Level
from fastagent.afsm.verify.subject import Subject

__all__ = ["check_allow_lists", "check_effects", "check_tool_names"]


def check_effects(subject: Subject) -> None:
    """Add effects that cannot be told apart or taken back, and rules that name what is not there."""
    by_name: dict[str, tuple[str, Any]] = {}
    for name, spec in subject.specs.items():
        for position, effect in enumerate(spec.effects):
            function = _function(subject, name, spec, effect)
            at = f"effects[{position}]"
            rules: EffectRules | None = getattr(function, RULES_MARK, None)
            is_safe = rules is not None and (rules.is_idempotent or bool(rules.check))
            if not (
                effect.key or effect.undo or (rules is not None and (rules.key or rules.undo)) or is_safe
            ):
                subject.add(
                    Level.ERROR,
                    "unsafe_effect",
                    name,
                    f"the effect {effect.name!r} has neither key nor undo, and is not declared safe",
                    "say what makes two runs the same (key), how it is taken back (undo), or @effect("
                    "is_idempotent=True) or check=… on its function",
                    at,
                )
            if function is None:
                subject.add(
                    Level.ERROR,
                    "effect_without_function",
                    name,
                    f"the effect {effect.name!r} is declared, but no method carries it out",
                    "mark the method with @effect, or remove the declaration",
                    at,
                )
                continue
            _check_names(subject, name, effect, rules, function, at)
            first, code = by_name.setdefault(effect.name, (name, _code(function)))
            if code is not None and code != _code(function):
                subject.add(
                    Level.ERROR,
                    "effect_name_clash",
                    name,
                    f"the effect {effect.name!r} is another function in state {first!r}, but the journal "
                    "tells effects apart by name",
                    "rename one of them",
                    at,
                )


def _check_names(
    subject: Subject,
    name: str,
    effect: EffectSpec,
    rules: EffectRules | None,
    function: Callable[..., Any],
    at: str,
) -> None:
    keys = effect.key.replace(",", " ").split()
    parameters = _parameters(function)
    for key in keys:
        if parameters is not None and key != CALL_ID and key not in parameters:
            subject.add(
                Level.ERROR,
                "unknown_effect_key",
                name,
                f"the key of the effect {effect.name!r} names {key!r}, which is no argument of it",
                f"take {_listed(parameters)} or {CALL_ID}",
                f"{at}.key",
            )
    if subject.specs[name].kind == "json":
        return  # the graph made sure of the undo
    for role in ("undo", "check"):
        needed = getattr(rules, role, "") or (effect.undo if role == "undo" else "")
        globals_of = getattr(inspect.unwrap(function), "__globals__", {})
        if needed and not callable(getattr(subject.state(name), needed, None) or globals_of.get(needed)):
            subject.add(
                Level.ERROR,
                "effect_without_function",
                name,
                f"the effect {effect.name!r} names {needed!r} as its {role}, which is no function beside it",
                f"write {needed}, or mend the name",
                at,
            )


def check_allow_lists(subject: Subject, known: frozenset[str], servers: frozenset[str]) -> None:
    """Add names in the states' allow-lists that no function has.

    Args:
        known: the agent's own functions.
        servers: its MCP servers, whose tools are known only once connected.
    """
    for name, spec in subject.specs.items():
        at = "tools" if subject.state(name).tools is not None else "voice_policy.tools"
        for tool, times in Counter(spec.tools or ()).items():
            server, has_server, _ = tool.partition(":")
            is_known = server in servers if has_server else tool in known or bool(servers)
            if not is_known:
                subject.add(
                    Level.ERROR,
                    "unknown_tool",
                    name,
                    f"allows the tool {tool!r}, which the agent does not have",
                    f"take {_listed(sorted(known))}"
                    if known
                    else "give the agent the function, or remove it",
                    at,
                )
            if times > 1:
                subject.add(
                    Level.WARNING,
                    "tool_listed_twice",
                    name,
                    f"allows the tool {tool!r} twice",
                    "name it once",
                    at,
                )


def check_tool_names(names: Iterable[str], subjects: Iterable[Subject]) -> list[Finding]:
    """Give clashes among the names the model chooses from, and with effects."""
    found: list[Finding] = []
    alike: dict[str, str] = {}
    for name in names:
        plain = name.lower().replace("-", "").replace("_", "")
        first = alike.setdefault(plain, name)
        if first != name:
            found.append(
                Finding(
                    Level.WARNING,
                    "tool_name_clash",
                    f"the tools {first!r} and {name!r} differ in signs only, and a model mixes them up",
                    "rename one of them",
                )
            )
    offered = set(names)
    for subject in subjects:
        for state, spec in subject.specs.items():
            for position, effect in enumerate(spec.effects):
                if effect.name in offered:
                    found.append(
                        Finding(
                            Level.ERROR,
                            "tool_name_clash",
                            f"the effect {effect.name!r} is also a tool the model may call, past the guards",
                            "rename the effect, or take the tool from the agent",
                            subject.task,
                            state,
                            subject.place(state, f"effects[{position}]"),
                        )
                    )
    return found


def _function(subject: Subject, name: str, spec: StateSpec, effect: EffectSpec) -> Callable[..., Any] | None:
    if spec.kind == "json":
        return subject.graph.functions[effect.name]
    state = subject.state(name)
    for attribute in dir(type(state)):
        mark = getattr(getattr(type(state), attribute, None), EFFECT_MARK, None)
        if isinstance(mark, EffectSpec) and mark.name == effect.name:
            found: Callable[..., Any] = getattr(state, attribute)
            return found
    given = getattr(state, effect.name, None)
    return given if callable(given) else None


def _parameters(function: Callable[..., Any]) -> list[str] | None:
    """Names of the arguments; None when it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters]


def _code(function: Callable[..., Any]) -> Any:
    return getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)


def _listed(names: list[str]) -> str:
    return " or ".join(repr(name) for name in names)

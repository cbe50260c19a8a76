"""Templates of spoken words: ``{name}`` or ``{slots.name}``, ``{facts.name}``, ``{profile.name}``."""

import re
from collections.abc import Mapping
from typing import Any

from fastagent.afsm.spoken import say_value

__all__ = ["render", "template_names"]

_VARIABLE = re.compile(r"\{(?:(slots|facts|profile)\.)?([A-Za-z_][A-Za-z0-9_]*)\}")


def template_names(template: str) -> tuple[str, ...]:
    """The variables, as written, in order."""
    return tuple(
        f"{table}.{name}" if table else name
        for table, name in (m.groups() for m in _VARIABLE.finditer(template))
    )


def render(
    template: str, slots: Mapping[str, Any], facts: Mapping[str, Any], profile: Mapping[str, Any]
) -> str:
    """Fill in the variables; a bare name is looked for in slots, facts and profile; an unknown one is empty.

    Nothing but values of these three is reached: there are no attributes, indexes or formats.
    """
    tables = {"slots": slots, "facts": facts, "profile": profile}

    def value_of(match: re.Match[str]) -> str:
        table, name = match.groups()
        for values in (tables[table],) if table else (slots, facts, profile):
            if values.get(name) is not None:
                return say_value(values[name])
        return ""

    return " ".join(_VARIABLE.sub(value_of, template).split()) if template else ""

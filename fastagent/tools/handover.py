"""What whoever takes a caller over is told: why, what was found out, and where each task stands.

Only what the machines hold is told; values that are kept out of records are left out here, too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastagent.afsm.run.machine import Machine
from fastagent.tools.talk import Talk
from fastagent.tools.task import Task

__all__ = ["MAX_SUMMARY_CHARS", "Standing", "Summary"]

MAX_SUMMARY_CHARS = 800
"""A person reads it, or hears it, before the first word with the caller."""
MAX_VALUE_CHARS = 80
MAX_FACTS_TOLD = 12


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one running task stands."""

    task: str
    at: str
    """What its state is about, in words."""
    values: Mapping[str, Any] = field(repr=False)
    question: str = field(default="", repr=False)
    """What the caller was asked and has not answered."""

    @classmethod
    def of(cls, task: Task, machine: Machine) -> "Standing":
        """Look at a run."""
        spec = task.graph.specs[machine.state]
        values = {
            name: value
            for name, value in machine.context.slots.items()
            if not task.graph.is_redacted(name) and value is not None
        }
        return cls(task.name, spec.description or spec.name, values, machine.question or "")


@dataclass(frozen=True, slots=True)
class Summary:
    """Where a call stands, for whoever takes it over."""

    reason: str
    tasks: tuple[Standing, ...]
    results: tuple[Mapping[str, Any], ...] = field(repr=False)
    """Tasks that ended: ``{"task", "status"}``."""
    facts: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, talk: Talk, standings: Iterable[Standing], reason: str) -> "Summary":
        """Sum up a call."""
        facts = talk.context.facts
        newest = list(facts)[-MAX_FACTS_TOLD:]
        ended = tuple({"task": one["task"], "status": one["status"]} for one in talk.results)
        return cls(reason, tuple(standings), ended, {name: facts[name] for name in newest})

    @property
    def text(self) -> str:
        """The summary in sentences, at most `MAX_SUMMARY_CHARS`."""
        lines = [f"Reason: {self.reason}."]
        for one in self.tasks:
            lines.append(f"Under way: {one.task}: {one.at}{_listed(one.values)}.")
            if one.question:
                lines.append(f"Last question: {one.question}")
        if self.results:
            ended = ", ".join(f"{one['task']} {one['status']}" for one in self.results[-5:])
            lines.append(f"Before: {ended}.")
        if self.facts:
            lines.append(f"Known{_listed(self.facts)}.")
        text = " ".join(lines)
        return text if len(text) <= MAX_SUMMARY_CHARS else text[: MAX_SUMMARY_CHARS - 1].rstrip() + "…"


def _listed(values: Mapping[str, Any]) -> str:
    told = [f"{name} {value}"[:MAX_VALUE_CHARS] for name, value in values.items() if _is_plain(value)]
    return f" ({', '.join(told)})" if told else ""


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool) and value != ""

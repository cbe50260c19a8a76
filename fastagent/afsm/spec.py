"""The frozen, hashable description of a graph: what is verified, drawn, explored and hashed.

A graph is written as `AFSMState` classes, as JSON definitions, or as both; either way each state becomes a
`StateSpec`, so that every check applies to both.
"""

import hashlib
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Self

import orjson

from fastagent.afsm.voice import VoicePolicy

__all__ = [
    "EFFECT_MARK",
    "Confirmation",
    "EffectSpec",
    "Event",
    "GraphSpec",
    "SilenceStep",
    "SlotSpec",
    "StateSpec",
    "TransitionSpec",
    "WatchSpec",
    "WatchStep",
    "canonical_json",
]

EFFECT_MARK = "__fastagent_effect__"
"""Attribute of a function that is an effect; its value is an `EffectSpec`."""


class Event(StrEnum):
    """What may happen to a state."""

    INPUT = "input"
    """The caller's answer."""
    SILENCE = "silence"
    """Nobody answered for as long as a step of the silence ladder says."""
    DEADLINE = "deadline"
    """The state has been current for longer than its ``deadline_s``."""
    DTMF = "dtmf"
    HANG_UP = "hang_up"
    TRANSFER = "transfer"
    """The caller asked for a person."""
    TRANSFER_FAILED = "transfer_failed"
    """Nobody took the caller over, who is back; its text is a `TransferEnd`: ``busy``, ``no_answer`` …"""
    ANSWERED_BY = "answered_by"
    """It is known who took a call of ours; its text is ``human``, ``machine``, ``fax`` or ``unknown``."""
    TOOL_FAILED = "tool_failed"
    BARGE_IN = "barge_in"
    RESUME = "resume"
    """The conversation goes on after the line was lost."""
    NO_MATCH = "no_match"
    """The answer was not understood, too often."""


class Confirmation(StrEnum):
    """What must happen before a slot's value counts."""

    NONE = "none"
    IMPLICIT = "implicit"
    """Said back within the next question; a "no" opens it again."""
    READ_BACK = "read_back"
    """Said back as a question of its own that takes a yes."""
    KEYPAD = "keypad"
    """Said back, and confirmed with a key that only the caller's telephone can send."""


@dataclass(frozen=True, slots=True)
class TransitionSpec:
    """A move that may be made."""

    target: str
    on: Event = Event.INPUT
    guard: str = ""
    """The expression that must hold, or ``python:`` and the name of a function; empty always holds."""
    say: str = ""
    """What the caller is told when the guard does not hold."""


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """A value a state collects."""

    name: str
    schema_json: str
    """JSON Schema of the value, as canonical JSON."""
    is_required: bool = True
    confirmation: Confirmation = Confirmation.NONE
    prompt: str = ""
    """The question that asks for it."""
    is_redacted: bool = False
    """Never written into a record."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema (a copy)."""
        schema: dict[str, Any] = orjson.loads(self.schema_json)
        return schema


@dataclass(frozen=True, slots=True)
class EffectSpec:
    """Something a state does to the world outside."""

    name: str
    undo: str = ""
    """The function that takes it back."""
    key: str = ""
    """What makes two runs of it the same."""


@dataclass(frozen=True, slots=True)
class SilenceStep:
    """What happens after so much silence, counted from the question: a remark, or a move."""

    after_s: float
    say: str = ""
    next_state: str = ""

    def __post_init__(self) -> None:
        if not self.after_s > 0:
            raise ValueError(f"after_s must be above 0, got {self.after_s}")
        if bool(self.say) == bool(self.next_state):
            raise ValueError("a silence step either says something or names the next state")


@dataclass(frozen=True, slots=True)
class WatchStep:
    """What a watch does when it fires."""

    say: str = ""
    next_state: str = ""
    do: Literal["", "hang_up", "transfer", "stop_recording"] = ""
    target: str = ""
    """Where ``transfer`` leads."""

    def __post_init__(self) -> None:
        if self.do not in ("", "hang_up", "transfer", "stop_recording"):
            raise ValueError(f"expected hang_up, transfer or stop_recording, got {self.do!r}")
        if (self.do == "transfer") != bool(self.target):
            raise ValueError("transfer, and only transfer, takes a target")
        if not (self.say or self.next_state or self.do):
            raise ValueError("a watch step must say, do or move something")


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """One watch of the supervisor region, which runs beside whatever state is current.

    The first time it fires it takes its first step, the second time the second one, and so on; the last step
    is taken again and again.
    """

    name: str
    steps: tuple[WatchStep, ...]
    on: Event = Event.INPUT
    words: tuple[str, ...] = ()
    """Fires on an input that holds one of these, word for word, and on the caller's own words where they are
    written down, whatever the talking model makes of them; empty fires on each."""
    when: str = ""
    """A guard expression that must hold too."""
    starts_task: bool = False
    """Begins the task when its words are heard while the task does not run: for what must not depend on the
    talking model's seeing that the task is called for."""

    def __post_init__(self) -> None:
        if not self.name or not self.steps:
            raise ValueError("a watch needs a name and at least one step")
        if self.starts_task and not self.words:
            raise ValueError(f"watch {self.name!r} starts its task by words, and has none")
        if self.on is Event.INPUT and not (self.words or self.when):
            raise ValueError(f"watch {self.name!r} would fire on every input; give it words or when")


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state."""

    name: str
    description: str = ""
    transitions: tuple[TransitionSpec, ...] = ()
    """In order: where several fit, the first is taken."""
    prompt_template: str = ""
    slots: tuple[SlotSpec, ...] = ()
    effects: tuple[EffectSpec, ...] = ()
    deadline_s: float | None = None
    silence: tuple[SilenceStep, ...] = ()
    handles: tuple[Event, ...] = ()
    """Events the state has an answer to, by a transition or by its ``on_event``."""
    voice: VoicePolicy | None = None
    tools: tuple[str, ...] | None = None
    """Functions the model may call while it is current; None: all the agent has."""
    is_digression: bool = False
    """Entering it keeps the way back; its end leads there."""
    enter_when: str = ""
    """Guard expression: an input for which it holds leads here from any state, as a digression."""
    kind: Literal["class", "json"] = "class"
    code_hash: str = ""
    """Of a class: sha256 of the code that decides."""
    llm_config_json: str = ""
    """Of a state that asks a model: its settings as canonical JSON."""
    is_scratchpad_enabled: bool = True

    def targets(self, on: Event = Event.INPUT) -> tuple[str, ...]:
        """The names of the states an event may lead to."""
        return tuple(move.target for move in self.transitions if move.on is on)

    @property
    def is_terminal(self) -> bool:
        """No way leads on."""
        return not self.transitions


@dataclass(frozen=True)
class GraphSpec:
    """All states, where a run begins, and the supervisor's watches."""

    states: tuple[StateSpec, ...]
    initial_state: str
    supervisor: tuple[WatchSpec, ...] = ()
    content_hash: str = ""
    """sha256 over the canonical JSON of all else, hexadecimal."""

    @classmethod
    def of(
        cls, states: tuple[StateSpec, ...], initial_state: str, supervisor: tuple[WatchSpec, ...] = ()
    ) -> Self:
        """Put the hash on a description."""
        # The order in which states are listed means nothing; that of transitions does.
        listed = sorted(states, key=lambda state: state.name)
        content = [plain(state) for state in listed], initial_state, [plain(watch) for watch in supervisor]
        return cls(states, initial_state, supervisor, hashlib.sha256(canonical_json(content)).hexdigest())

    @cached_property
    def by_name(self) -> dict[str, StateSpec]:
        """The states by name."""
        return {state.name: state for state in self.states}

    def state(self, name: str) -> StateSpec:
        """One state. Raises: KeyError."""
        return self.by_name[name]


def plain(value: Any) -> Any:
    """Give a spec, or a part of one, as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return value


def canonical_json(value: Any) -> bytes:
    """Write JSON values so that equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

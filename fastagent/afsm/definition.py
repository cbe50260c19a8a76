"""JSON definitions of states, strictly read: what is not understood is refused, with its path.

One state::

    {"name": "collect", "description": "Find out the amount", "allowed_transitions": ["confirm"],
     "initial_state": true, "slots": [{"name": "amount", "type": "number", "prompt": "How much?",
     "confirmation": "read_back", "minimum": 1}], "guards": {"confirm": "slots.amount <= 1000"},
     "deadline_s": 120, "on_deadline": "goodbye", "silence": [{"after_s": 8, "say": "Are you there?"}]}

A whole graph is ``{"states": [...], "initial_state": "...", "supervisor": [...]}``.

How the engine runs such a state: with ``slots`` it asks for what is missing, then says ``prompt_template``
and moves by the guards. Without slots it says ``prompt_template``; where the way on has a guard, or several
ways lead on, it waits for the answer and lets the guards decide; where one way leads on it moves at once and
the state there reads the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastagent.afsm.slots import Digits, Slot
from fastagent.afsm.spec import EffectSpec, Event, SilenceStep, WatchSpec, WatchStep
from fastagent.afsm.state import AFSMState
from fastagent.afsm.voice import VoicePolicy
from fastagent.errors import ConfigurationError

__all__ = [
    "LLM_KEYS",
    "MAX_STATES",
    "EffectDefinition",
    "GraphDefinition",
    "GuardDefinition",
    "JsonState",
    "SilenceDefinition",
    "SlotDefinition",
    "StateDefinition",
    "VoiceDefinition",
    "WatchDefinition",
    "WatchStepDefinition",
    "read_graph_definition",
    "read_watches",
]

MAX_STATES = 500
LLM_KEYS = frozenset(
    ("api", "base_url", "max_tokens", "min_confidence", "model", "prompt", "temperature", "timeout_s")
)
"""What ``llm_config`` may hold here. A key to the model's door is not part of a definition."""

_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=10_000)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Model = TypeVar("_Model", bound=_Strict)


class SlotDefinition(_Strict):
    """A value that a state collects."""

    name: _Name
    type: Literal[
        "string", "integer", "number", "boolean", "date", "time", "digits", "choice"
    ] = "string"  # fmt: skip
    prompt: _Text = ""
    confirmation: Literal["none", "implicit", "read_back", "keypad"] = "none"
    required: bool = True
    redacted: bool = False
    choices: Annotated[list[_Name], Field(max_length=200)] = []
    minimum: float | None = None
    maximum: float | None = None
    min_length: Annotated[int, Field(ge=0)] | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    pattern: Annotated[str, Field(max_length=500)] | None = None
    reprompt: _Text = ""
    read_back: _Text = ""

    def slot(self, where: str) -> Slot:
        """The slot itself. Raises: `ConfigurationError`, beginning with the path."""
        return Slot(
            self._annotation(where),
            self.prompt,
            self.confirmation,
            self.required,
            self.redacted,
            self.reprompt,
            self.read_back,
            name=self.name,
        )

    def _annotation(self, where: str) -> Any:
        limits: dict[str, Any] = {}
        is_number, is_text = self.type in ("integer", "number"), self.type in ("string", "digits")
        for name, key, fits in (
            ("minimum", "ge", is_number),
            ("maximum", "le", is_number),
            ("min_length", "min_length", is_text),
            ("max_length", "max_length", is_text),
            ("pattern", "pattern", is_text),
        ):
            if (value := getattr(self, name)) is not None:
                if not fits:
                    raise ConfigurationError(f"{where}.{name}: a {self.type} has none")
                limits[key] = value
        if (self.type == "choice") != bool(self.choices):
            raise ConfigurationError(f"{where}.choices: a choice, and only a choice, has them")
        if self.type == "choice":
            return Literal[tuple(self.choices)]
        kind = {
            "string": str, "integer": int, "number": Decimal, "boolean": bool, "date": date, "time": time,
            "digits": str,
        }[self.type]  # fmt: skip
        marks: list[Any] = [Digits()] if self.type == "digits" else []
        if limits:
            marks.append(Field(**limits))
        return Annotated[(kind, *marks)] if marks else kind


class GuardDefinition(_Strict):
    """The condition of a move, and what is said when it does not hold."""

    when: _Text
    say: _Text = ""


class SilenceDefinition(_Strict):
    """What happens after so much silence: words, or a move."""

    after_s: _Seconds
    say: _Text = ""
    next_state: str = ""


class EffectDefinition(_Strict):
    """A function that a state calls for, by name."""

    name: _Name
    undo: str = ""
    key: str = ""


class VoiceDefinition(_Strict):
    """How the bot behaves on the line; see `VoicePolicy`."""

    barge_in: Literal["interruptible", "protected", "keyword"] = "interruptible"
    barge_in_keywords: list[str] = []
    is_recorded: bool = True
    speech: Literal["default", "eager", "patient", "dictation"] = "default"
    tools: list[str] | None = None
    filler_after_ms: int | None = None
    filler: list[str] = []
    dtmf_grammar: str = ""
    redaction: Literal["none", "digits", "all"] = "none"
    is_call_only: bool = False

    def policy(self, where: str) -> VoicePolicy:
        """The policy itself. Raises: `ConfigurationError`, beginning with the path."""
        try:
            return VoicePolicy(**self.model_dump())
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from None


class StateDefinition(_Strict):
    """One state."""

    name: _Name
    description: _Text = ""
    allowed_transitions: list[_Name] = []
    prompt_template: _Text = ""
    initial_state: bool = False
    scratchpad_enabled: bool = True
    llm_config: dict[str, str | int | float | bool] | None = None
    slots: list[SlotDefinition] = []
    guards: dict[str, str | GuardDefinition] = {}
    deadline_s: _Seconds | None = None
    on_deadline: str = ""
    silence: list[SilenceDefinition] = []
    handles: dict[str, str] = {}
    voice_policy: VoiceDefinition | None = None
    tools: list[_Name] | None = None
    effects: list[EffectDefinition] = []
    is_digression: bool = False
    enter_when: str = ""


class WatchStepDefinition(_Strict):
    """What a watch does when it fires."""

    say: _Text = ""
    next_state: str = ""
    do: Literal["", "hang_up", "transfer", "stop_recording"] = ""
    target: str = ""


class WatchDefinition(_Strict):
    """A watch beside the states."""

    name: _Name
    on: Literal[tuple(event.value for event in Event)] = "input"  # type: ignore[valid-type]
    words: list[_Name] = []
    when: str = ""
    starts_task: bool = False
    steps: Annotated[list[WatchStepDefinition], Field(min_length=1)]


class _Graph(_Strict):
    states: Annotated[list[StateDefinition], Field(min_length=1, max_length=MAX_STATES)]
    initial_state: str = ""
    supervisor: list[WatchDefinition] = []


class JsonState(AFSMState):
    """A state that was written as JSON; the engine runs it."""

    kind: ClassVar[Literal["class", "json"]] = "json"
    is_initial = False

    @classmethod
    def read(cls, document: Mapping[str, Any], where: str = "state") -> Self:
        """Read one definition.

        Raises:
            ConfigurationError: it does not fit; the message begins with the path.
        """
        return cls.of(_read(StateDefinition, document, where), where)

    @classmethod
    def of(cls, read: StateDefinition, where: str) -> Self:
        """Make the state of a definition. Raises: `ConfigurationError`, beginning with the path."""
        state = cls(read.name, read.description, tuple(read.allowed_transitions))
        state.is_initial = read.initial_state
        state.prompt_template = read.prompt_template
        state.scratchpad_enabled = read.scratchpad_enabled
        if read.llm_config is not None:
            if unknown := sorted(read.llm_config.keys() - LLM_KEYS):
                raise ConfigurationError(f"{where}.llm_config.{unknown[0]}: there are {sorted(LLM_KEYS)}")
            state.llm_config = dict(read.llm_config)
        names = [slot.name for slot in read.slots]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"{where}.slots: two have one name")
        state.slots = {
            slot.name: slot.slot(f"{where}.slots[{position}]") for position, slot in enumerate(read.slots)
        }
        state.guards = {
            target: guard if isinstance(guard, str) else (guard.when, guard.say)
            for target, guard in read.guards.items()
        }
        state.deadline_s, state.on_deadline = read.deadline_s, read.on_deadline
        try:
            state.silence = tuple(
                SilenceStep(step.after_s, step.say, step.next_state) for step in read.silence
            )
        except ValueError as error:
            raise ConfigurationError(f"{where}.silence: {error}") from None
        state.handles = dict(read.handles)
        for event, target in read.handles.items():
            if not target:
                raise ConfigurationError(f"{where}.handles.{event}: names no state")
        if read.voice_policy is not None:
            state.voice_policy = read.voice_policy.policy(f"{where}.voice_policy")
        state.tools = None if read.tools is None else tuple(read.tools)
        state.effects = tuple(EffectSpec(entry.name, entry.undo, entry.key) for entry in read.effects)
        state.is_digression, state.enter_when = read.is_digression, read.enter_when
        return state


@dataclass(frozen=True, slots=True)
class GraphDefinition:
    """A graph that was written as JSON: what `Graph.from_states` takes."""

    states: tuple[JsonState, ...]
    initial_state: str
    supervisor: tuple[WatchSpec, ...]


def read_graph_definition(document: Mapping[str, Any]) -> GraphDefinition:
    """Read ``{"states": [...], "initial_state": ..., "supervisor": [...]}``.

    Raises:
        ConfigurationError: it does not fit; the message begins with the path.
    """
    read = _read(_Graph, document, "")
    states = tuple(JsonState.of(state, f"states[{n}]") for n, state in enumerate(read.states))
    return GraphDefinition(states, read.initial_state, _watches(read.supervisor))


def read_watches(documents: list[Mapping[str, Any]]) -> tuple[WatchSpec, ...]:
    """Read the supervisor's watches. Raises: `ConfigurationError`."""
    return _watches([_read(WatchDefinition, entry, f"supervisor[{n}]") for n, entry in enumerate(documents)])


def _watches(read: list[WatchDefinition]) -> tuple[WatchSpec, ...]:
    found = []
    for position, watch in enumerate(read):
        try:
            steps = tuple(WatchStep(step.say, step.next_state, step.do, step.target) for step in watch.steps)
            found.append(
                WatchSpec(
                    watch.name, steps, Event(watch.on), tuple(watch.words), watch.when, watch.starts_task
                )
            )
        except ValueError as error:
            raise ConfigurationError(f"supervisor[{position}]: {error}") from None
    return tuple(found)


def _read(kind: type[_Model], document: Any, where: str) -> _Model:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = where
        for part in first["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        raise ConfigurationError(f"{path or 'definition'}: {first['msg']}") from None

"""AFSMState: one state of a task, and what a state may ask of the call it runs in."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol, Self, TypedDict

from fastagent.afsm.code_hash import hash_class, hash_functions
from fastagent.afsm.guards import parse_guard
from fastagent.afsm.orders import DigitsOutcome, Order, TransferOutcome
from fastagent.afsm.slots import Slot, read_slots
from fastagent.afsm.spec import (
    EFFECT_MARK,
    EffectSpec,
    Event,
    SilenceStep,
    StateSpec,
    TransitionSpec,
    canonical_json,
)
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import AgentError, ConfigurationError

__all__ = ["MAX_NOTES", "AFSMState", "CallControl", "EffectRunner", "GuardFunction", "StateResult"]

GuardFunction = Callable[[ConversationContext], bool]
"""A guard written in Python: quick, and without side effects."""

MAX_NOTES = 100
"""Notes kept in a scratchpad; the oldest goes first."""


class StateResult(TypedDict):
    """What a state decided on one input."""

    response: str
    """What to ask or tell the caller; empty to go on in ``next_state`` at once with the same input."""
    next_state: str
    """Where to go; the state's own name to stay."""
    confidence: float
    """How sure the state is, 0 to 1. Kept for records: it decides nothing."""


class CallControl(Protocol):
    """What a state may ask of its call. The methods only give the order, return at once and do not raise."""

    @property
    def call_id(self) -> str:
        """The call's name in logs and records."""

    @property
    def caller(self) -> str:
        """The caller's number or address, empty when it is withheld."""

    def hang_up(self, reason: str) -> None:
        """End the call once nothing is left to say: tool outputs handed over have been answered and heard.

        A state gives the order before its closing words are handed over, so an implementation waits for
        the words of the running tool call too. A second order changes nothing.
        """

    def transfer(
        self, target: str, reason: str, *, is_warm: bool = False, summary: str = ""
    ) -> Order[TransferOutcome]:
        """Hand the caller on to ``target`` (``tel:+…`` or ``sip:…``), when `hang_up` would end the call.

        If nobody takes the caller over, they come back to this talk. Then a state that awaits the order is
        given the outcome, else one that handles `Event.TRANSFER_FAILED` is told, else the model is.
        A second order while one is under way gives the first.

        Args:
            is_warm: whoever answers hears the summary before the caller, where the carrier can do that.
            summary: where the call stands; empty has it made from tasks, facts and the reason.
        """

    def hand_over(self, to: str, reason: str) -> bool:
        """Have another agent take the caller over, once this task has reported; False if it cannot.

        What was said and found out goes along; other tasks that run are ended.

        Args:
            to: one of the agent's ``colleagues``, by its id.
        """

    def recall(self) -> bool:
        """Take in what the agent remembers of this caller, who has proved to be who they are.

        Facts and profile of earlier calls stand in the context from then on, and what is known at the end of
        this call is remembered. False where nothing is remembered of callers.
        """

    def send_digits(self, digits: str) -> Order[DigitsOutcome]:
        """Press keys for the far side (``0-9 * #``, at most 20), at the next pause in the talk.

        By the carrier's own word for it where it has one, else as tones in the audio.
        """

    def hold(self, clip: str = "") -> None:
        """Put the caller on hold once everything said was heard: the model hears nothing and says nothing.

        Tasks go on; what they announce is said after `resume`. A hold ends by itself with a hang-up or a
        transfer, and after its time (`BridgeLimits.hold_limit_s`).

        Args:
            clip: played over and over, by its name; empty for silence.
        """

    def resume(self) -> None:
        """End what `hold` began: the model hears the caller again, and says what waited."""

    def send_metadata(self, value: Mapping[str, Any]) -> None:
        """Pass data to the telephone network's side."""

    def announce(self, text: str) -> None:
        """Have the model act on ``text`` (words, or a task's JSON report) as soon as it may speak."""

    def set_voice_policy(self, policy: VoicePolicy | None) -> None:
        """Have the bot behave so from now on; None: as the agent does by default."""

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None:
        """Play a clip by its name, at the next pause in the talk.

        Args:
            loop: until the bot speaks again, like hold music.
            interruptible: the caller may cut it short; not so where the law wants it heard.
        """

    def stop_clips(self) -> None:
        """End what `play_clip` began."""


class EffectRunner(Protocol):
    """Runs what a state does to the world outside, each distinct run once."""

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        call_id: str | None = None,
    ) -> Any:
        """Give the function's outcome, or the recorded one of an earlier run with the same arguments."""


class AFSMState:
    """One state: it reads an input, says something, and names the next state.

    Subclasses either pass the three values to ``__init__`` or carry them as class attributes, and override
    `process` or the two hooks it uses. A state object serves many calls at once: each run works on its own
    shallow copy, so attributes may be assigned freely during a run, while objects they refer to are shared.

    A state with ``slots`` and no `process` of its own is run by the engine: it asks for the first
    missing slot, checks and confirms the answer, and moves on by its guards.

    Args:
        name: unique in its graph.
        description: what the state is for; the default `_generate_response` says it.
        allowed_transitions: names of the states it may move to (staying is always allowed); none makes
            it terminal.
    """

    name: str = ""
    description: str = ""
    allowed_transitions: Sequence[str] = ()
    voice_policy: VoicePolicy | None = None
    """How the bot behaves on the line while this state is current; None: as the agent does by default."""

    prompt_template: str = ""
    """What the engine says for a state it runs itself, once all slots are filled (see `template`)."""
    slots: Any = ()
    """Mapping of names to `Slot` or type, or a pydantic model class."""
    guards: Mapping[str, "str | GuardFunction | tuple[str | GuardFunction, str]"] = {}
    """By target: what must hold for a move there, whatever leads there: an expression (see the module
    `guards`) or a function; with the words for the caller when it does not hold as a second item."""
    deadline_s: float | None = None
    """How long the state may be current, counted from its entry."""
    on_deadline: str = ""
    """Where it then leads; empty ends the task."""
    silence: Sequence[SilenceStep] = ()
    """What happens when a question stays unanswered, in rising order of ``after_s``."""
    handles: Mapping[Event | str, str] = {}
    """By event: the state it leads to; empty has `on_event` decide."""
    tools: Sequence[str] | None = None
    """Functions the model may call while this state is current; None: what its voice policy says."""
    effects: Sequence[EffectSpec] = ()
    """What the state does to the world outside, beside its methods that are marked as effects."""
    is_digression: bool = False
    """Entering it keeps the way back, and its end leads there."""
    enter_when: str = ""
    """Guard expression; an answer for which it holds leads here from any other state."""
    llm_config: Mapping[str, Any] | None = None
    """Settings of the model that proposes for this state; None takes the agent's."""
    scratchpad_enabled: bool = True

    kind: ClassVar[Literal["class", "json"]] = "class"

    _effects: EffectRunner | None = None
    _call: CallControl | None = None
    _notes: deque[str] | None = None

    def __init__(
        self,
        name: str | None = None,
        description: str | None = None,
        allowed_transitions: Sequence[str] | None = None,
    ) -> None:
        if name is not None:
            self.name = name
        if description is not None:
            self.description = description
        if allowed_transitions is not None:
            self.allowed_transitions = allowed_transitions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def call(self) -> CallControl:
        """The call this run belongs to.

        Raises:
            AgentError: the state is not part of a run.
        """
        if self._call is None:
            raise AgentError(f"state {self.name!r} has a call only while its machine runs")
        return self._call

    @property
    def scratchpad(self) -> deque[str]:
        """Notes of this run for the state's own reasoning, newest last; they are never spoken."""
        if self._notes is None:
            self._notes = deque(maxlen=MAX_NOTES)
        return self._notes

    @scratchpad.setter
    def scratchpad(self, notes: str | Iterable[str]) -> None:
        self._notes = deque([notes] if isinstance(notes, str) else notes, maxlen=MAX_NOTES)

    @property
    def effect_runner(self) -> EffectRunner:
        """Runs effects, each distinct one once.

        Raises:
            AgentError: the run has none.
        """
        if self._effects is None:
            raise AgentError(f"state {self.name!r} has no effect runner")
        return self._effects

    def bound_to(self, call: CallControl, effects: EffectRunner | None = None) -> Self:
        """Give the copy of this state that one run works on, with an empty scratchpad."""
        bound = copy.copy(self)
        bound._call = call
        bound._effects = effects
        bound._notes = None
        return bound

    @property
    def is_run_by_engine(self) -> bool:
        """The engine asks and decides, by slots, guards and templates."""
        if type(self).process is not AFSMState.process:
            return False
        return self.kind == "json" or bool(self.slots) or self.llm_config is not None

    def read_slots(self) -> tuple[Slot, ...]:
        """The declared slots. Raises: `ConfigurationError`."""
        return read_slots(self.slots, f"state {self.name!r}") if self.slots else ()

    def spec(self) -> StateSpec:
        """Give the frozen description of this state.

        Raises:
            ConfigurationError: an attribute that cannot be used.
        """
        where = f"state {self.name!r}"
        guards = {target: _guard_of(guard, where) for target, guard in self.guards.items()}
        moves = [(target, Event.INPUT) for target in dict.fromkeys(self.allowed_transitions)]
        if self.on_deadline:
            if self.deadline_s is None:
                raise ConfigurationError(f"{where}: on_deadline needs deadline_s")
            moves.append((self.on_deadline, Event.DEADLINE))
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ConfigurationError(f"{where}: deadline_s must be above 0, got {self.deadline_s}")
        silence = tuple(self.silence)
        if any(not isinstance(step, SilenceStep) for step in silence):
            raise ConfigurationError(f"{where}: silence must hold SilenceStep values")
        if any(one.after_s >= other.after_s for one, other in pairwise(silence)):
            raise ConfigurationError(f"{where}: silence must be in rising order of after_s")
        moves += [(step.next_state, Event.SILENCE) for step in silence if step.next_state]
        handled = {Event.SILENCE} if silence else set()
        for name, target in self.handles.items():
            event = _event_of(name, where)
            handled.add(event)
            if target:
                moves.append((target, event))
        targets = {target for target, _ in moves}
        if unknown := sorted(guards.keys() - targets):
            raise ConfigurationError(f"{where}: guards a move to {unknown[0]!r}, which it may not make")
        if self.enter_when:
            parse_guard(self.enter_when)
            if not self.is_digression:
                raise ConfigurationError(f"{where}: enter_when is for a state with is_digression")
        transitions = tuple(
            TransitionSpec(target, event, *guards.get(target, ("", ""))) for target, event in moves
        )
        tools = self.tools
        if tools is None and self.voice_policy is not None:
            tools = self.voice_policy.tools
        if isinstance(tools, str):
            raise ConfigurationError(f"{where}: tools must be a list of names, got one string")
        return StateSpec(
            self.name,
            self.description,
            transitions,
            self.prompt_template,
            tuple(slot.spec for slot in self.read_slots()),
            self._effect_specs(where),
            self.deadline_s,
            silence,
            tuple(sorted(handled | {event for _, event in moves if event is not Event.INPUT})),
            self.voice_policy,
            None if tools is None else tuple(tools),
            self.is_digression,
            self.enter_when,
            self.kind,
            self._code_hash(),
            canonical_json(dict(self.llm_config)).decode() if self.llm_config is not None else "",
            self.scratchpad_enabled,
        )

    def _effect_specs(self, where: str) -> tuple[EffectSpec, ...]:
        found = {}
        for entry in self.effects:
            if not isinstance(entry, EffectSpec):
                raise ConfigurationError(f"{where}: effects must hold EffectSpec values")
            found[entry.name] = entry
        for owner in reversed(type(self).__mro__):
            for value in vars(owner).values():
                if isinstance(mark := getattr(value, EFFECT_MARK, None), EffectSpec):
                    found[mark.name] = mark
        return tuple(found[name] for name in sorted(found))

    def _code_hash(self) -> str:
        if self.kind == "json":
            return ""
        functions: list[tuple[str, Any]] = [
            (target, guard[0] if isinstance(guard, tuple) else guard) for target, guard in self.guards.items()
        ]
        for slot in self.read_slots():
            functions += [(f"{slot.name}_parse", slot.parse), (f"{slot.name}_validate", slot.validate)]
        return hash_functions(functions) + hash_class(type(self), AFSMState)

    async def on_event(self, event: Event, text: str, context: ConversationContext) -> StateResult | None:
        """Decide on an event other than an answer; None takes no notice of it.

        It is asked for the events that ``handles`` lists without a state.

        Args:
            text: the keys, or what else belongs to the event; mostly empty.
        """
        return None

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        """Decide on one input: what to say, and where to go.

        Args:
            input_text: the text the task was started with, or the caller's answer to the last question.
            context: history, facts and profile of the call, slots of this run.

        Work that takes time is awaited here; it holds up neither the audio nor other tasks.
        """
        response = await self._generate_response(input_text, context)
        next_state = self._determine_next_state(input_text, context)
        return {"response": response, "next_state": next_state, "confidence": 1.0}

    async def _generate_response(self, input_text: str, context: ConversationContext) -> str:
        """Say what to tell the caller; the default says the description."""
        return self.description

    def _determine_next_state(self, input_text: str, context: ConversationContext) -> str:
        """Name the next state; the default moves on where only one way leads, and stays otherwise."""
        return self.allowed_transitions[0] if len(self.allowed_transitions) == 1 else self.name


def _guard_of(guard: Any, where: str) -> tuple[str, str]:
    """(text, what the caller is told); the text of a function is its name."""
    say = ""
    if isinstance(guard, tuple):
        if len(guard) != 2 or not isinstance(guard[1], str):
            raise ConfigurationError(f"{where}: a guard is an expression or function, or that and words")
        guard, say = guard
    if callable(guard):
        return f"python:{getattr(guard, '__qualname__', type(guard).__name__)}", say
    try:
        return parse_guard(guard).text, say
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _event_of(name: Event | str, where: str) -> Event:
    try:
        event = Event(name)
    except ValueError:
        raise ConfigurationError(f"{where}: there is no event {str(name)!r}") from None
    if event in (Event.INPUT, Event.DEADLINE):
        raise ConfigurationError(f"{where}: {event} is handled by allowed_transitions and on_deadline")
    return event

"""AFSMState: one state of a task, and what a state may ask of the call it runs in."""

import copy
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self, TypedDict

from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import AgentError

__all__ = ["MAX_NOTES", "AFSMState", "CallControl", "StateResult"]

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

    def transfer(self, target: str, reason: str) -> None:
        """Hand the caller on to ``target`` (``tel:+…`` or ``sip:…``), when `hang_up` would end the call."""

    def send_dtmf(self, digits: str) -> None:
        """Send digits to the far side (``0-9 * #``)."""

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


class AFSMState:
    """One state: it reads an input, says something, and names the next state.

    Subclasses either pass the three values to ``__init__`` or carry them as class attributes, and override
    `process` or the two hooks it uses. A state object serves many calls at once: each run works on its own
    shallow copy, so attributes may be assigned freely during a run, while objects they refer to are shared.

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

    def bound_to(self, call: CallControl) -> Self:
        """Give the copy of this state that one run works on, with an empty scratchpad."""
        bound = copy.copy(self)
        bound._call = call
        bound._notes = None
        return bound

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

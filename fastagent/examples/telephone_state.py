"""What the states of the examples share: asking again, a person who takes over, silence, effects."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from fastagent import AFSMState, ConversationContext
from fastagent.afsm import Event, SilenceStep, StateResult, VoicePolicy
from fastagent.errors import AgentError

__all__ = ["COMMON", "EndState", "Goodbye", "Human", "HungUp", "TelephoneState"]

MAX_MISSES = 3
"""Answers to one state that may not be understood before a person takes over."""
DEADLINE_S = 180.0
ASK_AFTER_S, HANG_UP_AFTER_S = 20.0, 45.0
STILL_THERE = "Are you still there?"
HANDLES: Mapping[Event | str, str] = MappingProxyType(
    {
        Event.HANG_UP: "hung_up",
        Event.TRANSFER: "human",
        Event.NO_MATCH: "human",
        Event.TOOL_FAILED: "human",
    }
)

COMMON: dict[str, Any] = {
    "deadline_s": DEADLINE_S,
    "on_deadline": "human",
    "silence": [
        {"after_s": ASK_AFTER_S, "say": STILL_THERE},
        {"after_s": HANG_UP_AFTER_S, "next_state": "hung_up"},
    ],
    "handles": {str(event): target for event, target in HANDLES.items()},
}
"""The same for JSON states: ``{**COMMON, "name": ...}``."""


class TelephoneState(AFSMState):
    """A state that goes on to ``human`` when it gets nowhere, and to ``hung_up`` when nobody is there."""

    deadline_s = DEADLINE_S
    on_deadline = "human"
    silence = (SilenceStep(ASK_AFTER_S, say=STILL_THERE), SilenceStep(HANG_UP_AFTER_S, next_state="hung_up"))
    handles = HANDLES
    misses = 0

    def go(self, next_state: str, *sentences: str) -> StateResult:
        return {"response": " ".join(filter(None, sentences)), "next_state": next_state, "confidence": 1.0}

    def again(self, *sentences: str) -> StateResult:
        """Ask again; at the `MAX_MISSES`-th time a person takes over. Needs the move to ``human``."""
        self.misses += 1
        return self.go("human") if self.misses >= MAX_MISSES else self.go(self.name, *sentences)

    async def run_once(self, function: Callable[..., Awaitable[Any]], arguments: Mapping[str, Any]) -> Any:
        """Have an effect done, once for these arguments in this call, and give its result.

        In a call without a journal the system behind the effect keeps the promise, by the key it is given.

        Args:
            function: a method of this state that is marked as an effect and takes ``idempotency_key``.

        Raises:
            EffectFailedError: it was not done.
            EffectUnknownError: it may have been done.
        """
        try:
            runner = self.effect_runner
        except AgentError:
            content = [self.call.call_id, function.__name__, dict(arguments)]
            key = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
            return await function(**arguments, idempotency_key=key)
        return await runner.run(function.__name__, function, arguments)


class EndState(AFSMState):
    """A state that ends the task.

    Args:
        forgets: slots that are not part of the result.
    """

    def __init__(self, forgets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.forgets = forgets

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        for name in self.forgets:
            context.slots.pop(name, None)
        return {"response": self.close(), "next_state": self.name, "confidence": 1.0}

    def close(self) -> str:
        """Do what ends the call; give the last words."""
        return ""


class Goodbye(EndState):
    name = "goodbye"
    description = "Say goodbye and hang up"

    def close(self) -> str:
        self.call.hang_up("completed")
        return "Thank you for calling. Goodbye."


class HungUp(EndState):
    name = "hung_up"
    description = "Nobody is there any more: end the call"

    def close(self) -> str:
        self.call.hang_up("nobody there")
        return "Goodbye."


class Human(EndState):
    """Puts the caller through to ``target``."""

    name = "human"
    description = "Put the caller through to a person"
    voice_policy = VoicePolicy(barge_in="protected")
    words = ""
    reason = "a person is needed"

    def __init__(self, target: str, forgets: tuple[str, ...] = ()) -> None:
        super().__init__(forgets)
        self.target = target

    def close(self) -> str:
        self.call.transfer(self.target, self.reason)
        return f"{self.words} One moment, I am putting you through.".strip()

"""Outcome: how a run ended, and the words for one that could not go on."""

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from fastagent.context import ConversationContext
from fastagent.errors import AgentError

__all__ = [
    "SAY_FAILED",
    "SAY_NOT_UNDERSTOOD",
    "SAY_NO_ANSWER",
    "SAY_REFUSED",
    "SAY_TOO_LATE",
    "Outcome",
    "RunEnded",
    "plain_result",
]

SAY_FAILED = "I am sorry, something went wrong and I could not finish that."
SAY_NO_ANSWER = "I have stopped that, because I did not get an answer."
SAY_REFUSED = "I am sorry, I cannot do that."
SAY_TOO_LATE = "I have stopped that, because it took too long."
SAY_NOT_UNDERSTOOD = "I am sorry, I did not understand, so I have stopped that."


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    status: Literal["done", "failed"]
    say: str = field(repr=False)
    """The closing words, or a polite apology."""
    result: dict[str, Any] = field(default_factory=dict, repr=False)
    """Facts and slots of the run as plain JSON values; of a failed run, as far as it came."""
    state: str = ""
    """Where it ended."""


class RunEnded(Exception):
    """The run is over before its end; ``say`` are its last words."""

    def __init__(self, say: str) -> None:
        super().__init__()
        self.say = say


def plain_result(context: ConversationContext, state: str) -> dict[str, Any]:
    """Give facts and slots of a run as plain JSON values; a slot hides a fact of the same name.

    Raises:
        AgentError: a value cannot be written as JSON; it names the ``state`` the run is in.
    """
    try:
        plain = orjson.dumps({**context.task_facts, **context.slots}, default=str)
    except TypeError:
        raise AgentError(f"state {state!r} left a slot or fact that JSON cannot hold") from None
    result: dict[str, Any] = orjson.loads(plain)
    return result

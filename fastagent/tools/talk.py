"""Talk: what the agents of one call have in common, one after another."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from fastagent.context import ConversationContext
from fastagent.tools.reports import FunctionOutcome

__all__ = ["MAX_FUNCTION_CALLS", "MAX_TRANSITIONS", "Talk", "Transition"]

MAX_FUNCTION_CALLS = 256
"""Function calls whose outputs are kept against a second delivery, the oldest finished one goes first."""
MAX_TRANSITIONS = 1_000
MAX_RESULTS = 100


@dataclass(frozen=True, slots=True)
class Transition:
    """A move of a task's machine; ``from_state`` is empty when it enters its initial state."""

    task: str
    from_state: str
    to_state: str
    reason: str
    """What led to it: the "start", an "answer", or "continue" when no answer lies between two moves."""


class Talk:
    """What was said, called and done in one call, whoever of the agents it was.

    A function call that an earlier agent answered is never done again by the next.
    """

    def __init__(self, context: ConversationContext) -> None:
        self.context = context
        self.transitions: deque[Transition] = deque(maxlen=MAX_TRANSITIONS)
        self.results: deque[dict[str, Any]] = deque(maxlen=MAX_RESULTS)
        """The runs that ended, oldest first, each as ``{"task", "status", "result"}``."""
        self._outcomes: OrderedDict[str, asyncio.Future[FunctionOutcome]] = OrderedDict()

    def outcome_of(self, call_id: str) -> asyncio.Future[FunctionOutcome] | None:
        """What a function call gives that came before; None for a new one."""
        return self._outcomes.get(call_id)

    def begin(self, call_id: str) -> asyncio.Future[FunctionOutcome] | None:
        """Take up a new function call; None when too many are under way."""
        if len(self._outcomes) >= MAX_FUNCTION_CALLS:
            finished = next((known for known, future in self._outcomes.items() if future.done()), None)
            if finished is None:
                return None
            del self._outcomes[finished]
        future = self._outcomes[call_id] = asyncio.get_running_loop().create_future()
        return future

"""Machine: one run of one task, a coroutine that walks a graph and asks its questions through the model.

::

    start ─▶ PROCESSING ──question──▶ WAITING ──answer──▶ PROCESSING ──terminal state──▶ done
                 │  ▲                    └──no answer within answer_timeout_s──────────▶ failed
                 │  └─ silent move: the next state reads the same input
                 └──error, illegal move, time-out, too many steps──────────────────────▶ failed

A state's words are a question whenever its run goes on: the machine hands them to ``ask`` and waits for the
answer, which the state named by ``next_state`` then reads. A terminal state is processed once; its words
close the task. Whatever a state does wrong ends its task, never the call.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from fastagent.afsm.graph import Graph
from fastagent.afsm.state import AFSMState, CallControl
from fastagent.context import ConversationContext
from fastagent.errors import AgentError

__all__ = [
    "DEFAULT_ANSWER_TIMEOUT_S",
    "DEFAULT_MAILBOX_SIZE",
    "DEFAULT_MAX_STEPS_PER_TURN",
    "DEFAULT_TIMEOUT_S",
    "Limits",
    "Machine",
    "Outcome",
]

DEFAULT_MAILBOX_SIZE = 16
DEFAULT_MAX_STEPS_PER_TURN = 50
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_ANSWER_TIMEOUT_S = 300.0

SAY_FAILED = "I am sorry, something went wrong and I could not finish that."
SAY_NO_ANSWER = "I have stopped that, because I did not get an answer."

_log = logging.getLogger(__name__)

Reason = Literal["start", "answer", "continue"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a run."""

    mailbox_size: int = DEFAULT_MAILBOX_SIZE
    """Answers waiting to be read; one more is refused."""
    max_steps_per_turn: int = DEFAULT_MAX_STEPS_PER_TURN
    """Calls of ``process`` between two answers."""
    state_timeout_s: float = DEFAULT_TIMEOUT_S
    """For one call of ``process``."""
    answer_timeout_s: float = DEFAULT_ANSWER_TIMEOUT_S
    """How long a question may stay open."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


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


class Machine:
    """One run of a graph.

    Args:
        graph: what may happen.
        context: the run's own view of the call's context.
        control: the call, as states see it.
        ask: takes each question; it returns at once.
        observer: told of each move as (from_state, to_state, reason); ``from_state`` is empty on entry.
    """

    def __init__(
        self,
        graph: Graph,
        context: ConversationContext,
        control: CallControl,
        *,
        ask: Callable[[str], None],
        observer: Callable[[str, str, Reason], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.context = context
        self.state = graph.initial_state
        self.question: str | None = None
        """What the caller was asked and has not answered."""
        self._graph = graph
        self._control = control
        self._ask = ask
        self._observer = observer
        self._limits = limits or Limits()
        self._mailbox: asyncio.Queue[str] = asyncio.Queue(self._limits.mailbox_size)
        self._states: dict[str, AFSMState] = {}

    @property
    def is_waiting(self) -> bool:
        """A question is open and no answer to it has come."""
        return self.question is not None and self._mailbox.empty()

    def post(self, answer: str) -> bool:
        """Queue an answer; False when the mailbox is full and it was refused."""
        try:
            self._mailbox.put_nowait(answer)
        except asyncio.QueueFull:
            return False
        return True

    async def run(self, input_text: str) -> Outcome:
        """Walk from the initial state to an end. Raises nothing but the cancellation of its own task."""
        try:
            say = await self._walk(input_text)
            return Outcome("done", say, self.result(), self.state)
        except _NoAnswer:
            say = SAY_NO_ANSWER
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Something a state awaited was cancelled, not this run: that is the state's failure.
            _log.warning("call %s: state %r awaited a cancelled task", self._control.call_id, self.state)
            say = SAY_FAILED
        except AgentError as error:
            _log.warning("call %s: task failed: %s", self._control.call_id, error)
            say = SAY_FAILED
        except Exception as error:
            # The text of a foreign exception may quote the caller, so only its kind and place are logged.
            _log.warning("call %s: state %r failed: %s", self._control.call_id, self.state, _place(error))
            say = SAY_FAILED
        finally:
            self._control.set_voice_policy(None)
        return Outcome("failed", say, self._result_or_nothing(), self.state)

    def result(self) -> dict[str, Any]:
        """Facts and slots of the run as plain JSON values; a slot hides a fact of the same name.

        Raises:
            AgentError: a value cannot be written as JSON.
        """
        try:
            plain = orjson.dumps({**self.context.task_facts, **self.context.slots}, default=str)
        except TypeError:
            raise AgentError(f"state {self.state!r} left a slot or fact that JSON cannot hold") from None
        result: dict[str, Any] = orjson.loads(plain)
        return result

    def _result_or_nothing(self) -> dict[str, Any]:
        try:
            return self.result()
        except AgentError:
            return {}

    async def _walk(self, input_text: str) -> str:
        reason: Reason = "start"
        steps = 0
        self._enter(self.state, "", reason)
        while True:
            steps += 1
            if _is_cancelled():  # a state may have swallowed it
                raise asyncio.CancelledError
            if steps > self._limits.max_steps_per_turn:
                raise AgentError(
                    f"state {self.state!r}: no question within {self._limits.max_steps_per_turn} steps"
                )
            response, next_state = await self._process(input_text)
            if self._graph.is_terminal(self.state):
                return response
            if next_state != self.state:
                self._enter(next_state, self.state, reason)
            elif not response:
                raise AgentError(f"state {self.state!r} stays without asking anything")
            reason = "continue"
            if response:
                input_text = await self._answer_to(response)
                reason, steps = "answer", 0

    def _enter(self, name: str, from_state: str, reason: Reason) -> None:
        self.state = name
        if name not in self._states:
            self._states[name] = self._graph.states[name].bound_to(self._control)
        self._control.set_voice_policy(self._states[name].voice_policy)
        if self._observer is not None:
            self._observer(from_state, name, reason)

    async def _process(self, input_text: str) -> tuple[str, str]:
        """Run the current state on an input and check what it decided."""
        state = self._states[self.state]
        try:
            async with asyncio.timeout(self._limits.state_timeout_s) as timeout:
                result = await state.process(input_text, self.context)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise AgentError(
                f"state {self.state!r} took longer than {self._limits.state_timeout_s:g} s"
            ) from None
        return self._checked(result)

    def _checked(self, result: object) -> tuple[str, str]:
        if not isinstance(result, Mapping):
            raise AgentError(f"state {self.state!r}: process() must return a dict")
        response, next_state = result.get("response"), result.get("next_state")
        if not isinstance(response, str) or not isinstance(next_state, str):
            raise AgentError(f"state {self.state!r}: response and next_state must be strings")
        if not self._graph.allows(self.state, next_state):
            # An unknown name may be made of the caller's words: only names of the graph are told.
            known = f"to {next_state!r}" if next_state in self._graph.states else "to an unknown state"
            raise AgentError(f"state {self.state!r} may not move {known}")
        return response.strip(), next_state

    async def _answer_to(self, question: str) -> str:
        self.question = question
        self._ask(question)
        try:
            async with asyncio.timeout(self._limits.answer_timeout_s):
                return await self._mailbox.get()
        except TimeoutError:
            raise _NoAnswer from None
        finally:
            self.question = None


class _NoAnswer(Exception):
    """A question stayed open too long."""


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _place(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return type(error).__name__
    code = frame.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname} ({code.co_filename}:{frame.tb_lineno})"

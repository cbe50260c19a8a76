"""AgentSession: one call's agent as the model sees it: instructions, tools, and what calling one does.

A call of a task's tool starts its machine and waits a little (``patience_s``) for what it says first.
Whatever a machine says goes to the function call that waits for it, else to ``control.announce``; both carry
the same JSON report::

    {"status": "needs_input" | "done" | "failed" | "working" | "cancelled" | "error", "task": ..., "say": ...}

with ``result`` beside "done", and ``reason`` (for the model, not for the caller) beside "error".
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from fastagent.afsm.machine import Limits, Machine, Outcome
from fastagent.afsm.state import CallControl
from fastagent.context import ConversationContext
from fastagent.errors import AgentError
from fastagent.tools.arguments import ArgumentsError, read_arguments
from fastagent.tools.task import END_CALL, TASK_CANCEL, TASK_REPLY, TRANSFER_CALL, Task

__all__ = [
    "DEFAULT_TASK_PATIENCE_S",
    "MAX_FUNCTION_CALLS",
    "MAX_TRANSITIONS",
    "AgentSession",
    "FunctionOutcome",
    "Transition",
]

DEFAULT_TASK_PATIENCE_S = 2.0
"""How long a function call waits for its task's words; longer silence would sound like a dead line."""
DEFAULT_CLOSE_TIMEOUT_S = 2.0
MAX_FUNCTION_CALLS = 256
"""Function calls whose outputs are kept against a second delivery, the oldest finished one goes first."""
MAX_TRANSITIONS = 1_000
MAX_RESULTS = 100

SAY_WORKING = "One moment, please."
SAY_CANCELLED = "All right, I have stopped that."
SAY_GOODBYE = "Thank you for calling. Goodbye."
SAY_TRANSFER = "One moment, I am putting you through."
SAY_ERROR = "I am sorry, I did not get that. Could you say it again?"
SAY_FAILED = "I am sorry, something went wrong and I could not finish that."

_log = logging.getLogger(__name__)

CreateTask = Callable[[Coroutine[Any, Any, Outcome]], asyncio.Task[Outcome]]


@dataclass(frozen=True, slots=True)
class FunctionOutcome:
    """What to send back for a function call."""

    output: str = field(repr=False)
    """The ``function_call_output``, a JSON object as text."""
    should_respond: bool = True
    """Have the model speak on it."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A move of a task's machine; ``from_state`` is empty when it enters its initial state."""

    task: str
    from_state: str
    to_state: str
    reason: str
    """What led to it: the "start", an "answer", or "continue" when no answer lies between two moves."""


class _Run:
    """A task that is under way."""

    def __init__(self, task: Task, machine: Machine) -> None:
        self.task = task
        self.machine = machine
        self.running: asyncio.Task[Outcome] | None = None
        self.waiters: set[asyncio.Future[dict[str, Any]]] = set()
        """The function calls that take the next report."""
        self.question_number = 0
        """Tells which of several waiting tasks asked last."""


class AgentSession:
    """One agent in one call.

    Args:
        control: the call; also takes reports that no function call waits for.
        create_task: starts machines, a task group's ``create_task`` for instance.
        on_transition: told of each move as it happens.
    """

    def __init__(
        self,
        control: CallControl,
        context: ConversationContext,
        *,
        instructions: str,
        tools: Sequence[dict[str, Any]],
        tasks: Mapping[str, Task],
        transfer_target: str | None = None,
        patience_s: float = DEFAULT_TASK_PATIENCE_S,
        limits: Limits | None = None,
        create_task: CreateTask | None = None,
        on_transition: Callable[[Transition], None] | None = None,
    ) -> None:
        self.context = context
        self.instructions = instructions
        self.tools = tuple(tools)
        self.background: set[asyncio.Task[Outcome]] = set()
        """Machines that run, held here so that none is lost or left over."""
        self._control = control
        self._tasks = tasks
        self._transfer_target = transfer_target
        self._patience_s = patience_s
        self._limits = limits or Limits()
        self._create_task: CreateTask = create_task or asyncio.create_task
        self._on_transition = on_transition
        self._schemas: dict[str, dict[str, Any]] = {tool["name"]: tool["parameters"] for tool in self.tools}
        self._runs: dict[str, _Run] = {}
        self._outcomes: OrderedDict[str, asyncio.Future[FunctionOutcome]] = OrderedDict()
        self._transitions: deque[Transition] = deque(maxlen=MAX_TRANSITIONS)
        self._results: deque[dict[str, Any]] = deque(maxlen=MAX_RESULTS)
        self._questions_asked = 0
        self._is_closed = False

    @property
    def transitions(self) -> list[Transition]:
        """The moves made so far, oldest first (the last `MAX_TRANSITIONS`)."""
        return list(self._transitions)

    @property
    def results(self) -> list[dict[str, Any]]:
        """The runs that ended, oldest first, each as ``{"task", "status", "result"}``.

        A run that failed or was cancelled is listed with what it had found by then.
        """
        return list(self._results)

    def caller_said(self, text: str) -> None:
        """Take down what the caller said."""
        self.context.update_context(user_utterance=text)

    def bot_said(self, text: str) -> None:
        """Take down what the caller heard."""
        self.context.update_context(agent_response=text)

    def dtmf(self, digits: str) -> bool:
        """Take keypad digits down and give them to the task that asked last; False when no task waits."""
        if not digits or self._is_closed:
            return False
        self.caller_said(digits)
        waiting = [run for run in self._runs.values() if run.machine.is_waiting]
        return bool(waiting) and max(waiting, key=lambda run: run.question_number).machine.post(digits)

    async def call_function(self, call_id: str, name: str, arguments_json: str) -> FunctionOutcome:
        """Do what the model asks for. Never raises but for cancellation; what is wrong is told in the output.

        A ``call_id`` that came before gives the same outcome, and nothing happens twice.
        """
        known = self._outcomes.get(call_id)
        if known is not None:
            return await asyncio.shield(known)
        if not self._make_room():
            return _outcome(_error("too many function calls at once"))
        future = self._outcomes[call_id] = asyncio.get_running_loop().create_future()
        try:
            outcome = _outcome(await self._dispatch(name, arguments_json))
        except asyncio.CancelledError:
            # A repetition must not run it again, so it is told what became of the first.
            future.set_result(_outcome(_error("the function call was cancelled")))
            raise
        except Exception as error:
            _log.error("call %s: function %r failed: %s", self._control.call_id, name, type(error).__name__)
            outcome = _outcome(_error("internal error", say=SAY_FAILED))
        future.set_result(outcome)
        return outcome

    async def close(self, reason: str, *, timeout_s: float = DEFAULT_CLOSE_TIMEOUT_S) -> None:
        """Cancel what runs and wait until it has ended, at most ``timeout_s``. Safe to call again."""
        self._is_closed = True
        running = set(self.background)
        for task in running:
            task.cancel(reason)
        if running:
            _, left = await asyncio.wait(running, timeout=timeout_s)
            if left:
                _log.error("call %s: %d tasks ignore their cancellation", self._control.call_id, len(left))

    def _make_room(self) -> bool:
        if len(self._outcomes) < MAX_FUNCTION_CALLS:
            return True
        finished = next((call_id for call_id, future in self._outcomes.items() if future.done()), None)
        if finished is None:
            return False
        del self._outcomes[finished]
        return True

    async def _dispatch(self, name: str, arguments_json: str) -> dict[str, Any]:
        if self._is_closed:
            return _error("the call is ending")
        schema = self._schemas.get(name)
        if schema is None:
            return _error(f"no such function; there are {', '.join(self._schemas)}")
        try:
            arguments = read_arguments(arguments_json, schema)
        except ArgumentsError as error:
            return _error(str(error))
        if name == TASK_REPLY:
            return await self._reply(arguments["task"], arguments["answer"])
        if name == TASK_CANCEL:
            return await self._cancel(arguments["task"])
        if name == END_CALL:
            self._control.hang_up(arguments.get("reason") or "finished")
            return _report("done", END_CALL, SAY_GOODBYE)
        if name == TRANSFER_CALL and self._transfer_target is not None:
            self._control.transfer(self._transfer_target, arguments.get("reason") or "asked for")
            return _report("done", TRANSFER_CALL, SAY_TRANSFER)
        return await self._start(self._tasks[name], arguments)

    async def _start(self, task: Task, arguments: dict[str, Any]) -> dict[str, Any]:
        run = self._runs.get(task.name)
        if run is not None:  # the model asks for what is already under way: tell where it stands
            if run.machine.is_waiting and run.machine.question is not None:
                return _report("needs_input", task.name, run.machine.question)
            return _report("working", task.name, SAY_WORKING)
        context = self.context.task_view()
        context.slots.update(arguments)
        run = self._runs[task.name] = _Run(task, self._machine(task, context))
        text = " ".join(str(value) for value in arguments.values() if _is_text(value))
        run.running = self._create_task(run.machine.run(text))
        self.background.add(run.running)
        run.running.add_done_callback(partial(self._ended, run))
        return await self._next_report(run)

    def _machine(self, task: Task, context: ConversationContext) -> Machine:
        def ask(question: str) -> None:
            run = self._runs[task.name]
            self._questions_asked += 1
            run.question_number = self._questions_asked
            self._deliver(run, _report("needs_input", task.name, question))

        def observe(from_state: str, to_state: str, reason: str) -> None:
            transition = Transition(task.name, from_state, to_state, reason)
            self._transitions.append(transition)
            if self._on_transition is not None:
                self._on_transition(transition)

        return Machine(task.graph, context, self._control, ask=ask, observer=observe, limits=self._limits)

    async def _reply(self, task_name: str, answer: str) -> dict[str, Any]:
        run = self._runs.get(task_name)
        if run is None or not run.machine.is_waiting or not run.machine.post(answer):
            return _error("the task is not waiting for an answer", task_name)
        return await self._next_report(run)

    async def _cancel(self, task_name: str) -> dict[str, Any]:
        run = self._runs.get(task_name)
        if run is None or run.running is None:
            return _error("the task is not running", task_name)
        run.running.cancel("cancelled by the caller")
        return await self._next_report(run)

    async def _next_report(self, run: _Run) -> dict[str, Any]:
        waiter: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        run.waiters.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=self._patience_s)
        finally:
            run.waiters.discard(waiter)  # with none left, reports are announced
        return waiter.result() if waiter.done() else _report("working", run.task.name, SAY_WORKING)

    def _ended(self, run: _Run, running: asyncio.Task[Outcome]) -> None:
        self.background.discard(running)
        name = run.task.name
        del self._runs[name]
        if running.cancelled():
            report = _report("cancelled", name, SAY_CANCELLED)
            result = self._result_so_far(run)
        elif running.exception() is not None:
            report, result = _report("failed", name, SAY_FAILED), {}
        else:
            outcome = running.result()
            report, result = _report(outcome.status, name, outcome.say), outcome.result
            if outcome.status == "done":
                report["result"] = result
        self._results.append({"task": name, "status": report["status"], "result": result})
        self._deliver(run, report)

    def _result_so_far(self, run: _Run) -> dict[str, Any]:
        try:
            return run.machine.result()
        except AgentError:
            return {}

    def _deliver(self, run: _Run, report: dict[str, Any]) -> None:
        waiters = [waiter for waiter in run.waiters if not waiter.done()]
        for waiter in waiters:
            waiter.set_result(report)
        if waiters:
            return
        if not self._is_closed and report["status"] != "cancelled":
            self._control.announce(_json(report))


def _report(status: str, task: str, say: str) -> dict[str, Any]:
    return {"status": status, "task": task, "say": say}


def _error(reason: str, task: str | None = None, say: str = SAY_ERROR) -> dict[str, Any]:
    report: dict[str, Any] = {"status": "error", "say": say, "reason": reason}
    return report if task is None else {**report, "task": task}


def _json(report: dict[str, Any]) -> str:
    return orjson.dumps(report).decode()


def _outcome(report: dict[str, Any]) -> FunctionOutcome:
    return FunctionOutcome(_json(report))


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)

"""AgentSession: one call's agent as the model sees it: instructions, tools, and what calling one does.

A call of a task's tool starts its machine and waits a little (``patience_s``) for what it says first.
Whatever a machine says goes to the function call that waits for it, else to ``control.announce``; both carry
the same JSON report::

    {"status": "needs_input" | "done" | "failed" | "working" | "cancelled" | "error", "task": ..., "say": ...}

with ``result`` beside "done", and ``reason`` (for the model, not for the caller) beside "error".

Any other function (`OfferedTool`) runs beside the tasks, is refused where the current states disallow it, and
reports at once, with ``answer`` (a text) or ``result`` beside "done", or with the status "unknown" when none
can tell whether it was done. Each such call leaves two audit records: ``tool_call``, ``tool_outcome``.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.clock import LOOP_CLOCK, Clock
from fastagent.afsm.run.machine import Limits, Machine, Outcome
from fastagent.afsm.run.proposal import Reasoner
from fastagent.afsm.spec import Event
from fastagent.afsm.state import CallControl, EffectRunner
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import AgentError
from fastagent.tools.arguments import ArgumentsError, read_arguments
from fastagent.tools.offered import OfferedTool, Recorder, ToolCall, busy, refused
from fastagent.tools.task import END_CALL, TASK_CANCEL, TASK_REPLY, TRANSFER_CALL, Task

__all__ = [
    "DEFAULT_TASK_PATIENCE_S",
    "MAX_FUNCTIONS_AT_ONCE",
    "MAX_FUNCTION_CALLS",
    "MAX_TRANSITIONS",
    "AgentSession",
    "Focus",
    "FunctionOutcome",
    "KeptRun",
    "RunKeeper",
    "Transition",
    "Undone",
]

DEFAULT_TASK_PATIENCE_S = 2.0
"""How long a function call waits for its task's words; longer silence would sound like a dead line."""
DEFAULT_CLOSE_TIMEOUT_S = 2.0
MAX_FUNCTION_CALLS = 256
"""Function calls whose outputs are kept against a second delivery, the oldest finished one goes first."""
MAX_FUNCTIONS_AT_ONCE = 8
"""Functions beside tasks that one call may have running."""
MAX_TRANSITIONS = 1_000
MAX_RESULTS = 100

SAY_WORKING = "One moment, please."
SAY_CANCELLED = "All right, I have stopped that."
SAY_UNDONE = "All right, I have stopped that, and taken back what was done."
SAY_NOT_UNDONE = "I have stopped that, but something that was done already could not be taken back."
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


@dataclass(frozen=True, slots=True)
class Focus:
    """What the model is to go by while the tasks stand where they do."""

    instructions: str = field(repr=False)
    """The same words first, whatever the states, so that the model's side may cache them."""
    tools: tuple[dict[str, Any], ...]
    speech: str
    """The most patient `VoicePolicy.speech` of the states; empty when none has a policy."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of a cancelled task's effects, by their names."""

    undone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """They stand, or nobody can tell."""


class KeptRun(Protocol):
    """One run of a task, as it is kept."""

    @property
    def effects(self) -> EffectRunner:
        """Runs the effects of the run's states, each distinct one once."""

    def begin(
        self,
        task: str,
        graph_hash: str,
        *,
        slots: Mapping[str, object],
        facts: Mapping[str, object],
        profile: Mapping[str, object],
    ) -> None:
        """Note what the run begins with."""

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an entry; returns at once and does not raise."""

    def end(self, status: str, state: str) -> None:
        """Note how the run ended, and where."""

    async def undo(self, reason: str) -> Undone:
        """Take back what the run did."""


class RunKeeper(Recorder, Protocol):
    """Keeps the record of a call, and of the runs in it."""

    def keep(self, run_id: str) -> KeptRun:
        """Begin to keep a run; ``run_id`` is the function call that it answers."""

    async def commit(self) -> None:
        """Wait, not for long, until what was kept is safe from the end of the process. Does not raise."""


class _Run:
    """A task that is under way."""

    def __init__(self, task: Task, machine: Machine, kept: KeptRun | None) -> None:
        self.task = task
        self.machine = machine
        self.kept = kept
        self.is_revoked = False
        """The caller no longer wants it."""
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
        functions: what the model may call beside tasks, by name.
        allowed_tools: gives the names (or ``server:tool``, ``server:*``) of the functions that may be called
            now, None for all; default what the voice policies of the running tasks' states have in common.
        recorder: takes the audit records.
        reasoner: proposes to states that the engine runs.
        clock: what the machines' deadlines and silences go by.
        voice_policy: the agent's own, for what a state's leaves open.
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
        functions: Mapping[str, OfferedTool] | None = None,
        allowed_tools: Callable[[], frozenset[str] | None] | None = None,
        recorder: Recorder | None = None,
        reasoner: Reasoner | None = None,
        clock: Clock = LOOP_CLOCK,
        voice_policy: VoicePolicy | None = None,
    ) -> None:
        self.context = context
        self.instructions = instructions
        self.tools = tuple(tools)
        self.background: set[asyncio.Task[Outcome]] = set()
        """Machines that run, held here so that none is lost or left over."""
        self.on_focus: Callable[[], None] | None = None
        """Told that `focus` may have changed."""
        self._control = control
        self._voice_policy = voice_policy
        self._tasks = tasks
        self._transfer_target = transfer_target
        self._patience_s = patience_s
        self._limits = limits or Limits()
        self._create_task: CreateTask = create_task or asyncio.create_task
        self._on_transition = on_transition
        self._offered = dict(functions or {})
        self._allowed_tools = allowed_tools or self._allowed_by_states
        self._recorder = recorder
        self._reasoner = reasoner
        self._keeper: RunKeeper | None = None
        self._clock = clock
        self._undoing: set[asyncio.Task[None]] = set()
        self._functions_running = 0
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

    @property
    def allowed_tools(self) -> tuple[dict[str, Any], ...]:
        """Those of ``tools`` that may be called now: tasks' and the call's own always, functions by state."""
        allowed = self._allowed_tools()
        return tuple(
            tool
            for tool in self.tools
            if (function := self._offered.get(tool["name"])) is None or _is_allowed(function, allowed)
        )

    @property
    def focus(self) -> Focus:
        """What the model is to go by now."""
        lines = [self.instructions]
        patience = -1
        for run in self._runs.values():
            spec = run.task.graph.specs[run.machine.state]
            if spec.description and not run.task.graph.is_terminal(run.machine.state):
                lines.append(f"The task {run.task.name} is at this point now: {spec.description}")
            if spec.voice is not None:
                patience = max(patience, _PATIENCE.index(spec.voice.speech))
        return Focus("\n".join(lines), self.allowed_tools, "" if patience < 0 else _PATIENCE[patience])

    @property
    def is_redacting(self) -> bool:
        """A running task asks for what must not be written down."""
        return any(_is_redacting(run.task.graph, run.machine.state) for run in self._runs.values())

    def keep_in(self, keeper: RunKeeper) -> None:
        """Have the runs that begin now kept, and audit records too where nobody else takes them."""
        self._keeper = keeper
        self._recorder = self._recorder or keeper

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
        return bool(waiting) and self._last_asked(waiting).machine.signal(Event.DTMF, digits)

    def signal(self, event: Event, text: str = "") -> None:
        """Tell those running tasks whose states answer to it of an event of the line; keys go to `dtmf`."""
        for run in self._runs.values():
            if run.machine.handles(event):
                run.machine.signal(event, text)

    def note_activity(self) -> None:
        """Somebody is heard: silences of running tasks begin anew."""
        for run in self._runs.values():
            run.machine.note_activity()

    @staticmethod
    def _last_asked(waiting: list[_Run]) -> _Run:
        return max(waiting, key=lambda run: run.question_number)

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
            function = self._offered.get(name)
            if function is not None:
                outcome = _outcome(await self._call_offered(function, call_id, arguments_json))
            else:
                outcome = _outcome(await self._dispatch(name, call_id, arguments_json))
                if self._keeper is not None:
                    # Nobody hears of a move that the end of the process would undo.
                    await self._keeper.commit()
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
        leaving = {
            run.running
            for run in self._runs.values()
            if run.running is not None and run.machine.handles(Event.HANG_UP)
        }
        for run in self._runs.values():
            if run.running in leaving:
                run.machine.signal(Event.HANG_UP)
        if leaving:
            await asyncio.wait(leaving, timeout=timeout_s / 2)
        running: set[asyncio.Task[Any]] = {*self.background, *self._undoing}
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

    async def _dispatch(self, name: str, call_id: str, arguments_json: str) -> dict[str, Any]:
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
        return await self._start(self._tasks[name], call_id, arguments)

    async def _call_offered(self, function: OfferedTool, call_id: str, arguments_json: str) -> dict[str, Any]:
        if self._is_closed:
            return _error("the call is ending")
        facts = {"name": function.qualified_name, "function_call_id": call_id}
        self._record("tool_call", {**facts, "argument_bytes": len(arguments_json.encode(errors="replace"))})
        begun = time.monotonic()
        status, cause, size = "cancelled", "", 0
        try:
            if not _is_allowed(function, self._allowed_tools()):
                result = refused("not_allowed", "this function is not available at this point of the talk")
            elif self._functions_running >= MAX_FUNCTIONS_AT_ONCE:
                result = busy("too many functions at once")
            else:
                self._functions_running += 1
                try:
                    result = await function.run(arguments_json, self._tool_call(call_id))
                finally:
                    self._functions_running -= 1
            status, cause, size = result.status, result.cause, len(_json(result.report))
            return result.report
        finally:
            duration_ms = round(1000 * (time.monotonic() - begun), 3)
            outcome = {"status": status, "cause": cause, "output_bytes": size, "duration_ms": duration_ms}
            self._record("tool_outcome", {**facts, **outcome})

    def _tool_call(self, function_call_id: str) -> ToolCall:
        context = self.context
        return ToolCall(
            self._control.call_id,
            function_call_id,
            self._control.caller,
            context.facts,
            context.profile,
            context.history,
        )

    def _record(self, kind: str, data: dict[str, Any]) -> None:
        if self._recorder is None:
            return
        try:
            self._recorder.record(kind, data)
        except Exception as error:
            _log.error("call %s: no audit record: %s", self._control.call_id, type(error).__name__)

    def _allowed_by_states(self) -> frozenset[str] | None:
        """What the current states of all running tasks allow; None for anything."""
        allowed: frozenset[str] | None = None
        for run in self._runs.values():
            if (tools := run.machine.allowed_tools) is not None:
                names = frozenset(tools)
                allowed = names if allowed is None else allowed & names
        return allowed

    async def _start(self, task: Task, call_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
        run = self._runs.get(task.name)
        if run is not None:  # the model asks for what is already under way: tell where it stands
            if run.machine.is_waiting and run.machine.question is not None:
                return _report("needs_input", task.name, run.machine.question)
            return _report("working", task.name, SAY_WORKING)
        context = self.context.task_view()
        # A model may pass along what it likes; only what the task asked for arrives.
        names = task.parameters.get("properties", arguments)
        context.slots.update({name: value for name, value in arguments.items() if name in names})
        kept = None if self._keeper is None else self._keeper.keep(call_id)
        if kept is not None:
            kept.begin(
                task.name,
                task.graph.content_hash,
                slots=context.slots,
                facts=context.facts,
                profile=context.profile,
            )
        run = self._runs[task.name] = _Run(task, self._machine(task, context, kept), kept)
        text = " ".join(str(value) for value in arguments.values() if _is_text(value))
        run.running = self._create_task(run.machine.run(text))
        self.background.add(run.running)
        run.running.add_done_callback(partial(self._ended, run))
        return await self._next_report(run)

    def _machine(self, task: Task, context: ConversationContext, kept: KeptRun | None) -> Machine:
        def ask(question: str) -> None:
            run = self._runs[task.name]
            self._questions_asked += 1
            run.question_number = self._questions_asked
            report = _report("needs_input", task.name, question)
            if refused := run.machine.take_refusals():
                report["refused"] = refused
            self._deliver(run, report)

        def observe(from_state: str, to_state: str, reason: str) -> None:
            transition = Transition(task.name, from_state, to_state, reason)
            self._transitions.append(transition)
            if self._on_transition is not None:
                self._on_transition(transition)
            self._refocus()

        return Machine(
            task.graph,
            context,
            self._control,
            ask=ask,
            observer=observe,
            limits=self._limits,
            recorder=kept or self._recorder,
            clock=self._clock,
            effects=None if kept is None else kept.effects,
            reasoner=self._reasoner,
            default_policy=self._voice_policy,
        )

    async def _reply(self, task_name: str, answer: str) -> dict[str, Any]:
        run = self._runs.get(task_name)
        if run is None or not run.machine.is_waiting or not run.machine.post(answer):
            return _error("the task is not waiting for an answer", task_name)
        return await self._next_report(run)

    async def _cancel(self, task_name: str) -> dict[str, Any]:
        run = self._runs.get(task_name)
        if run is None or run.running is None:
            return _error("the task is not running", task_name)
        run.is_revoked = True
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
        if run.kept is not None:
            run.kept.end(report["status"], run.machine.state)
        self._results.append({"task": name, "status": report["status"], "result": result})
        if run.kept is not None and run.is_revoked and report["status"] != "done" and not self._is_closed:
            undoing = asyncio.create_task(self._undo(run, run.kept, report))
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
        else:
            self._conclude(run, report)

    async def _undo(self, run: _Run, kept: KeptRun, report: dict[str, Any]) -> None:
        """Take back what a run did that the caller no longer wants; the task counts as running until then."""
        undone = Undone(kept=("unknown",))
        try:
            undone = await kept.undo("cancelled")
        except Exception as error:
            _log.error("call %s: effects were not undone: %s", self._control.call_id, type(error).__name__)
        finally:
            if undone.undone or undone.kept:
                report = {**report, "undone": undone.undone, "not_undone": undone.kept}
                report["say"] = SAY_NOT_UNDONE if undone.kept else SAY_UNDONE
            self._conclude(run, report)

    def _conclude(self, run: _Run, report: dict[str, Any]) -> None:
        del self._runs[run.task.name]
        self._refocus()
        self._deliver(run, report)

    def _refocus(self) -> None:
        if self.on_focus is not None and not self._is_closed:
            self.on_focus()

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
        if not self._is_closed and (report["status"] != "cancelled" or "undone" in report):
            self._control.announce(_json(report))


_PATIENCE = ("eager", "default", "patient", "dictation")


def _is_redacting(graph: Graph, state: str) -> bool:
    spec = graph.specs[state]
    if spec.voice is not None and spec.voice.redaction != "none":
        return True
    return any(graph.is_redacted(slot.name) for slot in spec.slots)


def _is_allowed(function: OfferedTool, allowed: frozenset[str] | None) -> bool:
    if allowed is None:
        return True
    server, colon, _ = function.qualified_name.partition(":")
    names = {function.name, function.qualified_name}
    return bool(allowed & (names | {f"{server}:*"} if colon else names))


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

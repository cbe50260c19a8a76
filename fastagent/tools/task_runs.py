"""TaskRuns: the tasks under way in one call, and who hears what they say.

A call of a task's tool starts its machine and waits a little (``patience_s``) for what it says first.
Whatever a machine says goes to the function call that waits for it, else to ``control.announce``; both carry
the same report.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastagent.afsm.graph import Graph
from fastagent.afsm.guards import words_in
from fastagent.afsm.run.clock import Clock
from fastagent.afsm.run.machine import Limits, Machine, Outcome
from fastagent.afsm.run.proposal import Reasoner
from fastagent.afsm.spec import Confirmation, Event, StateSpec
from fastagent.afsm.state import CallControl
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import AgentError, ConfigurationError
from fastagent.tools.kept import KeptRun, RunKeeper, Undone
from fastagent.tools.offered import Recorder
from fastagent.tools.reports import (
    HEARD,
    SAY_CANCELLED,
    SAY_FAILED,
    SAY_NOT_UNDONE,
    SAY_UNDONE,
    SAY_WORKING,
    Report,
    as_json,
    error_report,
    task_report,
)
from fastagent.tools.talk import Talk, Transition
from fastagent.tools.task import Task

__all__ = ["CreateTask", "TaskRuns", "TaskStand"]

HEARD_GRACE_S = 1.5
"""For the model to begin a task that the caller's words call for, before it begins without the model."""

CreateTask = Callable[[Coroutine[Any, Any, Outcome]], asyncio.Task[Outcome]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskStand:
    """Where a task under way stands, for whoever watches the call."""

    task: str
    state: str
    scratchpads: Mapping[str, list[str]] = field(repr=False)
    """Notes by state: none of a state that asks for what must not be written down, none that quotes it."""


class _Run:
    """A task that is under way."""

    def __init__(self, task: Task, run_id: str, machine: Machine, kept: KeptRun | None) -> None:
        self.task = task
        self.run_id = run_id
        self.machine = machine
        self.kept = kept
        self.is_revoked = False
        """The caller no longer wants it."""
        self.running: asyncio.Task[Outcome] | None = None
        self.waiters: set[asyncio.Future[Report]] = set()
        """The function calls that take the next report."""
        self.rest: dict[str, Any] | None = None
        """The machine as it stood when it last asked something."""
        self.question_number = 0
        """Tells which of several waiting tasks asked last."""

    @property
    def spec(self) -> StateSpec:
        return self.task.graph.specs[self.machine.state]


class TaskRuns:
    """Runs the tasks of one agent for one call.

    Args:
        control: the call; also takes reports that no function call waits for.
        patience_s: how long a function call waits for its task's words.
        create_task: starts machines.
        on_transition: told of each move as it happens.
        recorder: takes the entries of runs that nobody keeps.
        reasoner: proposes to states that the engine runs.
        clock: what the machines' deadlines and silences go by.
        voice_policy: the agent's own, for what a state's leaves open.
    """

    def __init__(
        self,
        control: CallControl,
        talk: Talk,
        tasks: Mapping[str, Task],
        *,
        patience_s: float,
        limits: Limits,
        create_task: CreateTask,
        on_transition: Callable[[Transition], None] | None,
        recorder: Recorder | None,
        reasoner: Reasoner | None,
        clock: Clock,
        voice_policy: VoicePolicy | None,
    ) -> None:
        self.background: set[asyncio.Task[Outcome]] = set()
        """Machines that run, held here so that none is lost or left over."""
        self.on_change: Callable[[], None] | None = None
        """Told that a run stands elsewhere, begins or ends its work, or is over."""
        self.keeper: RunKeeper | None = None
        self.is_closed = False
        self._control = control
        self._talk = talk
        self._tasks = tasks
        self._patience_s = patience_s
        self._limits = limits
        self._create_task = create_task
        self._on_transition = on_transition
        self._recorder = recorder
        self._reasoner = reasoner
        self._clock = clock
        self._voice_policy = voice_policy
        self._runs: dict[str, _Run] = {}
        self._undoing: set[asyncio.Task[None]] = set()
        self._questions_asked = 0
        self._called_for: dict[str, tuple[asyncio.TimerHandle, str]] = {}
        """Tasks that words of the caller call for, while the model may still begin them."""
        self._moved_by_hearing: dict[str, float] = {}
        """When words that were heard led a task elsewhere, while the model may still pass them on."""

    # Where they stand

    @property
    def standings(self) -> Iterator[tuple[Task, StateSpec, Machine]]:
        """Each run's task, the state it is in, and its machine."""
        return ((run.task, run.spec, run.machine) for run in self._runs.values())

    @property
    def stands(self) -> list[TaskStand]:
        """Where each run stands, the one that asked last at the end."""
        runs = sorted(self._runs.values(), key=lambda run: run.question_number)
        return [TaskStand(run.task.name, run.machine.state, _notes(run)) for run in runs]

    @property
    def is_at_work(self) -> bool:
        """One of them does something that nobody has to be asked for."""
        return bool(self._undoing) or any(not run.machine.is_waiting for run in self._runs.values())

    @property
    def is_redacting(self) -> bool:
        """One of them asks for what must not be written down."""
        return any(_is_redacting(run.task.graph, run.spec) for run in self._runs.values())

    @property
    def needs_call(self) -> bool:
        """What was asked last is not for text messages: it must not be written down, or the state says so."""
        run = self._asked_last
        return run is not None and _needs_call(run.task.graph, run.spec)

    @property
    def open_question(self) -> Report | None:
        """What was asked last and has no answer yet."""
        run = self._asked_last
        if run is None or run.machine.question is None:
            return None
        return task_report("needs_input", run.task.name, run.machine.question)

    @property
    def _asked_last(self) -> _Run | None:
        return max(self._runs.values(), key=lambda run: run.question_number, default=None)

    @property
    def allowed_functions(self) -> frozenset[str] | None:
        """The functions that all current states allow; None for any."""
        allowed: frozenset[str] | None = None
        for run in self._runs.values():
            if (tools := run.machine.allowed_tools) is not None:
                names = frozenset(tools)
                allowed = names if allowed is None else allowed & names
        return allowed

    # What the model asks for

    async def start(self, task: Task, call_id: str, arguments: Mapping[str, Any]) -> Report:
        """Begin a task, and give what it says first."""
        run = self._runs.get(task.name)
        if run is not None:  # the model asks for what is already under way: tell where it stands
            if run.machine.is_waiting and run.machine.question is not None:
                return task_report("needs_input", task.name, run.machine.question)
            return task_report("working", task.name, SAY_WORKING)
        text = " ".join(str(value) for value in arguments.values() if _is_text(value))
        run = self._begin(task, call_id, arguments, text)
        self._begun_by_model(run, text)
        return await self._next_report(run)

    def _begin(self, task: Task, run_id: str, arguments: Mapping[str, Any], text: str) -> _Run:
        context = self._talk.context.task_view()
        # A model may pass along what it likes; only what the task asked for arrives.
        names = task.parameters.get("properties", arguments)
        context.slots.update({name: value for name, value in arguments.items() if name in names})
        kept = None if self.keeper is None else self.keeper.keep(run_id)
        if kept is not None:
            kept.begin(
                task.name,
                task.graph.content_hash,
                slots=context.slots,
                facts=context.facts,
                profile=context.profile,
            )
        run = self._runs[task.name] = _Run(task, run_id, self._machine(task, context, kept), kept)
        self._moved_by_hearing.pop(task.name, None)
        self._go(run, text)
        return run

    def _go(self, run: _Run, text: str) -> None:
        run.running = self._create_task(run.machine.run(text))
        self.background.add(run.running)
        run.running.add_done_callback(partial(self._ended, run))
        self._changed()

    # Another process

    def snapshot(self) -> list[dict[str, Any]]:
        """Give the runs that asked something, each as it stood when it last did, as JSON values."""
        return [
            {"task": run.task.name, "run": run.run_id, "machine": rest}
            for run in self._runs.values()
            if (rest := run.machine.snapshot() or run.rest) is not None
        ]

    async def resume(self, snapshot: Iterable[Mapping[str, Any]]) -> tuple[list[Report], list[str]]:
        """Have runs of another process go on; each asks again what was open.

        Returns:
            their questions, and the tasks that cannot go on since they are not what they were.
        """
        questions, lost = [], []
        for one in snapshot:
            task = self._tasks.get(one["task"])
            if task is None or task.name in self._runs:
                lost.append(str(one["task"]))
                continue
            kept = None if self.keeper is None else self.keeper.keep(one["run"])
            run = _Run(task, one["run"], self._machine(task, self._talk.context.task_view(), kept), kept)
            try:
                run.machine.resume(one["machine"])
            except ConfigurationError:
                lost.append(task.name)
                continue
            self._runs[task.name] = run
            self._go(run, "")
            questions.append(await self._next_report(run))
        return questions, lost

    # Answers and ends

    async def reply(self, task_name: str, answer: str) -> Report:
        """Give a waiting task the caller's answer."""
        run = self._runs.get(task_name)
        heard_at = self._moved_by_hearing.pop(task_name, None)
        if heard_at is not None and asyncio.get_running_loop().time() < heard_at + HEARD_GRACE_S:
            # These words had their effect; what came of it is told by itself.
            return task_report(HEARD, task_name, "")
        if run is None or not run.machine.is_waiting or not run.machine.post(answer):
            return error_report("the task is not waiting for an answer", task_name)
        self._changed()
        return await self._next_report(run)

    async def cancel(self, task_name: str) -> Report:
        """Stop a task that the caller no longer wants."""
        run = self._runs.get(task_name)
        if run is None or run.running is None:
            return error_report("the task is not running", task_name)
        run.is_revoked = True
        run.running.cancel("cancelled by the caller")
        return await self._next_report(run)

    # What the line tells

    def press(self, digits: str) -> bool:
        """Give keypad digits to the task that asked last; False when no task waits."""
        waiting = [run for run in self._runs.values() if run.machine.is_waiting]
        if not waiting:
            return False
        return max(waiting, key=lambda run: run.question_number).machine.signal(Event.DTMF, digits)

    def hear(self, text: str) -> None:
        """Show the watches what the caller was heard to say; some of them begin their task by it."""
        if self.is_closed:
            return
        for run in self._runs.values():
            if run.machine.hear(text):
                self._moved_by_hearing[run.task.name] = asyncio.get_running_loop().time()
        words = words_in(text)
        for task in self._tasks.values():
            is_begun = task.name in self._runs or task.name in self._called_for
            if not is_begun and task.is_called_for(words):
                loop = asyncio.get_running_loop()
                timer = loop.call_later(HEARD_GRACE_S, self._start_heard, task, text)
                self._called_for[task.name] = timer, text

    def _start_heard(self, task: Task, text: str) -> None:
        """Begin a task that the model was not moved to begin; what it says is announced."""
        del self._called_for[task.name]
        _log.warning("call %s: the task %s begins by what was heard", self._control.call_id, task.name)
        # Of all runs of a talk, in whatever agent or process: effects of a run are told by its name.
        self._begin(task, f"heard-{secrets.token_hex(8)}", {}, text)

    def _begun_by_model(self, run: _Run, text: str) -> None:
        """The model has begun a task, perhaps in words that say less than the caller did."""
        if (waiting := self._called_for.pop(run.task.name, None)) is None:
            return
        timer, heard = waiting
        timer.cancel()
        if not run.task.is_called_for(words_in(text)):
            # Behind the run's first step, which reads what it was begun with.
            asyncio.get_running_loop().call_soon(run.machine.hear, heard)

    def signal(self, event: Event, text: str = "") -> bool:
        """Tell those whose states answer to it of an event of the line; keys go to `press`.

        Returns:
            one of them at least took it.
        """
        is_taken = False
        for run in self._runs.values():
            if run.machine.handles(event):
                is_taken |= run.machine.signal(event, text)
        return is_taken

    async def want_person(self) -> Report | None:
        """Let a task see to the caller's wish for a person; None when none does, or not in time."""
        willing = [run for run in self._runs.values() if run.machine.handles(Event.TRANSFER)]
        if not willing:
            return None
        run = max(willing, key=lambda run: run.question_number)
        if not run.machine.signal(Event.TRANSFER):
            return None
        report = await self._next_report(run)
        return None if report["status"] == "working" else report

    def note_activity(self) -> None:
        """Somebody is heard: silences begin anew."""
        for run in self._runs.values():
            run.machine.note_activity()

    @property
    def is_unfinished(self) -> bool:
        """A task is under way that asked something."""
        return any(run.rest is not None for run in self._runs.values())

    @property
    def current_state(self) -> str:
        """Where the run stands that asked last; empty when none runs."""
        run = self._asked_last
        return "" if run is None else run.machine.state

    async def close(self, reason: str, *, timeout_s: float, is_hang_up: bool = True) -> None:
        """Cancel what runs and wait until it has ended, at most ``timeout_s``. Safe to call again."""
        self.is_closed = True
        for timer, _ in self._called_for.values():
            timer.cancel()
        self._called_for.clear()
        leaving = {
            run.running
            for run in self._runs.values()
            if is_hang_up and run.running is not None and run.machine.handles(Event.HANG_UP)
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

    # Their machines

    def _machine(self, task: Task, context: ConversationContext, kept: KeptRun | None) -> Machine:
        def ask(question: str) -> None:
            run = self._runs[task.name]
            self._questions_asked += 1
            run.question_number = self._questions_asked
            report = task_report("needs_input", task.name, question)
            if refused := run.machine.take_refusals():
                report["refused"] = refused
            run.rest = run.machine.snapshot() or run.rest
            self._deliver(run, report)
            self._changed()

        def observe(from_state: str, to_state: str, reason: str) -> None:
            transition = Transition(task.name, from_state, to_state, reason)
            self._talk.transitions.append(transition)
            if self._on_transition is not None:
                self._on_transition(transition)
            self._changed()

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

    async def _next_report(self, run: _Run) -> Report:
        waiter: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        run.waiters.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=self._patience_s)
        finally:
            run.waiters.discard(waiter)  # with none left, reports are announced
        return waiter.result() if waiter.done() else task_report("working", run.task.name, SAY_WORKING)

    def _ended(self, run: _Run, running: asyncio.Task[Outcome]) -> None:
        self.background.discard(running)
        name = run.task.name
        if running.cancelled():
            report = task_report("cancelled", name, SAY_CANCELLED)
            result = self._result_so_far(run)
        elif running.exception() is not None:
            report, result = task_report("failed", name, SAY_FAILED), {}
        else:
            outcome = running.result()
            report, result = task_report(outcome.status, name, outcome.say), outcome.result
            if outcome.status == "done":
                report["result"] = result
        if run.kept is not None:
            run.kept.end(report["status"], run.machine.state)
        self._talk.results.append({"task": name, "status": report["status"], "result": result})
        if run.kept is not None and run.is_revoked and report["status"] != "done" and not self.is_closed:
            undoing = asyncio.create_task(self._undo(run, run.kept, report))
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
        else:
            self._conclude(run, report)

    async def _undo(self, run: _Run, kept: KeptRun, report: Report) -> None:
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

    def _conclude(self, run: _Run, report: Report) -> None:
        del self._runs[run.task.name]
        # First its words: a call that waits for them to leave would go once nothing is at work.
        self._deliver(run, report)
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None and not self.is_closed:
            self.on_change()

    def _result_so_far(self, run: _Run) -> dict[str, Any]:
        try:
            return run.machine.result()
        except AgentError:
            return {}

    def _deliver(self, run: _Run, report: Report) -> None:
        waiters = [waiter for waiter in run.waiters if not waiter.done()]
        for waiter in waiters:
            waiter.set_result(report)
        if waiters:
            return
        if not self.is_closed and (report["status"] != "cancelled" or "undone" in report):
            self._control.announce(as_json(report))


def _notes(run: _Run) -> dict[str, list[str]]:
    graph, slots = run.task.graph, run.machine.context.slots
    secrets = {str(value) for name, value in slots.items() if graph.is_redacted(name) and value}
    return {
        name: [note for note in notes if not any(secret in note for secret in secrets)]
        for name, notes in run.machine.scratchpads.items()
        if not _is_redacting(graph, graph.specs[name])
    }


def _is_redacting(graph: Graph, spec: StateSpec) -> bool:
    if spec.voice is not None and spec.voice.redaction != "none":
        return True
    return any(graph.is_redacted(slot.name) for slot in spec.slots)


def _needs_call(graph: Graph, spec: StateSpec) -> bool:
    if spec.voice is not None and spec.voice.is_call_only:
        return True
    takes_key = any(slot.confirmation is Confirmation.KEYPAD for slot in spec.slots)
    return takes_key or _is_redacting(graph, spec)


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)

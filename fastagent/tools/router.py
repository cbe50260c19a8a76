"""AgentSession: one call's agent as the model sees it: instructions, tools, and what calling one does.

A function call goes to the tasks (`TaskRuns`), to the functions beside them (`FunctionRuns`), or to the call
itself: ending it, handing the caller on to a person, or to another agent.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fastagent.afsm.run.clock import LOOP_CLOCK, Clock
from fastagent.afsm.run.machine import Limits
from fastagent.afsm.run.proposal import Reasoner
from fastagent.afsm.spec import Event
from fastagent.afsm.state import CallControl
from fastagent.afsm.voice import VoicePolicy
from fastagent.tools.arguments import ArgumentsError, read_arguments
from fastagent.tools.comeback import RESUME_TALK, Comeback, comeback_tool
from fastagent.tools.function_runs import FunctionRuns
from fastagent.tools.handover import Standing, Summary
from fastagent.tools.kept import RunKeeper
from fastagent.tools.offered import OfferedTool, Recorder
from fastagent.tools.reports import (
    SAY_FAILED,
    SAY_GOODBYE,
    SAY_START_OVER,
    SAY_TRANSFER,
    FunctionOutcome,
    Report,
    error_report,
    outcome_of,
    task_report,
)
from fastagent.tools.talk import Talk, Transition
from fastagent.tools.task import END_CALL, HAND_OVER, TASK_CANCEL, TASK_REPLY, TRANSFER_CALL, Task
from fastagent.tools.task_runs import CreateTask, TaskRuns, TaskStand

__all__ = ["DEFAULT_TASK_PATIENCE_S", "AgentSession", "Focus"]

DEFAULT_TASK_PATIENCE_S = 2.0
"""How long a function call waits for its task's words; longer silence would sound like a dead line."""
DEFAULT_CLOSE_TIMEOUT_S = 2.0

_PATIENCE = ("eager", "default", "patient", "dictation")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Focus:
    """What the model is to go by while the tasks stand where they do."""

    instructions: str = field(repr=False)
    """The same words first, whatever the states, so that the model's side may cache them."""
    tools: tuple[dict[str, Any], ...]
    speech: str
    """The most patient `VoicePolicy.speech` of the states; empty when none has a policy."""


class AgentSession:
    """One agent in one call.

    Args:
        control: the call; also takes reports that no function call waits for.
        talk: what this agent has in common with those before it in the call.
        is_transfer_warm: whoever takes the caller over hears a summary first, where the carrier can do that.
        colleagues: names of the agents it may hand the caller to.
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
        talk: Talk,
        *,
        instructions: str,
        tools: Sequence[dict[str, Any]],
        tasks: Mapping[str, Task],
        transfer_target: str | None = None,
        is_transfer_warm: bool = False,
        colleagues: Collection[str] = (),
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
        self.talk = talk
        self.context = talk.context
        self.instructions = instructions
        self.tools = tuple(tools)
        self._control = control
        self._tasks = tasks
        self._transfer_target = transfer_target
        self._is_transfer_warm = is_transfer_warm
        self._colleagues = colleagues
        self._comeback: Comeback | None = None
        self._has_recorder = recorder is not None
        self._schemas: dict[str, dict[str, Any]] = {tool["name"]: tool["parameters"] for tool in self.tools}
        self._runs = TaskRuns(
            control,
            talk,
            tasks,
            patience_s=patience_s,
            limits=limits or Limits(),
            create_task=create_task or asyncio.create_task,
            on_transition=on_transition,
            recorder=recorder,
            reasoner=reasoner,
            clock=clock,
            voice_policy=voice_policy,
        )
        self._functions = FunctionRuns(
            control,
            talk.context,
            functions or {},
            allowed_tools or (lambda: self._runs.allowed_functions),
            recorder,
        )

    @property
    def background(self) -> set[asyncio.Task[Any]]:
        """Machines that run."""
        return set(self._runs.background)

    @property
    def on_focus(self) -> Callable[[], None] | None:
        """Told that `focus` or `is_at_work` may have changed."""
        return self._runs.on_change

    @on_focus.setter
    def on_focus(self, told: Callable[[], None] | None) -> None:
        self._runs.on_change = told

    @property
    def transitions(self) -> list[Transition]:
        """The moves made so far in the call, oldest first (the last `MAX_TRANSITIONS`)."""
        return list(self.talk.transitions)

    @property
    def results(self) -> list[dict[str, Any]]:
        """The runs that ended, oldest first, each as ``{"task", "status", "result"}``.

        A run that failed or was cancelled is listed with what it had found by then.
        """
        return list(self.talk.results)

    @property
    def allowed_tools(self) -> tuple[dict[str, Any], ...]:
        """Those of ``tools`` that may be called now: tasks' and the call's own always, functions by state."""
        return tuple(tool for tool in self.tools if self._functions.is_allowed(tool["name"]))

    @property
    def focus(self) -> Focus:
        """What the model is to go by now."""
        lines = [self.instructions]
        if self._comeback is not None:
            lines.append(self._comeback.instructions)
        patience = -1
        for task, spec, _ in self._runs.standings:
            if spec.description and not task.graph.is_terminal(spec.name):
                lines.append(f"The task {task.name} is at this point now: {spec.description}")
            if spec.voice is not None:
                patience = max(patience, _PATIENCE.index(spec.voice.speech))
        return Focus("\n".join(lines), self.allowed_tools, "" if patience < 0 else _PATIENCE[patience])

    @property
    def stands(self) -> list[TaskStand]:
        """Where each task under way stands, the one that asked last at the end."""
        return self._runs.stands

    @property
    def is_redacting(self) -> bool:
        """A running task asks for what must not be written down, or the caller is to say their code."""
        is_code_asked = self._comeback is not None and self._comeback.needs_code
        return self._runs.is_redacting or (is_code_asked and not self._runs.current_state)

    @property
    def needs_call(self) -> bool:
        """What was asked last is answered in a call, not by text message."""
        return self._runs.needs_call

    @property
    def open_question(self) -> Report | None:
        """What was asked last and has no answer yet, as its task reported it."""
        return self._runs.open_question

    @property
    def is_at_work(self) -> bool:
        """A running task does something that the caller waits for."""
        return self._runs.is_at_work

    @property
    def is_unfinished(self) -> bool:
        """A task is under way that could go on later."""
        return self._runs.is_unfinished

    @property
    def current_state(self) -> str:
        """Where the task stands that asked last; empty when none runs."""
        return self._runs.current_state

    @property
    def standing(self) -> str:
        """In words, what is under way."""
        at = [spec.description or task.description for task, spec, _ in self._runs.standings]
        return " ".join(filter(None, at))

    def summary(self, reason: str) -> Summary:
        """Tell whoever takes the caller over where things stand."""
        standings = [Standing.of(task, machine) for task, _, machine in self._runs.standings]
        return Summary.of(self.talk, standings, reason)

    def keep_in(self, keeper: RunKeeper) -> None:
        """Have the runs that begin now kept, and audit records too where nobody else takes them."""
        self._runs.keeper = keeper
        if not self._has_recorder:
            self._functions.recorder = keeper

    def snapshot(self) -> dict[str, Any]:
        """Give what another process needs to go on with the talk, as JSON values, but for what was said."""
        memory = orjson.loads(self.context.export_memory())
        results = [{"task": one["task"], "status": one["status"], "result": {}} for one in self.talk.results]
        return {"memory": memory, "results": results, "runs": self._runs.snapshot()}

    async def resume(self, snapshot: Mapping[str, Any]) -> tuple[list[Report], list[str]]:
        """Go on where another process's `snapshot` was taken.

        Returns:
            the questions that are open, and the tasks that cannot go on since they are not what they were.

        Raises:
            ConfigurationError: it is not such a snapshot.
        """
        self.context.import_memory(orjson.dumps(snapshot["memory"]))
        self.talk.results.extend(snapshot["results"])
        return await self._runs.resume(snapshot["runs"])

    def offer_comeback(self, comeback: Comeback) -> None:
        """Have the caller choose whether to go on with an earlier talk."""
        self._comeback = comeback
        tool = comeback_tool(comeback)
        self.tools = (*self.tools, tool)
        self._schemas[RESUME_TALK] = tool["parameters"]

    async def _come_back(self, arguments: Mapping[str, Any]) -> Report:
        comeback = self._comeback
        if comeback is None:
            return error_report("there is no earlier talk to go on with")
        if arguments["choice"] == "continue":
            report = await comeback.go_on(arguments.get("code", ""))
            if report["status"] == "error":
                return report
        else:
            comeback.start_over(arguments.get("code", ""))
            report = task_report("done", RESUME_TALK, SAY_START_OVER)
        self._comeback = None
        self.tools = tuple(tool for tool in self.tools if tool["name"] != RESUME_TALK)
        if self.on_focus is not None:
            self.on_focus()
        return report

    # The line

    def caller_said(self, text: str) -> None:
        """Take down what the caller said; a watch may act on it."""
        self.context.update_context(user_utterance=text)
        self._runs.hear(text)

    def bot_said(self, text: str) -> None:
        """Take down what the caller heard."""
        self.context.update_context(agent_response=text)

    def dtmf(self, digits: str) -> bool:
        """Take keypad digits down and give them to the task that asked last; False when no task waits."""
        if not digits or self._runs.is_closed:
            return False
        self.context.update_context(user_utterance=digits)
        return self._runs.press(digits)

    def signal(self, event: Event, text: str = "") -> bool:
        """Tell those running tasks whose states answer to it of an event of the line; keys go to `dtmf`.

        Returns:
            one of them at least took it.
        """
        return self._runs.signal(event, text)

    def note_activity(self) -> None:
        """Somebody is heard: silences of running tasks begin anew."""
        self._runs.note_activity()

    # The model

    async def call_function(self, call_id: str, name: str, arguments_json: str) -> FunctionOutcome:
        """Do what the model asks for. Never raises but for cancellation; what is wrong is told in the output.

        A ``call_id`` that came before gives the same outcome, and nothing happens twice.
        """
        known = self.talk.outcome_of(call_id)
        if known is not None:
            return await asyncio.shield(known)
        future = self.talk.begin(call_id)
        if future is None:
            return outcome_of(error_report("too many function calls at once"))
        try:
            if self._runs.is_closed:
                outcome = outcome_of(error_report("the call is ending"))
            elif name in self._functions:
                outcome = outcome_of(await self._functions.call(call_id, name, arguments_json))
            else:
                outcome = outcome_of(await self._dispatch(name, call_id, arguments_json))
                if self._runs.keeper is not None:
                    # Nobody hears of a move that the end of the process would undo.
                    await self._runs.keeper.commit()
        except asyncio.CancelledError:
            # A repetition must not run it again, so it is told what became of the first.
            future.set_result(outcome_of(error_report("the function call was cancelled")))
            raise
        except Exception as error:
            _log.error("call %s: function %r failed: %s", self._control.call_id, name, type(error).__name__)
            outcome = outcome_of(error_report("internal error", say=SAY_FAILED))
        future.set_result(outcome)
        return outcome

    async def close(
        self, reason: str, *, timeout_s: float = DEFAULT_CLOSE_TIMEOUT_S, is_hang_up: bool = True
    ) -> None:
        """Cancel what runs and wait until it has ended, at most ``timeout_s``. Safe to call again.

        Args:
            is_hang_up: states are told that nobody is there any more; not so when the talk will go on.
        """
        await self._runs.close(reason, timeout_s=timeout_s, is_hang_up=is_hang_up)

    async def _dispatch(self, name: str, call_id: str, arguments_json: str) -> Report:
        schema = self._schemas.get(name)
        if schema is None:
            return error_report(f"no such function; there are {', '.join(self._schemas)}")
        try:
            arguments = read_arguments(arguments_json, schema)
        except ArgumentsError as error:
            return error_report(str(error))
        reason = arguments.get("reason")
        if name == RESUME_TALK:
            return await self._come_back(arguments)
        if name == TASK_REPLY:
            return await self._runs.reply(arguments["task"], arguments["answer"])
        if name == TASK_CANCEL:
            return await self._runs.cancel(arguments["task"])
        if name == END_CALL:
            self._control.hang_up(reason or "finished")
            return task_report("done", END_CALL, SAY_GOODBYE)
        if name == TRANSFER_CALL and self._transfer_target is not None:
            if (report := await self._runs.want_person()) is not None:
                return report
            self._control.transfer(
                self._transfer_target, reason or "asked for", is_warm=self._is_transfer_warm
            )
            return task_report("done", TRANSFER_CALL, SAY_TRANSFER)
        if name == HAND_OVER:
            if not self._control.hand_over(arguments["to"], reason or "asked for"):
                return error_report("the caller cannot be handed over to that agent now")
            return task_report("done", HAND_OVER, SAY_TRANSFER)
        return await self._runs.start(self._tasks[name], call_id, arguments)

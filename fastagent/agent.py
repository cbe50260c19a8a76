"""FastAgent: states, instructions, tools and a voice make something that answers calls."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from fastagent.afsm.machine import Limits
from fastagent.afsm.state import AFSMState, CallControl
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import DEFAULT_MAX_HISTORY, ConversationContext
from fastagent.errors import ConfigurationError
from fastagent.settings import Settings
from fastagent.tools.router import (
    DEFAULT_TASK_PATIENCE_S,
    AgentSession,
    CreateTask,
    FunctionOutcome,
    Transition,
)
from fastagent.tools.task import Task, call_tools

__all__ = ["AgentSession", "FastAgent", "FunctionOutcome", "Task", "Transition"]

_RULES = """\
You are talking on the telephone. Speak in short, friendly sentences.
Speak the language with the code {language} unless the caller speaks another one.
To end the call, call end_call, then speak the words in say."""

_TASK_RULES = """\
When the caller wants what one of your task tools does, call that tool at once and pass along what the \
caller has said so far. Never do such a task yourself, and never promise what it has not reported.
A task tool answers with JSON. Speak the words in say at once, and keep every date, time, number and name \
in them as it is. What status means:
- needs_input means say is a question of the task. When the caller answers it, call task_reply with the \
task's name and the answer in the caller's words. When the caller asks about something else first, answer \
that, then come back to the question.
- working means the task is not ready. Its report comes later as a system note with the same JSON.
- done means the task is finished, and result holds the details.
- failed, cancelled and error mean that nothing more comes. Offer to try again, or other help.
When the caller no longer wants a task, call task_cancel."""

_TRANSFER_RULE = """\
When the caller asks for a person, or you cannot help, call transfer_call, then speak the words in say."""


class FastAgent:
    """An agent that answers calls: the model talks, finite state machines do the work.

    ``states`` and ``initial_state`` make its one task; ``tasks`` holds further ones, or all of them.

    Args:
        agent_id: its name in routes and logs.
        states: states of the one task; shared by all calls, copied per run.
        initial_state: where a run of it begins.
        llm_config: settings for the model. ``max_output_tokens`` bounds each spoken answer; other keys are
            kept for states of one's own (`llm_config`) and change nothing by themselves.
        instructions: who the agent is and what it knows, one fact a line.
        greeting: what it says first; empty waits for the caller.
        task_name: the one task's tool name; default ``agent_id``.
        task_description: tells the model when to begin the task; default the initial state's description.
        task_parameters: JSON Schema of what the model may pass along; see `Task`.
        tasks: further tasks.
        voice: the model's voice; None leaves the choice to the model's side.
        language: ISO 639-1 code.
        transcription_phrases: words callers are likely to say, a hint for speech recognition.
        transfer_target: where ``transfer_call`` leads (``tel:+…`` or ``sip:…``); None leaves the tool out.
        max_history: utterances a call's context keeps.
        task_patience_s: how long a function call waits for its task before it reports "working".
        voice_policy: what a caller may interrupt while no state says otherwise.

    Raises:
        ConfigurationError: names or graphs that do not fit.
    """

    def __init__(
        self,
        agent_id: str,
        states: Iterable[AFSMState] = (),
        initial_state: str | None = None,
        llm_config: Mapping[str, Any] | None = None,
        *,
        instructions: str = "",
        greeting: str = "",
        task_name: str | None = None,
        task_description: str | None = None,
        task_parameters: Mapping[str, Any] | None = None,
        tasks: Iterable[Task] = (),
        voice: str | None = None,
        language: str = "en",
        transcription_phrases: Iterable[str] = (),
        transfer_target: str | None = None,
        max_history: int = DEFAULT_MAX_HISTORY,
        task_patience_s: float = DEFAULT_TASK_PATIENCE_S,
        voice_policy: VoicePolicy | None = None,
    ) -> None:
        if not agent_id:
            raise ConfigurationError("agent_id must not be empty")
        if isinstance(transcription_phrases, str):
            raise ConfigurationError("transcription_phrases must be a list of phrases, got one string")
        if max_history < 1 or task_patience_s < 0:
            raise ConfigurationError("max_history must be at least 1 and task_patience_s at least 0")
        self.agent_id = agent_id
        self.llm_config = MappingProxyType(dict(llm_config or {}))
        self.greeting = greeting
        self.voice = voice
        self.language = language
        self.transcription_phrases = tuple(transcription_phrases)
        self.transfer_target = transfer_target
        self.max_history = max_history
        self.task_patience_s = task_patience_s
        self.voice_policy = voice_policy or VoicePolicy()
        all_tasks = list(tasks)
        if states := list(states):
            one = Task(
                task_name or agent_id,
                task_description or "",
                task_parameters,
                states=states,
                initial_state=initial_state or "",
            )
            all_tasks.insert(0, one)
        elif initial_state or task_name or task_description or task_parameters:
            raise ConfigurationError(f"agent {agent_id!r} describes a task but has no states for it")
        self.tasks: Mapping[str, Task] = MappingProxyType({task.name: task for task in all_tasks})
        """The tasks by name."""
        if len(self.tasks) < len(all_tasks):
            raise ConfigurationError(f"agent {agent_id!r} has two tasks of one name")
        self.instructions = self._compose(instructions)
        """What the model is told, the same for every call so that the model's side may cache it."""
        self.tools: tuple[dict[str, Any], ...] = (
            *(task.tool for task in all_tasks),
            *call_tools(self.tasks, may_transfer=transfer_target is not None),
        )
        """The function tools, flat, as the Realtime API takes them."""

    @property
    def protects_speech(self) -> bool:
        """Some of what it says is not stopped by whatever the caller says."""
        states = [state for task in self.tasks.values() for state in task.graph.states.values()]
        policies = [self.voice_policy, *(state.voice_policy for state in states)]
        return any(policy is not None and policy.barge_in != "interruptible" for policy in policies)

    def __repr__(self) -> str:
        return f"<FastAgent {self.agent_id!r} tasks={list(self.tasks)}>"

    def _compose(self, instructions: str) -> str:
        parts = [instructions.strip()]
        if self.greeting:
            parts.append(f"Greeting: {self.greeting}")
        parts.append(_RULES.format(language=self.language))
        if self.tasks:
            parts.append(_TASK_RULES)
        if self.transfer_target is not None:
            parts.append(_TRANSFER_RULE)
        return "\n".join(part for part in parts if part)

    async def start(self, *, host: str | None = None, port: int | None = None, **settings: Any) -> None:
        """Answer calls with this agent until the process is told to stop.

        Args:
            host: address to listen on; None takes it from the environment, as all that is not given.
            port: port to listen on.
            settings: further fields of `Settings`.
        """
        # Looked up only now: the server knows agents, an agent need not know the server.
        serve = import_module("fastagent.server.process").serve
        await serve(self, Settings.from_environment(host=host, port=port, **settings))

    def open(
        self,
        control: CallControl,
        *,
        limits: Limits | None = None,
        create_task: CreateTask | None = None,
        on_transition: Callable[[Transition], None] | None = None,
    ) -> AgentSession:
        """Give this agent for one call; close the session when the call ends.

        Args:
            control: the call.
            limits: what bounds each run of a task.
            create_task: starts machines; a task group's ``create_task`` keeps them within the call.
            on_transition: told of each move of a machine as it happens.
        """
        return AgentSession(
            control,
            ConversationContext(self.max_history),
            instructions=self.instructions,
            tools=self.tools,
            tasks=self.tasks,
            transfer_target=self.transfer_target,
            patience_s=self.task_patience_s,
            limits=limits,
            create_task=create_task,
            on_transition=on_transition,
        )

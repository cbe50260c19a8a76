"""Task: a piece of work the model may call for, done by a graph of states."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastagent.afsm.graph import Graph
from fastagent.afsm.guards import holds_phrase, words_in
from fastagent.afsm.spec import WatchSpec
from fastagent.afsm.state import AFSMState
from fastagent.errors import ConfigurationError

__all__ = [
    "END_CALL",
    "HAND_OVER",
    "TASK_CANCEL",
    "TASK_REPLY",
    "TRANSFER_CALL",
    "Task",
    "call_tools",
    "function_tool",
]

END_CALL = "end_call"
HAND_OVER = "hand_over"
TASK_CANCEL = "task_cancel"
TASK_REPLY = "task_reply"
TRANSFER_CALL = "transfer_call"
RESERVED = frozenset({END_CALL, HAND_OVER, "resume_talk", TASK_CANCEL, TASK_REPLY, TRANSFER_CALL})

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What the model's side takes as a function name."""

_ANY_REQUEST = {
    "type": "object",
    "properties": {
        "request": {"type": "string", "description": "What the caller wants, in the caller's own words."}
    },
}


class Task:
    """States, a beginning, and the function tool that starts them.

    Args:
        name: the tool's name: letters, digits, ``_`` and ``-``, at most 64.
        description: tells the model when to call it; empty takes the initial state's description.
        parameters: JSON Schema (an object) of what the model may pass along; they arrive as slots, and their
            texts, joined by blanks, as the initial state's input.
        states: AFSMState objects and JSON definitions, in any mixture.
        initial_state: empty takes the JSON state that says it is the initial one.
        supervisor: watches that run beside the states.
        effects: carry out the effects of JSON states, by name.

    Raises:
        ConfigurationError: a name that cannot be used, a schema that is no object, states that do not fit.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        states: Iterable[AFSMState | Mapping[str, Any]] = (),
        initial_state: str = "",
        *,
        supervisor: Iterable[WatchSpec] = (),
        effects: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"task name {name!r} must be 1 to 64 of a-z A-Z 0-9 _ -")
        if name in RESERVED:
            raise ConfigurationError(f"task name {name!r} is taken by a tool every agent has")
        self.name = name
        self.graph = Graph.from_states(states, initial_state, supervisor=supervisor, functions=effects)
        watches = [watch for watch in self.graph.spec.supervisor if watch.starts_task]
        self._starters = [words_in(phrase) for watch in watches for phrase in watch.words]
        self.description = description or self.graph.states[self.graph.initial_state].description
        self.parameters: dict[str, Any] = dict(_ANY_REQUEST if parameters is None else parameters)
        if self.parameters.setdefault("type", "object") != "object":
            raise ConfigurationError(f"task {name!r}: parameters must be a JSON Schema of type object")

    def __repr__(self) -> str:
        return f"<Task {self.name!r} states={len(self.graph.states)}>"

    def is_called_for(self, words: Sequence[str]) -> bool:
        """The caller said words that begin the task, whatever the model makes of them."""
        return any(holds_phrase(words, phrase) for phrase in self._starters)

    @property
    def tool(self) -> dict[str, Any]:
        """The function tool that starts the task."""
        return function_tool(self.name, self.description, self.parameters)


def function_tool(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give a tool in the flat form of the Realtime API."""
    return {"type": "function", "name": name, "description": description, "parameters": dict(parameters)}


def call_tools(
    task_names: Iterable[str], *, may_transfer: bool, colleagues: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], ...]:
    """Give the tools beside the tasks' own: for talking with a running task, and for ending the call.

    Args:
        may_transfer: the caller may be handed on to a person.
        colleagues: agents the caller may be handed over to, by name, with what each is for.
    """
    tools = []
    if names := list(task_names):
        task = {"type": "string", "enum": names}
        answer = {"type": "string", "description": "The caller's answer, in the caller's own words."}
        tools += [
            function_tool(
                TASK_REPLY,
                "Give a waiting task the caller's answer to its question.",
                _object({"task": task, "answer": answer}, required=["task", "answer"]),
            ),
            function_tool(
                TASK_CANCEL,
                "Stop a task the caller no longer wants.",
                _object({"task": task}, required=["task"]),
            ),
        ]
    reason = {"type": "string", "description": "Why, in a few words."}
    tools.append(
        function_tool(
            END_CALL, "Say goodbye and hang up, when the caller is finished.", _object({"reason": reason})
        )
    )
    if may_transfer:
        tools.append(
            function_tool(TRANSFER_CALL, "Hand the caller on to a person.", _object({"reason": reason}))
        )
    if colleagues:
        listed = "; ".join(f"{name}: {purpose}" if purpose else name for name, purpose in colleagues.items())
        to = {"type": "string", "enum": list(colleagues), "description": listed}
        tools.append(
            function_tool(
                HAND_OVER,
                "Hand the caller over to a colleague who does what you do not.",
                _object({"to": to, "reason": reason}, required=["to"]),
            )
        )
    return tuple(tools)


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema if required is None else {**schema, "required": required}

"""What is wrong with a graph or an agent, found before anyone calls.

`check` looks at the frozen description both faces compile to, and at the source of classes; nothing is run.
`source` reads code, `subject` is the graph as the checks see it; `ways`, `values`, `happenings` and `outside`
are the checks.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from fastagent.afsm.graph import Graph
from fastagent.afsm.verify.finding import Finding, Level
from fastagent.afsm.verify.happenings import check_happenings
from fastagent.afsm.verify.outside import check_allow_lists, check_effects, check_tool_names
from fastagent.afsm.verify.subject import Subject
from fastagent.afsm.verify.values import check_values
from fastagent.afsm.verify.ways import check_ways

__all__ = ["KINDS", "CheckedAgent", "CheckedTask", "Finding", "Level", "check"]

KINDS: Mapping[str, str] = {
    "unreachable_state": "no way leads to a state",
    "trap": "no way leads on from a state that is no end",
    "no_path_to_end": "no end can be reached from a state",
    "endless_cycle": "a round that timers or silent moves walk for ever",
    "cycle_without_bound": "a round the caller may walk for ever, without counter or deadline",
    "undecided_move": "nothing decides between moves",
    "model_missing": "a state wants proposals, and the agent has no model",
    "constant_guard": "a guard that always or never holds",
    "undeclared_transition": "code names a next state that is not declared",
    "move_never_made": "a declared move that the code never makes",
    "template_never_written": "words use a variable that nothing writes",
    "template_before_write": "words use a variable that is not written on every path",
    "unknown_slot": "a guard looks at a slot that no state fills",
    "slot_filled_too_late": "a guard looks at a slot that is filled on no way to it",
    "unknown_fact": "a guard looks at a fact that nothing writes",
    "unknown_argument": "a guard looks at what is no parameter of the task",
    "slot_never_filled": "a slot that code of one's own never fills",
    "slot_never_asked": "an optional slot that no question and no form leads to",
    "slot_type_clash": "one slot name with two types",
    "slot_overwritten": "an effect writes its outcome over a slot",
    "unsafe_effect": "an effect with neither key nor undo, not declared safe",
    "unknown_effect_key": "an effect's key names no argument of it",
    "effect_argument_missing": "an effect's parameter that no slot fills on every path",
    "effect_without_function": "an effect, undo or check without a function",
    "effect_name_clash": "one effect name for two functions",
    "unhandled_silence": "no silence ladder where the task has them",
    "unhandled_hang_up": "no answer to a hang-up where the task promises one",
    "unhandled_transfer": "no answer to the wish for a person where the task promises one",
    "unhandled_resume": "no answer to a line that came back where the task promises one",
    "unhandled_barge_in": "no answer to a barge-in where the task promises one",
    "unhandled_no_match": "no answer to answers not understood where the task promises one",
    "unhandled_dtmf": "keys that a state asks for go elsewhere",
    "unhandled_tool_failed": "no answer to the failure of an effect",
    "event_without_answer": "an event is said to be handled, and nothing handles it",
    "event_never_comes": "an event is handled that cannot come",
    "watch_never_fires": "a watch that nothing reaches",
    "watch_always_fires": "a watch that fires on everything",
    "watch_step_never_taken": "a step behind a hang-up",
    "tool_name_clash": "two tools, or a tool and an effect, under one name",
    "unknown_tool": "an allow-list names a tool the agent does not have",
    "tool_listed_twice": "an allow-list names a tool twice",
}
"""Every kind of finding, and what it is."""


class CheckedTask(Protocol):
    """What is looked at of a task."""

    @property
    def name(self) -> str:
        """Its tool's name."""

    @property
    def graph(self) -> Graph:
        """Its states."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of what the model may pass along."""


class CheckedAgent(Protocol):
    """What is looked at of an agent; `FastAgent` is one."""

    @property
    def tasks(self) -> Mapping[str, Any]:
        """By name."""

    @property
    def functions(self) -> Mapping[str, Any]:
        """By name."""

    @property
    def mcp_servers(self) -> tuple[Any, ...]:
        """Servers of further tools."""

    @property
    def tools(self) -> tuple[dict[str, Any], ...]:
        """All tools the model is offered."""

    @property
    def llm_config(self) -> Mapping[str, Any]:
        """Settings of the model that proposes."""


def check(subject: Graph | CheckedAgent) -> list[Finding]:
    """Give what is wrong with a graph, or with all tasks of an agent, the worst first."""
    if isinstance(subject, Graph):
        one = Subject(subject)
        _check_graph(one)
        return _sorted(one.findings)
    tasks: Mapping[str, CheckedTask] = subject.tasks
    has_model = bool(subject.llm_config.get("model"))
    subjects = [Subject(task.graph, name, _properties(task), has_model) for name, task in tasks.items()]
    facts = {
        written.partition(".")[2]
        for one in subjects
        for code in one.code.values()
        for written in code.writes
        if written.startswith("facts.")
    }
    known = frozenset(subject.functions)
    servers = frozenset(str(server.name) for server in subject.mcp_servers)
    found: list[Finding] = []
    for one in subjects:
        one.facts = frozenset(facts)
        _check_graph(one)
        check_allow_lists(one, known, servers)
        found += one.findings
    found += check_tool_names([str(tool["name"]) for tool in subject.tools], subjects)
    return _sorted(found)


def _check_graph(subject: Subject) -> None:
    check_ways(subject)
    check_values(subject)
    check_happenings(subject)
    check_effects(subject)


def _properties(task: CheckedTask) -> frozenset[str] | None:
    if task.parameters.get("additionalProperties"):
        return None
    return frozenset(task.parameters.get("properties", {}))


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (one.level.rank, one.task, one.kind, one.place, one.state))

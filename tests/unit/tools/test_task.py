"""Task: its names and schemas, and the tools every agent has beside it."""

import pytest

from fastagent.afsm import AFSMState
from fastagent.errors import ConfigurationError
from fastagent.tools.task import Task, call_tools

STATES = [AFSMState("ask", "Ask for it", ["end"]), AFSMState("end", "Thanks")]


def test_tool_is_flat_and_carries_the_schema():
    parameters = {"properties": {"date": {"type": "string"}}}
    task = Task("book", "Book it.", parameters, STATES, "ask")
    assert task.tool == {
        "type": "function",
        "name": "book",
        "description": "Book it.",
        "parameters": {"type": "object", "properties": {"date": {"type": "string"}}},
    }
    assert "type" not in parameters


def test_defaults_describe_the_initial_state_and_take_a_request():
    task = Task("book", states=STATES, initial_state="ask")
    assert task.description == "Ask for it"
    assert task.tool["parameters"]["properties"]["request"]["type"] == "string"


@pytest.mark.parametrize(
    ("name", "parameters", "complaint"),
    [
        ("", None, "must be 1 to 64"),
        ("book it", None, "must be 1 to 64"),
        ("b" * 65, None, "must be 1 to 64"),
        ("end_call", None, "is taken"),
        ("task_reply", None, "is taken"),
        ("book", {"type": "array"}, "type object"),
    ],
)
def test_names_and_schemas_that_cannot_work_are_refused(name, parameters, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Task(name, "", parameters, STATES, "ask")


def test_states_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="initial_state"):
        Task("book", states=STATES, initial_state="nowhere")


@pytest.mark.parametrize(
    ("tasks", "may_transfer", "names"),
    [
        ([], False, ["end_call"]),
        ([], True, ["end_call", "transfer_call"]),
        (["book", "pay"], False, ["task_reply", "task_cancel", "end_call"]),
        (["book"], True, ["task_reply", "task_cancel", "end_call", "transfer_call"]),
    ],
)
def test_tools_beside_the_tasks(tasks, may_transfer, names):
    tools = call_tools(tasks, may_transfer=may_transfer)
    assert [tool["name"] for tool in tools] == names
    if tasks:
        assert tools[0]["parameters"]["properties"]["task"]["enum"] == tasks
        assert tools[0]["parameters"]["required"] == ["task", "answer"]

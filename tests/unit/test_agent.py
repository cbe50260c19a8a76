"""FastAgent: what it makes of its arguments, and what it refuses."""

import asyncio
import sys
from types import ModuleType
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl
from fastagent.agent import FastAgent, Task
from fastagent.errors import ConfigurationError

STATES = [AFSMState("ask", "Ask for it", ["end"]), AFSMState("end", "Thanks")]


def names(agent):
    return [tool["name"] for tool in agent.tools]


def test_states_make_one_task_named_after_the_agent():
    agent = FastAgent("desk", STATES, "ask", {"model": "m", "temperature": 0.7})
    assert names(agent) == ["desk", "task_reply", "task_cancel", "end_call"]
    assert agent.llm_config == {"model": "m", "temperature": 0.7}
    assert agent.tools[0]["description"] == "Ask for it"


def test_task_words_and_further_tasks():
    agent = FastAgent(
        "my desk",
        STATES,
        "ask",
        task_name="book",
        task_description="Book it.",
        task_parameters={"properties": {"day": {"type": "string"}}},
        tasks=[Task("pay", "Pay.", None, STATES, "ask")],
        transfer_target="sip:desk@example.com",
    )
    assert names(agent) == ["book", "pay", "task_reply", "task_cancel", "end_call", "transfer_call"]
    assert agent.tools[0]["description"] == "Book it."
    assert list(agent.tasks) == ["book", "pay"]


def test_agent_without_tasks_talks_and_ends():
    agent = FastAgent("desk", instructions="Be kind.")
    assert names(agent) == ["end_call"]
    assert "task_reply" not in agent.instructions
    assert "transfer_call" not in agent.instructions


def test_instructions_begin_with_the_agents_own_and_explain_each_tool():
    agent = FastAgent(
        "desk",
        STATES,
        "ask",
        instructions="You are the desk.\nPrice: Free.\n",
        greeting="Hello there.",
        language="de",
        transfer_target="tel:+1555",
    )
    assert agent.instructions.startswith("You are the desk.\nPrice: Free.\nGreeting: Hello there.\n")
    for word in (
        "code de",
        "task_reply",
        "task_cancel",
        "end_call",
        "transfer_call",
        "needs_input",
        "working",
    ):
        assert word in agent.instructions


def test_instructions_and_tools_are_the_same_for_every_call():
    agent = FastAgent("desk", STATES, "ask", max_history=7)
    control = create_autospec(CallControl, instance=True)
    first, second = agent.open(control), agent.open(control)
    assert first.instructions == second.instructions == agent.instructions
    assert first.tools == second.tools == agent.tools
    assert first.context is not second.context
    for number in range(9):
        first.caller_said(str(number))
    assert len(first.context.history) == 7
    assert second.context.history == ()


@pytest.mark.parametrize(
    ("arguments", "options", "complaint"),
    [
        (("",), {}, "agent_id"),
        (("my desk", STATES, "ask"), {}, "task name 'my desk'"),
        (("desk", STATES), {}, "initial_state"),
        (("desk", STATES, "nowhere"), {}, "initial_state 'nowhere'"),
        (("desk", [], "ask"), {}, "has no states"),
        (("desk",), {"task_name": "book"}, "has no states"),
        (
            ("desk", STATES, "ask"),
            {"tasks": [Task("desk", "", None, STATES, "ask")]},
            "two tasks of one name",
        ),
        (("desk",), {"transcription_phrases": "hello"}, "list of phrases"),
        (("desk",), {"max_history": 0}, "max_history"),
        (("desk",), {"task_patience_s": -1}, "task_patience_s"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(arguments, options, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        FastAgent(*arguments, **options)


def test_repr_names_agent_and_tasks():
    assert repr(FastAgent("desk", STATES, "ask")) == "<FastAgent 'desk' tasks=['desk']>"


def test_start_serves_this_agent_with_the_given_settings(monkeypatch):
    served = []

    async def serve(agent, settings):
        served.append((agent, settings.host, settings.port, settings.lead_ms))

    module = ModuleType("fastagent.server.process")
    module.serve = serve
    monkeypatch.setitem(sys.modules, "fastagent.server.process", module)
    monkeypatch.setenv("FASTAGENT_LEAD_MS", "123")
    agent = FastAgent("desk", STATES, "ask")
    asyncio.run(agent.start(host="127.0.0.1", port=8123))
    assert served == [(agent, "127.0.0.1", 8123, 123)]

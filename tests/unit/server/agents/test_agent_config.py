"""Configurations of agents: what they may hold, what they take from code, and where each mistake stands."""

from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from fastagent import AFSMState, FastAgent
from fastagent.afsm.effects.rules import effect
from fastagent.server.agents.config import AgentConfig, BuiltAgent, ConfigError, build_agent
from tests.integration.api_house import ORDER, front_desk, opening_hours


class Booking(AFSMState):
    name = "booking"

    @effect(undo="cancel", key="day")
    async def book(self, day: str) -> str:
        return f"receipt for {day}"

    async def cancel(self, day: str) -> None: ...

    async def process(self, input_text, context):
        return {"response": "", "next_state": "booking", "confidence": 1.0}


def build(config: dict[str, Any], coded: FastAgent | None = None, **colleagues: FastAgent) -> BuiltAgent:
    return build_agent("front-desk", AgentConfig.model_validate(config), coded, colleagues)


def state(**fields: Any) -> dict[str, Any]:
    return {"states": [{"name": "only", "prompt_template": "Hello.", "initial_state": True, **fields}]}


def test_states_make_the_one_task():
    built = build(ORDER, front_desk())
    assert list(built.agent.tasks) == ["pizza"]
    graph = built.agent.tasks["pizza"].graph
    assert graph.content_hash == front_desk().tasks["pizza"].graph.content_hash
    assert graph.functions["order_pizza"]("small") == "receipt for small"
    assert built.errors == ()


def test_the_task_is_called_like_the_agent_by_default():
    assert list(build(state()).agent.tasks) == ["front-desk"]


def test_what_is_left_out_is_as_in_code():
    coded = FastAgent(
        "front-desk",
        ORDER["states"],
        effects=front_desk().tasks["pizza"].graph.functions,
        task_name="pizza",
        functions=[opening_hours],
        instructions="Sell pizza.",
        greeting="Hello!",
        language="de",
        transfer_target="tel:+4930123",
        transfer_targets=["tel:+4930124"],
        is_transfer_warm=True,
        voicemail="Call us.",
        memory_days=30,
        purpose="sells pizza",
        max_history=7,
    )
    changed = build({"greeting": "Good evening!"}, coded).agent
    assert changed.greeting == "Good evening!"
    assert changed.own_instructions == "Sell pizza."
    assert changed.tasks == coded.tasks
    assert changed.functions == coded.functions
    assert (changed.language, changed.purpose, changed.max_history) == ("de", "sells pizza", 7)
    assert changed.declared_targets == {"tel:+4930123", "tel:+4930124"}
    assert (changed.is_transfer_warm, changed.voicemail, changed.memory_days) == (True, "Call us.", 30)
    assert {one["name"] for one in changed.tools} == {one["name"] for one in coded.tools}
    assert build({"functions": []}, coded).agent.functions == {}
    assert build({}, coded).agent.instructions == coded.instructions


def test_without_code_there_are_defaults():
    agent = build({"instructions": "Be kind.", "voice": "marin", "description": "greets"}).agent
    assert (agent.language, agent.greeting, agent.voice, agent.purpose) == ("en", "", "marin", "greets")
    assert dict(agent.tasks) == {}


def test_effects_of_classes_in_code_may_be_named():
    coded = FastAgent("front-desk", [Booking()], "booking")
    config = state(
        slots=[{"name": "day", "prompt": "Which day?"}],
        effects=[{"name": "book", "undo": "cancel", "key": "day"}],
    )
    functions = build(config, coded).agent.tasks["front-desk"].graph.functions
    assert {"book", "cancel"} <= set(functions)


def test_colleagues_are_named_by_their_ids():
    billing = FastAgent("billing", purpose="bills")
    agent = build({"colleagues": ["billing"]}, None, billing=billing).agent
    assert agent.colleagues == {"billing": billing}


def test_all_that_a_configuration_says_arrives():
    config: dict[str, Any] = {
        "name": "Front desk",
        "llm_config": {"model": "small", "temperature": 0.5, "max_output_tokens": 300},
        "transcription_phrases": ["Margherita"],
        "transfer_target": "sip:desk@example.com",
        "is_transfer_warm": True,
        "voicemail": "",
        "task_patience_s": 1.5,
        "voice_policy": {"barge_in": "protected"},
        "task_description": "Order.",
        "task_parameters": {
            "properties": {"size": {"type": "string", "enum": ["small"]}},
            "required": ["size"],
            "additionalProperties": False,
        },
        "supervisor": [{"name": "help", "words": ["help"], "steps": [{"say": "Stay calm."}]}],
        **state(),
    }
    agent = build(config).agent
    task = agent.tasks["front-desk"]
    assert task.description == "Order."
    assert task.parameters == {
        "type": "object",
        "properties": {"size": {"type": "string", "description": "", "enum": ["small"]}},
        "required": ["size"],
        "additionalProperties": False,
    }
    assert [one.name for one in task.graph.spec.supervisor] == ["help"]
    assert agent.voice_policy.barge_in == "protected"
    assert dict(agent.llm_config) == config["llm_config"]
    assert (agent.transfer_target, agent.task_patience_s) == ("sip:desk@example.com", 1.5)
    assert (agent.is_transfer_warm, agent.voicemail) == (True, "")


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (state(effects=[{"name": "pay", "key": "size"}]), "states[0].effects[0].name"),
        (state(effects=[{"name": "order_pizza", "undo": "pay"}]), "states[0].effects[0].undo"),
        (state(llm_config={"base_url": "http://example.com"}), "states[0].llm_config.base_url"),
        (state(llm_config={"api_key": "x"}), "states[0].llm_config.api_key"),
        (state(slots=[{"name": "a", "minimum": 1}]), "states[0].slots[0].minimum"),
        (state(slots=[{"name": "a", "pattern": "("}]), "states[0]"),
        (state(slots=[{"name": "a"}, {"name": "a"}]), "states[0].slots"),
        (state(handles={"dtmf": ""}), "states[0].handles.dtmf"),
        (state(voice_policy={"barge_in": "keyword"}), "states[0].voice_policy"),
        (state(silence=[{"after_s": 1}]), "states[0].silence"),
        (state(allowed_transitions=["only", "nowhere"]), "states[0].allowed_transitions[1]"),
        (state(guards={"only": "slots."}), "states[0]"),
        ({**state(), "initial_state": "other"}, ""),
        ({**state(), "supervisor": [{"name": "w", "steps": [{"say": "x"}]}]}, "supervisor[0]"),
        ({**state(), "task_name": "end_call"}, ""),
        ({"llm_config": {"base_url": "http://example.com"}}, "llm_config.base_url"),
        ({"llm_config": {"organisation": "x"}}, "llm_config.organisation"),
        ({"llm_config": {"model": ""}}, ""),
        ({"voice_policy": {"dtmf_grammar": "(0+)+"}}, "voice_policy"),
        ({"functions": ["opening_hours", "pay"]}, "functions[1]"),
        ({"functions": ["opening_hours", "opening_hours"]}, "functions[1]"),
        ({"colleagues": ["front-desk"]}, "colleagues[0]"),
        ({"initial_state": "only"}, "initial_state"),
        ({"supervisor": [{"name": "w", "words": ["x"], "steps": [{"say": "x"}]}]}, "supervisor"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(config, path):
    with pytest.raises(ConfigError) as refused:
        build(config, front_desk())
    assert refused.value.path == path
    assert refused.value.reason


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "x"},
        {"states": []},
        {"states": [{"name": "a", "speech": "x"}]},
        {"states": {}},
        {"greeting": 1},
        {"max_history": 0},
        {"max_history": 1.5},
        {"max_history": True},
        {"task_patience_s": float("inf")},
        {"task_name": "a b"},
        {"language": "english"},
        {"transfer_target": "http://example.com"},
        {"transfer_target": "tel:+49\r\nX: y"},
        {"voice": "a/b"},
        {"llm_config": {"model": {"name": "x"}}},
        {"task_parameters": {"type": "array"}},
        {"task_parameters": {"properties": {"a": {"type": "date"}}}},
        {"task_parameters": {"properties": []}},
        {"transcription_phrases": "pizza"},
        {"mcp_servers": ["https://example.com"]},
        {"effects": {"pay": "os.system"}},
    ],
)
def test_the_schema_refuses(change):
    config = deepcopy(ORDER) | change
    with pytest.raises(ValidationError):
        AgentConfig.model_validate(config)


def test_errors_of_the_graph_are_told_apart_from_warnings():
    built = build(
        {
            "states": [
                {"name": "a", "initial_state": True, "prompt_template": "Hi.", "allowed_transitions": ["b"]},
                {"name": "b", "prompt_template": "Bye."},
                {"name": "island", "prompt_template": "?"},
            ]
        }
    )
    assert {one.kind for one in built.errors} == {"unreachable_state"}

"""AFSMState: how it is written, what its defaults do, and that runs do not share it."""

import asyncio
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl
from fastagent.afsm.state import MAX_NOTES
from fastagent.context import ConversationContext
from fastagent.errors import AgentError


def control():
    return create_autospec(CallControl, instance=True)


def process(state, text="hello"):
    return asyncio.run(state.process(text, ConversationContext()))


class Named(AFSMState):
    name = "named"
    description = "What is your name?"
    allowed_transitions = ("done",)


class NoSuper(AFSMState):
    name = "no_super"

    def __init__(self, clock):
        self.clock = clock


def test_constructor_and_class_attributes_say_the_same():
    built = AFSMState("named", "What is your name?", ["done"])
    for state in (built, Named()):
        assert (state.name, state.description) == ("named", "What is your name?")
        assert list(state.allowed_transitions) == ["done"]


def test_constructor_overrides_class_attributes():
    assert Named(name="other").name == "other"
    assert Named(name="other").description == "What is your name?"


def test_default_says_the_description_and_takes_the_only_way():
    assert process(Named()) == {"response": "What is your name?", "next_state": "done", "confidence": 1.0}


@pytest.mark.parametrize("transitions", [[], ["a", "b"]])
def test_default_stays_where_no_one_way_leads(transitions):
    assert process(AFSMState("here", "Which?", transitions))["next_state"] == "here"


def test_default_process_uses_both_hooks():
    class Hooked(Named):
        async def _generate_response(self, input_text, context):
            return f"You said {input_text}."

        def _determine_next_state(self, input_text, context):
            return "elsewhere" if input_text == "go" else self.name

    assert process(Hooked(), "go") == {
        "response": "You said go.",
        "next_state": "elsewhere",
        "confidence": 1.0,
    }
    assert process(Hooked(), "no")["next_state"] == "named"


def test_call_outside_a_run_is_an_agent_error():
    with pytest.raises(AgentError, match="named"):
        _ = Named().call


def test_bound_copy_has_the_call_and_leaves_the_original_alone():
    state, call = Named(), control()
    state.scratchpad.append("of the original")
    bound = state.bound_to(call)
    bound.seen = 1
    bound.scratchpad.append("of the run")
    assert bound.call is call
    assert list(bound.scratchpad) == ["of the run"]
    assert list(state.scratchpad) == ["of the original"]
    assert not hasattr(state, "seen")
    with pytest.raises(AgentError):
        _ = state.call


def test_subclass_that_skips_the_constructor_still_runs():
    state = NoSuper(clock=1).bound_to(control())
    state.scratchpad.append("note")
    assert (state.clock, list(state.scratchpad)) == (1, ["note"])


def test_scratchpad_takes_a_text_or_notes_and_keeps_the_newest():
    state = Named()
    state.scratchpad = "thinking"
    assert list(state.scratchpad) == ["thinking"]
    state.scratchpad = [str(number) for number in range(MAX_NOTES + 1)]
    assert len(state.scratchpad) == MAX_NOTES
    assert state.scratchpad[-1] == str(MAX_NOTES)


def test_repr_tells_class_and_name_only():
    assert repr(Named()) == "<Named 'named'>"

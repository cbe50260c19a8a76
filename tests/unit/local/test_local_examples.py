"""The example agents on the embedded engine: their callers are spoken, heard, and start the right task."""

import json

import pytest

from fastagent import FastAgent
from fastagent.cli.demo import EXAMPLES, Example
from fastagent.local.ears import Ears
from fastagent.local.mind import Call, Entry, Mind, Say, Situation
from fastagent.local.phrases import PHRASES
from fastagent.local.voice import Voice
from fastagent.testing.caller_script import CallerScript, SayStep

CALLER_RATE_HZ = 16_000


def lines(name: str) -> list[str]:
    return [
        step.text for step in CallerScript.parse(EXAMPLES[name].script).steps if isinstance(step, SayStep)
    ]


@pytest.fixture(scope="module")
def ears() -> Ears:
    return Ears()


@pytest.fixture(scope="module")
def prompts() -> Voice:
    return Voice("prompts")


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_callers_of_the_demos_are_understood_without_a_synthesiser(
    name: str, ears: Ears, prompts: Voice
) -> None:
    phrases = Example.agent(name).transcription_phrases
    for line in lines(name):
        pcm = prompts.speak(line, voice="en-gb", sample_rate=CALLER_RATE_HZ)
        heard = ears.hear(pcm, CALLER_RATE_HZ, phrases)
        assert heard, line
        assert line.endswith(heard), line


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_what_callers_say_is_among_the_phrases_of_the_ears(name: str) -> None:
    assert set(lines(name)) <= {*PHRASES, *Example.agent(name).transcription_phrases}


def decide(agent: FastAgent, text: str) -> Call | Say:
    (action,) = Mind().decide(
        Situation(agent.instructions, tools=agent.tools, entries=(Entry("user", text),))
    )
    assert isinstance(action, Call | Say)
    return action


@pytest.mark.parametrize(
    ("name", "said", "arguments"),
    [
        ("banking", "i would like to transfer money", {"request": "transfer"}),
        ("banking", "what is my balance", {"request": "balance"}),
        ("banking", "i lost my card", {"request": "card"}),
        ("healthcare", "i would like an appointment", {"request": "i would like an appointment"}),
        ("healthcare", "i have chest pain", {"request": "i have chest pain"}),
        ("healthcare", "i cannot breathe", {"request": "i cannot breathe"}),
        ("retail", "i would like to return my order", {"request": "return"}),
        ("retail", "i would like to change my order", {"request": "change"}),
        ("retail", "what is the status of my order", {"request": "status"}),
        ("enterprise", "reset my password", {"request": "password"}),
        ("enterprise", "report a problem", {"request": "problem"}),
    ],
)
def test_a_wish_starts_the_task_with_what_was_said(name: str, said: str, arguments: dict[str, str]) -> None:
    agent = Example.agent(name)
    (task,) = agent.tasks
    call = decide(agent, said)
    assert isinstance(call, Call)
    assert (call.name, json.loads(call.arguments)) == (task, arguments)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_person_is_fetched_where_there_is_one(name: str) -> None:
    agent = Example.agent(name)
    action = decide(agent, "i want to speak to a person")
    if agent.transfer_target is None:
        assert isinstance(action, Say)
    else:
        assert isinstance(action, Call)
        assert action.name == "transfer_call"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_opening_hours_are_answered_from_the_instructions(name: str) -> None:
    action = decide(Example.agent(name), "what are your opening hours")
    assert isinstance(action, Say)
    assert action.text == "We are open Monday to Friday, nine to five."

"""Spoken calls of all examples, with real ears and a real voice; they run beside one another."""

import asyncio
import io
import re
from collections.abc import Iterable

import pytest
import uvloop

from fastagent.cli.call import Narrator, caller_voice
from fastagent.cli.demo import EXAMPLES, Example, PlayedCall, play_example
from fastagent.examples.healthcare import EMERGENCY_ADVICE

CARRIERS = ("audiocodes", "twilio")
LIMIT_S = 120.0

EMERGENCY_SCRIPT = """\
i would like an appointment
i cannot breathe
"""


class SpokenCall:
    """A call, and what its two sides said and did, in order."""

    def __init__(self, name: str, script: str, carrier: str) -> None:
        self.name = name
        self.carrier = carrier
        self.script = script
        self.told = io.StringIO()
        self.played: PlayedCall | None = None

    async def play(self) -> None:
        narrator = Narrator(self.told)
        agent = Example.agent(self.name)
        formats = ("raw/mulaw",)
        self.played = await play_example(
            agent, self.script, narrator, formats, render=caller_voice(), carrier=self.carrier
        )

    def lines(self, *kinds: str) -> list[str]:
        """What was told of some kinds: bot, heard, state, caller, end."""
        found = re.findall(r"^ *[\d.]+ s  (\w+) +(.*)$", self.told.getvalue(), re.MULTILINE)
        return [text for kind, text in found if kind in kinds]


async def play_all(calls: Iterable[SpokenCall]) -> None:
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call.play())


def check(call: SpokenCall) -> None:
    """What holds for each demo."""
    played, story = call.played, call.told.getvalue()
    assert played is not None
    assert played.phone.line.violations == [], story
    assert played.report.ended_by == "bot", story
    assert played.summary is not None
    assert played.summary.results[-1]["status"] == "done", story
    # Whoever is not understood is asked again: the demos show calls that go well.
    assert not any("Sorry" in words for words in call.lines("bot")), story


def test_every_example_answers_a_spoken_call_over_either_carrier() -> None:
    demos = {
        (name, carrier): SpokenCall(name, example.script, carrier)
        for name, example in EXAMPLES.items()
        for carrier in CARRIERS
    }
    emergencies = [SpokenCall("healthcare", EMERGENCY_SCRIPT, carrier) for carrier in CARRIERS]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play_all([*demos.values(), *emergencies]))
    for call in demos.values():
        check(call)
        assert call.played is not None
        assert call.played.outcome(EXAMPLES[call.name].outcome), call.told.getvalue()
    for call in emergencies:
        check(call)
        assert call.lines("bot")[-1].startswith(EMERGENCY_ADVICE)
        assert call.lines("state")[-1].endswith("-> emergency")
    for carrier in CARRIERS:
        check_concurrency(demos["appointment", carrier])


def check_concurrency(call: SpokenCall) -> None:
    """A question is answered while the task waits, and the task hears its own answer afterwards."""
    story = call.lines("bot", "state")
    answered = story.index("We are open Monday to Friday, nine to five.")
    assert story[answered - 1] == "What time would you like?"
    assert story[answered + 1] == "collect_time -> confirm"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_demo_builds_a_new_agent(name: str) -> None:
    assert Example.agent(name) is not Example.agent(name)

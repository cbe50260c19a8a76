"""Calls that we are asked to make: who may ask, who may be called, and what becomes of it."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from fastagent import AFSMState, FastAgent
from fastagent.afsm import Event
from fastagent.cli import dial
from fastagent.errors import ConfigurationError
from fastagent.server.process import RunningServer, run_server
from fastagent.settings import Settings
from fastagent.testing.realtime_model import RealtimeModel
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone
from fastagent.testing.twilio_rest import TwilioRest
from tests.integration.scene import PUBLIC_URL, TWILIO, TWILIO_ACCOUNT, TWILIO_TOKEN, Scene
from tests.integration.scene import run as run_scene
from tests.integration.test_state_calls import Talk, say_nothing

CALLED, OURS = "+15550100001", "+15550100002"
ADMIN, AGENT = "a token of the house's admin", "a token of an application"

Scenario = Callable[[RunningServer, TwilioRest, RealtimeModel], Awaitable[None]]


def run(scenario: Scenario, **settings: Any) -> None:
    async def main() -> None:
        async with RealtimeModel() as model, TwilioRest(TWILIO_ACCOUNT, TWILIO_TOKEN) as rest:
            values: dict[str, Any] = {
                **TWILIO,
                "port": 0,
                "realtime_url": model.url,
                "drain_timeout_s": 0.5,
                "twilio_api_url": rest.url,
                "twilio_sms_from": OURS,
                "dial_allow": ("+1555",),
                "admin_tokens": (ADMIN,),
                "agent_tokens": (AGENT,),
                **settings,
            }
            agents = [FastAgent("first"), FastAgent("second", instructions="I am the second.")]
            async with run_server(agents, Settings(**values)) as server, asyncio.timeout(30):
                await scenario(server, rest, model)

    asyncio.run(main())


async def ask(server: RunningServer, *words: str, token: str = ADMIN) -> int:
    """What the command does."""
    parser = argparse.ArgumentParser()
    dial.add_parser(parser.add_subparsers())
    url = f"http://{server.host}:{server.port}"
    options = parser.parse_args(["dial", *words, "--url", url, "--token", token])
    return int(await options.run(options))


def test_who_is_called_talks_to_the_agent_that_was_named() -> None:
    async def scenario(server: RunningServer, rest: TwilioRest, model: RealtimeModel) -> None:
        assert await ask(server, CALLED, "--agent", "second", "--detect-machines") == 0
        [(sid, call)] = rest.calls.items()
        assert (call["to"], call["from"]) == (CALLED, OURS)
        [asked] = rest.requests
        assert asked.get("MachineDetection") == "Enable"
        assert asked.get("StatusCallback") == PUBLIC_URL + "/twilio/status"
        assert asked.get("AsyncAmd") == "true", "who answers is not kept waiting"
        assert asked.get("AsyncAmdStatusCallback") == PUBLIC_URL + "/twilio/machine"
        fields = {"Direction": "outbound-api", "From": OURS, "To": CALLED, "AnsweredBy": "machine_start"}
        phone = TwilioPhone(TwilioOptions(fields=fields), call_sid=sid, public_url=PUBLIC_URL)
        target = asked.get("Url").removeprefix(PUBLIC_URL)
        await phone.connect(f"http://{server.host}:{server.port}{target}", TWILIO_TOKEN)
        assert phone.parameters["answeredBy"] == "machine_start"
        assert phone.parameters["caller"] == CALLED
        await phone.initiate()
        session = await model.session(0)
        await session.wait_until(lambda one: one.updates, "the settings")
        assert "I am the second." in session.settings["instructions"]
        assert server.service.counters["twilio_answered_by_machine_start"] == 1
        await phone.hang_up()

    run(scenario)


class Greeter(AFSMState):
    """Hangs up on machines."""

    name = "greet"
    allowed_transitions = ("bye",)
    handles: ClassVar = {Event.ANSWERED_BY: "bye"}

    async def process(self, input_text, context):
        return {"response": "Who is there?", "next_state": "greet", "confidence": 1.0}


class Bye(AFSMState):
    name = "bye"

    async def process(self, input_text, context):
        assert context.facts["answered_by"] == input_text
        if input_text != "human":
            self.call.hang_up("no person")
        return {"response": f"You are a {input_text}.", "next_state": "bye", "confidence": 1.0}


@pytest.mark.parametrize(
    ("agent", "answered_by", "note", "is_left"),
    [
        (FastAgent("bot"), "machine_end_beep", "An answering machine took the call, not a person.", False),
        (FastAgent("bot", voicemail="Call us."), "machine_end_beep", 'nothing after it: "Call us."', True),
        (FastAgent("bot", voicemail=""), "fax", "", True),
        (
            FastAgent("bot", [Greeter(), Bye()], "greet", task_name="greet"),
            "human",
            "You are a human.",
            False,
        ),
        (FastAgent("bot", [Greeter(), Bye()], "greet", task_name="greet"), "fax", "You are a fax.", True),
    ],
)
def test_the_agent_learns_who_took_the_call_while_it_talks(
    agent: FastAgent, answered_by: str, note: str, is_left: bool
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.on_response = say_nothing
        phone, session = await scene.twilio_call(fields={"Direction": "outbound-api"})
        talk = Talk(session)
        if agent.tasks:
            assert (await talk.call("greet"))["say"] == "Who is there?"
        answer = await phone.callback("/twilio/machine", {"AnsweredBy": answered_by})
        assert answer.status == 204
        assert scene.server.service.counters[f"twilio_answered_by_{answered_by}"] == 1
        if note:
            await session.wait_until(
                lambda one: note in str(one.sent("conversation.item.create")), "the note"
            )
        if is_left:
            await phone.wait_ended()
            assert (await scene.summary()).outcome == "bot"
        else:
            await phone.hang_up()
            counters = (await scene.summary()).counters
            assert counters[f"answered_by_{'human' if answered_by == 'human' else 'machine'}"] == 1

    run_scene(scenario, agent=agent, **TWILIO)


@pytest.mark.parametrize(
    ("words", "token", "status"),
    [
        ((CALLED, "--agent", "first"), AGENT, 401),
        ((CALLED, "--agent", "first"), "nobody's token at all", 401),
        (("+442079460000", "--agent", "first"), ADMIN, 403),
        ((CALLED, "--agent", "third"), ADMIN, 404),
        (("911", "--agent", "first"), ADMIN, 400),
        ((CALLED, "--agent", "first", "--from", "me"), ADMIN, 400),
    ],
)
def test_nobody_else_is_called_and_by_nobody_else(words: tuple[str, ...], token: str, status: int) -> None:
    async def scenario(server: RunningServer, rest: TwilioRest, model: RealtimeModel) -> None:
        with pytest.raises(ConfigurationError, match="refused with") as refused:
            await ask(server, *words, token=token)
        assert str(refused.value).startswith("refused with 40")
        if status != 401:
            assert f"refused with {status}" in str(refused.value)
        assert CALLED[2:] not in str(refused.value)
        assert rest.requests == []

    run(scenario)


def test_a_days_calls_are_used_up_and_failures_are_told() -> None:
    async def scenario(server: RunningServer, rest: TwilioRest, model: RealtimeModel) -> None:
        rest.fail(500, 20500)
        with pytest.raises(ConfigurationError, match="502: twilio: refused with 500"):
            await ask(server, CALLED, "--agent", "first")
        assert await ask(server, CALLED, "--agent", "first") == 0
        with pytest.raises(ConfigurationError, match="403: the number's limit"):
            await ask(server, CALLED, "--agent", "first")
        assert len(rest.calls) == 1

    run(scenario, dial_per_number_day=2)


def test_without_a_list_there_is_no_such_door() -> None:
    async def scenario(server: RunningServer, rest: TwilioRest, model: RealtimeModel) -> None:
        with pytest.raises(ConfigurationError, match="refused with 404"):
            await ask(server, CALLED, "--agent", "first")

    run(scenario, dial_allow=())

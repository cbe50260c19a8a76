"""Connectors: numbers pointed here and back, what AudioCodes is to be told, agents served by number."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fastagent import FastAgent
from fastagent.errors import ConfigurationError, TelephonyError, TelephonyRefusedError
from fastagent.server.process import run_server
from fastagent.settings import Settings
from fastagent.telephony import AudiocodesConnector, TwilioConnector
from fastagent.testing.realtime_model import RealtimeModel
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone
from fastagent.testing.twilio_rest import TwilioRest
from tests.integration.scene import PUBLIC_URL, TWILIO_ACCOUNT, TWILIO_TOKEN

FRONT, BILLING = "+15550100002", "+15550100003"
KEY = "a-key-of-audiocodes-0001"

Served = list[tuple[Sequence[FastAgent], Settings]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What was to be served, in place of serving until a signal."""
    asked: Served = []

    async def serve(agents: Sequence[FastAgent], settings: Settings) -> None:
        asked.append((agents, settings))

    monkeypatch.setattr("fastagent.server.process.serve", serve)
    return asked


def run(use: Callable[[TwilioConnector, TwilioRest], Awaitable[None]], url: str = PUBLIC_URL) -> None:
    async def main() -> None:
        async with TwilioRest(TWILIO_ACCOUNT, TWILIO_TOKEN) as rest:
            rest.add_number(FRONT)
            rest.add_number(BILLING)
            async with (
                TwilioConnector(TWILIO_ACCOUNT, TWILIO_TOKEN, url, api_url=rest.url) as connector,
                asyncio.timeout(30),
            ):
                await use(connector, rest)

    asyncio.run(main())


def at(rest: TwilioRest, number: str) -> dict[str, Any]:
    return next(one for one in rest.numbers.values() if one["phone_number"] == number)


def writes(rest: TwilioRest) -> int:
    return sum(one.method == "POST" for one in rest.requests)


@pytest.mark.parametrize("url", [PUBLIC_URL, PUBLIC_URL + "/", PUBLIC_URL + "/twilio/webhook"])
def test_a_number_is_pointed_here_once_and_back(url: str) -> None:
    async def use(connector: TwilioConnector, rest: TwilioRest) -> None:
        number = at(rest, FRONT)
        number.update(voice_url="https://old.example/", trunk_sid="TK1", voice_method="GET")
        before = dict(number)
        tried = await connector.register_agent(agent_id="front desk", phone_number=FRONT, dry_run=True)
        assert (number, writes(rest)) == (before, 0)
        assert connector.agents_by_number == {}
        change = await connector.register_agent(agent_id="front desk", phone_number=FRONT)
        assert change == tried
        assert change.before["VoiceUrl"] == "https://old.example/"
        assert number["voice_url"] == PUBLIC_URL + "/twilio/webhook?bot=front%20desk"
        assert number["voice_fallback_url"] == PUBLIC_URL + "/twilio/fallback"
        assert number["status_callback"] == PUBLIC_URL + "/twilio/status"
        assert number["sms_url"] == PUBLIC_URL + "/twilio/sms"
        assert (number["voice_method"], number["trunk_sid"]) == ("POST", "")
        assert (await connector.register_agent(agent_id="front desk", phone_number=FRONT)).is_empty
        assert writes(rest) == 1
        assert at(rest, BILLING)["voice_url"] == ""
        await connector.undo()
        assert number == before
        assert connector.agents_by_number == {}
        assert await connector.undo() == []

    run(use, url)


def test_what_somebody_else_has_changed_since_is_not_put_back() -> None:
    async def use(connector: TwilioConnector, rest: TwilioRest) -> None:
        await connector.register_agent(agent_id="a", phone_number=FRONT)
        await connector.register_agent(agent_id="b", phone_number=FRONT)
        at(rest, FRONT)["sms_url"] = "https://theirs.example/"
        [done] = await connector.undo()
        assert at(rest, FRONT)["sms_url"] == "https://theirs.example/"
        assert at(rest, FRONT)["voice_url"] == ""
        assert "SmsUrl" not in done.after

    run(use)


def test_another_process_can_undo_what_one_did() -> None:
    async def use(connector: TwilioConnector, rest: TwilioRest) -> None:
        change = await connector.register_agent(agent_id="a", phone_number=FRONT)
        async with TwilioConnector(TWILIO_ACCOUNT, TWILIO_TOKEN, PUBLIC_URL, api_url=rest.url) as later:
            await later.undo(change)
        assert at(rest, FRONT)["voice_url"] == ""

    run(use)


def test_a_number_of_somebody_else_and_a_refusal_register_nobody() -> None:
    async def use(connector: TwilioConnector, rest: TwilioRest) -> None:
        with pytest.raises(ConfigurationError, match="no such phone number"):
            await connector.register_agent(agent_id="a", phone_number="+15550100009")
        await connector.register_agent(agent_id="a", phone_number=FRONT)
        for number, agent_id in ((BILLING, "b"), (FRONT, "another")):
            # What is not there cannot be changed: Twilio refuses the whole of it.
            at(rest, number).pop("sms_method")
            with pytest.raises(TelephonyRefusedError):
                await connector.register_agent(agent_id=agent_id, phone_number=number)
        assert connector.agents_by_number == {FRONT: "a"}

    run(use)


@pytest.mark.parametrize(
    "url",
    [
        "http://bridge.example.com",
        "bridge.example.com",
        "https://",
        "https://u@h",
        "https://h/?a",
        "https://[",
        "",
    ],
)
def test_an_address_that_twilio_cannot_call_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="webhook_url"):
        TwilioConnector(TWILIO_ACCOUNT, TWILIO_TOKEN, url)


def test_several_numbers_are_answered_by_several_agents(served: Served) -> None:
    async def use(connector: TwilioConnector, rest: TwilioRest) -> None:
        agents = [FastAgent(name, instructions=f"I am {name}.") for name in ("front", "billing")]
        await connector.register_agent(agent_id="front", phone_number=FRONT)
        await connector.register_agent(agent_id="billing", phone_number=BILLING, agent=agents[1])
        async with RealtimeModel() as model:
            await connector.start(port=0, realtime_url=model.url, drain_timeout_s=0.5, calls_per_number=0)
            [(found, settings)] = served
            assert found == agents
            async with run_server(found, settings) as server:
                for place, number in enumerate((BILLING, FRONT)):
                    target = at(rest, number)["voice_url"].removeprefix(PUBLIC_URL)
                    phone = TwilioPhone(TwilioOptions(callee=number), public_url=PUBLIC_URL)
                    await phone.connect(f"http://{server.host}:{server.port}{target}", TWILIO_TOKEN)
                    await phone.initiate()
                    session = await model.session(place)
                    await session.wait_until(lambda one: one.updates, "the settings")
                    name = "billing" if number == BILLING else "front"
                    assert f"I am {name}." in session.settings["instructions"]
                    await phone.hang_up()

    run(use)


def test_an_agent_that_is_not_there_is_told_before_anybody_calls(served: Served) -> None:
    async def use(connector: TwilioConnector, rest: TwilioRest) -> None:
        with pytest.raises(ConfigurationError, match="no agent is registered"):
            await connector.start()
        await connector.register_agent(agent_id="nobody made me", phone_number=FRONT)
        with pytest.raises(ConfigurationError, match="nobody made me"):
            await connector.start()
        with pytest.raises(ConfigurationError, match="registered as"):
            await connector.register_agent(agent_id="a", phone_number=BILLING, agent=FastAgent("b"))
        assert served == []

    run(use)


# AudioCodes


@pytest.mark.parametrize(
    "url", ["wss://h.example/p", "https://h.example/p/", "wss://h.example/p/audiocodes/webhook"]
)
def test_audiocodes_is_told_provider_bot_and_route_and_the_token_only_if_asked(url: str) -> None:
    connector = AudiocodesConnector(url, KEY)
    given = asyncio.run(connector.register_agent(agent_id="front", phone_number=FRONT))
    told = given.as_json(with_token=True)
    assert told["provider"] == {
        "type": "ac-api",
        "botURL": "wss://h.example/p/audiocodes/webhook",
        "token": KEY,
    }
    assert told["bot"]["acBotApiType"] == "streaming"
    assert told["bot"]["directSTT"] is told["bot"]["directTTS"] is True
    assert (
        told["routing"] == {"number": FRONT, "bot": told["bot"]["name"]} == {"number": FRONT, "bot": "front"}
    )
    assert KEY not in str(given) + repr(given)


def test_the_bot_url_is_checked_as_audiocodes_does(served: Served) -> None:
    async def main() -> None:
        agent = FastAgent("front")
        async with RealtimeModel() as model:
            connector = AudiocodesConnector("ws://127.0.0.1:1", KEY)
            await connector.register_agent(agent_id="front", phone_number=FRONT, agent=agent)
            await connector.start(port=0, realtime_url=model.url, drain_timeout_s=0.5)
            [(agents, settings)] = served
            async with run_server(agents, settings) as server:
                url = f"ws://{server.host}:{server.port}"
                await AudiocodesConnector(url, KEY).check()
                with pytest.raises(TelephonyRefusedError) as refused:
                    await AudiocodesConnector(url, "another key of good length").check()
                assert refused.value.status == 401
            with pytest.raises(TelephonyError, match="not reached"):
                await connector.check()

    asyncio.run(main())


@pytest.mark.parametrize("key", ["", "short", "a key\r\nX-Forged: yes, and long"])
def test_a_key_that_could_be_guessed_or_forges_headers_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key"):
        AudiocodesConnector("wss://h.example", key)

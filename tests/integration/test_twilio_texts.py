"""Text messages by Twilio: word to who was cut off, CALL and the ring-back, STOP, and who is not believed."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from fastagent.server.process import RunningServer
from fastagent.testing.realtime_model import RealtimeModel
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone
from fastagent.testing.twilio_requests import Answer, post_form, sign
from fastagent.testing.twilio_rest import TwilioRest
from tests.integration.scene import PUBLIC_URL, TWILIO, TWILIO_ACCOUNT, TWILIO_TOKEN
from tests.integration.test_continuity import CALLER, House, booked_elsewhere, welcomed
from tests.integration.test_state_calls import Talk, say_nothing

OURS = "+15550100002"
SMS_URL = PUBLIC_URL + "/twilio/sms"


class Place(House):
    """Servers that text and call by way of a REST API of their own."""

    def __init__(self, directory: Path, model: RealtimeModel, rest: TwilioRest) -> None:
        super().__init__(directory, model)
        self.rest = rest

    @contextlib.asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[RunningServer]:
        values: dict[str, Any] = {
            **TWILIO,
            "sms_sender": "twilio",
            "twilio_sms_from": OURS,
            "twilio_api_url": self.rest.url,
            "dial_allow": ("+1555",),
            **settings,
        }
        async with self.server(**values) as server:
            yield server

    async def cut_off(self, server: RunningServer) -> None:
        """A call whose caller is gone in the midst of its task, and the message about it."""
        number = len(self.rest.messages)
        phone, talk = await self.twilio_call(server)
        await talk.book(until="confirm")
        await phone.hang_up()
        await self.over(server)
        await until(lambda: len(self.rest.messages) > number or counted(server, "sms_stopped"))

    async def rung(self, server: RunningServer, **options: Any) -> tuple[TwilioPhone, Talk]:
        """Take the call that was made to us."""
        await until(lambda: self.rest.calls)
        made = next(one for one in self.rest.requests if one.path == "/Calls.json")
        return await self.taken(server, made.get("Url"), next(reversed(self.rest.calls)), **options)

    async def taken(
        self, server: RunningServer, url: str, call_sid: str, called: str = CALLER
    ) -> tuple[TwilioPhone, Talk]:
        number = len(self.model.sessions)
        fields = {"Direction": "outbound-api", "From": OURS, "To": called}
        phone = TwilioPhone(TwilioOptions(fields=fields), call_sid=call_sid, public_url=PUBLIC_URL)
        self.phones.append(phone)
        target = url.removeprefix(PUBLIC_URL)
        await phone.connect(f"http://{server.host}:{server.port}{target}", TWILIO_TOKEN)
        await phone.initiate()
        return phone, Talk(await self.model.session(number))


async def until(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not claim():  # noqa: ASYNC110 - neither the API nor a counter tells anybody
            await asyncio.sleep(0.005)


def counted(server: RunningServer, name: str) -> int:
    return server.service.counters[name]


def play(tmp_path: Path, scenario: Callable[[Place], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            RealtimeModel() as model,
            TwilioRest(TWILIO_ACCOUNT, TWILIO_TOKEN) as rest,
            asyncio.timeout(60),
        ):
            model.on_response = say_nothing
            place = Place(tmp_path, model, rest)
            try:
                await scenario(place)
            finally:
                for phone in place.phones:
                    await phone.close()

    asyncio.run(main())


def message(body: str, **fields: str) -> dict[str, str]:
    return {
        "AccountSid": TWILIO_ACCOUNT,
        "MessageSid": f"SM{uuid4().hex}",
        "From": CALLER,
        "To": OURS,
        "Body": body,
        "NumMedia": "0",
        "SmsStatus": "received",
        **fields,
    }


async def post(
    server: RunningServer, form: dict[str, str], *, key: str = TWILIO_TOKEN, url: str = SMS_URL
) -> Answer:
    headers = {"Host": "bridge.example.com", "X-Twilio-Signature": sign(key, url, form.items())}
    there = f"http://{server.host}:{server.port}{urlsplit(SMS_URL).path}"
    return await post_form(there, form.items(), headers)


def said(answer: Answer) -> str:
    assert answer.status == 200
    found = re.search(rb"<Message>(.*)</Message>", answer.body)
    return found[1].decode() if found else ""


def test_call_has_us_ring_back_and_the_ring_back_needs_no_code(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving() as server:
            await place.cut_off(server)
            [sent] = place.rest.messages
            assert (sent["to"], sent["from"]) == (CALLER, OURS)
            assert "Reply CALL to continue" in sent["body"]
            assert said(await post(server, message(" call. "))) == "We are calling you now."
            phone, talk = await place.rung(server)
            assert next(iter(place.rest.calls.values()))["to"] == CALLER
            assert "the code" not in await welcomed(talk)
            report = await talk.call("resume_talk", choice="continue")
            assert report["say"] == "Good, let us go on. Shall I book it?"
            await booked_elsewhere(talk)
            assert counted(server, "twilio_ring_backs_answered") == 1
            await phone.hang_up()
            await place.over(server)

    play(tmp_path, scenario)


def test_the_ticket_of_a_ring_back_is_good_for_its_number_its_agent_and_once(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving() as server:
            await place.cut_off(server)
            await post(server, message("CALL"))
            await until(lambda: place.rest.calls)
            url = next(one for one in place.rest.requests if one.path == "/Calls.json").get("Url")
            _, stranger = await place.taken(server, url, "CA1", called="+15550100009")
            assert counted(server, "twilio_ring_back_ticket_forged") == 1
            await stranger.session.wait_until(lambda one: one.updates, "the settings")
            assert "resume_talk" not in {tool["name"] for tool in stranger.session.settings["tools"]}
            _, owner = await place.taken(server, url, "CA2")
            assert "the code" not in await welcomed(owner)
            _, again = await place.taken(server, url, "CA3")
            assert counted(server, "twilio_ring_back_ticket_replayed") == 1
            assert "say the code" in await welcomed(again)

    play(tmp_path, scenario)


def test_a_proof_cannot_be_written_into_a_stream(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving() as server:
            await place.cut_off(server)
            phone = TwilioPhone(TwilioOptions(caller=CALLER), public_url=PUBLIC_URL)
            place.phones.append(phone)
            await phone.connect(server.twilio_url + "?proof=ring+back&ringback=x", TWILIO_TOKEN)
            assert "proof" not in phone.parameters
            phone.parameters["proof"] = "ring back"
            await phone.initiate()
            await phone.wait_until(lambda line: line.is_over, "the refusal")
            assert counted(server, "twilio_refused_stream_ticket_forged") == 1

    play(tmp_path, scenario)


@pytest.mark.parametrize("allow", [(), ("+49",)])
def test_where_nobody_may_be_called_the_caller_is_asked_to(tmp_path: Path, allow: tuple[str, ...]) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving(dial_allow=allow) as server:
            await place.cut_off(server)
            assert "Please call us again" in said(await post(server, message("CALL")))
            assert place.rest.calls == {}

    play(tmp_path, scenario)


def test_call_from_somebody_who_was_not_cut_off_calls_nobody(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving() as server:
            await place.cut_off(server)
            answer = await post(server, message("CALL", From="+15550100009"))
            assert said(answer).startswith("There is no interrupted call")
            assert said(await post(server, message("please call my wife"))) == ""
            assert said(await post(server, message("CALL", From="GADGETS"))) == ""
            assert place.rest.calls == {}

    play(tmp_path, scenario)


def test_stop_means_never_again_after_a_restart_too(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving() as server:
            await place.cut_off(server)
            assert said(await post(server, message("HELP"))).startswith("We write to you")
            assert said(await post(server, message("Stop!"))) == ""
            assert said(await post(server, message("HELP"))) == ""
        async with place.serving() as server:
            await place.cut_off(server)
            assert counted(server, "sms_stopped") == 1
            assert said(await post(server, message("CALL"))) == ""
        assert len(place.rest.messages) == 1
        assert place.rest.calls == {}

    play(tmp_path, scenario)


def test_forged_old_and_repeated_messages_do_nothing(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving(dial_per_number_day=100) as server:
            await place.cut_off(server)
            call = message("CALL")
            assert (await post(server, call, key="another key of good length")).status == 403
            assert (await post(server, call, url=PUBLIC_URL + "/twilio/webhook")).status == 403
            headers = {"Host": "bridge.example.com"}
            there = f"http://{server.host}:{server.port}/twilio/sms"
            assert (await post_form(there, call.items(), headers)).status == 403
            changed = {**headers, "X-Twilio-Signature": sign(TWILIO_TOKEN, SMS_URL, message("HELP").items())}
            assert (await post_form(there, call.items(), changed)).status == 403
            assert (await post(server, message("CALL", AccountSid="AC9"))).status == 403
            assert (await post(server, message("CALL", MessageSid=""))).status == 400
            for minutes in (-6, 6):
                at = datetime.now(UTC) + timedelta(minutes=minutes)
                for stamp in (at.isoformat(), format_datetime(at)):
                    assert (await post(server, message("CALL", Timestamp=stamp))).status == 403
            assert (await post(server, message("CALL", Timestamp="yesterday"))).status == 403
            assert place.rest.calls == {}
            recent = {**call, "Timestamp": format_datetime(datetime.now(UTC))}
            assert said(await post(server, recent)) == "We are calling you now."
            await until(lambda: place.rest.calls)
            for _ in range(20):
                assert (await post(server, recent)).status == 403
            assert counted(server, "twilio_refused_message_replayed") == 20
        async with place.serving(dial_per_number_day=100) as server:
            # Another process of the store knows it, too.
            assert (await post(server, recent)).status == 403
            assert counted(server, "twilio_refused_message_replayed") == 1
        assert len(place.rest.calls) == 1

    play(tmp_path, scenario)


def test_a_number_gets_so_many_messages_and_calls_a_day(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving(sms_per_number_day=3, dial_per_number_day=1) as server:
            await place.cut_off(server)
            replies = [said(await post(server, message("CALL"))) for _ in range(4)]
            assert ["calling you" in one for one in replies] == [True, False, False, False]
            assert [bool(one) for one in replies] == [True, True, False, False]
            assert counted(server, "twilio_ring_backs_failed") == 3
            assert len(place.rest.calls) == 1
            assert counted(server, "twilio_replies_limited") == 2

    play(tmp_path, scenario)


def test_an_api_that_is_away_costs_the_message_and_nothing_else(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with place.serving() as server:
            place.rest.fail(500, 20500)
            phone, talk = await place.twilio_call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await until(lambda: counted(server, "sms_failed") == 1)
            assert place.rest.messages == []

    play(tmp_path, scenario)

"""The client of Twilio's REST API: what it asks for, when it asks again, and what nobody gets to read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastagent.errors import (
    ConfigurationError,
    TelephonyError,
    TelephonyLimitError,
    TelephonyRefusedError,
)
from fastagent.telephony import twiml
from fastagent.telephony.quotas import DAY_S, DailyQuota
from fastagent.telephony.sms import SMS_CHARS_MAX
from fastagent.telephony.twilio_dialer import TwilioDialer, is_allowed
from fastagent.telephony.twilio_rest import TwilioRestClient
from fastagent.telephony.twilio_sms import TwilioSms
from fastagent.testing.twilio_rest import TwilioRest

ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "0123456789abcdef0123456789abcdef"
CALLER = "+15550100001"
OURS = "+15550100002"

Use = Callable[[TwilioRestClient, TwilioRest], Awaitable[None]]


def run(use: Use, token: str = TOKEN, **options: Any) -> None:
    async def main() -> None:
        async with TwilioRest(ACCOUNT, TOKEN) as rest:
            values = {"base_url": rest.url, "backoff_s": 0.001, **options}
            async with TwilioRestClient(ACCOUNT, token, **values) as client, asyncio.timeout(20):
                await use(client, rest)

    asyncio.run(main())


# Messages


@pytest.mark.parametrize(("sender", "name"), [(OURS, "from"), ("MG" + "0" * 32, "messaging_service_sid")])
def test_a_message_goes_out_from_a_number_or_a_service(sender: str, name: str) -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        sid = await client.send_message(CALLER, "Ünder & way", sender=sender)
        [message] = rest.messages
        assert (message["sid"], message["to"], message["body"]) == (sid, CALLER, "Ünder & way")
        assert message[name] == sender

    run(use)


@pytest.mark.parametrize(
    "number", ["", "911", "15550100001", "+0155501000", "+1555x", "whatsapp:+15550100001"]
)
def test_what_is_no_number_is_not_asked_for(number: str) -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        with pytest.raises(TelephonyError):
            await client.send_message(number, "hello", sender=OURS)
        assert rest.requests == []

    run(use)


@pytest.mark.parametrize(("status", "asked"), [(429, 2), (500, 1), (0, 1), (400, 1)])
def test_a_message_is_sent_again_only_when_it_cannot_have_gone_out(status: int, asked: int) -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        rest.fail(status, 20429)
        if asked == 2:
            await client.send_message(CALLER, "hello", sender=OURS)
        else:
            with pytest.raises(TelephonyError) as failed:
                await client.send_message(CALLER, "hello", sender=OURS)
            assert failed.value.may_be_done is (status != 400)
        assert len(rest.requests) == asked

    run(use)


@pytest.mark.parametrize("status", [0, 429, 503])
def test_what_does_no_harm_twice_is_asked_again_and_not_for_ever(status: int) -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        rest.add_number(OURS)
        rest.fail(status, times=2)
        found = await client.find_number(OURS)
        assert found is not None
        assert len(rest.requests) == 3
        rest.fail(status, times=3)
        with pytest.raises(TelephonyError) as failed:
            await client.update_number(found.sid, {"VoiceUrl": "https://h/"})
        assert failed.value.retryable
        assert len(rest.requests) == 6

    run(use)


def test_a_refusal_has_twilios_code_and_neither_number_nor_text() -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        rest.fail(400, 21610)
        with pytest.raises(TelephonyRefusedError) as refused:
            await client.send_message(CALLER, "a secret text", sender=OURS)
        assert (refused.value.status, refused.value.code, refused.value.retryable) == (400, 21610, False)
        assert "5550100001" not in str(refused.value)
        assert "As asked for" not in str(refused.value)

    run(use)


def test_wrong_credentials_are_told_and_not_tried_again() -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        with pytest.raises(TelephonyRefusedError) as refused:
            await client.find_number(OURS)
        assert (refused.value.status, refused.value.code, rest.refused) == (401, 20003, 1)

    run(use, token="another token of good length")


def test_nobody_there_and_nobody_who_answers() -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        async with TwilioRestClient(ACCOUNT, TOKEN, base_url="http://127.0.0.1:1", backoff_s=0.001) as gone:
            with pytest.raises(TelephonyError) as failed:
                await gone.send_message(CALLER, "hello", sender=OURS)
        assert (failed.value.retryable, failed.value.may_be_done) == (True, False)
        held: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}", "attempt_timeout_s": 0.05}
        async with TwilioRestClient(ACCOUNT, TOKEN, **options) as silent:
            with pytest.raises(TelephonyError) as failed:
                await silent.send_message(CALLER, "hello", sender=OURS)
        assert failed.value.may_be_done
        assert len(held) == 1
        for writer in held:
            writer.close()
        server.close()

    run(use)


def test_no_log_holds_key_number_or_text(caplog: pytest.LogCaptureFixture) -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        rest.add_number(OURS)
        assert await client.find_number(OURS) is not None
        await client.send_message(CALLER, "a secret text", sender=OURS)
        rest.fail(500)
        with pytest.raises(TelephonyError):
            await client.create_call(CALLER, sender=OURS, url="https://h/")

    with caplog.at_level(logging.DEBUG):
        run(use)
    told = "\n".join(f"{one.getMessage()} {one.args}" for one in caplog.records)
    for secret in (TOKEN, "Basic ", "5550100001", "5550100002", "secret text"):
        assert secret not in told


# Calls


def test_calls_are_made_redirected_and_ended_and_ending_twice_is_no_error() -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        sid = await client.create_call(
            CALLER, sender=OURS, url="https://h/twilio/webhook?bot=a", detects_machines=True
        )
        [made] = rest.requests
        assert made.get("Url") == "https://h/twilio/webhook?bot=a"
        assert made.get("MachineDetection") == "Enable"
        rest.calls[sid]["status"] = "in-progress"
        await client.redirect_call(sid, twiml.document(twiml.Hangup()))
        assert "<Hangup" in rest.requests[-1].get("Twiml")
        await client.end_call(sid)
        assert rest.calls[sid]["status"] == "completed"
        await client.end_call(sid)
        await client.end_call("CA0")
        with pytest.raises(TelephonyRefusedError) as refused:
            await client.redirect_call(sid, twiml.document(twiml.Hangup()))
        assert refused.value.code == 21220

    run(use)


@pytest.mark.parametrize("sid", ["", "../Messages", "CA1/../../x", "CA1?x"])
def test_what_is_no_sid_never_gets_into_an_address(sid: str) -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        with pytest.raises(TelephonyError):
            await client.end_call(sid)
        assert rest.requests == []

    run(use)


def test_without_credentials_there_is_no_client() -> None:
    with pytest.raises(ConfigurationError):
        TwilioRestClient("", TOKEN)
    with pytest.raises(ConfigurationError):
        TwilioRestClient(ACCOUNT, "")


# Limits


def test_a_quota_counts_by_number_by_all_and_by_day() -> None:
    now = [0.0]
    quota = DailyQuota("twilio", 2, 3, now=lambda: now[0])
    quota.take("a")
    quota.take("a")
    with pytest.raises(TelephonyLimitError, match="number's limit"):
        quota.take("a")
    quota.take("b")
    with pytest.raises(TelephonyLimitError, match="day's limit"):
        quota.take("c")
    now[0] = DAY_S - 1
    with pytest.raises(TelephonyLimitError):
        quota.take("b")
    now[0] = DAY_S
    quota.take("a")


def test_a_quota_remembers_so_many_numbers_and_then_gives_nothing_to_others() -> None:
    quota = DailyQuota("twilio", 5, 100, numbers_max=1)
    quota.take("a")
    with pytest.raises(TelephonyLimitError, match="too many numbers"):
        quota.take("b")
    quota.take("a")


def test_messages_are_cut_counted_and_sent_to_numbers_alone() -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        sms = TwilioSms(client, OURS, quota=DailyQuota("twilio", 1, 10))
        with pytest.raises(TelephonyError):
            await sms.send("anonymous", "hello")
        await sms.send(f"tel:{CALLER}", "x" * 1000)
        with pytest.raises(TelephonyLimitError):
            await sms.send(CALLER, "again")
        [message] = rest.messages
        assert message["to"] == CALLER
        assert len(message["body"]) == SMS_CHARS_MAX

    run(use)


@pytest.mark.parametrize(
    ("number", "allow", "is_on"),
    [
        (CALLER, (), False),
        (CALLER, ("",), False),
        (CALLER, ("+",), False),
        (CALLER, ("+1555",), True),
        (CALLER, (CALLER,), True),
        (CALLER, ("+49", "+1556"), False),
        ("+15550100001x", ("+49",), False),
    ],
)
def test_the_list_of_numbers_that_may_be_called(number: str, allow: tuple[str, ...], is_on: bool) -> None:
    assert is_allowed(number, allow) is is_on


def test_a_number_that_is_not_on_the_list_is_not_called() -> None:
    async def use(client: TwilioRestClient, rest: TwilioRest) -> None:
        dialer = TwilioDialer(client, ("+1555",), DailyQuota("twilio", 1, 10))
        with pytest.raises(TelephonyLimitError, match="not on the list"):
            await dialer.dial("+442079460000", sender=OURS, url="https://h/")
        await dialer.dial(CALLER, sender=OURS, url="https://h/")
        with pytest.raises(TelephonyLimitError, match="limit for a day"):
            await dialer.dial(CALLER, sender=OURS, url="https://h/")
        assert len(rest.calls) == 1

    run(use)

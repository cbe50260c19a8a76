"""The stand-in for Twilio's REST API, asked by the vendor's own client."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from fastagent.testing.twilio_rest import TwilioRest

ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "0123456789abcdef0123456789abcdef"


class Redirected(TwilioHttpClient):
    """Sends everything to another place."""

    def __init__(self, url: str) -> None:
        super().__init__(timeout=5)
        self.place = url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return super().request(method, self.place + target, *args, **kwargs)


def run(use: Callable[[Client], None], rest: TwilioRest, token: str = TOKEN) -> None:
    async def main() -> None:
        async with rest:
            client = Client(ACCOUNT, token, http_client=Redirected(rest.url))
            await asyncio.to_thread(use, client)

    asyncio.run(main())


def test_calls_are_made_looked_up_and_ended() -> None:
    updates: list[tuple[str, str]] = []
    rest = TwilioRest(
        ACCOUNT, TOKEN, on_call_update=lambda sid, request: updates.append((sid, request.get("Status")))
    )

    def use(client: Client) -> None:
        call = client.calls.create(to="+15550100001", from_="+15550100002", url="https://h/twilio/webhook")
        assert call.sid is not None
        assert call.status == "queued"
        assert client.calls(call.sid).fetch().to == "+15550100001"
        assert client.calls(call.sid).update(status="completed").status == "completed"
        with pytest.raises(TwilioRestException) as refused:
            client.calls(call.sid).update(twiml="<Response/>")
        assert (refused.value.status, refused.value.code) == (400, 21220)
        with pytest.raises(TwilioRestException) as missing:
            client.calls("CA0").update(status="completed")
        assert (missing.value.status, missing.value.code) == (404, 20404)

    run(use, rest)
    assert [status for _, status in updates] == ["completed"]


def test_messages_are_sent() -> None:
    rest = TwilioRest(ACCOUNT, TOKEN)

    def use(client: Client) -> None:
        message = client.messages.create(to="+1555", from_="+1556", body="Hello.")
        assert (message.status, message.num_segments) == ("queued", "1")
        assert client.messages.create(to="+1555", messaging_service_sid="MG1", body="x").status == "accepted"
        for fields in ({"to": "+1555", "body": "x"}, {"to": "+1", "from_": "+2"}, {"to": "", "from_": "+2"}):
            with pytest.raises(TwilioRestException):
                client.messages.create(**fields)
        with pytest.raises(TwilioRestException) as long:
            client.messages.create(to="+1555", from_="+1556", body="x" * 1601)
        assert long.value.code == 21617

    run(use, rest)
    assert [message["body"] for message in rest.messages] == ["Hello.", "x"]


def test_numbers_are_found_and_pointed_at_us() -> None:
    rest = TwilioRest(ACCOUNT, TOKEN)
    rest.add_number("+15550100002")
    rest.add_number("+15550100003")

    def use(client: Client) -> None:
        assert len(client.incoming_phone_numbers.list()) == 2
        [number] = client.incoming_phone_numbers.list(phone_number="+15550100002")
        changed = number.update(voice_url="https://h/twilio/webhook", voice_method="POST")
        assert changed.voice_url == "https://h/twilio/webhook"

    run(use, rest)


def test_credentials_are_asked_for_and_faults_come_as_ordered() -> None:
    rest = TwilioRest(ACCOUNT, TOKEN)

    def use(client: Client) -> None:
        with pytest.raises(TwilioRestException) as refused:
            client.calls("CA1").fetch()
        assert refused.value.status == 401

    run(use, rest, token="wrong")
    assert (rest.refused, rest.requests) == (1, [])

    def use_again(client: Client) -> None:
        rest.fail(429, 20429)
        rest.fail(503)
        rest.fail(0)
        for status in (429, 503):
            with pytest.raises(TwilioRestException) as failed:
                client.calls("CA1").fetch()
            assert failed.value.status == status
        with pytest.raises(Exception, match=r"aborted|closed"):
            client.calls("CA1").fetch()
        rest.add_call("CA1")
        assert client.calls("CA1").fetch().status == "in-progress"

    run(use_again, rest)

"""The webhook of a server that Twilio's callers ring: asked once a call, signed as Twilio signs it."""

import http.client
import json
from typing import Self
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from fastagent.testing.twilio_requests import sign

__all__ = ["ACCOUNT_SID", "AUTH_TOKEN", "PUBLIC_URL", "TwilioWebhook", "WebhookError"]

PATH = "/twilio/webhook"
PUBLIC_URL = "https://bench.example.com"
"""What everything is signed for; nobody resolves it."""
ACCOUNT_SID = "AC00000000000000000000000000000001"
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
"""Good in a bench's own child process alone."""
TIMEOUT_S = 15.0
"""Twilio's own."""


class WebhookError(Exception):
    """The webhook did not answer with a stream."""


class TwilioWebhook:
    """Rings a server on loopback. A context manager: it keeps one connection.

    Args:
        port: where the server listens.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ring(self, number: int) -> str:
        """Announce call ``number``; gives what a caller of the swarm must know, as one line.

        Raises:
            WebhookError: no answer, or none that connects a stream.
        """
        call_sid = f"CA{number:032x}"
        caller, callee = f"+1555{number:07d}", "+15550100002"
        fields = {
            "AccountSid": ACCOUNT_SID,
            "ApiVersion": "2010-04-01",
            "CallSid": call_sid,
            "CallStatus": "ringing",
            "Called": callee,
            "Caller": caller,
            "Direction": "inbound",
            "From": caller,
            "To": callee,
        }
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Host": urlsplit(PUBLIC_URL).netloc,
            "X-Twilio-Signature": sign(AUTH_TOKEN, PUBLIC_URL + PATH, fields.items()),
        }
        try:
            self._connection.request("POST", PATH, urlencode(fields), headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise WebhookError(f"the webhook failed: {type(error).__name__}") from error
        if answer.status != 200:
            raise WebhookError(f"expected 200 of the webhook, got {answer.status}")
        url, parameters = _stream(body)
        return " ".join(
            (
                call_sid,
                ACCOUNT_SID,
                urlsplit(url).path or "/",
                sign(AUTH_TOKEN, url),
                json.dumps(parameters, separators=(",", ":")),
            )
        )


def _stream(document: bytes) -> tuple[str, dict[str, str]]:
    """The address and the parameters of the stream that TwiML connects."""
    try:
        stream = ElementTree.fromstring(document).find("Connect/Stream")
    except ElementTree.ParseError as error:
        raise WebhookError("expected TwiML of the webhook") from error
    if stream is None:
        raise WebhookError("expected TwiML that connects a stream")
    parameters = {one.get("name", ""): one.get("value", "") for one in stream.findall("Parameter")}
    return stream.get("url", ""), parameters

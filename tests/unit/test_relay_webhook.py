"""How the relay-cost bench asks a server's webhook what to do with a call."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl

import pytest
from twilio.request_validator import RequestValidator

from benches.relay.webhook import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, TwilioWebhook, WebhookError

TWIML = (
    '<Response><Connect><Stream url="wss://bench.example.com/media">'
    '<Parameter name="ticket" value="a b"/></Stream></Connect></Response>'
)


class Answerer(HTTPServer):
    """Answers every request alike, and keeps what it was asked."""

    status = 200
    body = TWIML
    asked: tuple[str, dict[str, str], str | None] | None = None


class Handler(BaseHTTPRequestHandler):
    server: Answerer

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked = (self.path, dict(parse_qsl(form)), self.headers["X-Twilio-Signature"])
        body = self.server.body.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answerer() -> Iterator[Answerer]:
    with Answerer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_ring_is_signed_and_gives_all_that_a_stream_begins_with(answerer: Answerer) -> None:
    with TwilioWebhook(answerer.server_port) as webhook:
        call_sid, account_sid, path, signature, parameters = webhook.ring(7).split(" ", 4)

    assert answerer.asked is not None
    asked_path, fields, header = answerer.asked
    validator = RequestValidator(AUTH_TOKEN)
    assert validator.validate(PUBLIC_URL + asked_path, fields, header)
    assert validator.validate("wss://bench.example.com/media", {}, signature)
    assert fields["CallSid"] == call_sid
    assert (account_sid, path) == (ACCOUNT_SID, "/media")
    assert json.loads(parameters) == {"ticket": "a b"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (501, TWIML, "got 501"),
        (200, "no document", "expected TwiML"),
        (200, "<Response><Hangup/></Response>", "connects a stream"),
    ],
)
def test_an_answer_without_a_stream_ends_the_trial(
    status: int, body: str, reason: str, answerer: Answerer
) -> None:
    answerer.status, answerer.body = status, body
    with TwilioWebhook(answerer.server_port) as webhook, pytest.raises(WebhookError, match=reason):
        webhook.ring(1)

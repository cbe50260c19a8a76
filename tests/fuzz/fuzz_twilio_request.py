"""Signed requests of Twilio: whatever comes, none is believed, and nothing but a cause comes back."""

from typing import get_args

from fastagent.telephony.twilio_signature import Refusal, RequestVerifier, SignedRequest

VERIFIER = RequestVerifier(
    ["a token that no input knows"],
    "https://bridge.example.com",
    shared_keys={"a": "a secret that no input knows"},
)
CAUSES = get_args(Refusal)
NAMES = (
    "x-twilio-signature",
    "x-twilio-webhooks-signature-settings",
    "content-type",
    "host",
    "x-forwarded-host",
)


def check(data: bytes) -> None:
    """The first lines are the target and the headers, the rest is the body."""
    target, *values = data.split(b"\n", len(NAMES) + 1)
    body = values.pop() if len(values) > len(NAMES) else b""
    headers = {name: value.decode("latin-1") for name, value in zip(NAMES, values, strict=False)}
    request = SignedRequest(headers, "/" + target.decode("latin-1"), body)
    for is_upgrade in (False, True):
        assert VERIFIER.refusal_of(request, is_upgrade=is_upgrade) in CAUSES

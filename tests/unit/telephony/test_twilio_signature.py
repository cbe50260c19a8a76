"""Twilio's signatures: the vectors, what is accepted beside them, and that the vendor's validator agrees."""

import hashlib
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from fastagent.errors import ConfigurationError
from fastagent.telephony.twilio_signature import (
    FORM_FIELDS_MAX,
    RequestVerifier,
    SignedRequest,
    compute_signature,
    form_fields,
    is_signature_of,
    url_variants,
)

KEY = "0123456789abcdef0123456789abcdef"
PUBLIC = "https://bridge.example.com"
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON_BODY = b'{"hello":"world"}'
JSON_HASH = "93a23971a914e5eacbf0a8d25154cda309c3c1c72fbb9914d47c60f3cb681588"

VECTORS = [
    (
        PUBLIC + "/twilio/voice?tenant=a%20b",
        [
            ("CallSid", "CA00000000000000000000000000000001"),
            ("From", "+15550100001"),
            ("To", "+15550100002"),
            ("CallStatus", "ringing"),
            ("CallerName", ""),
        ],
        "njllUHqdKa9lKj1alKeCklM9lsE=",
    ),
    ("wss://bridge.example.com/twilio/media", [], "nPw+nZIzNlb4/A2jsIh3MO8SVBE="),
    ("https://bridge.example.com/twilio/media", [], "DdXMdZVADXVH8TvZnSNY7v3igXo="),
    (f"{PUBLIC}/hook?bodySHA256={JSON_HASH}", [], "zzwtAyycv88Uq6PJARrzVQdUntQ="),
    (PUBLIC + "/m", [("A", "2"), ("A", "1"), ("A", "1"), ("B", "x")], "krusFDS8iaxq+n0sD62OxsgdOe8="),
]


def verifier(**options: object) -> RequestVerifier:
    return RequestVerifier([KEY], PUBLIC, **options)  # type: ignore[arg-type]


def signed(url: str, target: str, body: bytes = b"", *, key: str = KEY, **headers: str) -> SignedRequest:
    """A form as Twilio would have posted it to ``url``."""
    signature = compute_signature(key, url, form_fields(body) or ())
    given = {"x-twilio-signature": signature, **(FORM if body else {})}
    return SignedRequest({**given, **headers}, target, body)


@pytest.mark.parametrize(("url", "fields", "signature"), VECTORS)
def test_vectors(url: str, fields: list[tuple[str, str]], signature: str) -> None:
    assert compute_signature(KEY, url, fields) == signature
    assert is_signature_of(signature, KEY, url, fields)
    assert not is_signature_of(signature, KEY + "0", url, fields)
    assert not is_signature_of(signature, KEY, url, [*fields, ("X", "")])


@pytest.mark.parametrize(
    ("url", "variants"),
    [
        ("https://h.example/a", {"https://h.example/a", "https://h.example:443/a"}),
        ("https://h.example:443/a?b=c", {"https://h.example:443/a?b=c", "https://h.example/a?b=c"}),
        ("https://h.example:8443/a", {"https://h.example:8443/a", "https://h.example/a"}),
        ("http://h.example/a", {"http://h.example/a", "http://h.example:80/a"}),
        ("wss://h.example/a", {"wss://h.example/a", "wss://h.example:443/a"}),
        ("https://[2001:db8::1]/a", {"https://[2001:db8::1]/a", "https://[2001:db8::1]:443/a"}),
        ("https://[2001:db8::1]:99/a", {"https://[2001:db8::1]:99/a", "https://[2001:db8::1]/a"}),
        ("https://u:p@h.example/a", {"https://u:p@h.example/a", "https://u:p@h.example:443/a"}),
    ],
)
def test_ports_come_and_go(url: str, variants: set[str]) -> None:
    assert set(url_variants(url)) == variants
    assert all(is_signature_of(compute_signature(KEY, one), KEY, url) for one in variants)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ()),
        (b"a=1&b=&a=2", (("a", "1"), ("b", ""), ("a", "2"))),
        (b"a", (("a", ""),)),
        (b"a=%2B1+2%26", (("a", "+1 2&"),)),
        ("a=ü".encode(), (("a", "ü"),)),
        (b"a=%ff", None),
        (b"\xff=1", None),
        (b"&".join([b"a=1"] * (FORM_FIELDS_MAX + 1)), None),
    ],
)
def test_forms(body: bytes, fields: tuple[tuple[str, str], ...] | None) -> None:
    assert form_fields(body) == fields


def test_form_is_believed_with_all_its_fields() -> None:
    body = b"From=%2B1555&To=&To=x&CallSid=CA1"
    target = "/twilio/webhook?tenant=a%20b"
    assert verifier().refusal_of(signed(PUBLIC + target, target, body)) is None
    fewer = SignedRequest(signed(PUBLIC + target, target, body).headers, target, b"From=%2B1555&CallSid=CA1")
    assert verifier().refusal_of(fewer) == "forged"


def test_percent_encoding_is_signed_as_it_stands() -> None:
    assert verifier().refusal_of(signed(PUBLIC + "/a?b=c%20d", "/a?b=c+d")) == "forged"


def test_json_is_believed_by_its_hash() -> None:
    target = f"/hook?bodySHA256={JSON_HASH}"
    headers = {
        "x-twilio-signature": "zzwtAyycv88Uq6PJARrzVQdUntQ=",
        "content-type": "application/json; charset=utf-8",
    }
    assert verifier().refusal_of(SignedRequest(headers, target, JSON_BODY)) is None
    assert verifier().refusal_of(SignedRequest(headers, target, JSON_BODY + b" ")) == "bad_body_hash"
    plain = {**headers, "x-twilio-signature": compute_signature(KEY, PUBLIC + "/hook")}
    assert verifier().refusal_of(SignedRequest(plain, "/hook", JSON_BODY)) == "bad_body_hash"


def test_newer_form_is_believed_by_its_shared_key() -> None:
    secret, url, fields = "shared-secret-of-good-length", PUBLIC + "/m", [("A", "1"), ("A", ""), ("B", "x")]
    body = b"A=1&A=&B=x"
    settings = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    signature = compute_signature(secret, url, fields, algorithm="HMAC_SHA256")
    assert signature != compute_signature(secret, url, fields)

    def refusal(settings: str, signature: str = signature) -> str | None:
        given = {
            **FORM,
            "x-twilio-signature": signature,
            "x-twilio-webhooks-signature-settings": settings,
        }
        return verifier(shared_keys={"webhooks_sharedkey_1": secret}).refusal_of(
            SignedRequest(given, "/m", body)
        )

    assert refusal(settings) is None
    assert refusal(" key = webhooks_sharedkey_1 , algorithm = hmac_sha256 ") is None
    assert refusal("key=webhooks_sharedkey_2,algorithm=HMAC_SHA256") == "unknown_key"
    assert refusal("key=webhooks_sharedkey_1,algorithm=HMAC_MD5") == "unknown_algorithm"
    assert refusal("key=webhooks_sharedkey_1") == "forged"
    # What is signed with the account's own token is not believed under another key's name.
    own = compute_signature(KEY, url, fields, algorithm="HMAC_SHA256")
    assert refusal(settings, own) == "forged"
    assert refusal("algorithm=HMAC_SHA256", own) is None


def test_upgrade_is_signed_with_its_websocket_address_only() -> None:
    for url in (
        "wss://bridge.example.com/s",
        "wss://bridge.example.com/s/",
        "wss://bridge.example.com:443/s",
    ):
        assert verifier().refusal_of(signed(url, "/s"), is_upgrade=True) is None
    for url in ("https://bridge.example.com/s", "ws://bridge.example.com/s", "wss://bridge.example.com/t"):
        assert verifier().refusal_of(signed(url, "/s"), is_upgrade=True) == "forged"


def test_every_token_of_a_rotation_is_good() -> None:
    other = "fedcba9876543210fedcba9876543210"
    both = RequestVerifier([other, KEY], PUBLIC + "/")
    for key in (KEY, other):
        assert both.refusal_of(signed(PUBLIC + "/a", "/a", key=key)) is None


def test_only_the_configured_address_is_believed() -> None:
    url = "https://evil.example/a"
    for name in ("host", "x-forwarded-host"):
        request = signed(url, "/a", **{name: "evil.example"})
        assert verifier().refusal_of(request) == "wrong_host"
    assert verifier().refusal_of(signed(url, "/a", host="bridge.example.com")) == "forged"
    assert verifier().refusal_of(signed(PUBLIC + "/a", "/a", host="10.0.0.7")) is None


@pytest.mark.parametrize("host", ["[", "[x]", "a]b", "[::1", "h:port", "@", "a b", "\udcff"])
def test_hosts_that_are_none_are_refused_like_any_other(host: str) -> None:
    request = SignedRequest({"x-twilio-signature": "x", "host": host, "x-forwarded-host": host}, "/a")
    for is_upgrade in (False, True):
        assert verifier().refusal_of(request, is_upgrade=is_upgrade) == "forged"


def test_a_path_in_front_of_ours_is_signed() -> None:
    behind = RequestVerifier([KEY], "https://h.example:8443/voice/")
    assert behind.refusal_of(signed("https://h.example:8443/voice/a", "/a")) is None
    assert behind.refusal_of(signed("https://h.example:8443/a", "/a")) == "forged"


@pytest.mark.parametrize("signature", ["", "x", "ü", "\udcff", "A" * 10_000])
def test_odd_signatures_are_refused(signature: str) -> None:
    request = SignedRequest({"x-twilio-signature": signature}, "/a")
    assert verifier().refusal_of(request) == ("forged" if signature else "unsigned")


def test_short_keys_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="16"):
        RequestVerifier(["short"], PUBLIC)
    with pytest.raises(ConfigurationError, match="16"):
        RequestVerifier([KEY], PUBLIC, shared_keys={"a": ""})


class Fields(dict[str, list[str]]):
    """A form as the vendor's validator wants it."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=6)
HOSTS = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,2}(:[1-9][0-9]{0,3})?", fullmatch=True)
PATHS = st.from_regex(r"(/[a-zA-Z0-9_.~%-]{0,8}){1,3}(\?[a-z=&%+0-9]{0,12})?", fullmatch=True)
# The vendor's takes an address apart and writes it anew, which loses a "?" with nothing behind it.
URLS = st.builds(
    lambda scheme, host, path: f"{scheme}://{host}{path}", st.sampled_from(["https", "http"]), HOSTS, PATHS
).filter(lambda url: urlsplit(url).geturl() == url)


@given(
    URLS, st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=3)), st.booleans(), st.integers(0, 3)
)
def test_the_vendors_validator_agrees(
    url: str, values: dict[str, list[str]], is_newer: bool, change: int
) -> None:
    algorithm = "HMAC_SHA256" if is_newer else "HMAC_SHA1"
    theirs = RequestValidator(KEY)
    fields = [(name, value) for name, several in values.items() for value in several]
    signature = theirs.compute_signature(url, Fields(values), algorithm)
    ours = compute_signature(KEY, url, fields, algorithm="HMAC_SHA256" if is_newer else "HMAC_SHA1")
    assert ours == signature
    if change == 1:
        fields, values = [*fields, ("added", "")], {**values, "added": [""]}
    elif change == 2:
        url += "x"
    elif change == 3:
        signature = theirs.compute_signature(
            next(iter(set(url_variants(url)) - {url})), Fields(values), algorithm
        )
    accepted = is_signature_of(
        signature, KEY, url, fields, algorithm="HMAC_SHA256" if is_newer else "HMAC_SHA1"
    )
    assert accepted == theirs.validate(url, Fields(values), signature, algorithm)
    assert accepted == (
        change in (0, 3) or ("added" in values and change == 1 and values["added"] == ["", ""])
    )


@given(st.binary(max_size=64), st.booleans())
def test_the_vendors_validator_agrees_on_bodies(body: bytes, is_whole: bool) -> None:
    body = body.decode("utf-8", "replace").encode()
    digest = hashlib.sha256(body if is_whole else body + b"x").hexdigest()
    target = f"/hook?bodySHA256={digest}"
    signature = RequestValidator(KEY).compute_signature(PUBLIC + target, {})
    request = SignedRequest({"x-twilio-signature": signature}, target, body)
    expected = RequestValidator(KEY).validate(PUBLIC + target, body.decode(), signature)
    # Without a body there is nothing whose hash could be wrong.
    assert (verifier().refusal_of(request) is None) == (expected or not body)

"""Redaction: what nobody may read is gone, what is needed to find a fault is left."""

import pytest

from fastagent.errors import LegConnectError, RealtimeError, ToolError
from fastagent.server.watch.redaction import DIGITS, REDACTED, Redactor

SECRET = "correct-horse-battery"
UUID = "4a1f9d2c-1234-4abc-9def-491701234567"


@pytest.fixture
def redactor():
    return Redactor([SECRET, "abc", f"{SECRET}-and-more"])


@pytest.mark.parametrize(
    "number",
    [
        "491701234567",
        "+49 170 1234567",
        "(0170) 123-4567",
        "0170.123.4567",
        "123456",
        "4111 1111 1111 1111",
        "0 1 7 0 1 2",
    ],
)
@pytest.mark.parametrize("around", ["{}", "from {} to", "x{}y", "caller={}", '{{"n":"{}"}}', "tel:{};ext=1"])
def test_runs_of_digits_are_gone(redactor, number, around):
    text = redactor.text(around.format(number))
    assert DIGITS in text
    assert not any(part in text for part in (number, number[-4:]))


@pytest.mark.parametrize(
    "text",
    [
        "lost with 1006",
        "listening on http://127.0.0.1:8000",
        "10.200.30.40:54321 closed",
        f"journal {UUID}.jsonl",
        "2026-11-21",
        "attempt 2 of 5: no connection within 3 s",
        "12345",
    ],
)
def test_what_is_needed_stays(redactor, text):
    assert redactor.text(text) == text


@pytest.mark.parametrize("text", ["1.2.3.4.5.6.7", "999.999.999.999", f"{UUID[:-1]}"])
def test_what_only_looks_like_an_address_or_an_id_is_gone(redactor, text):
    assert DIGITS in redactor.text(text)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"key {SECRET}!", SECRET),
        (f"key {SECRET}-and-more", "and-more"),
        ("Authorization: Bearer zx81-spectrum", "zx81"),
        ("bearer=zx81-spectrum", "zx81"),
        ("api-key: zx81-spectrum", "zx81"),
        ("wrong key sk-proj-zx81spectrum", "zx81"),
        ("eyJhbGciOi.eyJzdWIi.c2lnbmF0", "c2lnbmF0"),
    ],
)
def test_secrets_are_gone(redactor, text, hidden):
    assert hidden not in redactor.text(text)
    assert REDACTED in redactor.text(text)


def test_a_short_secret_is_not_looked_for(redactor):
    assert redactor.text("abc") == "abc"


@pytest.mark.parametrize(
    "key", ["text", "Authorization", "phone_number", "arguments", "caller", "x_api_key", "transcript_of"]
)
def test_keys_that_name_such_things_hide_their_values(redactor, key):  # fmt: skip
    assert redactor.entry(key, {"any": ["thing"]}) == REDACTED


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("attempt", 3, 3),
        ("who", 491701234567, DIGITS),
        ("size_bytes", 10_485_760, 10_485_760),
        ("counters", {"uplink_messages": 180_000}, {"uplink_messages": 180_000}),
        ("counters", {"a": "words"}, {}),
        ("is_open", True, True),
        ("ratio", 0.25, 0.25),
        ("nothing", None, None),
        ("nested", {"a": [{"token": "x"}, 491701234567]}, {"a": [{"token": REDACTED}, DIGITS]}),
        ("audio", b"speech", "<bytes>"),
        ("thing", object(), "<object>"),
        ("trouble", ValueError("my name is Ada"), "ValueError"),
    ],
)
def test_values_are_shown_as_plain_ones(redactor, key, value, shown):
    assert redactor.entry(key, value) == shown


def test_deep_and_wide_values_end(redactor):
    deep: object = "end"
    for _ in range(50):
        deep = [deep]
    assert "end" not in str(redactor.entry("a", deep))
    assert len(redactor.entry("a", list(range(5000)))) <= 100
    assert len(redactor.text("word " * 5000)) <= 2000


def test_only_errors_of_ours_keep_their_text(redactor):
    assert redactor.error(LegConnectError("model", "upgrade answered 401", retryable=False)).endswith("401")
    for error in (
        ToolError("Ada has no account"),
        KeyError("Ada"),
        RealtimeError("code", "Ada", retryable=False),
    ):
        assert redactor.error(error) == type(error).__name__


def test_exception_tells_kind_place_and_cause(redactor):
    try:
        try:
            raise KeyError("Ada")
        except KeyError as error:
            raise ValueError("Ada again") from error
    except ValueError as error:
        told = redactor.exception(error)
    assert told["error"] == "ValueError"
    assert told["cause"] == "KeyError"
    assert "test_log_redaction.py:" in told["frames"][-1]
    assert "Ada" not in str(told)


def test_call_id_stays_itself_or_gets_a_tag(redactor):
    assert redactor.call_id(UUID) == UUID
    assert redactor.call_id("call-17") == "call-17"
    one, other = redactor.call_id("+491701234567"), redactor.call_id("+491701234568")
    assert one != other
    assert one == redactor.call_id("+491701234567")
    assert "1701" not in one
    assert Redactor().call_id("+491701234567") != one, "the tag cannot be looked up elsewhere"


def test_half_a_character_does_no_harm(redactor):
    assert redactor.text("a\ud800b") == "a?b"

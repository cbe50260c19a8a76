"""What the Realtime API's errors mean: by code, by message, by type; close codes and HTTP answers."""

import pytest

from fastagent.wire.realtime_errors import (
    classify_error,
    is_retryable_close,
    is_retryable_status,
    safe_message,
)
from fastagent.wire.realtime_events import Severity


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("insufficient_quota", Severity.FATAL),
        ("invalid_api_key", Severity.FATAL),
        ("account_deactivated", Severity.FATAL),
        ("billing_hard_limit_reached", Severity.FATAL),
        ("session_expired", Severity.EXPIRED),
        ("rate_limit_exceeded", Severity.RETRYABLE),
        ("inference_rate_limit_exceeded", Severity.RETRYABLE),
        ("server_error", Severity.RETRYABLE),
        ("503", Severity.RETRYABLE),
        ("conversation_already_has_active_response", Severity.BENIGN),
        ("response_cancel_not_active", Severity.BENIGN),
        ("input_audio_buffer_commit_empty", Severity.BENIGN),
        ("item_retrieve_invalid_item_id", Severity.BENIGN),
        ("item_truncate_invalid_item_id", Severity.BENIGN),
        ("item_delete_invalid_item_id", Severity.BENIGN),
        ("invalid_event", Severity.FAULT),
        ("invalid_value", Severity.FAULT),
        ("missing_required_parameter", Severity.FAULT),
        ("unknown_parameter", Severity.FAULT),
        ("cannot_update_voice", Severity.FAULT),
        ("never_heard_of", Severity.FAULT),
        ("404", Severity.FAULT),
        ("", Severity.FAULT),
    ],
)
def test_each_code_has_its_severity(code: str, severity: Severity) -> None:
    assert classify_error(code, "invalid_request_error") == (severity, code)


@pytest.mark.parametrize(
    ("code", "message", "severity", "meant"),
    [
        (
            "",
            "Your session hit the maximum duration of 60 minutes.",
            Severity.EXPIRED,
            "session_expired",
        ),
        (
            "",
            "Conversation already has an active response",
            Severity.BENIGN,
            "conversation_already_has_active_response",
        ),
        (
            "",
            "Cancellation failed: no active response found",
            Severity.BENIGN,
            "response_cancel_not_active",
        ),
        (
            "",
            "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio.",
            Severity.BENIGN,
            "input_audio_buffer_commit_empty",
        ),
        (
            "invalid_value",
            "Audio content of 9250ms is already shorter than 57340ms",
            Severity.BENIGN,
            "item_truncate_too_long",
        ),
        (
            "unsupported_content_type",
            "Only model output audio messages can be truncated",
            Severity.BENIGN,
            "item_truncate_no_audio",
        ),
        (
            "invalid_value",
            "Error truncating item: the item with id 'x' does not exist.",
            Severity.BENIGN,
            "item_not_found",
        ),
        ("", "Item to be deleted 'x' was not found.", Severity.BENIGN, "item_not_found"),
        ("", "You exceeded your current quota, please check.", Severity.FATAL, "insufficient_quota"),
        ("", "The server had an error while processing.", Severity.RETRYABLE, "server_error"),
        ("", "Rate limit reached for requests", Severity.RETRYABLE, "rate_limit_exceeded"),
        ("invalid_value", "The previous item does not exist.", Severity.FAULT, "invalid_value"),
        ("invalid_value", "Invalid value: expected a number.", Severity.FAULT, "invalid_value"),
    ],
)
def test_a_message_tells_what_its_code_does_not(
    code: str, message: str, severity: Severity, meant: str
) -> None:
    assert classify_error(code, "invalid_request_error", message) == (severity, meant)


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        ("server_error", Severity.RETRYABLE),
        ("rate_limit_error", Severity.RETRYABLE),
        ("tokens", Severity.RETRYABLE),
        ("insufficient_quota", Severity.FATAL),
        ("authentication_error", Severity.FATAL),
        ("invalid_request_error", Severity.FAULT),
        ("", Severity.FAULT),
    ],
)
def test_the_type_decides_when_nothing_else_does(kind: str, severity: Severity) -> None:
    assert classify_error("", kind, "Something.") == (severity, "")


def test_a_known_code_outweighs_message_and_type() -> None:
    message = "Your session hit the maximum duration"
    assert classify_error("insufficient_quota", "server_error", message)[0] is Severity.FATAL


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("key sk-proj-abc_DEF-123 here", "key *** here"),
        ("secret ek_0123456789.", "secret ***"),
        ("token eyJhbGciOi.JIUzI1NiJ9.sig end", "token *** end"),
        ("skipping asks", "skipping asks"),
        ("é" * 400, "é" * 300),
    ],
)
def test_a_message_is_made_safe_for_a_log(message: str, expected: str) -> None:
    assert safe_message(message) == expected


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 1015])
def test_a_close_that_a_new_socket_may_mend(code: int) -> None:
    assert is_retryable_close(code)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 0])
def test_a_close_that_a_new_socket_would_meet_again(code: int) -> None:
    assert not is_retryable_close(code)


@pytest.mark.parametrize(
    ("status", "is_retryable"),
    [
        (400, False), (401, False), (403, False), (404, False), (408, True), (426, False), (429, True),
        (500, True), (502, True), (503, True), (504, True), (599, True), (600, False), (200, False),
    ],
)  # fmt: skip
def test_an_upgrade_answer_says_whether_to_try_again(status: int, is_retryable: bool) -> None:
    assert is_retryable_status(status) is is_retryable

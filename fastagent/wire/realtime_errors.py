"""What an error of the Realtime API means for the call: codes, message patterns, close codes, HTTP answers.

Codes are tried first, since they are the documented part; messages second, since some errors come without a
code or with one as wide as ``invalid_value``; the error's type last. What nobody knows is a fault: logged,
never fatal, because the session stays open after an error unless the server closes it.
"""

import re

from fastagent.wire.realtime_events import Severity

__all__ = [
    "ACTIVE_RESPONSE_CODE",
    "CANCEL_NOT_ACTIVE_CODE",
    "RETRYABLE_CLOSE_CODES",
    "classify_error",
    "is_retryable_close",
    "is_retryable_status",
    "safe_message",
]

ACTIVE_RESPONSE_CODE = "conversation_already_has_active_response"
"""A response was asked for while another one runs."""
CANCEL_NOT_ACTIVE_CODE = "response_cancel_not_active"
"""A cancel found nothing to cancel."""

RETRYABLE_CLOSE_CODES = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1015})
"""Close codes after which a new socket may work (openai-python, ``websocket_reconnection``)."""

MESSAGE_MAX_CHARS = 300

_BY_CODE = {
    # Nothing that we could send again would help.
    "access_terminated": Severity.FATAL,
    "account_deactivated": Severity.FATAL,
    "billing_hard_limit_reached": Severity.FATAL,
    "billing_not_active": Severity.FATAL,
    "insufficient_quota": Severity.FATAL,
    "invalid_api_key": Severity.FATAL,
    "invalid_organization": Severity.FATAL,
    "mismatched_organization": Severity.FATAL,
    "model_not_found": Severity.FATAL,
    "unsupported_country_region_territory": Severity.FATAL,
    # The socket closes next.
    "session_expired": Severity.EXPIRED,
    # The server's own trouble, or too much at once.
    "engine_overloaded": Severity.RETRYABLE,
    "inference_rate_limit_exceeded": Severity.RETRYABLE,
    "internal_error": Severity.RETRYABLE,
    "internal_server_error": Severity.RETRYABLE,
    "rate_limit_exceeded": Severity.RETRYABLE,
    "server_error": Severity.RETRYABLE,
    "server_overloaded": Severity.RETRYABLE,
    "service_unavailable": Severity.RETRYABLE,
    "slow_down": Severity.RETRYABLE,
    # Races that any client loses now and then.
    ACTIVE_RESPONSE_CODE: Severity.BENIGN,
    CANCEL_NOT_ACTIVE_CODE: Severity.BENIGN,
    "input_audio_buffer_commit_empty": Severity.BENIGN,
    "item_delete_invalid_item_id": Severity.BENIGN,
    "item_retrieve_invalid_item_id": Severity.BENIGN,
    "item_truncate_invalid_item_id": Severity.BENIGN,
}

_MESSAGES = {
    r"incorrect api key|invalid api key": ("invalid_api_key", Severity.FATAL),
    r"exceeded your current quota": ("insufficient_quota", Severity.FATAL),
    r"session \w+(?: \w+)? (?:the|its) maximum duration": ("session_expired", Severity.EXPIRED),
    r"already has an active response": (ACTIVE_RESPONSE_CODE, Severity.BENIGN),
    r"no active response": (CANCEL_NOT_ACTIVE_CODE, Severity.BENIGN),
    r"buffer (?:is )?(?:too small|empty)": ("input_audio_buffer_commit_empty", Severity.BENIGN),
    # Truncation that came late or asked for more than there is: the item is as short as it will be.
    r"already shorter than": ("item_truncate_too_long", Severity.BENIGN),
    r"only model output audio messages can be truncated": ("item_truncate_no_audio", Severity.BENIGN),
    # "Error truncating item: … does not exist", "Item to be deleted … was not found".
    r"(?:delet|truncat|retriev)\w*.{0,60}\bitem\b.{0,80}not (?:found|exist)": (
        "item_not_found",
        Severity.BENIGN,
    ),
    r"\bitem\b.{0,40}(?:delet|truncat|retriev).{0,60}not (?:found|exist)": (
        "item_not_found",
        Severity.BENIGN,
    ),
    r"rate limit (?:reached|exceeded)": ("rate_limit_exceeded", Severity.RETRYABLE),
    r"server had an error|server is (?:currently )?overloaded": ("server_error", Severity.RETRYABLE),
}
_BY_MESSAGE = [(re.compile(pattern, re.IGNORECASE), *meaning) for pattern, meaning in _MESSAGES.items()]

_BY_TYPE = {
    "authentication_error": Severity.FATAL,
    "insufficient_quota": Severity.FATAL,
    "permission_error": Severity.FATAL,
    "session_expired": Severity.EXPIRED,
    "overloaded_error": Severity.RETRYABLE,
    "rate_limit_error": Severity.RETRYABLE,
    "requests": Severity.RETRYABLE,
    "server_error": Severity.RETRYABLE,
    "service_unavailable_error": Severity.RETRYABLE,
    "tokens": Severity.RETRYABLE,
}

_KEY = re.compile(r"\b(?:(?:sk|ek)[-_]|eyJ)[-\w.*]{4,}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\uffff]+")


def classify_error(code: str, kind: str = "", message: str = "") -> tuple[Severity, str]:
    """What an error means, and the code it should have had.

    Args:
        code: ``error.code``, empty when absent.
        kind: ``error.type``, empty when absent.
        message: ``error.message``, empty when absent.

    Returns:
        The severity and ``code``; where a message pattern recognised more than the code said, its code.
    """
    if (severity := _BY_CODE.get(code)) is not None:
        return severity, code
    for pattern, meant, severity in _BY_MESSAGE:
        if pattern.search(message):
            return severity, meant
    # Some servers put an HTTP status where the code belongs.
    if code.isdigit() and is_retryable_status(int(code)):
        return Severity.RETRYABLE, code
    return _BY_TYPE.get(kind, Severity.FAULT), code


def safe_message(message: str) -> str:
    """``message`` fit for a log line: at most 300 printable characters, anything like a key masked."""
    return _KEY.sub("***", _UNPRINTABLE.sub(" ", message[: 4 * MESSAGE_MAX_CHARS]))[:MESSAGE_MAX_CHARS]


def is_retryable_close(code: int) -> bool:
    """Whether a new socket may work after this close code."""
    return code in RETRYABLE_CLOSE_CODES


def is_retryable_status(status: int) -> bool:
    """Whether the upgrade may work later: 408, 429 and 5xx yes; a bad key (401, 403) or model (404) no."""
    return status in (408, 425, 429) or 500 <= status <= 599

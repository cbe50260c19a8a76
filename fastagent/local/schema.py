"""What a client may send: tables of fields, and the refusal that names the first one that is wrong.

A check takes a value and its path and gives the value back, or raises `Refusal`. Nothing is coerced: the
protocol refuses a whole event for one bad field.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastagent.local.voice import VOICES

__all__ = ["CLIENT_EVENTS", "Refusal", "check_event"]

Check = Callable[[Any, str], Any]

TOOLS_LIMIT = 128
ITEMS_LIMIT = 512
PARTS_LIMIT = 64
TEXT_LIMIT = 1 << 20
ID_LIMIT = 512
MILLISECONDS_LIMIT = 24 * 3600 * 1000


class Refusal(Exception):
    """Why an event is refused, in the words of an ``error`` event. Never carries the value itself."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.code = code
        self.message = message
        self.param = param
        super().__init__(f"{code}: {message}")


def _wrong_type(path: str, expected: str) -> Refusal:
    return Refusal("invalid_type", f"Invalid type for '{path}': expected {expected}.", path)


def text(limit: int = TEXT_LIMIT, *, minimum: int = 0) -> Check:
    """A string of ``minimum`` to ``limit`` characters."""

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise _wrong_type(path, "a string")
        if not minimum <= len(value) <= limit:
            raise Refusal("invalid_value", f"'{path}' must have {minimum} to {limit} characters.", path)
        return value

    return check


def number(low: float, high: float, *, whole: bool = False) -> Check:
    """A number, or an integer, within limits; true and false are neither."""

    def check(value: Any, path: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise _wrong_type(path, "an integer" if whole else "a number")
        if not low <= value <= high:
            raise Refusal("invalid_value", f"'{path}' must be between {low:g} and {high:g}.", path)
        return value

    return check


def flag(value: Any, path: str) -> Any:
    """A boolean."""
    if not isinstance(value, bool):
        raise _wrong_type(path, "a boolean")
    return value


def choice(*allowed: str) -> Check:
    """One of a few strings."""

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise _wrong_type(path, "a string")
        if value not in allowed:
            names = ", ".join(f"'{name}'" for name in allowed)
            raise Refusal(
                "invalid_value", f"Invalid value for '{path}'. Supported values are: {names}.", path
            )
        return value

    return check


def nullable(inner: Check) -> Check:
    """Null, or what ``inner`` accepts."""
    return lambda value, path: None if value is None else inner(value, path)


def mapping(value: Any, path: str) -> Any:
    """Any object."""
    if not isinstance(value, dict):
        raise _wrong_type(path, "an object")
    return value


def list_of(inner: Check, limit: int) -> Check:
    """At most ``limit`` entries, each accepted by ``inner``."""

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise _wrong_type(path, "an array")
        if len(value) > limit:
            raise Refusal("invalid_value", f"'{path}' may hold at most {limit} entries.", path)
        return [inner(entry, f"{path}[{index}]") for index, entry in enumerate(value)]

    return check


def record(fields: Mapping[str, Check], *, required: Sequence[str] = ()) -> Check:
    """An object with these fields and no others."""

    def check(value: Any, path: str) -> Any:
        mapping(value, path)
        prefix = f"{path}." if path else ""
        for name in value:
            if name not in fields:
                raise Refusal("unknown_parameter", f"Unknown parameter: '{prefix}{name}'.", f"{prefix}{name}")
        for name in required:
            if name not in value:
                raise Refusal(
                    "missing_required_parameter",
                    f"Missing required parameter: '{prefix}{name}'.",
                    f"{prefix}{name}",
                )
        return {name: fields[name](entry, f"{prefix}{name}") for name, entry in value.items()}

    return check


def tagged(tag: str, kinds: Mapping[str, Check]) -> Check:
    """An object whose field ``tag`` says which record it must be."""

    def check(value: Any, path: str) -> Any:
        mapping(value, path)
        where = f"{path}.{tag}" if path else tag
        if tag not in value:
            raise Refusal("missing_required_parameter", f"Missing required parameter: '{where}'.", where)
        return kinds[choice(*kinds)(value[tag], where)](value, path)

    return check


def _either_string_or(strings: Sequence[str], inner: Check) -> Check:
    return lambda value, path: choice(*strings)(value, path) if isinstance(value, str) else inner(value, path)


def _anything(value: Any, path: str) -> Any:
    return value


def _voice(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return choice(*VOICES)(value, path)
    return record({"id": text(ID_LIMIT, minimum=1)}, required=["id"])(value, path)


def _modalities(value: Any, path: str) -> Any:
    names = list_of(choice("audio", "text"), 2)(value, path)
    if len(names) != 1:
        raise Refusal(
            "invalid_value",
            f"Invalid value for '{path}'. Supported values are: ['audio'] and ['text'].",
            path,
        )
    return names


def _max_output_tokens(value: Any, path: str) -> Any:
    return choice("inf")(value, path) if isinstance(value, str) else number(1, 4096, whole=True)(value, path)


def _metadata(value: Any, path: str) -> Any:
    mapping(value, path)
    if len(value) > 16:
        raise Refusal("invalid_value", f"'{path}' may hold at most 16 pairs.", path)
    for key, entry in value.items():
        text(64, minimum=1)(key, path)
        text(512)(entry, f"{path}.{key}")
    return value


def _function_name(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise _wrong_type(path, "a string")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise Refusal(
            "invalid_value", f"'{path}' must match ^[a-zA-Z0-9_-]+$ and have at most 64 characters.", path
        )
    return value


_TEXT = text()
_ID = text(ID_LIMIT, minimum=1)
_STRING_CONSTANT = text(ID_LIMIT)

FORMAT = tagged(
    "type",
    {
        "audio/pcm": record({"type": _anything, "rate": number(24_000, 24_000, whole=True)}),
        "audio/pcmu": record({"type": _anything}),
        "audio/pcma": record({"type": _anything}),
    },
)

TURN_DETECTION = tagged(
    "type",
    {
        "server_vad": record(
            {
                "type": _anything,
                "threshold": number(0.0, 1.0),
                "prefix_padding_ms": number(0, 5_000, whole=True),
                "silence_duration_ms": number(0, 10_000, whole=True),
                "idle_timeout_ms": nullable(number(5_000, 30_000, whole=True)),
                "create_response": flag,
                "interrupt_response": flag,
            }
        ),
        "semantic_vad": record(
            {
                "type": _anything,
                "eagerness": choice("low", "medium", "high", "auto"),
                "create_response": flag,
                "interrupt_response": flag,
            }
        ),
    },
)

_TRANSCRIPTION = record(
    {
        "model": text(ID_LIMIT, minimum=1),
        "language": text(16),
        "languages": list_of(text(16), 32),
        "keywords": list_of(text(256), 256),
        "prompt": _TEXT,
        "delay": choice("minimal", "low", "medium", "high", "xhigh"),
    }
)

_TOOL = tagged(
    "type",
    {
        "function": record(
            {"type": _anything, "name": _function_name, "description": _TEXT, "parameters": mapping},
            required=["name"],
        ),
        # Accepted and echoed; the engine reaches no servers.
        "mcp": mapping,
    },
)

_TOOL_CHOICE = _either_string_or(
    ["auto", "none", "required"],
    tagged(
        "type",
        {
            "function": record({"type": _anything, "name": _function_name}, required=["name"]),
            "mcp": record(
                {"type": _anything, "server_label": _ID, "name": _STRING_CONSTANT}, required=["server_label"]
            ),
        },
    ),
)

_REASONING = record({"effort": choice("minimal", "low", "medium", "high", "xhigh")})
_PROMPT = record({"id": _ID, "version": _STRING_CONSTANT, "variables": mapping}, required=["id"])

SESSION = record(
    {
        "type": choice("realtime"),
        "model": _ID,
        "output_modalities": _modalities,
        "instructions": _TEXT,
        "audio": record(
            {
                "input": record(
                    {
                        "format": FORMAT,
                        "noise_reduction": nullable(
                            record({"type": choice("near_field", "far_field")}, required=["type"])
                        ),
                        "transcription": nullable(_TRANSCRIPTION),
                        "turn_detection": nullable(TURN_DETECTION),
                    }
                ),
                "output": record({"format": FORMAT, "voice": _voice, "speed": number(0.25, 1.5)}),
            }
        ),
        "include": nullable(list_of(choice("item.input_audio_transcription.logprobs"), 1)),
        "tools": list_of(_TOOL, TOOLS_LIMIT),
        "tool_choice": _TOOL_CHOICE,
        "parallel_tool_calls": flag,
        "reasoning": _REASONING,
        "max_output_tokens": _max_output_tokens,
        "truncation": _either_string_or(
            ["auto", "disabled"],
            record(
                {
                    "type": choice("retention_ratio"),
                    "retention_ratio": number(0.0, 1.0),
                    "token_limits": record({"post_instructions": number(0, 1 << 20, whole=True)}),
                },
                required=["type", "retention_ratio"],
            ),
        ),
        "tracing": nullable(
            _either_string_or(
                ["auto"],
                record(
                    {"workflow_name": _STRING_CONSTANT, "group_id": _STRING_CONSTANT, "metadata": mapping}
                ),
            )
        ),
        "prompt": nullable(_PROMPT),
    },
    required=["type"],
)

_STATUS = choice("completed", "incomplete", "in_progress")
_ITEM_FIELDS: dict[str, Check] = {"id": _ID, "object": _STRING_CONSTANT, "type": _anything, "status": _STATUS}
_INPUT_TEXT = record({"type": _anything, "text": _TEXT}, required=["text"])


def _message(parts: Mapping[str, Check]) -> Check:
    return record(
        {**_ITEM_FIELDS, "role": _anything, "content": list_of(tagged("type", parts), PARTS_LIMIT)},
        required=["content"],
    )


_MESSAGE = tagged(
    "role",
    {
        "system": _message({"input_text": _INPUT_TEXT}),
        "user": _message(
            {
                "input_text": _INPUT_TEXT,
                "input_audio": record(
                    {"type": _anything, "audio": text(24 << 20), "transcript": nullable(_TEXT)}
                ),
                "input_image": record(
                    {"type": _anything, "image_url": text(24 << 20), "detail": choice("auto", "low", "high")},
                    required=["image_url"],
                ),
            }
        ),
        "assistant": _message({"output_text": _INPUT_TEXT}),
    },
)

_ITEM_KINDS: dict[str, Check] = {
    "message": _MESSAGE,
    "function_call": record(
        {**_ITEM_FIELDS, "call_id": _ID, "name": _function_name, "arguments": _TEXT},
        required=["name", "arguments"],
    ),
    "function_call_output": record(
        {**_ITEM_FIELDS, "call_id": _ID, "output": _TEXT}, required=["call_id", "output"]
    ),
}
ITEM = tagged("type", _ITEM_KINDS)

RESPONSE = record(
    {
        "instructions": _TEXT,
        "output_modalities": _modalities,
        "audio": record({"output": record({"format": FORMAT, "voice": _voice})}),
        "tools": list_of(_TOOL, TOOLS_LIMIT),
        "tool_choice": _TOOL_CHOICE,
        "parallel_tool_calls": flag,
        "reasoning": _REASONING,
        "max_output_tokens": _max_output_tokens,
        "metadata": nullable(_metadata),
        "prompt": nullable(_PROMPT),
        "conversation": choice("auto", "none"),
        "input": list_of(
            tagged(
                "type",
                {**_ITEM_KINDS, "item_reference": record({"type": _anything, "id": _ID}, required=["id"])},
            ),
            ITEMS_LIMIT,
        ),
    }
)

_ENVELOPE: dict[str, Check] = {"type": _anything, "event_id": text(512)}


def _event(fields: Mapping[str, Check] = {}, *, required: Sequence[str] = ()) -> Check:
    return record({**_ENVELOPE, **fields}, required=required)


CLIENT_EVENTS: dict[str, Check] = {
    "session.update": _event({"session": SESSION}, required=["session"]),
    "input_audio_buffer.append": _event({"audio": text(20 << 20)}, required=["audio"]),
    "input_audio_buffer.commit": _event(),
    "input_audio_buffer.clear": _event(),
    "conversation.item.create": _event({"item": ITEM, "previous_item_id": nullable(_ID)}, required=["item"]),
    "conversation.item.retrieve": _event({"item_id": _ID}, required=["item_id"]),
    "conversation.item.truncate": _event(
        {
            "item_id": _ID,
            "content_index": number(0, PARTS_LIMIT, whole=True),
            "audio_end_ms": number(0, MILLISECONDS_LIMIT, whole=True),
        },
        required=["item_id", "content_index", "audio_end_ms"],
    ),
    "conversation.item.delete": _event({"item_id": _ID}, required=["item_id"]),
    "response.create": _event({"response": nullable(RESPONSE)}),
    "response.cancel": _event({"response_id": _ID}),
}
"""Every event this server takes: ``output_audio_buffer.clear``, for WebRTC and SIP, is not among them."""

_CHECK_EVENT = tagged("type", CLIENT_EVENTS)


def check_event(event: Any) -> dict[str, Any]:
    """The event, known to be well-formed.

    Raises:
        Refusal: it is not; says which field.
    """
    if not isinstance(event, dict):
        raise Refusal("invalid_event", "An event must be a JSON object.")
    checked: dict[str, Any] = _CHECK_EVENT(event, "")
    return checked

"""What a Realtime client may send: the fields of each event, and the refusal that names the first wrong.

Only what the published ``RealtimeClientEvent*`` schemas say (generally available dialect); nothing is
coerced, since a server refuses a whole event for one field it does not know.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_24K, AudioFormat

__all__ = ["Refusal", "audio_format", "check_event", "decode_audio", "merged"]

APPEND_MAX_CHARS = 15 * 1024 * 1024
EVENT_ID_CHARS_MAX = 512

EVENTS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    name: (frozenset(required.split()), frozenset(optional.split()))
    for name, required, optional in (
        ("session.update", "session", ""),
        ("input_audio_buffer.append", "audio", ""),
        ("input_audio_buffer.commit", "", ""),
        ("input_audio_buffer.clear", "", ""),
        ("conversation.item.create", "item", "previous_item_id"),
        ("conversation.item.retrieve", "item_id", ""),
        ("conversation.item.truncate", "item_id content_index audio_end_ms", ""),
        ("conversation.item.delete", "item_id", ""),
        ("response.create", "", "response"),
        ("response.cancel", "", "response_id"),
    )
}
"""Required and optional fields beside ``type`` and ``event_id``."""

SESSION = frozenset(
    {
        "type",
        "output_modalities",
        "instructions",
        "audio",
        "tools",
        "tool_choice",
        "max_output_tokens",
        "tracing",
        "prompt",
        "include",
        "truncation",
        "model",
        "parallel_tool_calls",
        "reasoning",
    }
)
AUDIO_INPUT = frozenset({"format", "transcription", "noise_reduction", "turn_detection"})
AUDIO_OUTPUT = frozenset({"format", "voice", "speed"})
TRANSCRIPTION = frozenset({"model", "language", "prompt", "delay"})
SERVER_VAD = frozenset(
    {
        "type",
        "threshold",
        "prefix_padding_ms",
        "silence_duration_ms",
        "idle_timeout_ms",
        "create_response",
        "interrupt_response",
    }
)
SEMANTIC_VAD = frozenset({"type", "eagerness", "create_response", "interrupt_response"})
TOOL = frozenset({"type", "name", "description", "parameters"})
RESPONSE = frozenset(
    {
        "conversation",
        "instructions",
        "output_modalities",
        "audio",
        "tools",
        "tool_choice",
        "max_output_tokens",
        "metadata",
        "input",
        "prompt",
        "parallel_tool_calls",
        "reasoning",
    }
)
MESSAGE_PARTS = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio"),
    "assistant": ("output_text",),
}
FORMATS: Mapping[str, AudioFormat] = {"audio/pcm": PCM16_24K, "audio/pcmu": MULAW_8K, "audio/pcma": ALAW_8K}


class Refusal(Exception):
    """Why an event is refused, in the words of an ``error`` event; it never quotes a value."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.code = code
        self.message = message
        self.param = param
        super().__init__(f"{code}: {message}")


def check_event(event: Mapping[str, Any]) -> None:
    """Check an event's name and shape; what depends on the conversation is left to the session.

    Raises:
        Refusal: the event as a whole is refused.
    """
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in EVENTS:
        raise Refusal("invalid_value", "Invalid value for 'type'.", "type")
    event_id = event.get("event_id")
    if event_id is not None and not (isinstance(event_id, str) and len(event_id) <= EVENT_ID_CHARS_MAX):
        raise Refusal("invalid_value", "Invalid 'event_id'.", "event_id")
    required, optional = EVENTS[kind]
    for name in sorted(required - event.keys()):
        raise Refusal("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    _known(event, required | optional | {"type", "event_id"}, "")
    match kind:
        case "session.update":
            _check_session(_object(event["session"], "session"))
        case "conversation.item.create":
            _check_item(_object(event["item"], "item"))
        case "conversation.item.truncate":
            for name in ("content_index", "audio_end_ms"):
                value = event[name]
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise Refusal("invalid_type", f"Invalid type for '{name}': expected an integer.", name)
        case "response.create":
            _known(_object(event.get("response", {}), "response"), RESPONSE, "response.")
    item_id = event.get("item_id", "")
    if not isinstance(item_id, str):
        raise Refusal("invalid_type", "Invalid type for 'item_id': expected a string.", "item_id")


def audio_format(wire: object, path: str) -> AudioFormat:
    """The format an ``{"type": "audio/…"}`` object means.

    Raises:
        Refusal: the protocol has no such format.
    """
    value = _object(wire, path)
    _known(value, frozenset({"type", "rate"}), f"{path}.")
    found = FORMATS.get(str(value.get("type")))
    if found is None or (found is PCM16_24K and value.get("rate") != found.sample_rate):
        raise Refusal("invalid_value", f"Invalid value for '{path}'.", path)
    return found


def decode_audio(audio: object, format: AudioFormat) -> bytes:
    """The bytes of an append.

    Raises:
        Refusal: no canonical base64, too long, or half a sample at the end.
    """
    if not isinstance(audio, str) or len(audio) > APPEND_MAX_CHARS:
        raise Refusal(
            "invalid_type", "Invalid type for 'audio': expected a string of at most 15 MiB.", "audio"
        )
    try:
        data = base64.b64decode(audio, validate=True)
    except (ValueError, binascii.Error):
        raise Refusal("invalid_value", "Invalid 'audio': expected base64.", "audio") from None
    if len(data) % format.encoding.bytes_per_sample:
        raise Refusal("invalid_value", "Invalid 'audio': it ends inside a sample.", "audio")
    return data


def merged(settings: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with ``change`` laid over them, object by object."""
    result = dict(settings)
    for name, value in change.items():
        former = result.get(name)
        if (
            name in ("audio", "input", "output")
            and isinstance(value, Mapping)
            and isinstance(former, Mapping)
        ):
            value = merged(former, value)
        result[name] = value
    return result


def _object(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refusal("invalid_type", f"Invalid type for '{path}': expected an object.", path)
    return value


def _known(value: Mapping[str, Any], names: frozenset[str], path: str) -> None:
    for name in sorted(value.keys() - names):
        raise Refusal("unknown_parameter", f"Unknown parameter: '{path}{name}'.", path + name)


def _check_session(session: Mapping[str, Any]) -> None:
    if session.get("type") != "realtime":
        raise Refusal(
            "missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type"
        )
    _known(session, SESSION, "session.")
    modalities = session.get("output_modalities", ["audio"])
    if modalities not in (["audio"], ["text"]):
        raise Refusal("invalid_value", "Invalid modalities.", "session.output_modalities")
    audio = _object(session.get("audio", {}), "session.audio")
    _known(audio, frozenset({"input", "output"}), "session.audio.")
    inside = _object(audio.get("input", {}), "session.audio.input")
    outside = _object(audio.get("output", {}), "session.audio.output")
    _known(inside, AUDIO_INPUT, "session.audio.input.")
    _known(outside, AUDIO_OUTPUT, "session.audio.output.")
    for side, path in ((inside, "session.audio.input.format"), (outside, "session.audio.output.format")):
        if "format" in side:
            audio_format(side["format"], path)
    if inside.get("transcription") is not None:
        path = "session.audio.input.transcription"
        _known(_object(inside["transcription"], path), TRANSCRIPTION, path + ".")
    if inside.get("turn_detection") is not None:
        path = "session.audio.input.turn_detection"
        detection = _object(inside["turn_detection"], path)
        kinds = {"server_vad": SERVER_VAD, "semantic_vad": SEMANTIC_VAD}
        if detection.get("type") not in kinds:
            raise Refusal("invalid_value", f"Invalid value for '{path}.type'.", path + ".type")
        _known(detection, kinds[detection["type"]], path + ".")
    for at, tool in enumerate(session.get("tools", ())):
        path = f"session.tools[{at}]"
        if _object(tool, path).get("type") == "function":
            _known(tool, TOOL, path + ".")
            if not isinstance(tool.get("name"), str):
                raise Refusal("missing_required_parameter", f"Missing '{path}.name'.", path + ".name")


def _check_item(item: Mapping[str, Any]) -> None:
    match item.get("type"):
        case "message":
            _known(item, frozenset({"id", "type", "status", "role", "content", "object"}), "item.")
            parts = MESSAGE_PARTS.get(str(item.get("role")))
            content = item.get("content")
            if parts is None or not isinstance(content, list) or not content:
                raise Refusal("invalid_value", "Invalid 'item.role' or 'item.content'.", "item.content")
            for part in content:
                kind = _object(part, "item.content[]").get("type")
                if kind not in parts:
                    raise Refusal("invalid_value", "Invalid value for 'item.content[].type'.", "item.content")
        case "function_call":
            _check_call(item, "name", "call_id", "arguments")
        case "function_call_output":
            _check_call(item, "call_id", "output")
        case _:
            raise Refusal("invalid_value", "Invalid value for 'item.type'.", "item.type")


def _check_call(item: Mapping[str, Any], *texts: str) -> None:
    _known(item, frozenset({"id", "type", "status", "object", *texts}), "item.")
    for name in texts:
        if not isinstance(item.get(name), str):
            raise Refusal("missing_required_parameter", f"Missing 'item.{name}'.", f"item.{name}")

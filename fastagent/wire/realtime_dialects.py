"""The two dialects of the Realtime protocol: GA, and the beta that Azure's preview still speaks.

Incoming, both are understood always: `GA_NAMES` renames beta events. Outgoing, a connection speaks one, since
a server refuses a whole ``session.update`` for one field of the other dialect.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar, assert_never

from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_24K, AudioFormat
from fastagent.errors import UnsupportedMediaError
from fastagent.wire.realtime_events import CreateResponse, Item, SessionSettings, TurnDetection

__all__ = ["GA_NAMES", "Dialect", "item_object", "response_object", "session_object"]


class Dialect(Enum):
    """What a connection speaks."""

    GA = "ga"
    BETA = "beta"


GA_NAMES = {
    "conversation.item.created": "conversation.item.added",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}
"""Beta event name -> GA event name; all others are the same in both."""

_T = TypeVar("_T")

_GA_FORMATS: dict[AudioFormat, dict[str, Any]] = {
    PCM16_24K: {"type": "audio/pcm", "rate": 24_000},
    MULAW_8K: {"type": "audio/pcmu"},
    ALAW_8K: {"type": "audio/pcma"},
}
_BETA_FORMATS = {PCM16_24K: "pcm16", MULAW_8K: "g711_ulaw", ALAW_8K: "g711_alaw"}
_TOOL_FIELDS = ("type", "name", "description", "parameters")


def session_object(settings: SessionSettings, dialect: Dialect) -> dict[str, Any]:
    """A whole session as a ``session.update`` has it; what the settings leave open is left out.

    Args:
        settings: what shall be in force.
        dialect: whose field names to use.

    Raises:
        UnsupportedMediaError: an audio format that the protocol does not have.
    """
    extras: dict[str, Any] = {}
    if (transcription := _transcription(settings)) is not None:
        extras["transcription"] = transcription
    if settings.noise_reduction is not None:
        extras["noise_reduction"] = {"type": settings.noise_reduction}
    voice: dict[str, Any] = {}
    if settings.voice is not None:
        voice["voice"] = settings.voice
    if settings.speed is not None:
        voice["speed"] = settings.speed
    match dialect:
        case Dialect.GA:
            return _ga_session(settings, extras, voice)
        case Dialect.BETA:
            return _beta_session(settings, extras, voice)
        case _:
            assert_never(dialect)


def response_object(command: CreateResponse, dialect: Dialect) -> dict[str, Any]:
    """The ``response`` of a ``response.create``: what differs from the session; empty for a plain one."""
    response: dict[str, Any] = {}
    if command.is_out_of_band:
        response["conversation"] = "none"
    if command.instructions is not None:
        response["instructions"] = _utf8(command.instructions)
    if command.tool_choice is not None:
        response["tool_choice"] = _tool_choice(command.tool_choice, dialect)
    if command.metadata:
        response["metadata"] = {_utf8(key): _utf8(value) for key, value in command.metadata.items()}
    if command.modalities is not None:
        response |= _modalities(command.modalities, dialect)
    if command.input_items is not None:
        response["input"] = [item_object(item, dialect) for item in command.input_items]
    return response


def item_object(item: Item, dialect: Dialect) -> dict[str, Any]:
    """An ``item`` as the wire has it. A message without a role is the caller's."""
    wire: dict[str, Any] = {"type": item.kind}
    if item.item_id:
        wire["id"] = item.item_id
    match item.kind:
        case "message":
            role = item.role or "user"
            kind = "input_text"
            if role == "assistant":
                kind = "output_text" if dialect is Dialect.GA else "text"
            wire |= {"role": role, "content": [{"type": kind, "text": _utf8(item.text)}]}
        case "function_call":
            wire |= {"call_id": item.call_id, "name": item.name, "arguments": _utf8(item.text)}
        case "function_call_output":
            wire |= {"call_id": item.call_id, "output": _utf8(item.text)}
        case _:
            assert_never(item.kind)
    return wire


def _utf8(text: str) -> str:
    """``text`` without lone surrogates, which UTF-8 cannot carry and a tool's result may hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _ga_session(settings: SessionSettings, extras: dict[str, Any], voice: dict[str, Any]) -> dict[str, Any]:
    session: dict[str, Any] = {
        "type": "realtime",
        **_modalities(settings.modalities, Dialect.GA),
        "instructions": _utf8(settings.instructions),
        "audio": {
            "input": {
                "format": _format(_GA_FORMATS, settings.input_format),
                **extras,
                "turn_detection": _turn_detection(settings.turn_detection, Dialect.GA),
            },
            "output": {"format": _format(_GA_FORMATS, settings.output_format), **voice},
        },
        "tools": _tools(settings.tools),
        "tool_choice": _tool_choice(settings.tool_choice, Dialect.GA),
    }
    if settings.max_output_tokens is not None:
        session["max_output_tokens"] = settings.max_output_tokens
    return session


def _beta_session(settings: SessionSettings, extras: dict[str, Any], voice: dict[str, Any]) -> dict[str, Any]:
    session: dict[str, Any] = {
        **_modalities(settings.modalities, Dialect.BETA),
        "instructions": _utf8(settings.instructions),
        "input_audio_format": _format(_BETA_FORMATS, settings.input_format),
        "output_audio_format": _format(_BETA_FORMATS, settings.output_format),
        **{f"input_audio_{name}": value for name, value in extras.items()},
        "turn_detection": _turn_detection(settings.turn_detection, Dialect.BETA),
        "tools": _tools(settings.tools),
        "tool_choice": _tool_choice(settings.tool_choice, Dialect.BETA),
        **voice,
    }
    if settings.max_output_tokens is not None:
        session["max_response_output_tokens"] = settings.max_output_tokens
    return session


def _format(formats: Mapping[AudioFormat, _T], wanted: AudioFormat) -> _T:
    try:
        return formats[wanted]
    except KeyError:
        known = ", ".join(str(known) for known in formats)
        reason = f"expected one of {known}, got {wanted}"
        raise UnsupportedMediaError("model", reason, field="format") from None


def _modalities(wanted: Sequence[str], dialect: Dialect) -> dict[str, Any]:
    speaks = "audio" in wanted
    if dialect is Dialect.GA:  # one value: both together is refused, and audio brings its transcript anyway
        return {"output_modalities": ["audio"] if speaks else ["text"]}
    return {"modalities": ["audio", "text"] if speaks else ["text"]}


def _transcription(settings: SessionSettings) -> dict[str, Any] | None:
    if settings.transcription_model is None:
        return None
    wire = {"model": settings.transcription_model}
    if settings.transcription_language:
        wire["language"] = settings.transcription_language
    if settings.transcription_prompt:
        wire["prompt"] = _utf8(settings.transcription_prompt)
    return wire


def _turn_detection(detection: TurnDetection, dialect: Dialect) -> dict[str, Any] | None:
    answers = {
        "create_response": detection.create_response,
        "interrupt_response": detection.interrupt_response,
    }
    match detection.kind:
        case "none":
            return None
        case "semantic_vad":
            return {"type": "semantic_vad", "eagerness": detection.eagerness, **answers}
        case "server_vad":
            wire: dict[str, Any] = {
                "type": "server_vad",
                "threshold": detection.threshold,
                "prefix_padding_ms": detection.prefix_padding_ms,
                # Explicit: the documented default and the one servers really use differ.
                "silence_duration_ms": detection.silence_duration_ms,
                **answers,
            }
            if detection.idle_timeout_ms is not None and dialect is Dialect.GA:
                wire["idle_timeout_ms"] = detection.idle_timeout_ms
            return wire
        case _:
            assert_never(detection.kind)


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Function tools cut to the fields the protocol has: one more, and the whole update is refused."""
    wire = []
    for tool in tools:
        if tool.get("type", "function") == "function":
            wire.append({"type": "function"} | {name: tool[name] for name in _TOOL_FIELDS if name in tool})
        else:
            wire.append(dict(tool))
    return wire


def _tool_choice(choice: str, dialect: Dialect) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    if dialect is Dialect.GA:
        return {"type": "function", "name": choice}
    return {"type": "function", "function": {"name": choice}}

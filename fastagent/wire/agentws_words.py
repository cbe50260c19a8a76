"""The words of our own client protocol on ``/agent/ws``: message types, error codes, audio formats.

Every message is one JSON object ``{"type", "payload", "session_id", "timestamp"}`` whose members may come in
any order; only ``type`` and, where a message has fields, ``payload`` are needed of a client.
``docs/asyncapi.yaml`` describes each message; a test holds it against this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, AudioFormat
from fastagent.errors import MalformedMessageError
from fastagent.wire.events import MediaOffer
from fastagent.wire.json_message import Json

__all__ = [
    "BEARER_SUBPROTOCOL",
    "CLIENT_MEDIA",
    "DEFAULT_MEDIA",
    "ID_CHARS_MAX",
    "PEER",
    "SUBPROTOCOL",
    "ClientMessage",
    "ErrorCode",
    "Media",
    "ServerMessage",
    "read_format",
    "text_field",
]

PEER = "client"

SUBPROTOCOL = "fastagent.v1"
"""The WebSocket subprotocol that is agreed on, where a client offers it."""
BEARER_SUBPROTOCOL = "fastagent.bearer."
"""What a token stands behind in the list of subprotocols, for browsers, which can set no header."""

ID_CHARS_MAX = 256
"""Ids and names longer than this are not ids."""

WAV = "audio/x-wav"


class ClientMessage(StrEnum):
    """What a client sends."""

    START_SESSION = "start_session"
    AUDIO_DATA = "audio_data"
    TEXT_INPUT = "text_input"
    DTMF = "dtmf"
    PLAYBACK_FINISHED = "playback_finished"
    END_SESSION = "end_session"


class ServerMessage(StrEnum):
    """What the server sends."""

    SESSION_STARTED = "session_started"
    AUDIO_RESPONSE = "audio_response"
    STATE_TRANSITION = "state_transition"
    TRANSCRIPT = "transcript"
    CALLER_SPEECH = "caller_speech"
    INTERRUPTION = "interruption"
    METADATA = "metadata"
    SESSION_ENDED = "session_ended"
    ERROR = "error"


class ErrorCode(StrEnum):
    """What an ``error`` message says went wrong."""

    INVALID_REQUEST = "invalid_request"
    """Not a message, or a field that is missing or of the wrong type."""
    INVALID_AUDIO_FORMAT = "invalid_audio_format"
    """A format, encoding or rate that is not one of ours, or a WAV of another kind."""
    AUTHENTICATION_FAILED = "authentication_failed"
    """No token, or not one of ours; answered before the WebSocket opens, with 401."""
    ORIGIN_FORBIDDEN = "origin_forbidden"
    """A page of another site; answered before the WebSocket opens, with 403."""
    SESSION_NOT_FOUND = "session_not_found"
    """No session of this id belongs to this credential."""
    AGENT_NOT_FOUND = "agent_not_found"
    INVALID_STATE = "invalid_state"
    """A message that is legal, but not now."""
    CAPACITY_EXCEEDED = "capacity_exceeded"
    """No further session is taken now."""
    AUDIO_PROCESSING_FAILED = "audio_processing_failed"
    """Audio that could not be read: no base64, a broken WAV header."""
    LLM_ERROR = "llm_error"
    """The model reported an error, or cannot be reached."""
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Media:
    """One way of carrying audio in a session."""

    offer: MediaOffer
    chunk_format: str
    """What ``format`` says in the audio that needs no look at each message."""

    @property
    def name(self) -> str:
        """What ``media`` says in ``start_session``."""
        return self.offer.name

    @property
    def response_format(self) -> str:
        """What ``format`` says in ``audio_response``: a WAV's parameters stand in its header."""
        return WAV if self.offer.has_wav_header else self.offer.name


def _media() -> dict[str, Media]:
    raw = {
        "audio/pcm;rate=24000": PCM16_24K,
        "audio/pcm;rate=16000": PCM16_16K,
        "audio/pcm;rate=8000": PCM16_8K,
        "audio/pcmu": MULAW_8K,
        "audio/pcma": ALAW_8K,
    }
    wavs = {
        f"{WAV};rate=24000": PCM16_24K,
        f"{WAV};rate=16000": PCM16_16K,
        f"{WAV};rate=8000": PCM16_8K,
        f"{WAV};codec=pcmu": MULAW_8K,
        f"{WAV};codec=pcma": ALAW_8K,
    }
    media = {name: Media(MediaOffer(name, format), name) for name, format in raw.items()}
    # Without parameters each header is read, so that no chunk needs none of that.
    media[WAV] = Media(MediaOffer(WAV, PCM16_24K, has_wav_header=True), "audio/pcm;rate=24000")
    for name, format in wavs.items():
        media[name] = Media(MediaOffer(name, format, has_wav_header=True), WAV)
    return media


CLIENT_MEDIA: Mapping[str, Media] = _media()
"""All that ``media`` may say. A WAV with parameters promises that all its headers say just that."""

DEFAULT_MEDIA = CLIENT_MEDIA["audio/pcm;rate=24000"]
"""What a session has whose client names none: what the model speaks, too."""


def read_format(name: str) -> tuple[AudioFormat | None, bool] | None:
    """What a chunk's ``format`` says: the format of its samples, and whether a WAV header may come first.

    Blanks and the case of letters say nothing. The format is None where the WAV's own header tells it; all is
    None for what is no format of ours.
    """
    canonical = "".join(name.split()).lower()
    media = CLIENT_MEDIA.get(canonical)
    if media is None:
        return None
    has_header = media.offer.has_wav_header
    return (None if has_header else media.offer.format), has_header


def text_field(
    message: Json, key: str, default: str | None = None, *, is_id: bool = False, limit: int = ID_CHARS_MAX
) -> str:
    """A string field of at most ``limit`` characters; ``default`` stands in when it is absent or null.

    Raises:
        MalformedMessageError: wrong type, too long, absent without default, or an id that cannot be one.
    """
    value = message.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise MalformedMessageError(PEER, "expected a string", field=key)
    if len(value) > limit:
        raise MalformedMessageError(PEER, f"expected at most {limit} characters", field=key)
    if is_id and not (value and value.isprintable()):
        # Ids stand in log lines, which a line break in one could forge.
        raise MalformedMessageError(PEER, f"expected 1 to {limit} printable characters", field=key)
    return value

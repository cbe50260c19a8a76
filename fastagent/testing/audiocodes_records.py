"""How a scripted AudioCodes line behaves, and what it writes down about the bot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

__all__ = ["LineOptions", "LinePhase", "Rule", "StreamPhase", "Transcript", "Violation"]

Rule = Literal[
    "accepted_format_not_offered",
    "accepted_twice",
    "activity_malformed",
    "binary_frame",
    "chunk_after_stop",
    "chunk_before_start",
    "chunk_misaligned",
    "chunk_not_base64",
    "chunk_not_wav",
    "config_without_session_params",
    "dtmf_not_sendable",
    "message_before_accepted",
    "message_malformed",
    "message_unknown",
    "second_open_stream",
    "setting_malformed",
    "stop_without_start",
    "stream_format_not_offered",
    "stream_id_reused",
    "unasked_acknowledgement",
]
"""Every rule of the protocol that the line watches over."""


class LinePhase(Enum):
    """Where the session stands."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"
    ENDED = "ended"
    """We sent ``session.end``."""
    FAILED = "failed"
    """The bot sent ``session.error``."""


class StreamPhase(Enum):
    """Where the user stream stands."""

    CLOSED = "closed"
    STARTING = "starting"
    OPEN = "open"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class LineOptions:
    """How this carrier behaves, and who calls. The defaults are VAIC's own where they are known."""

    formats: tuple[str, ...] = ("raw/lpcm16", "raw/lpcm16_8", "raw/lpcm16_24", "raw/mulaw")
    """Media formats offered, in order of preference."""
    repeats_wav_header: bool = False
    """With a ``wav/*`` format, begin each chunk with a header instead of each stream."""
    expects_audio: bool = True
    caller: str = "+15550100001"
    callee: str = "+15550100002"
    bot_name: str = "front-desk"
    start_parameters: Mapping[str, Any] = field(default_factory=dict)
    """Added to the parameters of the ``start`` activity."""
    participant: str | None = None
    """Names the caller's leg on user streams (agent-assist); the bot must echo it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Bot settings in force before the bot configures anything: ``bargeIn``, ``sendDTMF`` and so on."""
    chunk_ms: int = 20
    announces_stream_first: bool = False
    """Send ``userStream.start`` before the ``start`` activity; the order is not documented."""
    opens_stream: bool = True
    """Announce the user stream on acceptance; otherwise `PhoneLine.open_user_stream` does."""
    stop_semantics: Literal["drain", "cut"] = "drain"
    """Whether audio not yet heard plays on after ``playStream.stop``."""
    cuts_on_speech: bool = False
    """With ``bargeIn`` on, fall silent when the bot reports that the caller speaks."""
    finishes_aborted: bool = False
    """Send ``playFinished`` also for streams that were cut."""
    dtmf_name: str = "DTMF"
    """The event's spelling, which differs between versions."""
    collects_dtmf: bool = False
    """Send digits typed at once as one event instead of one each."""
    transfer_failure: str | None = None
    """When set, transfers fail with this reason code (``busy``, ``no-answer``, ``declined``, ``error``)."""
    comfort_noise_peak: int = 8
    """Largest sample of the noise between words, of 32767; 0 sends digital silence."""
    echo_db: float | None = None
    """How loud the bot comes back on the caller's stream, below 0; None for a line without echo."""
    echo_delay_ms: int = 120
    """How much later it does."""
    resume_recognition_timeout_s: float = 10.0
    """With ``bargeIn`` off, how long to wait for a bot that understood but says nothing."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule the bot broke."""

    at_s: float
    rule: Rule
    detail: str = ""
    """Ids, names and sizes; never what was said."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Words that somebody said, as the bot reported them."""

    at_s: float
    speaker: Literal["caller", "bot"]
    text: str = field(repr=False)
    is_final: bool = True

"""Settings: one frozen object, read once at start from the environment, passed down as values."""

import ipaddress
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from fastagent.errors import ConfigurationError

__all__ = ["LOCAL_REALTIME", "PUBLIC_REALTIME_URL", "Settings", "is_verifying"]

PUBLIC_REALTIME_URL = "wss://api.openai.com/v1/realtime"
LOCAL_REALTIME = "local"
"""As a Realtime URL: the embedded engine, started inside the process."""
TOKEN_CHARACTERS_MIN = 16
"""A bearer token shorter than this is refused: it could be guessed."""


_CHOICES = {
    "barge_in": ("local", "model", "off"),
    "turn_detection": ("server_vad", "semantic_vad", "local"),
    "speech_detector": ("native", "webrtc", "silero"),
    "speech_preset": ("sensitive", "balanced", "strict"),
    "recording_encoding": ("pcm16", "mulaw"),
}
_MAY_BE_ZERO = ("link_delay_ms", "recording_retention_days", "journal_retention_days")
_TRUTHS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _variable(name: str) -> dict[str, str]:
    return {"variable": name}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Defaults are safe: loopback only, every buffer and wait bounded."""

    host: str = field(default="127.0.0.1", metadata=_variable("HOST"))
    port: int = field(default=8000, metadata=_variable("PORT"))
    log_level: str = field(default="INFO", metadata=_variable("LOG_LEVEL"))
    audiocodes_tokens: tuple[str, ...] = field(default=(), repr=False, metadata=_variable("AUDIOCODES_TOKEN"))
    """Bearer tokens AudioCodes may present, comma-separated in the variable (several while rotating)."""

    openai_api_key: str = field(default="", repr=False, metadata=_variable("OPENAI_API_KEY"))
    realtime_url: str = field(default=PUBLIC_REALTIME_URL, metadata=_variable("FASTAGENT_REALTIME_URL"))
    """A ``ws://`` or ``wss://`` address, or ``local``."""
    realtime_model: str = field(default="gpt-realtime", metadata=_variable("OPENAI_REALTIME_MODEL"))
    transcription_model: str = field(
        default="gpt-4o-mini-transcribe", metadata=_variable("FASTAGENT_TRANSCRIPTION_MODEL")
    )
    """What writes down the caller's words; empty for none."""

    max_sessions: int = field(default=1000, metadata=_variable("MAX_SESSIONS"))
    """Calls at once; further ones are answered 503 before the WebSocket opens."""
    default_timeout_s: float = field(default=30.0, metadata=_variable("DEFAULT_TIMEOUT_SECONDS"))
    """What one step of an agent may take."""
    ping_interval_s: float = field(default=20.0, metadata=_variable("WEBSOCKET_PING_INTERVAL"))
    ping_timeout_s: float = field(default=10.0, metadata=_variable("FASTAGENT_PING_TIMEOUT_SECONDS"))
    handshake_timeout_s: float = field(default=5.0, metadata=_variable("FASTAGENT_HANDSHAKE_TIMEOUT_SECONDS"))
    """From the TCP connection to a whole request head, and from there to the answer."""
    first_message_timeout_s: float = field(
        default=10.0, metadata=_variable("FASTAGENT_FIRST_MESSAGE_TIMEOUT_SECONDS")
    )
    """From an open carrier socket to its first session message."""
    resume_grace_s: float = field(default=60.0, metadata=_variable("FASTAGENT_RESUME_GRACE_SECONDS"))
    """How long a call whose carrier socket was lost waits to be resumed."""
    max_call_s: float = field(default=3600.0, metadata=_variable("FASTAGENT_MAX_CALL_SECONDS"))
    drain_timeout_s: float = field(default=10.0, metadata=_variable("FASTAGENT_DRAIN_TIMEOUT_SECONDS"))
    """What running calls get to end after a request to stop."""

    lead_ms: int = field(default=400, metadata=_variable("FASTAGENT_LEAD_MS"))
    """Most bot audio in flight to the carrier."""
    link_delay_ms: int = field(default=0, metadata=_variable("FASTAGENT_LINK_DELAY_MS"))
    """What the way from us to the caller's ear takes; shortens truncations by as much."""
    backlog_ms: int = field(default=5000, metadata=_variable("FASTAGENT_BACKLOG_MS"))
    """Caller audio kept while the model cannot take it."""
    queue_limit_ms: int = field(default=120_000, metadata=_variable("FASTAGENT_QUEUE_LIMIT_MS"))
    """Bot audio queued for the caller."""
    max_carrier_message_bytes: int = field(
        default=1_048_576, metadata=_variable("FASTAGENT_MAX_CARRIER_MESSAGE_BYTES")
    )
    max_model_message_bytes: int = field(
        default=16_777_216, metadata=_variable("FASTAGENT_MAX_MODEL_MESSAGE_BYTES")
    )
    send_cap_bytes: int = field(default=262_144, metadata=_variable("FASTAGENT_SEND_CAP_BYTES"))
    """Unsent bytes after which a peer that does not read is closed."""
    bad_message_limit: int = field(default=100, metadata=_variable("FASTAGENT_BAD_MESSAGE_LIMIT"))
    """Malformed messages after which a carrier's socket is closed."""
    model_connect_timeout_s: float = field(
        default=3.0, metadata=_variable("FASTAGENT_MODEL_CONNECT_TIMEOUT_SECONDS")
    )
    model_connect_total_timeout_s: float = field(
        default=10.0, metadata=_variable("FASTAGENT_MODEL_CONNECT_TOTAL_TIMEOUT_SECONDS")
    )
    """For all tries to reach the model together; then the call is given up."""
    model_connect_attempts: int = field(default=5, metadata=_variable("FASTAGENT_MODEL_CONNECT_ATTEMPTS"))
    model_session_limit_s: float = field(
        default=3000.0, metadata=_variable("FASTAGENT_MODEL_SESSION_LIMIT_SECONDS")
    )
    """A model session older than this is replaced at the next pause (the vendor ends it at 60 minutes)."""

    barge_in: str = field(default="local", metadata=_variable("FASTAGENT_BARGE_IN"))
    """Who decides that the caller stops the bot: ``local`` (our own ears, which know its echo and forgive an
    "uh-huh"), ``model`` (the model's voice detector), ``off`` (nobody)."""
    turn_detection: str = field(default="server_vad", metadata=_variable("FASTAGENT_TURN_DETECTION"))
    """Who says that the caller's turn is over: the model (``server_vad``, ``semantic_vad``), or ``local``."""
    turn_silence_ms: int = field(default=500, metadata=_variable("FASTAGENT_TURN_SILENCE_MS"))
    """How long the caller is silent at the end of a turn, where a voice detector decides."""
    speech_detector: str = field(default="native", metadata=_variable("FASTAGENT_SPEECH_DETECTOR"))
    """Our ears' voice detector: ``native``, ``webrtc`` or ``silero``; the latter two are extras."""
    speech_preset: str = field(default="balanced", metadata=_variable("FASTAGENT_SPEECH_PRESET"))
    """``sensitive``, ``balanced`` or ``strict`` (for noisy lines)."""
    silero_weights: str = field(default="", metadata=_variable("FASTAGENT_SILERO_WEIGHTS"))
    """Path of ``silero_vad.onnx``; empty: an installed silero-vad package's."""
    inband_dtmf: bool = field(default=False, metadata=_variable("FASTAGENT_INBAND_DTMF"))
    """Listen for keypad tones, for lines whose carrier signals none."""

    recordings_dir: str = field(default="", metadata=_variable("FASTAGENT_RECORDINGS_DIR"))
    """Where calls are recorded, one stereo WAV each; empty: no call is."""
    recording_encoding: str = field(default="pcm16", metadata=_variable("FASTAGENT_RECORDING_ENCODING"))
    """``pcm16``, which everything reads, or ``mulaw``, which takes half of it."""
    recording_retention_days: float = field(
        default=0.0, metadata=_variable("FASTAGENT_RECORDING_RETENTION_DAYS")
    )
    """Age at which recordings are deleted; 0 keeps them."""
    journals_dir: str = field(default="", metadata=_variable("FASTAGENT_JOURNALS_DIR"))
    """Where each call's journal is kept, one file each; empty: in memory, until the call ends."""
    journal_retention_days: float = field(default=0.0, metadata=_variable("FASTAGENT_JOURNAL_RETENTION_DAYS"))
    """Age at which journals are deleted; 0 keeps them."""
    clips_dir: str = field(default="", metadata=_variable("FASTAGENT_CLIPS_DIR"))
    """The folder of audio files that can be played into a call by name; empty for the built-in ones alone."""

    twilio_account_sid: str = field(default="", metadata=_variable("TWILIO_ACCOUNT_SID"))
    """The account whose calls are taken; empty: any that signs with one of the tokens."""
    twilio_auth_tokens: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("TWILIO_AUTH_TOKEN")
    )
    """What Twilio signs its requests with, comma-separated in the variable (several while rotating, or for
    subaccounts). None: Twilio has no door here."""
    twilio_shared_keys: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("TWILIO_SHARED_KEYS")
    )
    """Further signing keys as ``id=secret``, comma-separated in the variable."""
    public_url: str = field(default="", metadata=_variable("FASTAGENT_PUBLIC_URL"))
    """Where carriers find this server: ``https://HOST``, with a port or a path in front of ours if there
    is one. Signatures are checked against it, never against what a request says of itself."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Read the variables that are set and not empty; ``overrides`` win over them.

        Raises:
            ConfigurationError: a value does not parse or cannot work; the message names the variable.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for entry in fields(cls):
            text = environment.get(entry.metadata["variable"], "").strip()
            if text:
                values[entry.name] = _parse(entry.metadata["variable"], text, entry.default)
        values.update({name: value for name, value in overrides.items() if value is not None})
        settings = cls(**values)
        settings.check()
        return settings

    def with_changes(self, **changes: Any) -> "Settings":
        """A checked copy with other values."""
        changed = replace(self, **changes)
        changed.check()
        return changed

    def check(self) -> None:
        """Refuse what cannot work or is not safe.

        Raises:
            ConfigurationError: the message says what to set.
        """
        if not 0 <= self.port <= 65_535:
            raise ConfigurationError(f"PORT: expected 0 to 65535, got {self.port}")
        if self.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ConfigurationError(
                f"LOG_LEVEL: expected DEBUG, INFO, WARNING or ERROR, got {self.log_level!r}"
            )
        if self.realtime_url != LOCAL_REALTIME and not _is_websocket_url(self.realtime_url):
            raise ConfigurationError("FASTAGENT_REALTIME_URL: expected ws://…, wss://… or 'local'")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                variable = next(one.metadata["variable"] for one in fields(self) if one.name == name)
                raise ConfigurationError(
                    f"{variable}: expected {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or entry.name == "port":
                continue
            if not math.isfinite(value):
                raise ConfigurationError(
                    f"{entry.metadata['variable']}: expected a finite number, got {value}"
                )
            if value < 0 or (value == 0 and entry.name not in _MAY_BE_ZERO):
                raise ConfigurationError(f"{entry.metadata['variable']}: expected more than 0, got {value}")
        for token in self.audiocodes_tokens:
            if len(token) < TOKEN_CHARACTERS_MIN:
                raise ConfigurationError(
                    f"AUDIOCODES_TOKEN: expected at least {TOKEN_CHARACTERS_MIN} characters, got {len(token)}"
                )
        self._check_twilio()
        if not self.is_loopback and not self.audiocodes_tokens:
            raise ConfigurationError(
                f"HOST={self.host} is reachable from other machines, so AUDIOCODES_TOKEN must be set "
                "(or bind 127.0.0.1)"
            )

    def _check_twilio(self) -> None:
        if self.public_url and not _is_public_url(self.public_url):
            raise ConfigurationError(
                "FASTAGENT_PUBLIC_URL: expected https://HOST without user, query and fragment"
            )
        for name, keys in (
            ("TWILIO_AUTH_TOKEN", self.twilio_auth_tokens),
            ("TWILIO_SHARED_KEYS", tuple(key.partition("=")[2] for key in self.twilio_shared_keys)),
        ):
            if any(len(key) < TOKEN_CHARACTERS_MIN for key in keys):
                raise ConfigurationError(f"{name}: expected at least {TOKEN_CHARACTERS_MIN} characters")
        if (self.twilio_auth_tokens or self.twilio_shared_keys) and not self.public_url:
            raise ConfigurationError(
                "TWILIO_AUTH_TOKEN needs FASTAGENT_PUBLIC_URL: Twilio signs the address it calls"
            )

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_websocket_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        return False


def _is_public_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or "?" in url or "#" in url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0 and is_plain
    except ValueError:  # brackets or a port that cannot be
        return False


def is_verifying() -> bool:
    """Tell whether agents are to be verified as they are made, for development: ``FASTAGENT_VERIFY``.

    Raises:
        ConfigurationError: it is neither 1 nor 0.
    """
    text = os.environ.get("FASTAGENT_VERIFY", "").strip()
    return bool(text) and bool(_parse("FASTAGENT_VERIFY", text, False))


def _parse(variable: str, text: str, default: Any) -> Any:
    kind: Callable[[str], Any] = type(default)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, bool):
        if text.casefold() not in _TRUTHS:
            raise ConfigurationError(f"{variable}: expected 1 or 0, got {text!r}")
        return _TRUTHS[text.casefold()]
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(f"{variable}: expected {kind.__name__}, got {text!r}") from None

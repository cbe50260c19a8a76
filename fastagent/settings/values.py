"""The frozen settings: every field with its variable and default, and which values cannot work."""

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from fastagent.errors import ConfigurationError
from fastagent.settings.sources import Reading, read_sources

__all__ = ["LOCAL_REALTIME", "PUBLIC_REALTIME_URL", "TOKEN_CHARACTERS_MIN", "Fault", "Settings"]

PUBLIC_REALTIME_URL = "wss://api.openai.com/v1/realtime"
LOCAL_REALTIME = "local"
"""As a Realtime URL: the embedded engine, started inside the process."""
TOKEN_CHARACTERS_MIN = 16
SECRET_CHARACTERS_MIN = 32
"""A bearer token shorter than this is refused: it could be guessed."""
APPEND_MS_MAX = 200
"""Beyond, the caller's delay would be heard, and nothing more is saved."""
COALESCE_US_MAX = 1_000
"""Beyond, as little is saved, and added latency is no longer below a millisecond."""
_REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
DIGEST_PREFIX = "sha256:"
"""Before 64 hexadecimal digits: a token's digest in place of the token."""

_CHOICES = {
    "barge_in": ("local", "model", "off"),
    "turn_detection": ("server_vad", "semantic_vad", "local"),
    "speech_detector": ("native", "webrtc", "silero"),
    "speech_preset": ("sensitive", "balanced", "strict"),
    "recording_encoding": ("pcm16", "mulaw"),
    "log_format": ("auto", "text", "json"),
    "metrics": ("closed", "open"),
    "resume_proof": ("code", "number", "off"),
}
_MAY_BE_ZERO = (
    "workers",
    "drain_goodbye_s",
    "link_delay_ms",
    "coalesce_us",
    "recording_retention_days",
    "journal_retention_days",
    "calls_per_number",
    "calls_per_number_hour",
    "admission_lag_ms",
    "admission_cpu_percent",
)
_BEARER_SETTINGS = ("audiocodes_tokens", "agent_tokens", "admin_tokens", "metrics_tokens")
_TWILIO_SETTINGS = ("twilio_auth_tokens", "twilio_shared_keys")
DISCONNECTED = "Our call was disconnected. Reply CALL to continue, or call us again and say the code {code}."
DISCONNECTED_TEXT = (
    "Our call was disconnected. Reply CALL to continue, or {code} to go on by text, or call us again and say "
    "the code {code}."
)
_SMS_FROM = re.compile(r"\+[1-9]\d{4,14}|MG[0-9a-fA-F]{32}")
_DIAL_ALLOWED = re.compile(r"\+[1-9]\d{0,14}")
RING_MIN_S, RING_MAX_S = 5, 600
"""What Twilio takes: https://www.twilio.com/docs/voice/twiml/dial#timeout."""
_TRANSFER_ALLOWED = re.compile(
    r"\+[1-9]\d{0,14}|(?:sips?:[\w.!~*'()&=+$%-]{1,100})?@[A-Za-z0-9][A-Za-z0-9.-]{0,199}", re.ASCII
)


def _variable(name: str, *, is_secret: bool = False) -> dict[str, Any]:
    return {"variable": name, "is_secret": is_secret}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one setting."""

    name: str
    """The field."""
    text: str
    is_exposure: bool = False
    """It would work, and let in whoever comes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Defaults are safe: loopback only, every buffer and wait bounded."""

    host: str = field(default="127.0.0.1", metadata=_variable("HOST"))
    """Address to listen on; one that other machines reach needs tokens."""
    port: int = field(default=8000, metadata=_variable("PORT"))
    """Port to listen on; 0 picks a free one."""
    log_level: str = field(default="INFO", metadata=_variable("LOG_LEVEL"))
    """``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``."""
    log_format: str = field(default="auto", metadata=_variable("LOG_FORMAT"))
    """``text``, ``json``, or ``auto``: text on a terminal, else JSON."""
    public_url: str = field(default="", metadata=_variable("FASTAGENT_PUBLIC_URL"))
    """The address carriers and callers reach us by, ``https://host[:port][/path]``; empty: not known.
    Twilio's signatures are checked against it, never against what a request says of itself."""
    metrics: str = field(default="closed", metadata=_variable("FASTAGENT_METRICS"))
    """``closed``: who reads the metrics needs a token with the scope ``metrics``; ``open``: nobody does."""
    prices_file: str = field(default="", metadata=_variable("FASTAGENT_PRICES"))
    """Path of a JSON file with prices of models, on top of the built-in ones."""
    traces_url: str = field(default="", metadata=_variable("FASTAGENT_TRACES_URL"))
    """Where OpenTelemetry traces go (OTLP over HTTP, such as ``http://127.0.0.1:4318/v1/traces``); empty:
    none are made. The extra ``otel``."""
    stall_ms: int = field(default=250, metadata=_variable("FASTAGENT_STALL_MS"))
    """How long code may hold the event loop before its place is logged."""

    audiocodes_tokens: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("AUDIOCODES_TOKEN", is_secret=True)
    )
    """Bearer tokens AudioCodes may present, comma-separated in the variable (several while rotating); each
    plain or as ``sha256:`` and the digest in hexadecimal."""
    twilio_auth_tokens: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("TWILIO_AUTH_TOKEN", is_secret=True)
    )
    """What Twilio signs its requests with, comma-separated in the variable (several while rotating, or for
    subaccounts); they need ``FASTAGENT_PUBLIC_URL``. None: Twilio has no door here."""
    twilio_shared_keys: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("TWILIO_SHARED_KEYS", is_secret=True)
    )
    """Further signing keys as ``id=secret``, comma-separated in the variable."""
    twilio_account_sid: str = field(default="", metadata=_variable("TWILIO_ACCOUNT_SID"))
    """The account whose calls are taken; empty: any that signs with one of the keys."""
    agent_tokens: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("FASTAGENT_AGENT_TOKEN", is_secret=True)
    )
    """The same for clients of ``/agent/ws`` (scope ``call``); each owns the sessions it began."""
    agent_origins: tuple[str, ...] = field(default=(), metadata=_variable("FASTAGENT_AGENT_ORIGINS"))
    """Sites whose pages may connect to ``/agent/ws`` beside our own, as ``https://host[:port]``."""
    agent_demo: bool = field(default=False, metadata=_variable("FASTAGENT_AGENT_DEMO"))
    """Serve the page with a microphone at ``/agent/demo``."""
    admin_tokens: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("FASTAGENT_ADMIN_TOKEN", is_secret=True)
    )
    """The same for who may see and change the running house (scopes ``admin``, ``dial`` and ``metrics``)."""
    metrics_tokens: tuple[str, ...] = field(
        default=(), repr=False, metadata=_variable("FASTAGENT_METRICS_TOKEN", is_secret=True)
    )
    """The same for who may only read the metrics (scope ``metrics``)."""
    tokens_file: str = field(default="", metadata=_variable("FASTAGENT_TOKENS_FILE"))
    """A TOML file of tokens with names, scopes and times; empty: only those of the variables."""
    auth_failures_max: int = field(default=10, metadata=_variable("FASTAGENT_AUTH_FAILURES_MAX"))
    """Wrong credentials from one address within the window after which it is answered 429."""
    auth_failure_window_s: float = field(
        default=60.0, metadata=_variable("FASTAGENT_AUTH_FAILURE_WINDOW_SECONDS")
    )
    """How long a wrong credential counts."""
    auth_block_s: float = field(default=60.0, metadata=_variable("FASTAGENT_AUTH_BLOCK_SECONDS"))
    """How long an address with too many of them is answered 429."""
    trusted_proxies: tuple[str, ...] = field(default=(), metadata=_variable("FASTAGENT_TRUSTED_PROXIES"))
    """Addresses or networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed."""

    openai_api_key: str = field(default="", repr=False, metadata=_variable("OPENAI_API_KEY", is_secret=True))
    """What the model's server knows us by."""
    realtime_url: str = field(default=PUBLIC_REALTIME_URL, metadata=_variable("FASTAGENT_REALTIME_URL"))
    """A ``ws://`` or ``wss://`` address, or ``local``."""
    realtime_model: str = field(default="gpt-realtime", metadata=_variable("OPENAI_REALTIME_MODEL"))
    """The model that talks."""
    transcription_model: str = field(
        default="gpt-4o-mini-transcribe", metadata=_variable("FASTAGENT_TRANSCRIPTION_MODEL")
    )
    """What writes down the caller's words; empty for none."""

    max_sessions: int = field(default=1000, metadata=_variable("MAX_SESSIONS"))
    """Calls at once; further ones are answered 503 before the WebSocket opens."""
    calls_per_second: float = field(default=50.0, metadata=_variable("FASTAGENT_CALLS_PER_SECOND"))
    """New calls taken a second, in the long run."""
    call_burst: int = field(default=100, metadata=_variable("FASTAGENT_CALL_BURST"))
    """New calls taken at once after a quiet time."""
    calls_per_number: int = field(default=20, metadata=_variable("FASTAGENT_CALLS_PER_NUMBER"))
    """Calls at once from one number; 0 for any number of them. Callers without a number are not counted."""
    calls_per_number_hour: int = field(default=200, metadata=_variable("FASTAGENT_CALLS_PER_NUMBER_HOUR"))
    """Calls from one number within an hour; 0 for any number of them."""
    max_connections: int = field(default=1000, metadata=_variable("FASTAGENT_MAX_CONNECTIONS"))
    """TCP connections that carry no call (HTTP, or not answered yet); never more than a tenth of the file
    descriptors."""
    connections_per_address: int = field(default=500, metadata=_variable("FASTAGENT_CONNECTIONS_PER_ADDRESS"))
    """Of these, from one address (an IPv6 /64 is one); a carrier that begins many calls at once needs some.
    Trusted proxies have no limit of their own."""
    admission_lag_ms: float = field(default=20.0, metadata=_variable("FASTAGENT_ADMISSION_LAG_MS"))
    """99th percentile of the event loop's lag beyond which no new calls are taken; 0 does not look."""
    admission_cpu_percent: float = field(default=70.0, metadata=_variable("FASTAGENT_ADMISSION_CPU_PERCENT"))
    """Share of one core that the process may use before no new calls are taken; 0 does not look."""
    default_timeout_s: float = field(default=30.0, metadata=_variable("DEFAULT_TIMEOUT_SECONDS"))
    """What one step of an agent may take."""
    ping_interval_s: float = field(default=20.0, metadata=_variable("WEBSOCKET_PING_INTERVAL"))
    """How long a WebSocket is silent before it is pinged."""
    ping_timeout_s: float = field(default=10.0, metadata=_variable("FASTAGENT_PING_TIMEOUT_SECONDS"))
    """How long a ping may go unanswered."""
    handshake_timeout_s: float = field(default=5.0, metadata=_variable("FASTAGENT_HANDSHAKE_TIMEOUT_SECONDS"))
    """From the TCP connection to a whole request head, and from there to the answer."""
    first_message_timeout_s: float = field(
        default=10.0, metadata=_variable("FASTAGENT_FIRST_MESSAGE_TIMEOUT_SECONDS")
    )
    """From an open carrier socket to its first session message."""
    resume_grace_s: float = field(default=60.0, metadata=_variable("FASTAGENT_RESUME_GRACE_SECONDS"))
    """How long a call whose carrier socket was lost waits to be resumed."""
    max_call_s: float = field(default=3600.0, metadata=_variable("FASTAGENT_MAX_CALL_SECONDS"))
    """The longest call; then it is ended."""
    no_media_prompt_s: float = field(default=15.0, metadata=_variable("FASTAGENT_NO_MEDIA_PROMPT_SECONDS"))
    """Without audio from the caller for this long, the bot asks whether somebody is there."""
    no_media_limit_s: float = field(default=30.0, metadata=_variable("FASTAGENT_NO_MEDIA_LIMIT_SECONDS"))
    """Without audio from the caller for this long, the call is ended."""
    drain_timeout_s: float = field(default=600.0, metadata=_variable("FASTAGENT_DRAIN_TIMEOUT_SECONDS"))
    """What running calls get to end after a request to stop."""
    drain_goodbye_s: float = field(default=10.0, metadata=_variable("FASTAGENT_DRAIN_GOODBYE_SECONDS"))
    """How long before that is over the callers who are left are told that the call ends."""
    run_dir: str = field(default="", metadata=_variable("FASTAGENT_RUN_DIR"))
    """A private folder where the processes of one port meet: a new one takes the listening socket over, and a
    call is resumed in whichever has it; empty: there is only one."""
    reuse_port: bool = field(default=False, metadata=_variable("FASTAGENT_REUSE_PORT"))
    """Bind with ``SO_REUSEPORT``, for processes that cannot meet in a folder: each has a queue of its own."""
    workers: int = field(default=1, metadata=_variable("FASTAGENT_WORKERS"))
    """Processes that serve the port, with limits of their own each; 0 for one per core."""
    pin_workers: bool = field(default=False, metadata=_variable("FASTAGENT_PIN_WORKERS"))
    """Keep each of them on a core of its own."""

    lead_ms: int = field(default=400, metadata=_variable("FASTAGENT_LEAD_MS"))
    """Most bot audio in flight to a telephone carrier."""
    link_delay_ms: int = field(default=0, metadata=_variable("FASTAGENT_LINK_DELAY_MS"))
    """What the way from us to the caller's ear takes; shortens truncations by as much."""
    append_ms: int = field(default=20, metadata=_variable("FASTAGENT_APPEND_MS"))
    """Caller audio gathered into one message to the model, 200 at most. Up to 20, a telephone's own frame,
    none is: each goes on at once. More is less work, later by as much; our own ears always hear at once."""
    coalesce_us: int = field(default=400, metadata=_variable("FASTAGENT_COALESCE_US"))
    """With 50 calls and more, the loop wakes at most once in this many microseconds, 1,000 at most, and takes
    what came meanwhile: less work, later by half of it on the average; 0: it wakes for each message."""
    backlog_ms: int = field(default=5000, metadata=_variable("FASTAGENT_BACKLOG_MS"))
    """Caller audio kept while the model cannot take it."""
    queue_limit_ms: int = field(default=120_000, metadata=_variable("FASTAGENT_QUEUE_LIMIT_MS"))
    """Bot audio queued for the caller."""
    max_carrier_message_bytes: int = field(
        default=1_048_576, metadata=_variable("FASTAGENT_MAX_CARRIER_MESSAGE_BYTES")
    )
    """A longer message of a carrier closes its socket with 1009."""
    max_model_message_bytes: int = field(
        default=16_777_216, metadata=_variable("FASTAGENT_MAX_MODEL_MESSAGE_BYTES")
    )
    """The same for the model's messages."""
    send_cap_bytes: int = field(default=262_144, metadata=_variable("FASTAGENT_SEND_CAP_BYTES"))
    """Unsent bytes after which a peer that does not read is closed."""
    bad_message_limit: int = field(default=100, metadata=_variable("FASTAGENT_BAD_MESSAGE_LIMIT"))
    """Malformed messages after which a carrier's socket is closed."""
    model_connect_timeout_s: float = field(
        default=3.0, metadata=_variable("FASTAGENT_MODEL_CONNECT_TIMEOUT_SECONDS")
    )
    """For one try to reach the model."""
    model_connect_total_timeout_s: float = field(
        default=10.0, metadata=_variable("FASTAGENT_MODEL_CONNECT_TOTAL_TIMEOUT_SECONDS")
    )
    """For all tries to reach the model together; then the call is given up."""
    model_connect_attempts: int = field(default=5, metadata=_variable("FASTAGENT_MODEL_CONNECT_ATTEMPTS"))
    """Most tries to reach the model for one session."""
    model_ping_interval_s: float = field(
        default=2.5, metadata=_variable("FASTAGENT_MODEL_PING_INTERVAL_SECONDS")
    )
    """Silence after which a session with the model is pinged: callers hear a lost one as silence."""
    model_ping_timeout_s: float = field(
        default=2.0, metadata=_variable("FASTAGENT_MODEL_PING_TIMEOUT_SECONDS")
    )
    """How long such a ping may go unanswered."""
    model_answer_timeout_s: float = field(
        default=4.0, metadata=_variable("FASTAGENT_MODEL_ANSWER_TIMEOUT_SECONDS")
    )
    """How long a session with the model may owe a response and say nothing; then it is replaced."""
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
    agents_dir: str = field(default="", metadata=_variable("FASTAGENT_AGENTS_DIR"))
    """The folder that keeps posted configurations of agents across restarts; empty: they are not kept."""

    store_path: str = field(default="", metadata=_variable("FASTAGENT_STORE"))
    """The SQLite file that keeps sessions across restarts; empty: in memory."""
    redis_url: str = field(default="", repr=False, metadata=_variable("REDIS_URL", is_secret=True))
    """Where sessions are kept for several machines: ``redis://``, ``rediss://``, ``unix://``,
    ``redis+sentinel://host:port,host:port/service/db`` or ``redis+cluster://``; empty: they are not."""
    session_ttl_s: float = field(default=86_400.0, metadata=_variable("FASTAGENT_SESSION_TTL_SECONDS"))
    """How long the record of a session is kept after its last change."""
    interrupted_fresh_s: float = field(default=3600.0, metadata=_variable("FASTAGENT_RESUME_WITHIN_SECONDS"))
    """How long after an interrupted call its task is offered again to a caller who calls back."""
    resume_proof: str = field(default="code", metadata=_variable("FASTAGENT_RESUME_PROOF"))
    """How a caller who calls again shows who they are: ``code`` (the digits of the text message), ``number``
    (their number is enough; it can be forged), or ``off``: interrupted talks are not offered again."""
    session_secret: str = field(
        default="", repr=False, metadata=_variable("FASTAGENT_SESSION_SECRET", is_secret=True)
    )
    """Keys the digests of numbers and codes, 32 characters or more, the same on all machines of a store;
    empty: one is made of ``REDIS_URL``, or kept beside the file of ``FASTAGENT_STORE``."""
    sms_text: str = field(
        default=DISCONNECTED,
        metadata=_variable("FASTAGENT_SMS_TEXT"),
    )
    """What a caller who was cut off is sent; ``{code}`` stands for the digits that prove it is them."""
    sms_sender: str = field(default="", metadata=_variable("FASTAGENT_SMS"))
    """How text messages go out: empty for not at all, ``log``, ``twilio``, or the path of a file they are
    written to."""
    twilio_sms_from: str = field(default="", metadata=_variable("TWILIO_SMS_FROM"))
    """Whose text messages ours are at Twilio: a number (``+…``) or a messaging service (``MG…``)."""
    twilio_api_url: str = field(default="https://api.twilio.com", metadata=_variable("TWILIO_API_URL"))
    """Twilio's REST API; another one for its regions."""
    sms_per_number_day: int = field(default=5, metadata=_variable("FASTAGENT_SMS_PER_NUMBER_DAY"))
    """Text messages to one number within a day."""
    sms_per_day: int = field(default=500, metadata=_variable("FASTAGENT_SMS_PER_DAY"))
    """Text messages to all numbers within a day, of each process."""
    text_channel: bool = field(default=False, metadata=_variable("FASTAGENT_TEXT_CHANNEL"))
    """Whether who was cut off may go on by answering the text message, once they sent its code."""
    text_idle_s: float = field(default=900.0, metadata=_variable("FASTAGENT_TEXT_IDLE_SECONDS"))
    """How long after a caller's last text message the next one needs the code again."""
    text_answers: int = field(default=20, metadata=_variable("FASTAGENT_TEXT_ANSWERS"))
    """Text messages that answer those of a caller, for one interrupted call."""
    text_per_number_day: int = field(default=40, metadata=_variable("FASTAGENT_TEXT_PER_NUMBER_DAY"))
    """The same for one number within a day; before the code is right, FASTAGENT_SMS_PER_NUMBER_DAY holds."""
    dial_allow: tuple[str, ...] = field(default=(), metadata=_variable("FASTAGENT_DIAL_ALLOW"))
    """Numbers that may be called, or what they begin with (``+1555, +4930``); none: nobody is called."""
    transfer_allow: tuple[str, ...] = field(default=(), metadata=_variable("FASTAGENT_TRANSFER_ALLOW"))
    """Whom callers may be handed on to beside the targets that their agent declares: numbers or what they
    begin with (``+1555``), SIP addresses (``sip:desk@example.com``), hosts of such (``@example.com``)."""
    transfer_ring_s: int = field(default=20, metadata=_variable("FASTAGENT_TRANSFER_RING_SECONDS"))
    """How long Twilio rings whoever a caller is handed on to; a state that awaits the outcome has
    ``DEFAULT_TIMEOUT_SECONDS``."""
    transfer_accept: bool = field(default=True, metadata=_variable("FASTAGENT_TRANSFER_ACCEPT"))
    """Whether who answers a warm transfer at Twilio takes it by the key 1, which no mailbox presses."""
    transfer_accept_text: str = field(
        default="You have a call. Press 1 to take it.", metadata=_variable("FASTAGENT_TRANSFER_ACCEPT_TEXT")
    )
    """What they are asked with."""
    dial_per_number_day: int = field(default=3, metadata=_variable("FASTAGENT_DIAL_PER_NUMBER_DAY"))
    """Calls made to one number within a day."""
    dial_per_day: int = field(default=100, metadata=_variable("FASTAGENT_DIAL_PER_DAY"))
    """Calls made to all numbers within a day, of each process."""

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        config: str | None = None,
        assignments: Sequence[str] = (),
        **overrides: Any,
    ) -> "Settings":
        """Read all sources: a file, then the variables that are set and not empty, then what is given here.

        Args:
            environment: None for the process's own.
            config: the TOML file; None for the one that ``FASTAGENT_CONFIG`` names, if it does.
            assignments: ``NAME=VALUE`` texts, as a command line has them.
            overrides: values of fields; None stands for not given.

        Raises:
            ConfigurationError: a value does not parse or cannot work; the message names where it stands.
        """
        reading = read_sources(
            fields(cls), environment, config=config, assignments=assignments, overrides=overrides
        )
        return cls.from_reading(reading)

    @classmethod
    def from_reading(cls, reading: Reading) -> "Settings":
        """Make checked settings of what the sources hold.

        Raises:
            ConfigurationError: see `from_environment`; of several faults the first is told.
        """
        complaints = list(reading.complaints.values())
        settings = cls(**reading.values)
        complaints += [
            f"{reading.label(fault.name)}: {fault.text}"
            for fault in settings.faults()
            if fault.name not in reading.complaints
        ]
        if complaints:
            more = f" (and {len(complaints) - 1} more: see --check)" if len(complaints) > 1 else ""
            raise ConfigurationError(complaints[0] + more)
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
        for fault in self.faults():
            raise ConfigurationError(f"{self.variable(fault.name)}: {fault.text}")

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment's name of a field."""
        return str(next(one.metadata["variable"] for one in fields(cls) if one.name == name))

    def faults(self) -> Iterator[Fault]:
        """Everything for which the server would not start with these values."""
        if not 0 <= self.port <= 65_535:
            yield Fault("port", f"expected 0 to 65535, got {self.port}")
        if self.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            yield Fault("log_level", f"expected DEBUG, INFO, WARNING or ERROR, got {self.log_level!r}")
        if self.realtime_url != LOCAL_REALTIME and not _is_url(self.realtime_url, "ws", "wss"):
            yield Fault("realtime_url", "expected ws://…, wss://… or 'local'")
        if self.traces_url and not _is_url(self.traces_url, "http", "https"):
            yield Fault("traces_url", "expected http://… or https://…")
        if self.public_url and not (_is_url(self.public_url, "http", "https") and _is_plain(self.public_url)):
            yield Fault("public_url", "expected http://… or https://…, without user, query and fragment")
        if self.session_secret and len(self.session_secret) < SECRET_CHARACTERS_MIN:
            yield Fault("session_secret", f"expected at least {SECRET_CHARACTERS_MIN} characters")
        if self.redis_url and self.redis_url.partition("://")[0] not in _REDIS_SCHEMES:
            yield Fault("redis_url", f"expected one of {', '.join(f'{one}://…' for one in _REDIS_SCHEMES)}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                yield Fault(name, f"expected {', '.join(allowed)}, got {getattr(self, name)!r}")
        yield from self._number_faults()
        if self.append_ms > APPEND_MS_MAX:
            yield Fault("append_ms", f"expected at most {APPEND_MS_MAX}, got {self.append_ms}")
        if self.coalesce_us > COALESCE_US_MAX:
            yield Fault("coalesce_us", f"expected at most {COALESCE_US_MAX}, got {self.coalesce_us}")
        if self.no_media_limit_s <= self.no_media_prompt_s:
            yield Fault(
                "no_media_limit_s", f"expected more than the prompt's {self.no_media_prompt_s:g} seconds"
            )
        for proxy in self.trusted_proxies:
            if not _is_network(proxy):
                yield Fault("trusted_proxies", f"expected an address or a network, got {proxy!r}")
        for name in _BEARER_SETTINGS:
            for token in getattr(self, name):
                if reason := _token_fault(token):
                    yield Fault(name, reason)
        yield from self._twilio_faults()
        if self.reuse_port and (self.run_dir or self.workers != 1):
            text = "expected neither FASTAGENT_RUN_DIR nor workers beside it: those share one queue"
            yield Fault("reuse_port", text)
        if not self.is_loopback and not self.has_tokens:
            yield Fault(
                "host",
                f"{self.host} is reachable from other machines, so AUDIOCODES_TOKEN must be set, or another "
                "token or FASTAGENT_TOKENS_FILE (or bind 127.0.0.1)",
                is_exposure=True,
            )

    def _twilio_faults(self) -> Iterator[Fault]:
        for name, keys in zip(_TWILIO_SETTINGS, (self.twilio_auth_tokens, self._shared_secrets), strict=True):
            if any(len(key) < TOKEN_CHARACTERS_MIN for key in keys):
                yield Fault(name, f"expected at least {TOKEN_CHARACTERS_MIN} characters")
        if self.has_twilio and (not self.public_url or _is_url(self.public_url, "http")):
            yield Fault(
                "public_url",
                "expected https://… where Twilio's keys are set: they sign the address that Twilio calls",
            )

        if self.texts_by_twilio and not _SMS_FROM.fullmatch(self.twilio_sms_from):
            yield Fault("twilio_sms_from", "expected +… or MG… where FASTAGENT_SMS is twilio")
        if self.texts_by_twilio or self.dial_allow:
            if not self.twilio_auth_tokens:
                yield Fault("twilio_auth_tokens", "expected a token where texts or calls go out by Twilio")
            if not self.twilio_account_sid:
                yield Fault("twilio_account_sid", "expected AC… where texts or calls go out by Twilio")
        if self.text_channel and not self.texts_by_twilio:
            yield Fault("text_channel", "expected twilio in FASTAGENT_SMS beside it")
        if self.text_channel and self.resume_proof == "off":
            yield Fault("text_channel", "expected code or number in FASTAGENT_RESUME_PROOF beside it")
        if not RING_MIN_S <= self.transfer_ring_s <= RING_MAX_S:
            yield Fault("transfer_ring_s", f"expected {RING_MIN_S} to {RING_MAX_S}")
        if any(not _TRANSFER_ALLOWED.fullmatch(one) for one in self.transfer_allow):
            yield Fault("transfer_allow", "expected numbers (+…), sip:user@host or @host")
        if any(not _DIAL_ALLOWED.fullmatch(one) for one in self.dial_allow):
            yield Fault("dial_allow", "expected numbers, or their first digits, beginning with +")
        url = self.twilio_api_url
        if not _is_plain(url) or not (_is_url(url, "https") or (_is_url(url, "http") and _is_near(url))):
            yield Fault("twilio_api_url", "expected https://…, without user, query and fragment")

    @property
    def interruption_text(self) -> str:
        """What a caller who was cut off is sent: `sms_text`; its default tells of texts where they go on."""
        if self.text_channel and self.sms_text == DISCONNECTED:
            return DISCONNECTED_TEXT
        return self.sms_text

    @property
    def texts_by_twilio(self) -> bool:
        """Text messages go out by Twilio."""
        return self.sms_sender == "twilio"

    @property
    def _shared_secrets(self) -> tuple[str, ...]:
        return tuple(key.partition("=")[2] for key in self.twilio_shared_keys)

    def _number_faults(self) -> Iterator[Fault]:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or entry.name == "port":
                continue
            if not math.isfinite(value):
                yield Fault(entry.name, f"expected a finite number, got {value}")
            elif value < 0 or (value == 0 and entry.name not in _MAY_BE_ZERO):
                yield Fault(entry.name, f"expected more than 0, got {value}")

    @property
    def has_twilio(self) -> bool:
        """Twilio's requests can be told from others, so its doors are there."""
        return any(getattr(self, name) for name in _TWILIO_SETTINGS)

    @property
    def has_tokens(self) -> bool:
        """Something says who may come in."""
        has_bearers = any(getattr(self, name) for name in _BEARER_SETTINGS)
        return bool(self.tokens_file) or has_bearers or self.has_twilio

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be seen by nobody; for a log that leaves it out."""
        tokens = (token for name in _BEARER_SETTINGS for token in getattr(self, name))
        keys = (*self.twilio_auth_tokens, *self._shared_secrets)
        own = (self.openai_api_key, self.redis_url, self.session_secret)
        return tuple(filter(None, (*own, *tokens, *keys)))

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_url(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        return False


def _is_near(url: str) -> bool:
    """An address of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_plain(url: str) -> bool:
    """Nothing stands in an address but the place."""
    return not ("?" in url or "#" in url or "@" in urlsplit(url).netloc)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _token_fault(token: str) -> str | None:
    if token.startswith(DIGEST_PREFIX):
        is_digest = re.fullmatch(r"[0-9a-fA-F]{64}", token.removeprefix(DIGEST_PREFIX))
        return None if is_digest else f"expected 64 hexadecimal digits after {DIGEST_PREFIX}"
    if len(token) < TOKEN_CHARACTERS_MIN:
        return f"expected at least {TOKEN_CHARACTERS_MIN} characters, got {len(token)}"
    return None

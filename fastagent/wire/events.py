"""Neutral telephony words: what carriers tell us (events) and what we ask of them (commands).

A carrier's codec translates its wire to these and back; the bridge speaks nothing else. Text and digits
of the caller travel in fields that ``repr`` leaves out, so that they cannot reach a log by accident.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Protocol

from fastagent.audio.formats import AudioFormat
from fastagent.wire.envelope import AudioTemplate, MediaEnvelope

__all__ = [
    "AbortPlayback",
    "AcceptSession",
    "CallMetadata",
    "Callee",
    "CalleeDetected",
    "CallerAudio",
    "CallerStreamStarted",
    "CallerStreamStopped",
    "CallerText",
    "CarrierCodec",
    "CarrierCommand",
    "CarrierEvent",
    "CarrierNotice",
    "ClosePlayback",
    "ConfigureCall",
    "ControlRecording",
    "DtmfReceived",
    "EndReason",
    "ExpectMoreOutput",
    "FailSession",
    "HandedOver",
    "HangUp",
    "IgnoredMessage",
    "MediaOffer",
    "NoUserInput",
    "OpenPlayback",
    "PlayAudio",
    "PlayUrl",
    "PlaybackFailed",
    "PlaybackFinished",
    "RecordingAction",
    "RefuseSession",
    "ReportSpeech",
    "ReportTranscript",
    "SendDtmf",
    "SendMetadata",
    "SessionEnded",
    "SessionOffered",
    "SessionResumed",
    "SpeechPhase",
    "TellError",
    "TellTranscript",
    "TellTransition",
    "TransferCall",
    "TransferStatus",
]


@dataclass(frozen=True, slots=True)
class MediaOffer:
    """One media format a carrier offers, under the carrier's own name for it."""

    name: str
    format: AudioFormat
    has_wav_header: bool = False
    """The stream begins with a RIFF header (some carriers repeat it on each chunk)."""


class EndReason(Enum):
    """Why a carrier says a call ended; an open set on the wire, closed here."""

    CALLER = "caller"
    """The caller hung up."""
    BOT = "bot"
    """We asked for it."""
    TRANSFERRED = "transferred"
    MACHINE = "machine"
    """An answering machine was detected."""
    NOT_ANSWERED = "not_answered"
    """An outbound call nobody took: no answer, busy, declined."""
    ERROR = "error"
    OTHER = "other"


# Events: carrier -> us


@dataclass(frozen=True, slots=True)
class SessionOffered:
    """A call arrives. Answer with exactly one of `AcceptSession` and `RefuseSession`."""

    conversation_id: str
    offers: tuple[MediaOffer, ...]
    """Formats we know, in the carrier's order of preference; unknown names are left out."""
    wants_audio: bool
    """False when the carrier wants text back instead of audio."""
    caller: str = field(default="", repr=False)
    bot_name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What else came with the offer, under the carrier's own names."""
    is_return: bool = False
    """It is no new call: a caller whom nobody took over is back on another socket."""


@dataclass(frozen=True, slots=True)
class SessionResumed:
    """A lost socket of a running call is back. Answer with `AcceptSession` or `RefuseSession`."""

    conversation_id: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The call is over; nothing follows on this socket."""

    reason: EndReason
    code: str = ""
    """The carrier's own word for it."""


@dataclass(frozen=True, slots=True)
class CallMetadata:
    """What the carrier knows of the call, under its own names."""

    parameters: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallerStreamStarted:
    """Caller audio is about to flow (a call may have several such stretches)."""

    participant: str | None = None


@dataclass(frozen=True, slots=True)
class CallerStreamStopped:
    """Caller audio pauses. Not the end of the call."""

    participant: str | None = None


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """Keypad digits, each one of ``0-9 * # A-D``; one or more."""

    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoUserInput:
    """The carrier heard nothing from the caller, ``count`` times in a row."""

    count: int


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    """A playback was heard to its end (the oldest unfinished one, when the carrier names none)."""

    playback_id: str | None = None


@dataclass(frozen=True, slots=True)
class PlaybackFailed:
    """A file or URL could not be played."""

    reason: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The socket ended as the caller is being handed on. What becomes of it is told by `TransferStatus`; a
    caller whom nobody takes over comes back on another socket."""


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """How a transfer goes on."""

    answered: bool
    code: str = ""
    """The carrier's own word for it."""


class Callee(Enum):
    """Who, or what, took a call that we made."""

    HUMAN = "human"
    MACHINE = "machine"
    """An answering machine or a mailbox."""
    FAX = "fax"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CalleeDetected:
    """The carrier found out who took a call that we made."""

    callee: Callee
    code: str = ""
    """The carrier's own word for it."""


@dataclass(frozen=True, slots=True)
class CallerText:
    """The caller's words as text, from a carrier that does its own recognition."""

    text: str = field(repr=False)
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class CallerAudio:
    """Caller audio that the native path did not take, as a media message that it does take."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CarrierNotice:
    """Any other event of the carrier, known or not; kept for agents and journals, never fatal."""

    name: str
    value: Any = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class IgnoredMessage:
    """A message that says nothing to us. Counted by ``cause`` (a closed set per codec), never fatal."""

    cause: str


CarrierEvent = (
    SessionOffered
    | SessionResumed
    | SessionEnded
    | CallMetadata
    | CallerStreamStarted
    | CallerStreamStopped
    | DtmfReceived
    | NoUserInput
    | PlaybackFinished
    | PlaybackFailed
    | HandedOver
    | TransferStatus
    | CalleeDetected
    | CallerText
    | CallerAudio
    | CarrierNotice
    | IgnoredMessage
)


# Commands: us -> carrier


class SpeechPhase(Enum):
    """Where the caller's utterance stands."""

    STARTED = "started"
    STOPPED = "stopped"
    COMMITTED = "committed"


class RecordingAction(Enum):
    """What the carrier's own call recording shall do."""

    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class AcceptSession:
    """Take the call; caller audio comes in ``media``."""

    media: MediaOffer
    state: str = ""
    """Where its agent stands, for carriers that want to know."""
    age_s: float = 0.0
    """Since the call began: a resumed one is older than its socket."""


@dataclass(frozen=True, slots=True)
class RefuseSession:
    """Do not take the call."""

    reason: str
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class FailSession:
    """Give the call up: fatal for it at any moment."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConfigureCall:
    """Change the carrier's settings for the rest of the call, under the carrier's own names."""

    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OpenPlayback:
    """Begin one stretch of bot audio; at most one is open at a time."""

    playback_id: str
    media: MediaOffer
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """Audio for the open playback, outside the native path (``data`` is in the playback's format)."""

    playback_id: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClosePlayback:
    """No more audio comes for this playback; what was sent plays on."""

    playback_id: str


@dataclass(frozen=True, slots=True)
class AbortPlayback:
    """Discard everything that was sent and not yet heard."""


@dataclass(frozen=True, slots=True)
class ReportSpeech:
    """Tell the carrier where the caller's utterance stands (drives its barge-in and its timers)."""

    phase: SpeechPhase


@dataclass(frozen=True, slots=True)
class ReportTranscript:
    """Tell the carrier what the caller said; ``text`` is the whole utterance so far."""

    text: str = field(repr=False)
    is_final: bool
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call."""

    reason: str


@dataclass(frozen=True, slots=True)
class TransferCall:
    """Hand the caller on to ``target`` (``tel:+…`` or ``sip:…``)."""

    target: str = field(repr=False)
    reason: str = ""
    sip_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    summary: str = field(default="", repr=False)
    """Where the call stands, for whoever takes it over."""
    is_warm: bool = False
    """Whoever answers is to hear the summary before the caller."""
    wants_status: bool = False


@dataclass(frozen=True, slots=True)
class SendDtmf:
    """Send digits to the far side (``0-9 * #``, at most 20)."""

    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendMetadata:
    """Pass data to the telephone network's side."""

    value: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ControlRecording:
    """Steer the carrier's own call recording."""

    action: RecordingAction
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlayUrl:
    """Have the carrier play a file."""

    url: str
    text: str | None = field(default=None, repr=False)
    media_name: str | None = None


@dataclass(frozen=True, slots=True)
class ExpectMoreOutput:
    """Tell the carrier that more bot output follows, so that its no-input timers wait."""


@dataclass(frozen=True, slots=True)
class TellTransition:
    """Tell that the agent's state changed; only some carriers want to know."""

    task: str
    from_state: str
    """Empty when the task begins."""
    to_state: str
    reason: str


@dataclass(frozen=True, slots=True)
class TellTranscript:
    """Tell what the bot said; only some carriers want to know."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TellError:
    """Tell that something went wrong on our side and the call goes on, or is about to end; only some carriers
    want to know."""

    cause: Literal["model", "internal"]
    reason: str
    code: str = ""
    """The model's own word for it."""


CarrierCommand = (
    AcceptSession
    | RefuseSession
    | FailSession
    | ConfigureCall
    | OpenPlayback
    | PlayAudio
    | ClosePlayback
    | AbortPlayback
    | ReportSpeech
    | ReportTranscript
    | HangUp
    | TransferCall
    | SendDtmf
    | SendMetadata
    | ControlRecording
    | PlayUrl
    | ExpectMoreOutput
    | TellTransition
    | TellTranscript
    | TellError
)


class CarrierCodec(Protocol):
    """What every carrier's codec offers: one object per socket, sans I/O."""

    @property
    def caller_media(self) -> MediaEnvelope:
        """How the native scanner recognises caller audio; asked for once the session was offered."""

    cuts_reliably: bool
    """Audio already sent can be recalled however much it is (so playout may run far ahead)."""
    close_may_cut: bool
    """`ClosePlayback` may silence audio that was not heard yet (so it must wait until all was)."""
    can_resume: bool
    """After a lost socket the call may come back on another."""
    sends_digits: bool
    """There is a word for `SendDtmf`; without one, digits are tones in the audio."""
    closing_hangs_up: bool
    """`HangUp` has no message of its own: closing the socket ends the call."""

    def media_named(self, name: str) -> MediaOffer | None:
        """The format of this name; None when the carrier has none such."""

    @property
    def may_close(self) -> bool:
        """Nothing more is said on this socket, and closing it is ours."""

    def receive(self, message: bytes) -> list[CarrierEvent]:
        """Translate one message.

        Raises:
            WireError: not parsable, wrong types, or not now; the call goes on.
        """

    def send(self, command: CarrierCommand) -> list[bytes]:
        """Translate one command to messages, in order. A command this carrier has no word for gives none."""

    def messages_to_send(self) -> list[bytes]:
        """Answers and refusals the protocol itself asks for, since the last call; send them first."""

    def playback_template(self, playback_id: str) -> AudioTemplate:
        """What the native path writes around audio of this playback."""

"""Activities of the AudioCodes Bot API: the events inside ``activities`` messages, both ways.

Sources, all under https://techdocs.audiocodes.com/voice-ai-connect/Content/VAIG_Combined/:
``call-initiation``, ``receive-dtmf``, ``inactivity-detection``, ``controlling_events_to_bot``,
``transfer-status``, ``play-url``, ``Audio_playback_failure``, ``hangup``, ``call-transfer``,
``sending_dtmf_digits``, ``send-metadata``, ``call-recording``, ``changing-call-setting``,
``sending-activities``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from fastagent.errors import MalformedMessageError
from fastagent.wire.events import (
    AbortPlayback,
    CallerText,
    CallMetadata,
    CarrierEvent,
    CarrierNotice,
    ConfigureCall,
    ControlRecording,
    DtmfReceived,
    ExpectMoreOutput,
    HangUp,
    NoUserInput,
    PlaybackFailed,
    PlaybackFinished,
    PlayUrl,
    SendDtmf,
    SendMetadata,
    TransferCall,
    TransferStatus,
)

__all__ = [
    "EVENTS_TO_BOT",
    "PEER",
    "RECOMMENDED_SETTINGS",
    "ActivityCommand",
    "Json",
    "read_activity",
    "text_field",
    "write_activity",
]

PEER = "audiocodes"

Json = dict[str, Any]

ID_CHARS_MAX = 256
"""Ids and names longer than this are not ids."""
DTMF_RECEIVED_MAX = 128
"""Digits in one event; the vendor's own collection stops far below."""
DTMF_SENT_MAX = 20
"""The vendor ignores longer strings."""
DTMF_RECEIVED = frozenset("0123456789*#ABCD")
DTMF_SENT = frozenset("0123456789*#")
COUNT_MAX = 1_000_000

RECOMMENDED_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        # Off by default, and then no caller audio arrives while the bot speaks: nobody could interrupt it.
        "bargeIn": True,
        # Zero = do not give the call up because the caller is silent.
        "userNoInputGiveUpTimeoutMS": 0,
        "sendDTMF": True,
        "sendEventsToBot": ("playFinished", "noUserInput"),
    }
)
"""Settings for `ConfigureCall` that a speech-to-speech bridge needs; the defaults suit chat bots."""

EVENTS_TO_BOT = frozenset(
    {
        "agentConnected",
        "conversationEnd",
        "dialoutInitiated",
        "noUserInput",
        "playFinished",
        "silenceDetected",
        "speakerVerificationActionResult",
        "speakerVerificationEnrollCompleted",
        "speakerVerificationEnrollProgress",
        "speakerVerificationSpeakerStatus",
        "speakerVerificationVerifyCompleted",
        "speakerVerificationVerifyProgress",
        "speechHypothesis",
        "voiceDetected",
    }
)
"""Every event that is sent only when ``sendEventsToBot`` names it."""


def text_field(message: Json, key: str, default: str | None = None, *, is_id: bool = False) -> str:
    """A string field; ``default`` stands in when it is absent or null.

    Raises:
        MalformedMessageError: wrong type, absent without default, or an id of unreasonable length.
    """
    value = message.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise MalformedMessageError(PEER, "expected a string", field=key)
    if is_id and not (0 < len(value) <= ID_CHARS_MAX and value.isprintable()):
        # Ids stand in log lines, which a line break in one could forge.
        raise MalformedMessageError(PEER, f"expected 1 to {ID_CHARS_MAX} printable characters", field=key)
    return value


# VAIC -> bot


def read_activity(activity: object) -> CarrierEvent:
    """The event an activity means.

    Raises:
        MalformedMessageError: not an activity, or its fields have wrong types.
    """
    if not isinstance(activity, dict):
        raise MalformedMessageError(PEER, "expected an object for each activity", field="activities")
    kind = text_field(activity, "type", is_id=True)
    if kind == "message":
        return CallerText(text_field(activity, "text"))
    if kind != "event":
        return _notice(activity, text_field(activity, "name", kind, is_id=True))
    name = text_field(activity, "name", is_id=True)
    # Pages and versions disagree on DTMF or dtmf, so no name is held to its case.
    reader = READERS.get(name.lower())
    return reader(activity) if reader is not None else _notice(activity, name)


def _object_field(activity: Json, key: str) -> Json:
    value = activity.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedMessageError(PEER, "expected an object", field=key)
    return value


def _notice(activity: Json, name: str) -> CarrierNotice:
    # The hangup notice carries its reason in activityParams, everything else uses parameters.
    parameters = _object_field(activity, "activityParams") | _object_field(activity, "parameters")
    return CarrierNotice(name, activity.get("value"), parameters)


def _start(activity: Json) -> CarrierEvent:
    return CallMetadata(_object_field(activity, "parameters"))


def _dtmf(activity: Json) -> CarrierEvent:
    value = activity.get("value")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise MalformedMessageError(PEER, "expected DTMF digits", field="value")
    digits = value.upper()
    if not 0 < len(digits) <= DTMF_RECEIVED_MAX or not DTMF_RECEIVED.issuperset(digits):
        raise MalformedMessageError(PEER, f"expected 1 to {DTMF_RECEIVED_MAX} of 0-9 * # A-D", field="value")
    return DtmfReceived(digits)


def _no_user_input(activity: Json) -> CarrierEvent:
    value = activity.get("value")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= COUNT_MAX:
        raise MalformedMessageError(PEER, "expected a count", field="value")
    return NoUserInput(int(value))


def _play_finished(_activity: Json) -> CarrierEvent:
    return PlaybackFinished()


def _play_url_failed(activity: Json) -> CarrierEvent:
    return PlaybackFailed(text_field(_object_field(activity, "value"), "reason", ""))


def _transfer_status(activity: Json) -> CarrierEvent:
    value = _object_field(activity, "value")
    status = text_field(value, "status")
    if status not in ("answered", "failed"):
        return _notice(activity, "transferStatus")
    return TransferStatus(status == "answered", text_field(value, "reasonCode", ""))


def _speech_hypothesis(activity: Json) -> CarrierEvent:
    value = activity.get("value")
    text = value if isinstance(value, str) else activity.get("text")
    if not isinstance(text, str):
        return _notice(activity, "speechHypothesis")
    return CallerText(text, is_final=False)


READERS: Mapping[str, Callable[[Json], CarrierEvent]] = {
    "start": _start,
    "dtmf": _dtmf,
    "nouserinput": _no_user_input,
    "playfinished": _play_finished,
    "playurlfailed": _play_url_failed,
    "transferstatus": _transfer_status,
    "speechhypothesis": _speech_hypothesis,
}


# Bot -> VAIC

ActivityCommand = (
    AbortPlayback
    | ConfigureCall
    | ControlRecording
    | ExpectMoreOutput
    | HangUp
    | PlayUrl
    | SendDtmf
    | SendMetadata
    | TransferCall
)


def write_activity(command: ActivityCommand) -> tuple[str, Json]:
    """The activity's name, and the fields that carry its parameters.

    Raises:
        ValueError: parameters that the vendor would refuse or ignore.
    """
    match command:
        case AbortPlayback():
            return "abortPrompts", {}
        case ConfigureCall(settings):
            # sessionParams last for the call, activityParams only until the next prompt.
            return "config", {"sessionParams": dict(settings)}
        case ControlRecording(action, parameters):
            return f"{action.value}CallRecording", {"activityParams": dict(parameters)} if parameters else {}
        case ExpectMoreOutput():
            return "expectAnotherBotMessage", {}
        case HangUp(reason):
            # The reason becomes a SIP Reason header, which is one line.
            return "hangup", {"activityParams": {"hangupReason": " ".join(reason.split())}}
        case PlayUrl(url, text, media_name):
            if not url.startswith(("http://", "https://", "data:audio/wav;base64,")):
                raise ValueError("expected an http, https or data:audio/wav URL to play")
            params = {"playUrlUrl": url}
            if media_name is not None:
                params["playUrlMediaFormat"] = media_name
            if text is not None:
                params["playUrlAltText"] = text
            return "playUrl", {"activityParams": params}
        case SendDtmf(digits):
            if not 0 < len(digits) <= DTMF_SENT_MAX or not DTMF_SENT.issuperset(digits):
                raise ValueError(f"expected 1 to {DTMF_SENT_MAX} of 0-9 * # to send as DTMF")
            return "sendDtmf", {"activityParams": {"dtmfDigits": digits}}
        case SendMetadata(value):
            return "sendMetaData", {"value": dict(value)}
        case TransferCall():
            return "transfer", {"activityParams": _transfer_params(command)}


SUMMARY_HEADER = "X-Call-Summary"
"""Brings whoever answers a transfer a summary of the call, percent-encoded UTF-8 (RFC 3986)."""
SUMMARY_CHARS_MAX = 400
"""A SIP message over UDP should fit one packet."""


def _transfer_params(command: TransferCall) -> Json:
    if not command.target.startswith(("tel:", "sip:", "sips:")) or not _is_one_line(command.target):
        raise ValueError("expected a tel: or sip: transfer target on one line")
    params: Json = {"transferTarget": command.target}
    if command.reason:
        params["handoverReason"] = " ".join(command.reason.split())
    headers = dict(command.sip_headers)
    if command.summary:
        headers.setdefault(SUMMARY_HEADER, quote(command.summary[:SUMMARY_CHARS_MAX], safe=" :;,.?()'"))
    if headers:
        # A line break would let a value smuggle further headers into the REFER.
        if not all(name and _is_one_line(name + text) for name, text in headers.items()):
            raise ValueError("expected SIP header names and values on one line")
        params["transferSipHeaders"] = [{"name": name, "value": text} for name, text in headers.items()]
    if command.wants_status:
        params["transferNotifications"] = True
    return params


def _is_one_line(text: str) -> bool:
    return not any(character < " " or character == "\x7f" for character in text)

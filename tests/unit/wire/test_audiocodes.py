"""The AudioCodes codec, message by message, in both directions. Expected messages are exact bytes."""

import base64
import json
import traceback
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, get_args

import orjson
import pytest

from fastagent.audio import wav
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, AudioFormat
from fastagent.errors import FormatMismatchError, MalformedMessageError
from fastagent.wire.audiocodes import (
    AUDIOCODES_MEDIA,
    CONNECTIVITY_REPLY,
    RECOMMENDED_SETTINGS,
    AudioCodesCodec,
    IgnoredCause,
)
from fastagent.wire.audiocodes_activities import EVENTS_TO_BOT
from fastagent.wire.envelope import MediaEnvelope
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    CallerStreamStarted,
    CallerStreamStopped,
    CallerText,
    CallMetadata,
    CarrierCodec,
    CarrierCommand,
    CarrierEvent,
    CarrierNotice,
    ClosePlayback,
    ConfigureCall,
    ControlRecording,
    DtmfReceived,
    EndReason,
    ExpectMoreOutput,
    FailSession,
    HangUp,
    IgnoredMessage,
    MediaOffer,
    NoUserInput,
    OpenPlayback,
    PlayAudio,
    PlaybackFailed,
    PlaybackFinished,
    PlayUrl,
    RecordingAction,
    RefuseSession,
    ReportSpeech,
    ReportTranscript,
    SendDtmf,
    SendMetadata,
    SessionEnded,
    SessionOffered,
    SessionResumed,
    SpeechPhase,
    TransferCall,
    TransferStatus,
)

CONVERSATION = "7d0c2a34-51f7-4b1e-9a43-0c9d6e7f2b11"
ID = "0b0f4a1e-5f0c-4b53-a0a0-9a3f0e0c1c55"
HEAD = b'{"type":"activities","activities":[{"type":"event","name":'
STAMP = b',"id":"0b0f4a1e-5f0c-4b53-a0a0-9a3f0e0c1c55","timestamp":"2026-01-05T10:00:00.250Z"'
RAW_24 = AUDIOCODES_MEDIA["raw/lpcm16_24"]
RAW_16 = AUDIOCODES_MEDIA["raw/lpcm16"]


def new_codec() -> AudioCodesCodec:
    moment = datetime(2026, 1, 5, 12, 0, 0, 250_900, tzinfo=timezone(timedelta(hours=2)))
    return AudioCodesCodec(new_id=lambda: ID, utc_now=lambda: moment)


def message(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "conversationId": CONVERSATION, **fields}).encode()


def initiate(*formats: str, **fields: Any) -> bytes:
    fields = {"botName": "front-desk", "caller": "+15550100001", "expectAudioMessages": True} | fields
    return message("session.initiate", supportedMediaFormats=list(formats or AUDIOCODES_MEDIA), **fields)


def active_codec(*formats: str) -> AudioCodesCodec:
    codec = new_codec()
    (offer,) = codec.receive(initiate(*formats))
    assert isinstance(offer, SessionOffered)
    codec.send(AcceptSession(offer.offers[0]))
    return codec


def activity(*activities: Any) -> bytes:
    return message("activities", activities=list(activities))


def event(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "event", "name": name, "id": ID, "timestamp": "2026-01-05T10:00:00.000Z", **fields}


def test_codec_offers_what_every_carrier_codec_offers() -> None:
    codec: CarrierCodec = AudioCodesCodec()
    assert codec.close_may_cut
    assert codec.can_resume
    assert not codec.closing_hangs_up
    assert codec.caller_media == MediaEnvelope(
        ("type",), ("userStream.chunk",), ("audioChunk",), fields=(("participant",),)
    )


# Connection and set-up


def test_http_check_reply_is_the_documented_body() -> None:
    assert CONNECTIVITY_REPLY == b'{"type":"ac-bot-api","success":true}'


@pytest.mark.parametrize("raw", [b'{"type":"connection.validate"}', message("connection.validate")])
def test_validate_is_answered_and_opens_no_session(raw: bytes) -> None:
    codec = new_codec()
    assert codec.receive(raw) == [IgnoredMessage("connectivity_check")]
    assert codec.messages_to_send() == [b'{"type":"connection.validated","success":true}']
    assert codec.messages_to_send() == []
    assert isinstance(codec.receive(initiate())[0], SessionOffered)


def test_initiate_offers_known_formats_in_the_carriers_order() -> None:
    raw = initiate("raw/mulaw", "audio/wav", "raw/lpcm16", "raw/alaw", "raw/mulaw", "raw/lpcm16_24")
    assert new_codec().receive(raw) == [
        SessionOffered(
            CONVERSATION,
            (AUDIOCODES_MEDIA["raw/mulaw"], RAW_16, RAW_24),
            wants_audio=True,
            caller="+15550100001",
            bot_name="front-desk",
        )
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expectAudioMessages": False}, {"wants_audio": False}),
        ({"caller": "anonymous"}, {"caller": "anonymous"}),
        ({"caller": None}, {"caller": ""}),
        ({"botName": None}, {"bot_name": ""}),
        ({"extra": {"x": [1]}}, {}),
        ({"supportedMediaFormats": []}, {"offers": ()}),
        ({"supportedMediaFormats": ["audio/wav"]}, {"offers": ()}),
    ],
)
def test_initiate_tolerates_what_callers_and_versions_bring(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    (offered,) = new_codec().receive(orjson.dumps(json.loads(initiate("raw/lpcm16")) | fields))
    assert isinstance(offered, SessionOffered)
    assert {key: getattr(offered, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "format", "has_wav_header", "bytes_for_20_ms"),
    [
        ("raw/mulaw", MULAW_8K, False, 160),
        ("wav/mulaw", MULAW_8K, True, 160),
        ("raw/lpcm16_8", PCM16_8K, False, 320),
        ("wav/lpcm16_8", PCM16_8K, True, 320),
        ("raw/lpcm16", PCM16_16K, False, 640),
        ("wav/lpcm16", PCM16_16K, True, 640),
        ("raw/lpcm16_24", PCM16_24K, False, 960),
        ("wav/lpcm16_24", PCM16_24K, True, 960),
    ],
)
def test_every_media_format_is_known_and_can_be_accepted(
    name: str, format: AudioFormat, has_wav_header: bool, bytes_for_20_ms: int
) -> None:
    offer = MediaOffer(name, format, has_wav_header)
    assert AUDIOCODES_MEDIA[name] == offer
    assert len(AUDIOCODES_MEDIA) == 8
    assert format.bytes_per_ms * 20 == bytes_for_20_ms
    codec = new_codec()
    codec.receive(initiate(name))
    assert codec.send(AcceptSession(offer)) == [
        b'{"type":"session.accepted","mediaFormat":"' + name.encode() + b'"}'
    ]


def test_only_an_offered_format_can_be_accepted_and_only_once() -> None:
    codec = new_codec()
    with pytest.raises(ValueError, match="no session is waiting"):
        codec.send(AcceptSession(RAW_16))
    codec.receive(initiate("raw/lpcm16"))
    with pytest.raises(ValueError, match="did not offer"):
        codec.send(AcceptSession(RAW_24))
    with pytest.raises(ValueError, match="did not offer"):
        codec.send(AcceptSession(MediaOffer("raw/lpcm16", PCM16_24K)))
    codec.send(AcceptSession(RAW_16))
    with pytest.raises(ValueError, match="no session is waiting"):
        codec.send(AcceptSession(RAW_16))


def test_refusal_is_a_session_error_and_ends_the_socket() -> None:
    codec = new_codec()
    codec.receive(initiate("raw/lpcm16"))
    assert codec.send(RefuseSession("no common media format")) == [
        b'{"type":"session.error","reason":"no common media format"}'
    ]
    assert codec.receive(message("userStream.start")) == [IgnoredMessage("after_end")]
    assert codec.send(FailSession("again")) == []


def test_resume_is_accepted_with_the_format_repeated() -> None:
    codec = new_codec()
    assert codec.receive(message("session.resume")) == [SessionResumed(CONVERSATION)]
    assert codec.send(AcceptSession(RAW_16)) == [b'{"type":"session.accepted","mediaFormat":"raw/lpcm16"}']
    codec.receive(message("userStream.start"))
    assert codec.messages_to_send() == [b'{"type":"userStream.started"}']
    assert codec.send(OpenPlayback("s-2", RAW_24))


def test_resume_of_an_unknown_conversation_is_refused_by_its_id() -> None:
    codec = new_codec()
    codec.receive(message("session.resume"))
    assert codec.send(RefuseSession("conversation not found", CONVERSATION)) == [
        b'{"type":"session.error","reason":"conversation not found","conversationId":"'
        + CONVERSATION.encode()
        + b'"}'
    ]


def test_accepted_session_can_fail_but_not_be_refused() -> None:
    codec = active_codec()
    with pytest.raises(ValueError, match="fail it"):
        codec.send(RefuseSession("late"))
    assert codec.send(FailSession("model lost")) == [b'{"type":"session.error","reason":"model lost"}']


@pytest.mark.parametrize(
    "command",
    [OpenPlayback("p", RAW_16), ReportSpeech(SpeechPhase.STARTED), HangUp("x"), AbortPlayback()],
)
def test_nothing_but_the_answer_is_sent_before_acceptance(command: CarrierCommand) -> None:
    for codec in (new_codec(), new_codec()):
        with pytest.raises(ValueError, match="before the session was accepted"):
            codec.send(command)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("client-disconnected", EndReason.CALLER),
        ("bot-disconnected", EndReason.BOT),
        ("transferred", EndReason.TRANSFERRED),
        ("machine-detected", EndReason.MACHINE),
        ("error", EndReason.ERROR),
        ("no-answer", EndReason.NOT_ANSWERED),
        ("busy", EndReason.NOT_ANSWERED),
        ("declined", EndReason.NOT_ANSWERED),
        ("something-new", EndReason.OTHER),
    ],
)
def test_session_end_maps_its_reason_and_silences_both_sides(code: str, reason: EndReason) -> None:
    codec = active_codec()
    assert codec.receive(message("session.end", reasonCode=code, reason="Client Side")) == [
        SessionEnded(reason, code)
    ]
    assert codec.send(HangUp("late")) == []
    assert codec.receive(message("session.end", reasonCode=code)) == [IgnoredMessage("after_end")]


@pytest.mark.parametrize("fields", [{}, {"reasonCode": None}, {"reasonCode": 7}])
def test_session_end_without_a_usable_reason_still_ends(fields: dict[str, Any]) -> None:
    assert active_codec().receive(message("session.end", **fields)) == [SessionEnded(EndReason.OTHER, "")]


# User streams


@pytest.mark.parametrize(
    ("fields", "participant", "key"),
    [
        ({}, None, b""),
        ({"participant": None}, None, b""),
        ({"participant": "caller"}, "caller", b',"participant":"caller"'),
    ],
)
def test_user_stream_is_acknowledged_with_its_participant_each_time(
    fields: dict[str, Any], participant: str | None, key: bytes
) -> None:
    codec = active_codec()
    for _ in range(3):
        assert codec.receive(message("userStream.start", **fields)) == [CallerStreamStarted(participant)]
        assert codec.receive(message("userStream.stop", **fields)) == [CallerStreamStopped(participant)]
        assert codec.messages_to_send() == [
            b'{"type":"userStream.started"' + key + b"}",
            b'{"type":"userStream.stopped"' + key + b"}",
        ]


def test_stream_announced_before_acceptance_is_acknowledged_after_it() -> None:
    codec = new_codec()
    codec.receive(initiate())
    assert codec.receive(message("userStream.start")) == [CallerStreamStarted(None)]
    assert codec.messages_to_send() == []
    assert codec.send(AcceptSession(RAW_16)) == [
        b'{"type":"session.accepted","mediaFormat":"raw/lpcm16"}',
        b'{"type":"userStream.started"}',
    ]


# What says nothing to us


@pytest.mark.parametrize(
    ("phase", "raw", "cause"),
    [
        ("new", message("userStream.chunk", audioChunk="AAAA"), "before_initiate"),
        ("new", message("userStream.start"), "before_initiate"),
        ("new", activity(event("start")), "before_initiate"),
        ("new", message("session.end"), "before_initiate"),
        ("new", message("what.ever"), "before_initiate"),
        ("offered", message("userStream.chunk", audioChunk="AAAA"), "chunk_before_accepted"),
        ("active", message("userStream.chunk", audioChunk="not base64!"), "chunk_unusable"),
        ("active", message("userStream.chunk", audioChunk=17), "chunk_unusable"),
        ("active", message("userStream.chunk"), "chunk_unusable"),
        ("active", initiate(), "second_initiate"),
        ("offered", initiate(), "second_initiate"),
        ("active", message("session.resume"), "unexpected_resume"),
        ("active", message("playStream.mark.reached", streamId="s"), "unknown_type"),
        ("active", message("playStream.mark.set"), "unknown_type"),
        ("active", message("session.resumed"), "unknown_type"),
        ("active", message("Session.End"), "unknown_type"),
        ("active", activity(), "no_activities"),
    ],
)
def test_message_that_says_nothing_is_ignored_with_its_cause(phase: str, raw: bytes, cause: str) -> None:
    codec = active_codec() if phase == "active" else new_codec()
    if phase == "offered":
        codec.receive(initiate())
    assert codec.receive(raw) == [IgnoredMessage(cause)]
    assert cause in get_args(IgnoredCause)
    assert codec.messages_to_send() == []


def test_second_initiate_does_not_disturb_the_session() -> None:
    codec = active_codec("raw/lpcm16")
    codec.receive(initiate("raw/mulaw"))
    assert codec.send(OpenPlayback("p", RAW_16))


SECRET = "55501234"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", None),
        (b"hello " + SECRET.encode(), None),
        (b"\xff\xfe", None),
        (b'["' + SECRET.encode() + b'"]', None),
        (b"17", None),
        (b'{"type":"userStream.start"', None),
        (b'{"type":"userStream.start"}{}', None),
        (b'{"type":"\\ud800"}', None),
        (b'{"x":' * 33 + b"1" + b"}" * 33, None),
        (b'{"type":"x","v":' + b"[" * 5000 + b"]" * 5000 + b"}", None),
        (b"[" * 100_000, None),
        (b'{"type":"x","v":[' + b"[]," * 340_000 + b"1]}", None),
        (b"{}", "type"),
        (b'{"type":5}', "type"),
        (b'{"type":""}', "type"),
        (b'{"type":"' + b"x" * 257 + b'"}', "type"),
        (message("userStream.start", participant=5), "participant"),
        (message("userStream.stop", participant={"a": SECRET}), "participant"),
        (message("userStream.stop", participant="x" * 257), "participant"),
        (message("activities"), "activities"),
        (message("activities", activities={"type": "event"}), "activities"),
        (message("activities", activities=[SECRET]), "activities"),
        (message("activities", activities=[event("voiceDetected")] * 65), "activities"),
        (activity({"name": "DTMF"}), "type"),
        (activity({"type": "event"}), "name"),
        (activity({"type": "event", "name": ["x"]}), "name"),
        (activity({"type": "message"}), "text"),
        (activity({"type": "message", "text": 5}), "text"),
        (activity(event("start", parameters=[SECRET])), "parameters"),
        (activity(event("custom", parameters=SECRET)), "parameters"),
        (activity(event("hangup", activityParams=SECRET)), "activityParams"),
        (activity(event("DTMF")), "value"),
        (activity(event("DTMF", value="")), "value"),
        (activity(event("DTMF", value=SECRET + "x")), "value"),
        (activity(event("DTMF", value="E")), "value"),
        (activity(event("DTMF", value="１")), "value"),
        (activity(event("DTMF", value=True)), "value"),
        (activity(event("DTMF", value=-5)), "value"),
        (activity(event("DTMF", value=5.0)), "value"),
        (activity(event("DTMF", value="1" * 129)), "value"),
        (activity(event("noUserInput")), "value"),
        (activity(event("noUserInput", value="many")), "value"),
        (activity(event("noUserInput", value=True)), "value"),
        (activity(event("noUserInput", value=-1)), "value"),
        (activity(event("noUserInput", value=1e300)), "value"),
        (activity(event("playUrlFailed", value="no")), "value"),
        (activity(event("playUrlFailed", value={"reason": 5})), "reason"),
        (activity(event("transferStatus", value={})), "status"),
        (activity(event("transferStatus", value={"status": "failed", "reasonCode": 486})), "reasonCode"),
    ],
)
def test_malformed_message_names_its_field_and_shows_no_payload(raw: bytes, field: str | None) -> None:
    codec = active_codec()
    with pytest.raises(MalformedMessageError) as caught:
        codec.receive(raw)
    assert caught.value.field == field
    assert caught.value.peer == "audiocodes"
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())
    assert SECRET not in str(caught.value)
    assert SECRET not in shown
    assert caught.value.__context__ is None
    assert codec.receive(message("userStream.start")) == [CallerStreamStarted(None)], "the call goes on"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"conversationId": None}, "conversationId"),
        ({"conversationId": 5}, "conversationId"),
        ({"conversationId": ""}, "conversationId"),
        ({"conversationId": "x" * 257}, "conversationId"),
        ({"supportedMediaFormats": None}, "supportedMediaFormats"),
        ({"supportedMediaFormats": "raw/lpcm16"}, "supportedMediaFormats"),
        ({"supportedMediaFormats": ["raw/lpcm16", 5]}, "supportedMediaFormats"),
        ({"expectAudioMessages": "yes"}, "expectAudioMessages"),
        ({"caller": 15550100001}, "caller"),
        ({"botName": ["b"]}, "botName"),
    ],
)
def test_malformed_initiate_opens_no_session_but_a_good_one_may_follow(
    fields: dict[str, Any], field: str
) -> None:
    codec = new_codec()
    with pytest.raises(MalformedMessageError) as caught:
        codec.receive(orjson.dumps(json.loads(initiate()) | fields))
    assert caught.value.field == field
    assert isinstance(codec.receive(initiate())[0], SessionOffered)


def test_nesting_up_to_the_limit_is_accepted() -> None:
    deepest = b'{"type":"x","v":' + b"[" * 31 + b"]" * 31 + b"}"
    wide = b'{"type":"x","v":[' + b"[],{}," * 100 + b"1]}"
    assert active_codec().receive(deepest) == [IgnoredMessage("unknown_type")]
    assert active_codec().receive(wide) == [IgnoredMessage("unknown_type")]
    with pytest.raises(MalformedMessageError, match="nested"):
        active_codec().receive(b'{"type":"x","v":' + b"[" * 32 + b"]" * 32 + b"}")


def test_white_space_key_order_and_escapes_do_not_matter() -> None:
    raw = b' \n{ "participant" : "caller", "\\u0074ype": "userStream\\u002estart" } \r\n'
    assert active_codec().receive(raw) == [CallerStreamStarted("caller")]


# Activities from VAIC


PARAMETERS = {
    "locale": "en-US",
    "caller": "+15550100001",
    "participants": [{"participant": "caller"}],
    "X-Sip": "y",
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (event("start", parameters=PARAMETERS, language="en-US"), CallMetadata(PARAMETERS)),
        (event("start"), CallMetadata({})),
        (event("DTMF", value="5"), DtmfReceived("5")),
        (event("dtmf", value="42#"), DtmfReceived("42#")),
        (event("Dtmf", value="*0aBcD#"), DtmfReceived("*0ABCD#")),
        (event("DTMF", value=7), DtmfReceived("7")),
        (event("DTMF", value=420), DtmfReceived("420")),
        (event("noUserInput", value=2), NoUserInput(2)),
        (event("noUserInput", value="3"), NoUserInput(3)),
        (event("noUserInput", value=1.0), NoUserInput(1)),
        (event("playFinished"), PlaybackFinished(None)),
        (event("playUrlFailed", value={"reason": "404", "playUrlUrl": "u"}), PlaybackFailed("404")),
        (event("playUrlFailed"), PlaybackFailed("")),
        (event("transferStatus", value={"status": "answered"}), TransferStatus(True)),
        (
            event("transferStatus", value={"status": "failed", "reasonCode": "busy", "reason": "x"}),
            TransferStatus(False, "busy"),
        ),
        (
            event("transferStatus", value={"status": "ringing"}),
            CarrierNotice("transferStatus", {"status": "ringing"}),
        ),
        (event("voiceDetected"), CarrierNotice("voiceDetected")),
        (event("silenceDetected"), CarrierNotice("silenceDetected")),
        (event("dialoutInitiated"), CarrierNotice("dialoutInitiated")),
        (event("agentConnected"), CarrierNotice("agentConnected")),
        (event("conversationEnd"), CarrierNotice("conversationEnd")),
        (event("speakerVerificationEnroll", value=1), CarrierNotice("speakerVerificationEnroll", 1)),
        (event("speechHypothesis", value="i want"), CallerText("i want", is_final=False)),
        (event("speechHypothesis", text="i want"), CallerText("i want", is_final=False)),
        (event("speechHypothesis"), CarrierNotice("speechHypothesis")),
        (
            event("hangup", activityParams={"hangupReason": "done"}),
            CarrierNotice("hangup", None, {"hangupReason": "done"}),
        ),
        (event("paramChange", value=[1], parameters={"a": 1}), CarrierNotice("paramChange", [1], {"a": 1})),
        ({"type": "message", "text": "hello there"}, CallerText("hello there")),
        ({"type": "typing"}, CarrierNotice("typing")),
    ],
)  # fmt: skip
def test_activity_becomes_its_event(given: dict[str, Any], expected: CarrierEvent) -> None:
    assert active_codec().receive(activity(given)) == [expected]


def test_activities_keep_their_order_and_survive_a_bad_neighbour() -> None:
    raw = activity(
        event("DTMF", value="1"), event("DTMF", value=[]), 5, event("playFinished"), event("DTMF", value="2")
    )
    assert active_codec().receive(raw) == [
        DtmfReceived("1"),
        IgnoredMessage("malformed_activity"),
        IgnoredMessage("malformed_activity"),
        PlaybackFinished(),
        DtmfReceived("2"),
    ]


def test_activities_may_come_before_acceptance_and_before_the_user_stream() -> None:
    codec = new_codec()
    codec.receive(initiate())
    assert codec.receive(activity(event("start", parameters={"locale": "de"}))) == [
        CallMetadata({"locale": "de"})
    ]


def test_what_the_caller_said_or_typed_stays_out_of_reprs() -> None:
    raw = activity(
        event("DTMF", value=SECRET),
        {"type": "message", "text": SECRET},
        event("start", parameters={"caller": SECRET}),
        event("custom", value=SECRET, parameters={"v": SECRET}),
    )
    assert SECRET not in repr(active_codec().receive(raw))
    assert SECRET not in repr(new_codec().receive(initiate(caller=SECRET)))


# Commands to VAIC


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (ReportSpeech(SpeechPhase.STARTED), [b'{"type":"userStream.speech.started"}']),
        (ReportSpeech(SpeechPhase.STOPPED), [b'{"type":"userStream.speech.stopped"}']),
        (ReportSpeech(SpeechPhase.COMMITTED), [b'{"type":"userStream.speech.committed"}']),
        (
            ReportTranscript("I want to", is_final=False, confidence=0.5),
            [b'{"type":"userStream.speech.hypothesis","alternatives":[{"text":"i want to"}]}'],
        ),
        (
            ReportTranscript(" I want to book a table", is_final=True, confidence=0.9),
            [
                b'{"type":"userStream.speech.recognition",'
                b'"alternatives":[{"text":"i want to book a table","confidence":0.9}]}'
            ],
        ),
        (
            ReportTranscript("yes", is_final=True),
            [b'{"type":"userStream.speech.recognition","alternatives":[{"text":"yes"}]}'],
        ),
        (ReportTranscript("  ", is_final=True), []),
        (
            AbortPlayback(),
            [HEAD + b'"abortPrompts"' + STAMP + b"}]}"],
        ),
        (
            ExpectMoreOutput(),
            [HEAD + b'"expectAnotherBotMessage"' + STAMP + b"}]}"],
        ),
        (
            ConfigureCall(RECOMMENDED_SETTINGS),
            [
                HEAD + b'"config"' + STAMP + b',"sessionParams":{"bargeIn":true,'
                b'"userNoInputGiveUpTimeoutMS":0,"sendDTMF":true,"sendEventsToBot":["playFinished","noUserInput"]}}]}'
            ],
        ),
        (ConfigureCall({}), []),
        (
            HangUp("conversation\r\ncomplete"),
            [HEAD + b'"hangup"' + STAMP + b',"activityParams":{"hangupReason":"conversation complete"}}]}'],
        ),
        (
            TransferCall(
                "tel:+15550100099",
                reason="caller asked for a person",
                sip_headers=MappingProxyType({"X-Case": "8841"}),
                wants_status=True,
            ),
            [
                HEAD + b'"transfer"' + STAMP + b',"activityParams":{"transferTarget":"tel:+15550100099",'
                b'"handoverReason":"caller asked for a person",'
                b'"transferSipHeaders":[{"name":"X-Case","value":"8841"}],"transferNotifications":true}}]}'
            ],
        ),
        (
            TransferCall("sip:desk@example.com"),
            [
                HEAD + b'"transfer"' + STAMP + b',"activityParams":'
                b'{"transferTarget":"sip:desk@example.com"}}]}'
            ],
        ),
        (
            SendDtmf("1234#"),
            [HEAD + b'"sendDtmf"' + STAMP + b',"activityParams":{"dtmfDigits":"1234#"}}]}'],
        ),
        (
            SendMetadata(MappingProxyType({"case": {"id": 8841}})),
            [HEAD + b'"sendMetaData"' + STAMP + b',"value":{"case":{"id":8841}}}]}'],
        ),
        (
            SendMetadata({"text": "\ud800", "n": 2**70}),
            [HEAD + b'"sendMetaData"' + STAMP + b',"value":{"text":"\\ud800","n":1180591620717411303424}}]}'],
        ),
        *[
            (
                ControlRecording(action),
                [HEAD + b'"' + action.value.encode() + b'CallRecording"' + STAMP + b"}]}"],
            )
            for action in RecordingAction
        ],
        (
            ControlRecording(RecordingAction.START, {"siprecServer": "a"}),
            [HEAD + b'"startCallRecording"' + STAMP + b',"activityParams":{"siprecServer":"a"}}]}'],
        ),
        (
            PlayUrl("https://example.com/a.wav", text="Hello", media_name="wav/lpcm16"),
            [
                HEAD + b'"playUrl"' + STAMP + b',"activityParams":{"playUrlUrl":"https://example.com/a.wav",'
                b'"playUrlMediaFormat":"wav/lpcm16","playUrlAltText":"Hello"}}]}'
            ],
        ),
        (
            OpenPlayback("s-0007", RAW_24, text="Good morning."),
            [
                b'{"type":"playStream.start","streamId":"s-0007","mediaFormat":"raw/lpcm16_24",'
                b'"altText":"Good morning."}'
            ],
        ),
        (
            OpenPlayback("s-0008", RAW_16),
            [b'{"type":"playStream.start","streamId":"s-0008","mediaFormat":"raw/lpcm16"}'],
        ),
    ],
)  # fmt: skip
def test_command_is_written_exactly(command: CarrierCommand, expected: list[bytes]) -> None:
    assert active_codec().send(command) == expected


@pytest.mark.parametrize(
    "command",
    [
        SendDtmf(""),
        SendDtmf("1" * 21),
        SendDtmf("A"),
        SendDtmf(SECRET + " "),
        TransferCall(SECRET),
        TransferCall(f"tel:{SECRET}\r\nX: y"),
        TransferCall("tel:1", sip_headers={"X": f"{SECRET}\r\nY: z"}),
        TransferCall("tel:1", sip_headers={"": SECRET}),
        TransferCall("tel:1", sip_headers={f"{SECRET}\n": "x"}),
        PlayUrl(f"file:///{SECRET}"),
        ReportTranscript(SECRET, is_final=True, confidence=1.5),
        ReportTranscript(SECRET, is_final=True, confidence=float("nan")),
        OpenPlayback("", RAW_16),
        OpenPlayback("p", MediaOffer("raw/alaw", MULAW_8K)),
        PlayAudio("p", b"\0\0"),
        ClosePlayback("p"),
    ],
)
def test_command_the_vendor_would_refuse_is_a_value_error_without_payload(command: CarrierCommand) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        active_codec().send(command)
    assert SECRET not in str(caught.value)


def test_playback_goes_start_chunks_stop() -> None:
    codec = active_codec()
    codec.send(OpenPlayback("s-0007", RAW_24))
    assert codec.send(PlayAudio("s-0007", b"\0\0\0\0\0\0")) == [
        b'{"type":"playStream.chunk","streamId":"s-0007","audioChunk":"AAAAAAAA"}'
    ]
    assert codec.send(PlayAudio("s-0007", b"")) == []
    assert codec.send(ClosePlayback("s-0007")) == [b'{"type":"playStream.stop","streamId":"s-0007"}']
    assert codec.send(ClosePlayback("s-0007")) == [], "closing again says nothing"
    with pytest.raises(ValueError, match="open playback"):
        codec.send(PlayAudio("s-0007", b"\0\0"))


def test_one_playback_is_open_at_a_time_and_ids_are_never_reused() -> None:
    codec = active_codec()
    codec.send(OpenPlayback("a", RAW_24))
    with pytest.raises(ValueError, match="close it first"):
        codec.send(OpenPlayback("b", RAW_24))
    codec.send(ClosePlayback("a"))
    with pytest.raises(ValueError, match="never used"):
        codec.send(OpenPlayback("a", RAW_24))
    assert codec.send(OpenPlayback("b", RAW_16)), "each playback chooses its own format"


def test_playback_formats_are_those_offered() -> None:
    codec = active_codec("raw/lpcm16", "raw/lpcm16_24")
    with pytest.raises(ValueError, match="did not offer"):
        codec.send(OpenPlayback("a", AUDIOCODES_MEDIA["raw/mulaw"]))
    assert codec.send(OpenPlayback("a", RAW_24)), "need not be the accepted one"


def test_long_prompt_is_split_on_samples_and_loses_nothing() -> None:
    codec = active_codec()
    codec.send(OpenPlayback("a", RAW_24))
    data = bytes(range(256)) * 94
    chunks = [base64.b64decode(json.loads(raw)["audioChunk"]) for raw in codec.send(PlayAudio("a", data))]
    assert b"".join(chunks) == data
    assert [len(chunk) for chunk in chunks] == [4800] * 5 + [64]


def test_audio_that_ends_inside_a_sample_is_refused() -> None:
    codec = active_codec()
    codec.send(OpenPlayback("a", RAW_24))
    with pytest.raises(FormatMismatchError):
        codec.send(PlayAudio("a", b"\0\0\0"))


@pytest.mark.parametrize("name", [name for name in AUDIOCODES_MEDIA if name.startswith("wav/")])
def test_wav_playback_begins_with_a_streaming_header_alone(name: str) -> None:
    codec = active_codec(name)
    start, first = codec.send(OpenPlayback("w", AUDIOCODES_MEDIA[name]))
    assert json.loads(start)["mediaFormat"] == name
    head = base64.b64decode(json.loads(first)["audioChunk"])
    parsed = wav.parse_header(head)
    assert parsed == wav.WavHeader(AUDIOCODES_MEDIA[name].format, 1, len(head), None)
    (chunk,) = codec.send(PlayAudio("w", b"\0\0"))
    assert chunk == b'{"type":"playStream.chunk","streamId":"w","audioChunk":"AAA="}'


@pytest.mark.parametrize("playback_id", ["s-1", 'quote"back\\slash', "ümläut\n"])
def test_template_makes_the_same_message_as_a_played_chunk(playback_id: str) -> None:
    codec = active_codec()
    codec.send(OpenPlayback(playback_id, RAW_24))
    template = codec.playback_template(playback_id)
    whole = template.message(b"AAAAAAAA")
    assert [whole] == codec.send(PlayAudio(playback_id, bytes(6)))
    assert json.loads(whole) == {
        "type": "playStream.chunk",
        "streamId": playback_id,
        "audioChunk": "AAAAAAAA",
    }


def test_interrupt_recipe_in_the_documented_order() -> None:
    codec = active_codec()
    codec.send(OpenPlayback("s-1", RAW_24))
    commands: list[CarrierCommand] = [
        ReportSpeech(SpeechPhase.STARTED),
        ClosePlayback("s-1"),
        AbortPlayback(),
    ]
    assert [raw for command in commands for raw in codec.send(command)] == [
        b'{"type":"userStream.speech.started"}',
        b'{"type":"playStream.stop","streamId":"s-1"}',
        HEAD + b'"abortPrompts"' + STAMP + b"}]}",
    ]


def test_activity_ids_are_fresh_and_times_are_utc_by_default() -> None:
    codec = AudioCodesCodec()
    codec.receive(initiate())
    codec.send(AcceptSession(RAW_16))
    sent = [json.loads(codec.send(AbortPlayback())[0])["activities"][0] for _ in range(2)]
    assert sent[0]["id"] != sent[1]["id"]
    age = datetime.now(UTC) - datetime.fromisoformat(sent[0]["timestamp"])
    assert sent[0]["timestamp"].endswith("Z")
    assert timedelta(seconds=-1) < age < timedelta(minutes=5)


def test_settings_recommended_are_read_only_and_name_events_that_exist() -> None:
    assert EVENTS_TO_BOT.issuperset(RECOMMENDED_SETTINGS["sendEventsToBot"])
    assert len(EVENTS_TO_BOT) == 14
    with pytest.raises(TypeError):
        RECOMMENDED_SETTINGS["bargeIn"] = False  # type: ignore[index]

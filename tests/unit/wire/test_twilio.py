"""The Twilio codec, message by message, in both directions. Expected messages are exact bytes."""

import base64
import json
from typing import Any, get_args

import pytest

from fastagent._native.envelope import Scanner
from fastagent.audio.formats import MULAW_8K, PCM16_24K
from fastagent.errors import MalformedMessageError
from fastagent.wire import twilio
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    Callee,
    CalleeDetected,
    CallMetadata,
    CarrierCodec,
    CarrierCommand,
    CarrierEvent,
    ClosePlayback,
    ConfigureCall,
    DtmfReceived,
    EndReason,
    ExpectMoreOutput,
    FailSession,
    HangUp,
    IgnoredMessage,
    MediaOffer,
    OpenPlayback,
    PlayAudio,
    PlaybackFinished,
    PlayUrl,
    RefuseSession,
    ReportSpeech,
    ReportTranscript,
    SendDtmf,
    SendMetadata,
    SessionEnded,
    SessionOffered,
    SpeechPhase,
    TellError,
    TellTranscript,
    TellTransition,
    TransferCall,
    TransferStatus,
)
from fastagent.wire.twilio import CALLER_MEDIA, TWILIO_MEDIA, IgnoredCause, TwilioCodec

STREAM = "MZ00000000000000000000000000000001"
CALL = "CA00000000000000000000000000000001"
ACCOUNT = "AC00000000000000000000000000000001"
CONNECTED = b'{"event":"connected","protocol":"Call","version":"1.0.0"}'
MULAW = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
TAIL = f'","streamSid":"{STREAM}"'


def start(*, sequence: Any = "1", **changes: Any) -> bytes:
    inner = {
        "streamSid": STREAM,
        "accountSid": ACCOUNT,
        "callSid": CALL,
        "tracks": ["inbound"],
        "customParameters": {"bot": "front-desk", "caller": "+15550100001", "ticket": "t", "route": "a"},
        "mediaFormat": MULAW,
    }
    message = {"event": "start", "sequenceNumber": sequence, "streamSid": STREAM, "start": inner | changes}
    return json.dumps(message).encode()


def message(event: str, sequence: Any, **fields: Any) -> bytes:
    return json.dumps({"event": event, "sequenceNumber": sequence, "streamSid": STREAM, **fields}).encode()


def dtmf(digit: Any, sequence: Any = "57") -> bytes:
    return message("dtmf", sequence, dtmf={"track": "inbound_track", "digit": digit})


def mark(name: Any, sequence: Any = "90") -> bytes:
    return message("mark", sequence, mark={"name": name})


STOP = message("stop", "400", stop={"accountSid": ACCOUNT, "callSid": CALL})


def offered_codec() -> TwilioCodec:
    codec = TwilioCodec()
    codec.receive(CONNECTED)
    codec.receive(start())
    return codec


def active_codec() -> TwilioCodec:
    codec = offered_codec()
    assert codec.send(AcceptSession(TWILIO_MEDIA)) == []
    return codec


def opened(codec: TwilioCodec, playback_id: str = "play-1") -> TwilioCodec:
    assert codec.send(OpenPlayback(playback_id, TWILIO_MEDIA)) == []
    return codec


def ignored(events: list[CarrierEvent]) -> str:
    [event] = events
    assert isinstance(event, IgnoredMessage)
    assert event.cause in get_args(IgnoredCause)
    return event.cause


def test_codec_offers_what_every_carrier_codec_offers() -> None:
    codec: CarrierCodec = TwilioCodec()
    assert not codec.close_may_cut
    assert not codec.can_resume
    assert codec.closing_hangs_up
    assert not codec.may_close
    assert codec.media_named("audio/x-mulaw") == TWILIO_MEDIA
    assert codec.media_named("raw/mulaw") is None
    assert codec.messages_to_send() == []


# Twilio -> us


def test_start_offers_the_call_with_what_came_along() -> None:
    codec = TwilioCodec()
    assert codec.receive(CONNECTED) == []
    told = {
        "bot": "front-desk",
        "caller": "+15550100001",
        "route": "a",
        "accountSid": ACCOUNT,
        "streamSid": STREAM,
    }
    assert codec.receive(start()) == [
        SessionOffered(
            CALL,
            (MediaOffer("audio/x-mulaw", MULAW_8K),),
            wants_audio=True,
            caller="+15550100001",
            bot_name="front-desk",
            parameters={**told, "ticket": "t"},
        ),
        CallMetadata(told),
    ]


def test_secrets_and_numbers_of_an_offer_are_not_shown() -> None:
    shown = repr(TwilioCodec().receive(start(customParameters={"ticket": "sesame", "caller": "+1555"})))
    assert "sesame" not in shown
    assert "+1555" not in shown


@pytest.mark.parametrize("parameters", [{}, None])
def test_start_may_come_without_parameters_and_before_connected(parameters: Any) -> None:
    [offer, _] = TwilioCodec().receive(start(customParameters=parameters))
    assert isinstance(offer, SessionOffered)
    assert offer.bot_name == offer.caller == offer.parameters["ticket"] == ""


@pytest.mark.parametrize("form", [MULAW, {**MULAW, "sampleRate": "8000", "channels": "1"}])
def test_numbers_may_be_texts(form: dict[str, Any]) -> None:
    [offer, _] = TwilioCodec().receive(start(mediaFormat=form))
    assert isinstance(offer, SessionOffered)
    assert offer.offers == (TWILIO_MEDIA,)


@pytest.mark.parametrize(
    "change", [{"encoding": "audio/l16"}, {"sampleRate": 16000}, {"channels": 2}, {"sampleRate": None}]
)
def test_another_format_is_no_offer(change: dict[str, Any]) -> None:
    [offer, _] = TwilioCodec().receive(start(mediaFormat={**MULAW, **change}))
    assert isinstance(offer, SessionOffered)
    assert offer.offers == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"event":1}',
        b'{"event":""}',
        b"{}",
        b'{"event":"start"}',
        b'{"event":"start","start":[]}',
        start(streamSid=7),
        start(callSid=""),
        start(callSid="a\nb"),
        start(callSid="x" * 65),
        start(accountSid=None),
        start(mediaFormat="mulaw"),
        start(customParameters=[]),
        start(customParameters={"a": 1}),
        start(customParameters={"a": "x" * 500}),
        start(customParameters={str(k): "" for k in range(65)}),
        start().replace(STREAM.encode(), b"MZ2", 1),
        b'{"event":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_malformed_set_up_is_refused_and_says_nothing_of_the_payload(raw: bytes) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        TwilioCodec().receive(raw)
    assert refused.value.peer == "twilio"
    assert "x" * 20 not in str(refused.value)


@pytest.mark.parametrize("raw", [dtmf("1"), mark("g0-a"), STOP, message("media", "2", media={"payload": ""})])
def test_nothing_counts_before_the_start(raw: bytes) -> None:
    assert ignored(TwilioCodec().receive(raw)) == "before_start"


@pytest.mark.parametrize("digit", list("0123456789*#ABCDa"))
def test_digits(digit: str) -> None:
    assert active_codec().receive(dtmf(digit)) == [DtmfReceived(digit.upper())]


@pytest.mark.parametrize("digit", ["", "12", "x", "ß", 5, None])
def test_what_is_no_digit_is_refused(digit: Any) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        active_codec().receive(dtmf(digit))
    assert refused.value.field == "dtmf.digit"


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (start(sequence="2"), "second_start"),
        (message("media", "2", media={"payload": "!"}), "chunk_unusable"),
        (message("hello", "2"), "unknown_event"),
        (dtmf("1").replace(b"MZ", b"MY"), "other_stream"),
        (mark("u3-end"), "foreign_mark"),
        (mark("g0-play-9"), "foreign_mark"),
        (mark("g7-play-1"), "foreign_mark"),
        (mark(""), "foreign_mark"),
    ],
)
def test_messages_that_say_nothing_to_us(raw: bytes, cause: str) -> None:
    assert ignored(active_codec().receive(raw)) == cause


def test_media_before_the_call_is_taken_is_ignored() -> None:
    assert ignored(offered_codec().receive(message("media", "2", media={}))) == "chunk_before_accepted"


@pytest.mark.parametrize("sequence", ["57", 57])
def test_a_message_that_comes_twice_counts_once(sequence: Any) -> None:
    codec = active_codec()
    assert codec.receive(dtmf("1", "57")) == [DtmfReceived("1")]
    assert ignored(codec.receive(dtmf("1", sequence))) == "repeated_message"
    assert codec.receive(dtmf("1", "56")) == [DtmfReceived("1")], "late is not twice"


@pytest.mark.parametrize("sequence", [None, "", "x", -1, "1" * 20, [1], True])
def test_without_a_usable_number_a_message_is_new(sequence: Any) -> None:
    codec = active_codec()
    for _ in range(2):
        assert codec.receive(dtmf("1", sequence)) == [DtmfReceived("1")]


def test_stop_ends_the_session_and_nothing_counts_after_it() -> None:
    codec = active_codec()
    assert codec.receive(STOP) == [SessionEnded(EndReason.CALLER, "stop")]
    assert ignored(codec.receive(dtmf("1"))) == "after_end"
    assert codec.send(AbortPlayback()) == []
    assert codec.may_close


def test_native_scanner_finds_audio_and_its_number() -> None:
    assert CALLER_MEDIA.sequence is not None
    scanner = Scanner(
        CALLER_MEDIA.discriminator, CALLER_MEDIA.values, CALLER_MEDIA.audio, (CALLER_MEDIA.sequence,)
    )
    media = {"track": "inbound", "chunk": "7", "timestamp": "140", "payload": "////"}
    match = scanner.scan(message("media", "9", media=media))
    assert match is not None
    assert (match.audio, match.fields) == (b"////", (b"7",)) or match.fields == ("7",)
    assert scanner.scan(dtmf("1")) is None


# Us -> Twilio


def test_playback_is_one_stream_whose_end_is_marked() -> None:
    codec = opened(active_codec())
    assert codec.send(PlayAudio("play-1", b"\xff" * 4)) == [
        f'{{"event":"media","streamSid":"{STREAM}","media":{{"payload":"/////w=="}}}}'.encode()
    ]
    assert codec.send(ClosePlayback("play-1")) == [
        f'{{"event":"mark","streamSid":"{STREAM}","mark":{{"name":"g0-play-1"}}}}'.encode()
    ]
    assert codec.receive(mark("g0-play-1")) == [PlaybackFinished("play-1")]
    assert ignored(codec.receive(mark("g0-play-1", "91"))) == "foreign_mark", "a mark counts once"


def test_template_writes_the_same_message_as_the_codec() -> None:
    codec = opened(active_codec())
    audio = bytes(range(160))
    [written] = codec.send(PlayAudio("play-1", audio))
    assert codec.playback_template("play-1").message(base64.b64encode(audio)) == written


def test_marks_that_a_clear_sends_back_prove_nothing() -> None:
    codec = opened(active_codec())
    codec.send(ClosePlayback("play-1"))
    clear = f'{{"event":"clear","streamSid":"{STREAM}"}}'.encode()
    assert codec.send(AbortPlayback()) == [clear]
    assert ignored(codec.receive(mark("g0-play-1", "90"))) == "cleared_mark"
    opened(codec, "play-2").send(ClosePlayback("play-2"))
    assert ignored(codec.receive(mark("g0-play-1", "91"))) == "cleared_mark"
    assert codec.receive(mark("g1-play-2", "92")) == [PlaybackFinished("play-2")]


def test_marks_pending_are_bounded() -> None:
    codec = active_codec()
    for k in range(twilio.MARKS_PENDING_MAX + 1):
        opened(codec, f"p{k}").send(ClosePlayback(f"p{k}"))
    assert ignored(codec.receive(mark("g0-p0", "90"))) == "foreign_mark"
    assert codec.receive(mark("g0-p1", "91")) == [PlaybackFinished("p1")]


@pytest.mark.parametrize(
    "command",
    [
        ReportSpeech(SpeechPhase.STARTED),
        ReportTranscript("hello", is_final=True),
        ConfigureCall({"a": 1}),
        SendMetadata({"a": 1}),
        PlayUrl("https://h/a.wav"),
        ExpectMoreOutput(),
        HangUp("done"),
        TellError("model", "the model reported an error"),
        TellTranscript("hello"),
        TellTransition("book", "", "day", "begin"),
        ClosePlayback("play-1"),
        PlayAudio("play-2", b""),
    ],
)
def test_commands_without_a_word_give_none(command: CarrierCommand) -> None:
    codec = opened(active_codec())
    codec.send(ClosePlayback("play-1"))
    opened(codec, "play-2")
    assert codec.send(command) == []


def test_what_is_told_may_be_told_at_any_time() -> None:
    for codec in (TwilioCodec(), offered_codec()):
        assert codec.send(TellError("internal", "not now")) == []


@pytest.mark.parametrize("command", [TransferCall("tel:+1555"), SendDtmf("1"), RefuseSession("no")])
def test_what_a_stream_cannot_do_is_refused(command: CarrierCommand) -> None:
    with pytest.raises(ValueError, match=r"stream|accepted"):
        active_codec().send(command)


def test_playbacks_keep_their_order() -> None:
    codec = opened(active_codec())
    with pytest.raises(ValueError, match="one playback"):
        codec.send(OpenPlayback("play-2", TWILIO_MEDIA))
    with pytest.raises(ValueError, match="same id"):
        codec.send(PlayAudio("play-2", b"a"))
    with pytest.raises(ValueError, match="never opened"):
        codec.send(ClosePlayback("play-2"))
    codec.send(ClosePlayback("play-1"))
    with pytest.raises(ValueError, match="never used"):
        codec.send(OpenPlayback("play-1", TWILIO_MEDIA))
    with pytest.raises(ValueError, match="offer"):
        codec.send(OpenPlayback("play-3", MediaOffer("raw", PCM16_24K)))


def test_session_is_taken_once_and_first() -> None:
    for command in (AbortPlayback(), OpenPlayback("a", TWILIO_MEDIA), HangUp("x")):
        with pytest.raises(ValueError, match="before the session"):
            offered_codec().send(command)
    with pytest.raises(ValueError, match="waiting"):
        active_codec().send(AcceptSession(TWILIO_MEDIA))
    with pytest.raises(ValueError, match="offer"):
        offered_codec().send(AcceptSession(MediaOffer("raw", PCM16_24K)))


@pytest.mark.parametrize("command", [RefuseSession("no", CALL), FailSession("no")])
def test_a_refused_session_is_over(command: CarrierCommand) -> None:
    codec = offered_codec()
    assert codec.send(command) == []
    assert ignored(codec.receive(dtmf("1"))) == "after_end"
    assert codec.may_close
    assert codec.send(FailSession("again")) == []


def test_a_running_session_may_fail() -> None:
    codec = active_codec()
    assert codec.send(FailSession("lost")) == []
    assert ignored(codec.receive(dtmf("1"))) == "after_end"


@pytest.mark.parametrize(
    ("parameters", "is_return", "told"),
    [
        ({"returned": "busy"}, True, [TransferStatus(answered=False, code="busy")]),
        ({"answeredBy": "machine_end_beep"}, False, [CalleeDetected(Callee.MACHINE, "machine_end_beep")]),
        ({"answeredBy": "a parrot", "returned": ""}, False, []),
    ],
)
def test_a_stream_tells_why_its_caller_is_back_and_who_took_the_call(
    parameters: dict[str, str], is_return: bool, told: list[CarrierEvent]
) -> None:
    offer, metadata, *more = TwilioCodec().receive(start(customParameters=parameters))
    assert isinstance(offer, SessionOffered)
    assert isinstance(metadata, CallMetadata)
    assert offer.is_return is is_return
    assert more == told

"""The codec of our own client protocol: what each message means, and what every command becomes."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Uplink
from fastagent.audio import wav
from fastagent.audio.formats import MULAW_8K, PCM16_16K, PCM16_24K, AudioFormat, Encoding
from fastagent.errors import MalformedMessageError, UnexpectedMessageError, WireError
from fastagent.wire.agentws import AgentCodec, error_message
from fastagent.wire.agentws_words import CLIENT_MEDIA, ErrorCode, ServerMessage
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    CallerAudio,
    CallerText,
    CallMetadata,
    CarrierCodec,
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
    OpenPlayback,
    PlayAudio,
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
    TellError,
    TellTranscript,
    TellTransition,
    TransferCall,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, 5_000, tzinfo=UTC)
STAMP = "2026-11-21T12:00:00.005Z"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def codec(resume_id: str | None = None, clock: Clock | None = None) -> AgentCodec:
    return AgentCodec(
        agents={"front", "back"},
        resume_id=resume_id,
        new_id=lambda: "session-1",
        utc_now=lambda: NOW,
        clock=clock or Clock(),
    )


def message(kind: Any, payload: Any = None, **envelope: Any) -> bytes:
    return json.dumps({"type": kind, "payload": payload} | envelope).encode()


def active(media: str = "audio/pcm;rate=24000", clock: Clock | None = None) -> AgentCodec:
    one = codec(clock=clock)
    one.receive(message("start_session", {"media": media}))
    one.send(AcceptSession(CLIENT_MEDIA[media].offer, "ask_day"))
    return one


def sent(one: AgentCodec, command: Any) -> list[dict[str, Any]]:
    return [json.loads(text) for text in one.send(command)]


def only(messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    [found] = messages
    assert set(found) == {"type", "payload", "session_id", "timestamp"}
    assert found["timestamp"] == STAMP
    return found["type"], found["payload"]


def refusal(one: AgentCodec, text: bytes, error: type[WireError] = MalformedMessageError) -> dict[str, Any]:
    with pytest.raises(error):
        one.receive(text)
    kind, payload = only([json.loads(reply) for reply in one.messages_to_send()])
    assert kind == "error"
    return payload


# Beginning


def test_codec_says_what_an_end_means():
    one: CarrierCodec = codec()
    assert one.can_resume
    assert not one.closing_hangs_up
    assert not one.may_close


def test_session_is_offered_with_what_the_client_says():
    one = codec()
    metadata = {"caller_id": "+15550100", "channel": "app"}
    start = {"agent_id": "back", "media": "audio/pcmu", "metadata": metadata}
    assert one.receive(message("start_session", start, timestamp=STAMP, session_id=None)) == [
        SessionOffered("session-1", (MediaOffer("audio/pcmu", MULAW_8K),), True, "+15550100", "back"),
        CallMetadata(metadata),
    ]
    kind, payload = only(sent(one, AcceptSession(CLIENT_MEDIA["audio/pcmu"].offer, "ask_day")))
    assert (kind, payload) == (
        "session_started",
        {"session_id": "session-1", "initial_state": "ask_day", "media": "audio/pcmu", "resumed": False},
    )


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"start_session"}',
        b'{"type":"start_session","payload":null}',
        b'{"type":"start_session","payload":{}}',
        b'{"payload":{"media":null,"agent_id":null,"metadata":null},"session_id":null,"type":"start_session"}',
        b' {"timestamp":5,"unknown":[{}],"payload":{"new":1,"metadata":{}},"type":"start_session"}',
    ],
)
def test_everything_has_a_default_and_members_come_in_any_order(text):
    assert codec().receive(text) == [
        SessionOffered("session-1", (MediaOffer("audio/pcm;rate=24000", PCM16_24K),), True)
    ]


@pytest.mark.parametrize("name", CLIENT_MEDIA)
def test_every_media_can_be_had_however_it_is_spelled(name):
    for spelled in (name, name.upper(), name.replace(";", " ; ")):
        one = codec()
        [offer] = one.receive(message("start_session", {"media": spelled}))
        assert isinstance(offer, SessionOffered)
        assert [media.name for media in offer.offers] == [name]
        assert only(sent(one, AcceptSession(offer.offers[0])))[1]["media"] == name


@pytest.mark.parametrize(
    ("payload", "code", "field"),
    [
        ({"media": "audio/opus"}, "invalid_audio_format", "media"),
        ({"media": "audio/pcm;rate=44100"}, "invalid_audio_format", "media"),
        ({"media": ["audio/pcmu"]}, "invalid_request", "media"),
        ({"media": {"format": "audio/pcmu"}}, "invalid_request", "media"),
        ({"agent_id": "nobody"}, "agent_not_found", "agent_id"),
        ({"agent_id": 5}, "invalid_request", "agent_id"),
        ({"metadata": "x"}, "invalid_request", "metadata"),
        ({"metadata": {str(n): n for n in range(65)}}, "invalid_request", "metadata"),
        ({"metadata": {"caller_id": 15550100}}, "invalid_request", "caller_id"),
        ({"metadata": {"caller_id": "a\nb"}}, "invalid_request", "caller_id"),
        ({"metadata": {"caller_id": "1" * 257}}, "invalid_request", "caller_id"),
    ],
)
def test_start_that_does_not_fit_is_answered_and_may_be_tried_again(payload, code, field):
    one = codec()
    answer = refusal(one, message("start_session", payload))
    assert (answer["code"], answer["details"]) == (code, {"field": field})
    assert len(one.receive(message("start_session"))) == 1


def test_second_start_on_a_socket_is_not_the_time():
    one = active()
    answer = refusal(one, message("start_session"), UnexpectedMessageError)
    assert answer["code"] == "invalid_state"
    assert one.receive(message("text_input", {"text": "go on"})) == [CallerText("go on")]


@pytest.mark.parametrize("kind", ["audio_data", "text_input", "dtmf", "playback_finished", "end_session"])
def test_nothing_is_taken_before_the_start(kind):
    one = codec()
    payload = {"text": "x", "digits": "1", "data": "", "playback_id": "p"}
    assert refusal(one, message(kind, payload), UnexpectedMessageError)["code"] == "invalid_state"


# Resuming


def test_request_that_names_a_session_resumes_it_at_once():
    clock = Clock()
    one = codec("session-7", clock)
    assert one.open() == [SessionResumed("session-7")]
    assert one.open() == []
    accepted = AcceptSession(CLIENT_MEDIA["audio/pcma"].offer, "confirm", age_s=30.0)
    kind, payload = only(sent(one, accepted))
    assert kind == "session_started"
    assert payload == {
        "session_id": "session-7",
        "initial_state": "confirm",
        "media": "audio/pcma",
        "resumed": True,
    }
    # What every client sends first says nothing more.
    assert one.receive(message("start_session", {"media": "audio/pcmu"})) == [
        IgnoredMessage("repeated_start")
    ]
    clock.now += 5
    assert only(sent(one, HangUp("bye")))[1] == {"reason": "bye", "duration_seconds": 35.0}


@pytest.mark.parametrize("session_id", ["session-7", "ünï☎"])
def test_first_message_may_name_the_session_too(session_id):
    one = codec()
    assert one.open() == []
    assert one.receive(message("start_session", session_id=session_id)) == [SessionResumed(session_id)]


@pytest.mark.parametrize("session_id", ["a\nb", "x" * 257, "\x00", "\u202e"])
def test_what_cannot_be_an_id_is_just_not_found(session_id):
    for one in (codec(session_id), codec()):
        events = one.open() or one.receive(message("start_session", session_id=session_id))
        assert events == [SessionResumed("unreadable")]


def test_start_that_overtakes_the_opening_resumes_what_the_request_names():
    one = codec("session-7")
    assert one.receive(message("start_session", session_id="another")) == [SessionResumed("session-7")]
    assert one.open() == []


def test_session_that_is_not_there_is_an_error_that_says_no_more():
    one = codec("session-7")
    one.open()
    [answer] = sent(one, RefuseSession("conversation not found", "session-7"))
    assert answer["payload"] == {
        "code": "session_not_found",
        "message": "conversation not found",
        "details": {},
    }
    assert answer["session_id"] is None
    assert one.may_close


def test_full_house_is_an_error():
    one = codec()
    one.receive(message("start_session"))
    assert only(sent(one, RefuseSession("no capacity", "session-1")))[1]["code"] == "capacity_exceeded"
    assert one.may_close


# What a client says


@pytest.mark.parametrize(
    ("kind", "payload", "event"),
    [
        ("text_input", {"text": "hello"}, CallerText("hello")),
        ("text_input", {"text": "grüße ☎ 漢字\n\u0000"}, CallerText("grüße ☎ 漢字\n\u0000")),
        ("text_input", {"text": "x" * 8_000}, CallerText("x" * 8_000)),
        ("dtmf", {"digits": "1"}, DtmfReceived("1")),
        ("dtmf", {"digits": "0123456789*#abcd"}, DtmfReceived("0123456789*#ABCD")),
        ("playback_finished", {"playback_id": "play-1"}, PlaybackFinished("play-1")),
        ("end_session", {"reason": "done"}, SessionEnded(EndReason.CALLER, "done")),
        ("end_session", {}, SessionEnded(EndReason.CALLER, "")),
        ("end_session", {"reason": 5}, SessionEnded(EndReason.CALLER, "")),
        ("end_session", {"reason": "a\nb"}, SessionEnded(EndReason.CALLER, "")),
        ("end_session", {"reason": "x" * 999}, SessionEnded(EndReason.CALLER, "x" * 64)),
    ],
)
def test_message_becomes_its_event(kind, payload, event):
    for session_id in (None, "", "session-1"):
        assert active().receive(message(kind, payload, session_id=session_id)) == [event]


def test_words_and_digits_stay_out_of_representations():
    one = active()
    assert "secret" not in repr(one.receive(message("text_input", {"text": "secret"})))
    assert "4711" not in repr(one.receive(message("dtmf", {"digits": "4711"})))


MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "no JSON": (b"hello", None),
    "empty": (b"", None),
    "an array": (b"[]", None),
    "not UTF-8": (b'{"type":"\xff"}', None),
    "two objects": (b"{}{}", None),
    "no type": (b"{}", "type"),
    "type is a number": (b'{"type":5}', "type"),
    "type is empty": (b'{"type":""}', "type"),
    "unknown type": (message("audio"), "type"),
    "type of the server": (message("session_started", {}), "type"),
    "type in capitals": (message("DTMF", {"digits": "1"}), "type"),
    "payload is an array": (message("dtmf", []), "payload"),
    "payload is a text": (message("dtmf", "1"), "payload"),
    "no digits": (message("dtmf", {}), "digits"),
    "digits are a number": (message("dtmf", {"digits": 1}), "digits"),
    "digits are letters": (message("dtmf", {"digits": "XYZ"}), "digits"),
    "digits are other digits": (message("dtmf", {"digits": "١"}), "digits"),
    "digits without end": (message("dtmf", {"digits": "1" * 129}), "digits"),
    "no digit at all": (message("dtmf", {"digits": ""}), "digits"),
    "no text": (message("text_input"), "text"),
    "text is blank": (message("text_input", {"text": " \n"}), "text"),
    "text is an array": (message("text_input", {"text": ["x"]}), "text"),
    "text without end": (message("text_input", {"text": "x" * 8_001}), "text"),
    "no playback": (message("playback_finished", {"playback_id": ""}), "playback_id"),
    "session id is a number": (message("dtmf", {"digits": "1"}, session_id=5), "session_id"),
    "audio without data": (message("audio_data", {"format": "audio/pcmu"}), "data"),
    "data is a number": (message("audio_data", {"format": "audio/pcmu", "data": 5}), "data"),
    "format is a number": (message("audio_data", {"format": 5, "data": ""}), "format"),
    "encoding is a number": (message("audio_data", {"encoding": 5, "data": ""}), "encoding"),
    "too deep": (b'{"type":"dtmf","payload":' + b'{"a":' * 40 + b"1" + b"}" * 41, None),
}


@pytest.mark.parametrize(("text", "field"), MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_read_is_answered_and_the_session_goes_on(text, field):
    one = active()
    answer = refusal(one, text)
    assert answer["code"] == "invalid_request"
    assert answer["details"] == ({} if field is None else {"field": field})
    assert one.receive(message("dtmf", {"digits": "1"})) == [DtmfReceived("1")]
    assert one.messages_to_send() == []


def test_answer_quotes_nothing_of_the_message():
    for text in (b"secret", message("secret"), message("dtmf", {"digits": "secret"})):
        assert "secret" not in json.dumps(refusal(active(), text))


def test_message_for_another_session_is_not_taken():
    answer = refusal(active(), message("dtmf", {"digits": "1"}, session_id="session-2"))
    assert answer["code"] == "session_not_found"


def test_after_the_end_nothing_is_said_or_heard():
    clock = Clock()
    one = active(clock=clock)
    clock.now += 12.3456
    assert not one.may_close
    one.receive(message("end_session", {"reason": "done"}))
    kind, payload = only([json.loads(reply) for reply in one.messages_to_send()])
    assert kind == "session_ended"
    assert payload == {"reason": "client ended the session", "duration_seconds": 12.346}
    assert one.may_close
    assert one.receive(message("dtmf", {"digits": "1"})) == [IgnoredMessage("after_end")]
    assert one.send(HangUp("bye")) == []
    assert one.send(AbortPlayback()) == []


# Audio that the native path does not take


def uplink_of(one: AgentCodec, format: AudioFormat) -> Uplink:
    """The native path of a session, as far as it tells what it takes."""
    media = one.caller_media
    assert media.expected is not None
    assert media.sequence is not None
    fields = (media.expected[0], media.sequence)
    spec = EnvelopeSpec(media.discriminator, media.values, media.audio, fields)
    kind = (format.encoding.value, format.sample_rate)
    expected = media.expected[1].encode()
    return Uplink(
        spec,
        *kind,
        *kind,
        b"<",
        b">",
        has_wav_header=True,
        expected_field=0,
        expected=expected,
        sequence_field=1,
    )


def heard(one: AgentCodec, format: AudioFormat, *chunks: dict[str, Any]) -> bytes:
    """What the native path passes on of chunks, those included that the codec had to convert."""
    pump = uplink_of(one, format)
    audio = b""
    for chunk in chunks:
        text = message("audio_data", chunk)
        try:
            out = pump.feed(text)
        except LookupError:
            out = None
            for event in one.receive(text):
                assert isinstance(event, CallerAudio)
                out = pump.feed(event.message)
        if out is not None:
            audio += base64.b64decode(out[1:-1])
    return audio


def chunk(data: bytes, format: str | None = None, **more: Any) -> dict[str, Any]:
    said = {} if format is None else {"format": format}
    return {"data": base64.b64encode(data).decode()} | said | more


def formats() -> list[tuple[str, AudioFormat]]:
    return [(name, media.offer.format) for name, media in CLIENT_MEDIA.items()]


@pytest.mark.parametrize(("media", "wanted"), formats())
def test_chunk_of_the_sessions_own_format_needs_no_codec(media, wanted):
    one = active(media)
    data = bytes(range(64))
    pump = uplink_of(one, wanted)
    said = CLIENT_MEDIA[media].chunk_format
    assert pump.feed(message("audio_data", chunk(data, said, chunk_id=3, encoding="base64"))) is not None
    assert pump.messages == 1


@pytest.mark.parametrize(
    "media", [name for name, one in CLIENT_MEDIA.items() if not one.offer.has_wav_header]
)
def test_chunk_without_a_format_is_of_the_sessions(media):
    data = bytes(range(64))
    assert heard(active(media), CLIENT_MEDIA[media].offer.format, chunk(data)) == data


@pytest.mark.parametrize(("media", "wanted"), formats())
@pytest.mark.parametrize("source", ["audio/pcm;rate=8000", "audio/pcm;rate=16000", "audio/pcm; RATE=24000"])
def test_chunk_of_another_rate_is_converted_to_its_length(media, wanted, source):
    rate = int(source.split("=")[1])
    one = active(media)
    chunks = [chunk(bytes(2 * rate // 50), source) for _ in range(5)]
    assert len(heard(one, wanted, *chunks)) == wanted.bytes_per_ms * 100


WAVS = [AudioFormat(encoding, rate) for encoding in Encoding for rate in (8_000, 16_000, 24_000)]


@pytest.mark.parametrize("source", WAVS, ids=str)
@pytest.mark.parametrize("is_repeated", [False, True], ids=["header first", "header on each"])
@pytest.mark.parametrize("media", ["audio/x-wav", "audio/pcm;rate=24000"])
def test_any_wav_is_read_by_its_header(media, source, is_repeated):
    one = active(media)
    head = wav.header(source)
    body = source.silence(20)
    chunks = [chunk(head + body, "audio/x-wav"), *[chunk(head * is_repeated + body, "audio/x-wav")] * 4]
    assert len(heard(one, PCM16_24K, *chunks)) == PCM16_24K.bytes_per_ms * 100


def test_wav_may_change_its_kind_with_a_header():
    one = active("audio/pcm;rate=16000")
    body = bytes(320)
    parts = [
        chunk(wav.header(PCM16_16K) + body, "audio/x-wav"),
        chunk(wav.header(MULAW_8K) + MULAW_8K.silence(10), "audio/x-wav"),
    ]
    assert len(heard(one, PCM16_16K, *parts)) == 640


def test_wav_header_may_come_in_pieces_and_be_long():
    long = wav.header(PCM16_24K, data_bytes=40)
    at = long.index(b"data")
    long = long[:at] + b"LIST" + (9_000).to_bytes(4, "little") + bytes(9_000) + long[at:]
    body = bytes(range(40))
    stream = long + body + b"LIST\x04\0\0\0junk"
    for sizes in (1, 7, 1000, len(stream)):
        one = active()
        parts = [chunk(stream[at : at + sizes], "audio/x-wav") for at in range(0, len(stream), sizes)]
        assert heard(one, PCM16_24K, *parts).startswith(body)
    assert heard(active(), PCM16_24K, chunk(stream, "audio/x-wav")) == body


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (chunk(b"", "audio/opus"), "invalid_audio_format"),
        (chunk(b"", "audio/pcm"), "invalid_audio_format"),
        (chunk(b"", "audio/pcm;rate=44100"), "invalid_audio_format"),
        (chunk(b"", "audio/pcmu", encoding="hex"), "invalid_audio_format"),
        (chunk(b"no header", "audio/x-wav"), "invalid_audio_format"),
        (chunk(b"RIFF\0\0\0\0AVI ", "audio/x-wav"), "invalid_audio_format"),
        (chunk(wav.header(PCM16_24K, 2), "audio/x-wav"), "invalid_audio_format"),
        (chunk(wav.header(AudioFormat(Encoding.PCM16, 44_100)), "audio/x-wav"), "invalid_audio_format"),
        ({"data": "!!!!"}, "audio_processing_failed"),
        ({"data": "AAA"}, "audio_processing_failed"),
        ({"data": "AA\nAA"}, "audio_processing_failed"),
        ({"data": "ÄÄÄÄ"}, "audio_processing_failed"),
        ({"data": '"}', "format": "audio/pcmu"}, "audio_processing_failed"),
        ({"data": "é", "format": "audio/x-wav"}, "audio_processing_failed"),
    ],
)
def test_audio_that_cannot_be_taken_is_answered_and_the_next_is_heard(payload, code):
    one = active()
    answer = refusal(one, message("audio_data", payload))
    assert answer["code"] == code
    [event] = one.receive(message("audio_data", chunk(b"\1\2" * 8, "audio/pcm ; rate=24000")))
    assert isinstance(event, CallerAudio)


def test_chunk_that_is_empty_is_nothing():
    assert active().receive(message("audio_data", chunk(b"", "audio/pcmu"))) == []


# What the server says


def test_playback_is_audio_with_a_last_message():
    one = active("audio/pcm;rate=16000")
    offer = CLIENT_MEDIA["audio/pcm;rate=16000"].offer
    assert one.send(OpenPlayback("play-1", offer, "words")) == []
    template = one.playback_template("play-1")
    said = {"format": "audio/pcm;rate=16000", "encoding": "base64", "playback_id": "play-1"}
    payload = only([json.loads(template.message(b"AAEC"))])[1]
    assert payload == said | {"final": False, "data": "AAEC"}
    pieces = sent(one, PlayAudio("play-1", bytes(32 * 250)))
    assert [len(base64.b64decode(piece["payload"]["data"])) for piece in pieces] == [3200, 3200, 1600]
    kind, payload = only(sent(one, ClosePlayback("play-1")))
    assert (kind, payload) == ("audio_response", said | {"final": True, "data": ""})
    assert one.send(ClosePlayback("play-1")) == []


@pytest.mark.parametrize("media", [name for name, one in CLIENT_MEDIA.items() if one.offer.has_wav_header])
def test_wav_playback_begins_with_its_header(media):
    one = active(media)
    offer = CLIENT_MEDIA[media].offer
    _, payload = only(sent(one, OpenPlayback("play-1", offer)))
    assert payload["format"] == "audio/x-wav"
    header = wav.parse_header(base64.b64decode(payload["data"]))
    assert header is not None
    assert (header.format, header.channels, header.data_bytes) == (offer.format, 1, None)


@pytest.mark.parametrize(
    ("command", "kind", "payload"),
    [
        (AbortPlayback(), "interruption", {}),
        (ReportSpeech(SpeechPhase.STARTED), "caller_speech", {"phase": "started"}),
        (ReportSpeech(SpeechPhase.STOPPED), "caller_speech", {"phase": "stopped"}),
        (ReportSpeech(SpeechPhase.COMMITTED), "caller_speech", {"phase": "committed"}),
        (
            ReportTranscript("On Mon", False),
            "transcript",
            {"role": "caller", "text": "On Mon", "final": False},
        ),
        (
            ReportTranscript("On Monday.", True, 0.5),
            "transcript",
            {"role": "caller", "text": "On Monday.", "final": True},
        ),
        (TellTranscript("Fine ☎"), "transcript", {"role": "agent", "text": "Fine ☎", "final": True}),
        (
            TellTransition("book", "a", "b", "answer"),
            "state_transition",
            {"task": "book", "from_state": "a", "to_state": "b", "reason": "answer"},
        ),
        (
            TellTransition("book", "", "a", "start"),
            "state_transition",
            {"task": "book", "from_state": None, "to_state": "a", "reason": "start"},
        ),
        (SendMetadata({"form": [1]}), "metadata", {"value": {"form": [1]}}),
        (HangUp("bye"), "session_ended", {"reason": "bye", "duration_seconds": 0.0}),
        (
            TellError("model", "it failed", "server_error"),
            "error",
            {"code": "llm_error", "message": "it failed", "details": {"model_code": "server_error"}},
        ),
        (
            TellError("internal", "it failed"),
            "error",
            {"code": "internal_error", "message": "it failed", "details": {}},
        ),
    ],
)
def test_command_becomes_its_message(command, kind, payload):
    one = active()
    assert only(sent(one, command)) == (kind, payload)
    assert one.may_close is isinstance(command, HangUp)


def test_failure_of_the_model_is_an_error_and_the_end():
    one = active()
    error, ended = sent(one, FailSession("not available"))
    assert error["payload"]["code"] == "llm_error"
    assert (ended["type"], ended["payload"]["reason"]) == ("session_ended", "not available")
    assert one.may_close


def test_failure_of_ours_is_an_error():
    one = active()
    assert only([json.loads(one.failure())])[1]["code"] == "internal_error"
    assert one.may_close


@pytest.mark.parametrize(
    "command",
    [
        ConfigureCall({"a": 1}),
        ControlRecording(RecordingAction.START),
        ExpectMoreOutput(),
        ReportTranscript(" ", True),
    ],
)
def test_what_a_client_has_no_word_for_says_nothing(command):
    assert active().send(command) == []


@pytest.mark.parametrize(
    "command",
    [
        TransferCall("tel:+15550100"),
        SendDtmf("1"),
        PlayUrl("https://example.com/a.wav"),
        AcceptSession(CLIENT_MEDIA["audio/pcmu"].offer),
        PlayAudio("play-1", b""),
        ClosePlayback("play-1"),
        OpenPlayback("", CLIENT_MEDIA["audio/pcm;rate=24000"].offer),
        OpenPlayback("play-1", CLIENT_MEDIA["audio/pcmu"].offer),
    ],
    ids=lambda command: type(command).__name__,
)
def test_what_a_client_cannot_follow_is_the_callers_mistake(command):
    with pytest.raises(ValueError, match=r"."):
        active().send(command)


def test_commands_before_the_session_are_mistakes():
    one = codec()
    for command in (AbortPlayback(), HangUp("x"), AcceptSession(CLIENT_MEDIA["audio/pcmu"].offer)):
        with pytest.raises(ValueError, match=r"."):
            one.send(command)


def test_playbacks_come_one_after_the_other_under_names_of_their_own():
    one = active()
    offer = CLIENT_MEDIA["audio/pcm;rate=24000"].offer
    one.send(OpenPlayback("play-1", offer))
    for again in ("play-1", "play-2"):
        with pytest.raises(ValueError, match="one playback"):
            one.send(OpenPlayback(again, offer))
    with pytest.raises(ValueError, match="samples"):
        one.send(PlayAudio("play-1", b"\0"))
    one.send(ClosePlayback("play-1"))
    with pytest.raises(ValueError, match="never used"):
        one.send(OpenPlayback("play-1", offer))


def test_refusal_before_the_socket_opens_is_a_message_too():
    answer = error_message(ErrorCode.AUTHENTICATION_FAILED, "a token is needed", utc_now=lambda: NOW)
    assert only([answer]) == (
        ServerMessage.ERROR,
        {"code": "authentication_failed", "message": "a token is needed", "details": {}},
    )

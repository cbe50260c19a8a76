"""The scripted line, without sockets: what VoiceAI Connect would do, and which broken rules it notices."""

import base64
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.formats import PCM16_8K, PCM16_24K
from fastagent.testing.audiocodes_phone import LineOptions, LinePhase, PhoneLine, StreamPhase
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA, AudioCodesCodec
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    CarrierCommand,
    CarrierEvent,
    ClosePlayback,
    ConfigureCall,
    ControlRecording,
    DtmfReceived,
    EndReason,
    ExpectMoreOutput,
    HangUp,
    NoUserInput,
    OpenPlayback,
    PlayAudio,
    PlaybackFailed,
    PlaybackFinished,
    PlayUrl,
    RecordingAction,
    ReportSpeech,
    ReportTranscript,
    SendDtmf,
    SendMetadata,
    SessionEnded,
    SessionResumed,
    SpeechPhase,
    TransferCall,
    TransferStatus,
)

RAW = AUDIOCODES_MEDIA["raw/lpcm16_8"]
ONE_FORMAT = LineOptions(formats=("raw/lpcm16_8",), comfort_noise_peak=0)
BARGE_IN = replace(ONE_FORMAT, settings={"bargeIn": True, "sendEventsToBot": ["playFinished"]})
FINISHES = replace(ONE_FORMAT, settings={"sendEventsToBot": ["playFinished"]})
START = 100.0


def tone(duration_ms: int, sample_rate: int = 8000) -> bytes:
    t = np.arange(sample_rate * duration_ms // 1000) / sample_rate
    return (8000 * np.sin(2 * np.pi * 400 * t)).astype("<i2").tobytes()


def rms(pcm: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm, "<i2").astype(float) ** 2))) if pcm else 0.0


class Call:
    """A line and a codec joined by hand, with a clock that only moves when told."""

    def __init__(self, options: LineOptions = ONE_FORMAT, *, accepts: str | None = None) -> None:
        self.now = START
        self.line = PhoneLine(options, conversation_id="c-1")
        self.codec = AudioCodesCodec()
        self.events: list[CarrierEvent] = []
        self.sent: list[dict[str, Any]] = []
        self.line.initiate(self.now)
        self.exchange()
        if accepts != "":
            self.bot(AcceptSession(AUDIOCODES_MEDIA[accepts or options.formats[0]]))

    def exchange(self) -> None:
        while messages := self.line.messages_to_send():
            for message in messages:
                self.sent.append(json.loads(message))
                if self.sent[-1]["type"] != "userStream.chunk":
                    self.events += self.codec.receive(message)
                for ack in self.codec.messages_to_send():
                    self.line.receive(ack, self.now)

    def bot(self, *commands: CarrierCommand) -> None:
        for command in commands:
            for message in self.codec.send(command):
                self.line.receive(message, self.now)
        self.exchange()

    def raw(self, type: str, **fields: Any) -> None:
        self.line.receive(json.dumps({"type": type, **fields}).encode(), self.now)
        self.exchange()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.line.next_deadline(self.now)) is not None and deadline <= end:
            assert deadline >= self.now, "a line must not ask for the past"
            self.now = deadline
            self.line.advance(self.now)
            self.exchange()
        self.now = end
        self.line.advance(self.now)
        self.exchange()

    def types(self) -> list[str]:
        return [message["type"] for message in self.sent if message["type"] != "userStream.chunk"]

    def chunks(self) -> list[bytes]:
        return [base64.b64decode(m["audioChunk"]) for m in self.sent if m["type"] == "userStream.chunk"]

    def listens(self) -> bool:
        return self.line.is_listening

    def rules(self) -> list[str]:
        return [violation.rule for violation in self.line.violations]

    def count(self, kind: type[CarrierEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def play(self, name: str, duration_ms: int) -> None:
        self.bot(OpenPlayback(name, RAW), PlayAudio(name, tone(duration_ms)), ClosePlayback(name))


def test_call_opens_in_the_documented_order() -> None:
    call = Call()
    assert call.types() == ["session.initiate", "activities", "userStream.start"]
    assert call.sent[1]["activities"][0]["name"] == "start"
    assert call.listens()
    assert call.line.violations == []


def test_stream_may_be_announced_before_the_start_activity_or_not_at_all() -> None:
    assert Call(replace(ONE_FORMAT, announces_stream_first=True)).types()[1:] == [
        "userStream.start",
        "activities",
    ]
    call = Call(replace(ONE_FORMAT, opens_stream=False))
    call.play("before-any-stream", 20)
    call.run(1.0)
    assert call.types() == ["session.initiate", "activities"]
    call.line.open_user_stream(call.now)
    call.exchange()
    assert call.listens()
    assert call.line.violations == []


def test_connectivity_check_is_answered() -> None:
    line, codec = PhoneLine(), AudioCodesCodec()
    line.validate()
    for message in line.messages_to_send():
        codec.receive(message)
    for ack in codec.messages_to_send():
        line.receive(ack, START)
    assert line.is_validated
    assert line.phase is LinePhase.IDLE


@pytest.mark.parametrize("chunk_ms", [20, 60, 100])
@pytest.mark.parametrize("name", AUDIOCODES_MEDIA)
def test_caller_audio_comes_in_real_time_in_the_accepted_format(name: str, chunk_ms: int) -> None:
    call = Call(LineOptions(formats=(name,), chunk_ms=chunk_ms, settings={"bargeIn": True}))
    call.line.say(tone(300, 24_000), 24_000)
    call.run(1.2)
    format = AUDIOCODES_MEDIA[name].format
    chunks = call.chunks()
    assert len(chunks) == 1200 // chunk_ms + 1
    if name.startswith("wav/"):
        head = wav.header(format)
        assert chunks[0].startswith(head)
        chunks[0] = chunks[0][len(head) :]
    assert {len(chunk) for chunk in chunks} == {format.bytes_per_ms * chunk_ms}
    # The first one left when the stream opened, before anything was said.
    audio = b"".join(chunks[1:])
    pcm = g711.ulaw_decode(audio) if "mulaw" in name else audio
    spoken = format.sample_rate * 300 // 1000 * 2
    assert rms(pcm[:spoken]) == pytest.approx(8000 / 2**0.5, rel=0.02)
    assert 0 < rms(pcm[spoken:]) < 20, "comfort noise between words"
    (utterance,) = call.line.utterances
    assert utterance == pytest.approx((START + chunk_ms / 1000, START + chunk_ms / 1000 + 0.3))


def test_wav_header_can_be_repeated_on_each_chunk() -> None:
    call = Call(LineOptions(formats=("wav/lpcm16_8",), repeats_wav_header=True))
    call.run(0.1)
    assert all(chunk.startswith(b"RIFF") for chunk in call.chunks())


def test_late_timer_does_not_slow_the_caller_down() -> None:
    call = Call()
    call.now += 1.0
    call.line.advance(call.now)
    call.exchange()
    assert len(call.chunks()) == 51


def test_participant_is_named_and_must_be_echoed() -> None:
    call = Call(replace(ONE_FORMAT, participant="caller"))
    assert call.sent[-1]["participant"] == "caller"
    assert call.listens()
    call = Call(replace(ONE_FORMAT, opens_stream=False, participant="caller"))
    call.line.open_user_stream(call.now)
    call.raw("userStream.started", participant="agent")
    assert call.rules() == ["unasked_acknowledgement"]


# barge-in


def test_without_barge_in_the_caller_is_not_heard_while_audio_is_open_or_draining() -> None:
    call = Call()
    call.bot(OpenPlayback("a", RAW))
    assert call.types()[-1] == "userStream.stop"
    assert call.line.user_stream is StreamPhase.CLOSED
    call.bot(PlayAudio("a", tone(400)), ClosePlayback("a"))
    sent = len(call.chunks())
    call.run(0.39)
    assert len(call.chunks()) == sent
    call.run(0.02)
    assert call.types()[-2:] == ["userStream.stop", "userStream.start"]
    assert call.listens()
    assert call.line.violations == []


def test_speech_waits_while_the_caller_is_not_heard_and_nothing_of_it_is_lost() -> None:
    call = Call()
    call.line.say(tone(200), 8000)
    call.run(0.05)
    call.play("a", 300)
    call.run(1.0)
    said = b"".join(call.chunks())
    assert not call.line.has_speech
    assert np.count_nonzero(np.frombuffer(said, "<i2")) == np.count_nonzero(np.frombuffer(tone(200), "<i2"))


def test_with_barge_in_the_stream_never_stops() -> None:
    call = Call(BARGE_IN)
    call.play("a", 400)
    call.run(1.0)
    assert call.types().count("userStream.stop") == 0
    assert len(call.chunks()) == 51


def test_barge_in_can_be_configured_during_the_call() -> None:
    call = Call()
    call.bot(OpenPlayback("a", RAW), PlayAudio("a", tone(1000)))
    assert not call.listens()
    call.bot(ConfigureCall({"bargeIn": True}))
    assert call.listens()


@pytest.mark.parametrize(
    "command", [ReportSpeech(SpeechPhase.COMMITTED), ReportTranscript("yes please", is_final=True)]
)
def test_without_barge_in_a_finished_utterance_stops_the_stream_until_the_bot_was_heard(
    command: CarrierCommand,
) -> None:
    call = Call()
    call.bot(command)
    assert not call.listens()
    call.run(9.9)
    assert not call.listens()
    call.run(0.2)
    assert call.listens(), "a silent bot is given up after the resume timeout"
    call.bot(command)
    call.play("a", 100)
    call.run(0.2)
    assert call.listens()


@pytest.mark.parametrize(
    ("command", "is_cut"),
    [
        (ReportSpeech(SpeechPhase.STARTED), True),
        (ReportTranscript("wait a moment", is_final=False), True),
        (ReportTranscript("wait", is_final=False), False),
        (ReportSpeech(SpeechPhase.STOPPED), False),
    ],
)
def test_line_that_cuts_on_speech_listens_to_speech_reports(command: CarrierCommand, is_cut: bool) -> None:
    settings = {"bargeIn": True, "bargeInMinWordCount": 2}
    call = Call(replace(ONE_FORMAT, cuts_on_speech=True, settings=settings))
    call.bot(OpenPlayback("a", RAW), PlayAudio("a", tone(500)), command)
    assert (call.line.pending_s(call.now) == 0) is is_cut


# Playback


def test_stop_lets_audio_drain_and_playback_finishes_on_time() -> None:
    call = Call(FINISHES)
    call.play("a", 400)
    assert call.line.pending_s(call.now) == pytest.approx(0.4)
    call.run(0.399)
    assert call.count(PlaybackFinished) == 0
    call.run(0.002)
    assert call.count(PlaybackFinished) == 1
    (stream,) = call.line.streams
    assert stream.heard_ms(call.now) == stream.received_ms == 400
    assert not stream.was_cut


def test_stop_cuts_when_the_line_is_told_so() -> None:
    call = Call(replace(FINISHES, stop_semantics="cut"))
    call.bot(OpenPlayback("a", RAW), PlayAudio("a", tone(400)))
    call.run(0.1)
    call.bot(ClosePlayback("a"))
    assert call.line.pending_s(call.now) == 0
    (stream,) = call.line.streams
    assert stream.was_cut
    assert stream.heard_ms(call.now) == pytest.approx(100)
    assert stream.cut_ms == pytest.approx(300)
    assert call.count(PlaybackFinished) == 0


@pytest.mark.parametrize("stop_semantics", ["drain", "cut"])
@pytest.mark.parametrize("is_open", [True, False])
def test_abort_always_cuts(stop_semantics: Any, is_open: bool) -> None:
    call = Call(replace(BARGE_IN, stop_semantics=stop_semantics))
    call.bot(OpenPlayback("a", RAW), PlayAudio("a", tone(400)))
    call.run(0.1)
    if not is_open:
        call.bot(ClosePlayback("a"))
    call.bot(AbortPlayback())
    call.run(1.0)
    _, right = split(call.line.recording(8000))
    assert heard_ms(right) == pytest.approx(100, abs=1)
    assert call.count(PlaybackFinished) == 0


def test_aborted_stream_is_reported_finished_when_the_line_is_told_so() -> None:
    call = Call(replace(FINISHES, finishes_aborted=True))
    call.play("a", 400)
    call.bot(AbortPlayback())
    call.run(0.0)
    assert call.count(PlaybackFinished) == 1


def test_playbacks_are_heard_one_after_the_other_and_finish_in_order() -> None:
    call = Call(FINISHES)
    call.play("a", 200)
    call.play("b", 200)
    call.play("empty", 0)
    call.run(0.25)
    assert call.count(PlaybackFinished) == 1
    assert [round(stream.heard_ms(call.now)) for stream in call.line.streams] == [200, 50, 0]
    call.run(0.2)
    assert call.count(PlaybackFinished) == 3


def test_finish_is_not_reported_unless_asked_for() -> None:
    call = Call()
    call.play("a", 100)
    call.run(1.0)
    assert call.count(PlaybackFinished) == 0


@pytest.mark.parametrize("name", AUDIOCODES_MEDIA)
def test_bot_audio_of_every_format_is_heard_in_the_recording(name: str) -> None:
    media = AUDIOCODES_MEDIA[name]
    call = Call(LineOptions(formats=("raw/lpcm16", name)), accepts="raw/lpcm16")
    pcm = tone(200, media.format.sample_rate)
    call.bot(OpenPlayback("a", media), PlayAudio("a", g711.ulaw_encode(pcm) if "mulaw" in name else pcm))
    call.run(0.3)
    _, right = split(call.line.recording(16_000))
    assert heard_ms(right, 16_000) == pytest.approx(200, abs=2)
    assert call.line.violations == []


@pytest.mark.parametrize("step", [1, 7, 44, 45, 1000])
def test_wav_stream_may_be_split_anywhere(step: int) -> None:
    call = Call(LineOptions(formats=("wav/lpcm16_8",)))
    data = wav.header(PCM16_8K) + tone(20)
    call.raw("playStream.start", streamId="w", mediaFormat="wav/lpcm16_8")
    for at in range(0, len(data), step):
        call.raw("playStream.chunk", streamId="w", audioChunk=base64.b64encode(data[at : at + step]).decode())
    assert call.line.violations == []
    assert call.line.streams[0].received_bytes == 320


def test_wav_header_may_stand_on_each_chunk() -> None:
    call = Call(LineOptions(formats=("wav/lpcm16_8",)))
    call.raw("playStream.start", streamId="w", mediaFormat="wav/lpcm16_8")
    for _ in range(3):
        data = base64.b64encode(wav.header(PCM16_8K) + tone(20)).decode()
        call.raw("playStream.chunk", streamId="w", audioChunk=data)
    assert call.line.violations == []
    assert call.line.streams[0].received_bytes == 960


# Broken rules


def started(stream_id: Any = "a", name: str = "raw/lpcm16_8") -> dict[str, Any]:
    return {"type": "playStream.start", "streamId": stream_id, "mediaFormat": name}


def played(data: Any = "AAA=") -> dict[str, Any]:
    return {"type": "playStream.chunk", "streamId": "a", "audioChunk": data}


def stopped(stream_id: str = "a") -> dict[str, Any]:
    return {"type": "playStream.stop", "streamId": stream_id}


def acted(name: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "activities", "activities": [{"type": "event", "name": name, **fields}]}


@pytest.mark.parametrize(
    ("rule", "messages"),
    [
        ("second_open_stream", [started("a"), started("b")]),
        ("stream_id_reused", [started(), stopped(), started()]),
        ("stream_format_not_offered", [started("a", "raw/mulaw"), played()]),
        ("chunk_before_start", [played()]),
        ("chunk_after_stop", [started(), stopped(), played()]),
        ("chunk_misaligned", [started(), played("AAAA")]),
        ("chunk_not_base64", [started(), played("*")]),
        ("chunk_not_base64", [started(), played("AAA")]),
        ("chunk_not_base64", [started(), played([])]),
        ("chunk_not_base64", [started(), {"type": "playStream.chunk", "streamId": "a"}]),
        ("stop_without_start", [stopped()]),
        ("stop_without_start", [started("a"), stopped("b")]),
        ("accepted_twice", [{"type": "session.accepted", "mediaFormat": "raw/lpcm16_8"}]),
        ("unasked_acknowledgement", [{"type": "userStream.started"}]),
        ("unasked_acknowledgement", [{"type": "userStream.stopped"}]),
        ("message_unknown", [{"type": "playStream.begin"}]),
        ("message_malformed", ["hello"]),
        ("message_malformed", [{"name": "x"}]),
        ("message_malformed", [started(5)]),
        ("message_malformed", [{"type": "activities", "activities": {}}]),
        ("message_malformed", [{"type": "userStream.speech.hypothesis", "text": "top level"}]),
        ("activity_malformed", [{"type": "activities", "activities": [{"name": "hangup"}]}]),
        ("activity_malformed", [acted(["hangup"])]),
        ("activity_malformed", [acted("hangUp")]),
        ("activity_malformed", [acted("transfer")]),
        ("activity_malformed", [acted("sendMetaData", activityParams={"a": 1})]),
        ("config_without_session_params", [acted("config", activityParams={"bargeIn": True})]),
        ("setting_malformed", [acted("config", sessionParams={"sendEventsToBot": "playFinished"})]),
        ("setting_malformed", [acted("config", sessionParams={"sendEventsToBot": ["DTMF"]})]),
        ("setting_malformed", [acted("config", sessionParams={"bargeIn": "yes"})]),
        ("dtmf_not_sendable", [acted("sendDtmf", activityParams={"dtmf": "1"})]),
        ("dtmf_not_sendable", [acted("sendDtmf", activityParams={"dtmfDigits": "1" * 21})]),
    ],
)
def test_broken_rule_is_noted_and_the_call_goes_on(rule: str, messages: list[Any]) -> None:
    call = Call()
    for message in messages:
        call.line.receive(json.dumps(message).encode(), call.now)
        call.exchange()
    assert call.rules() == [rule]
    assert call.line.phase is LinePhase.ACTIVE


def test_wav_stream_without_a_header_is_noted() -> None:
    call = Call(LineOptions(formats=("wav/lpcm16_8",)))
    call.raw(**started("a", "wav/lpcm16_8"))
    for data in (tone(20), wav.header(PCM16_24K) + tone(20)):
        call.raw(**played(base64.b64encode(data).decode()))
    assert call.rules() == ["chunk_not_wav", "chunk_not_wav"]


def test_bot_that_speaks_before_accepting_is_noted() -> None:
    call = Call(accepts="")
    call.raw(**started())
    call.raw("session.accepted", mediaFormat="raw/alaw")
    assert call.rules() == ["message_before_accepted", "accepted_format_not_offered"]
    assert call.line.phase is LinePhase.WAITING


# Activities


@pytest.mark.parametrize(
    ("collects", "name", "expected"),
    [(False, "DTMF", [DtmfReceived("4"), DtmfReceived("#")]), (True, "dtmf", [DtmfReceived("4#")])],
)
def test_digits_are_sent_once_the_bot_asks_for_them(collects: bool, name: str, expected: list[Any]) -> None:
    call = Call(replace(ONE_FORMAT, collects_dtmf=collects, dtmf_name=name))
    assert not call.line.dtmf("4#")
    call.bot(ConfigureCall({"sendDTMF": True}))
    assert call.line.dtmf("4#")
    call.exchange()
    assert [event for event in call.events if isinstance(event, DtmfReceived)] == expected


def test_events_are_sent_once_the_bot_asks_for_them() -> None:
    call = Call()
    assert not call.line.event("noUserInput", value=1)
    call.bot(ConfigureCall({"sendEventsToBot": ["noUserInput"]}))
    assert call.line.event("noUserInput", value=1)
    assert call.line.event("somethingNew")
    call.exchange()
    assert NoUserInput(1) in call.events


def test_bot_activities_are_kept() -> None:
    call = Call()
    call.bot(
        SendDtmf("12#"),
        SendMetadata({"case": 1}),
        ControlRecording(RecordingAction.START),
        ExpectMoreOutput(),
        PlayUrl("https://example.com/a.wav", text="A tune."),
    )
    assert [activity["name"] for activity in call.line.activities] == [
        "sendDtmf",
        "sendMetaData",
        "startCallRecording",
        "expectAnotherBotMessage",
        "playUrl",
    ]
    assert call.line.dtmf_heard == "12#"
    assert call.line.said("bot") == ["A tune."]
    assert call.line.violations == []


def test_inline_file_is_played_and_a_remote_one_fails_when_failures_are_asked_for() -> None:
    call = Call(replace(ONE_FORMAT, settings={"playUrlFailureHandling": "notify-bot"}))
    content = base64.b64encode(wav.header(PCM16_8K, 1, 1600) + tone(100)).decode()
    call.bot(PlayUrl("data:audio/wav;base64," + content), PlayUrl("https://example.com/a.wav"))
    assert call.line.pending_s(call.now) == pytest.approx(0.1)
    assert call.count(PlaybackFailed) == 1
    call.run(0.2)
    assert call.listens()
    call.raw(**acted("playUrl", activityParams={"playUrlUrl": "data:audio/wav;base64,AA"}))
    assert call.rules() == ["activity_malformed"]


def test_transcript_holds_both_sides() -> None:
    call = Call(BARGE_IN)
    call.bot(
        OpenPlayback("a", RAW, text="Good morning."),
        ClosePlayback("a"),
        ReportTranscript("I want", is_final=False),
        ReportTranscript("I want a table", is_final=True, confidence=0.9),
    )
    call.raw("activities", activities=[{"type": "message", "text": "Certainly."}])
    assert call.line.said("bot") == ["Good morning.", "Certainly."]
    assert call.line.said("caller") == ["i want a table"]
    assert [line.is_final for line in call.line.transcript if line.speaker == "caller"] == [False, True]
    assert "table" not in repr(call.line.transcript)


# Ends


def test_bot_hangup_is_confirmed_and_unheard_audio_is_measured() -> None:
    call = Call(BARGE_IN)
    call.play("a", 400)
    call.run(0.1)
    call.bot(HangUp("done"))
    assert call.events[-1] == SessionEnded(EndReason.BOT, "bot-disconnected")
    assert call.line.end_code == "bot-disconnected"
    assert call.line.unheard_at_hangup_s == pytest.approx(0.3)
    assert call.line.next_deadline(call.now) is None
    call.raw(**played())
    assert call.line.late_messages == 1
    assert call.line.violations == []


def test_hangup_after_the_last_word_was_heard_cuts_nothing() -> None:
    call = Call(BARGE_IN)
    call.play("a", 100)
    call.run(0.2)
    call.bot(HangUp("done"))
    assert call.line.unheard_at_hangup_s == 0


def test_caller_hangs_up() -> None:
    call = Call(BARGE_IN)
    call.play("a", 400)
    call.line.hang_up(call.now)
    call.line.hang_up(call.now)
    call.exchange()
    call.run(1.0)
    assert call.types().count("session.end") == 1
    assert call.types()[-1] == "session.end", "nothing follows the end"
    assert call.line.end_code == "client-disconnected"
    assert not call.line.dtmf("1")


def test_transfer_ends_the_session_after_its_status() -> None:
    call = Call()
    call.bot(TransferCall("tel:+15550100099", wants_status=True))
    assert call.types()[-2:] == ["activities", "session.end"]
    assert TransferStatus(True) in call.events
    assert call.line.end_code == "transferred"


def test_failed_transfer_leaves_the_session_alive() -> None:
    call = Call(replace(ONE_FORMAT, transfer_failure="busy"))
    call.bot(TransferCall("sip:desk@example.com", wants_status=True))
    assert call.events[-1] == TransferStatus(False, "busy")
    assert call.line.phase is LinePhase.ACTIVE


def test_session_error_is_fatal_at_any_moment() -> None:
    for call in (Call(accepts=""), Call()):
        call.raw("session.error", reason="model lost")
        assert call.line.phase is LinePhase.FAILED
        assert call.line.error_reason == "model lost"
        call.run(1.0)
        assert "session.end" not in call.types()


# Resume


def test_resumed_call_starts_a_new_user_stream_and_forgets_the_open_playback() -> None:
    call = Call(BARGE_IN)
    call.bot(OpenPlayback("a", RAW), PlayAudio("a", tone(1000)))
    call.run(0.2)
    call.line.lose_socket(call.now)
    assert not call.line.is_playing(call.now)
    call.now += 3.0
    call.codec = AudioCodesCodec()
    call.line.resume(call.now)
    call.exchange()
    assert call.events[-1] == SessionResumed("c-1")
    call.bot(AcceptSession(RAW))
    assert call.types()[-2:] == ["session.resume", "userStream.start"], "no second start activity"
    call.bot(OpenPlayback("b", RAW), PlayAudio("b", tone(100)))
    call.run(0.5)
    left, right = split(call.line.recording(8000))
    assert heard_ms(right) == pytest.approx(300, abs=2)
    assert rms(right[int(0.3 * 16000) : int(3.0 * 16000)]) == 0
    assert len(left) / 16 == pytest.approx(3720, abs=21)
    call.raw(**started("a"))
    assert "stream_id_reused" in call.rules(), "ids are unique within the conversation, not the socket"


def test_resume_may_be_accepted_without_repeating_the_format() -> None:
    call = Call()
    call.line.resume(call.now)
    call.line.messages_to_send()
    call.line.receive(b'{"type":"session.accepted"}', call.now)
    assert call.line.phase is LinePhase.ACTIVE
    assert call.line.violations == []


def test_stranger_can_ask_for_a_conversation_and_be_refused() -> None:
    line = PhoneLine(conversation_id="nobody")
    line.resume(START)
    assert json.loads(line.messages_to_send()[0]) == {"type": "session.resume", "conversationId": "nobody"}
    line.receive(b'{"type":"session.error","reason":"conversation not found"}', START)
    assert line.phase is LinePhase.FAILED
    with pytest.raises(ValueError, match="over"):
        line.resume(START)


# Recording


def split(stereo: bytes) -> tuple[bytes, bytes]:
    samples = np.frombuffer(stereo, "<i2").reshape(-1, 2)
    return samples[:, 0].tobytes(), samples[:, 1].tobytes()


def heard_ms(pcm: bytes, sample_rate: int = 8000) -> float:
    blocks = np.frombuffer(pcm, "<i2")
    blocks = np.abs(blocks[: len(blocks) // (sample_rate // 1000) * (sample_rate // 1000)])
    return float((blocks.reshape(-1, sample_rate // 1000).max(axis=1) > 500).sum())


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 24_000])
def test_recording_places_both_sides_on_one_clock(sample_rate: int) -> None:
    call = Call(BARGE_IN)
    call.run(0.5)
    call.line.say(tone(200), 8000)
    call.run(0.5)
    call.play("a", 300)
    call.run(1.0)
    left, right = split(call.line.recording(sample_rate))
    spoken, heard = (np.flatnonzero(np.abs(np.frombuffer(side, "<i2")) > 500) for side in (left, right))
    assert spoken[0] / sample_rate == pytest.approx(0.52, abs=0.003), "the next chunk after half a second"
    assert spoken[-1] / sample_rate == pytest.approx(0.72, abs=0.003)
    assert heard[0] / sample_rate == pytest.approx(1.0, abs=0.003)
    assert heard[-1] / sample_rate == pytest.approx(1.3, abs=0.003)


def test_underrun_leaves_a_gap_where_it_was_heard() -> None:
    call = Call(BARGE_IN)
    call.bot(OpenPlayback("a", RAW), PlayAudio("a", tone(100)))
    call.run(0.3)
    call.bot(PlayAudio("a", tone(100)))
    call.run(0.3)
    _, right = split(call.line.recording(8000))
    assert rms(right[:1600]) > 5000
    assert rms(right[1600:4800]) == 0
    assert rms(right[4800:6400]) > 5000


def test_recording_of_nothing_is_empty() -> None:
    assert PhoneLine().recording() == b""


@pytest.mark.parametrize("options", [LineOptions(formats=("raw/alaw",)), LineOptions(chunk_ms=0)])
def test_impossible_options_are_refused(options: LineOptions) -> None:
    with pytest.raises(ValueError, match="expected known formats"):
        PhoneLine(options)


def test_programming_errors_are_value_errors() -> None:
    line = PhoneLine()
    with pytest.raises(ValueError, match="not accepted"):
        line.say(struct.pack("<h", 1), 8000)
    line.initiate(START)
    with pytest.raises(ValueError, match="already"):
        line.initiate(START)

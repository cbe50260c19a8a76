"""Whatever VAIC, or somebody else, sends: only documented errors, and the codec stays usable."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastagent.errors import MalformedMessageError
from fastagent.testing.audiocodes_phone import LineOptions, PhoneLine
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA, AudioCodesCodec
from fastagent.wire.events import AcceptSession, DtmfReceived, OpenPlayback, PlayAudio, SessionEnded

TYPES = (
    "connection.validate",
    "session.initiate",
    "session.resume",
    "session.end",
    "userStream.start",
    "userStream.chunk",
    "userStream.stop",
    "activities",
    "playStream.mark.reached",
)
EVENT_NAMES = (
    "start",
    "DTMF",
    "dtmf",
    "noUserInput",
    "playFinished",
    "playUrlFailed",
    "transferStatus",
    "speechHypothesis",
    "hangup",
    "voiceDetected",
)
BOT_TYPES = (
    "session.accepted",
    "session.error",
    "connection.validated",
    "userStream.started",
    "userStream.stopped",
    "userStream.speech.started",
    "userStream.speech.committed",
    "userStream.speech.hypothesis",
    "userStream.speech.recognition",
    "playStream.start",
    "playStream.chunk",
    "playStream.stop",
    "activities",
)
BOT_EVENTS = ("hangup", "transfer", "config", "playUrl", "abortPrompts", "sendDtmf", "sendMetaData")
BOT_PARAMS = (
    "hangupReason",
    "transferTarget",
    "transferNotifications",
    "dtmfDigits",
    "playUrlUrl",
    "playUrlAltText",
)
BOT_SETTINGS = ("bargeIn", "bargeInMinWordCount", "sendDTMF", "sendEventsToBot")
RAW = AUDIOCODES_MEDIA["raw/lpcm16"]
INITIATE = b'{"type":"session.initiate","conversationId":"c","supportedMediaFormats":["raw/lpcm16"]}'

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
activity_fields = {
    "type": st.sampled_from(("event", "message")) | values,
    "name": st.sampled_from(EVENT_NAMES) | values,
    "text": values,
    "value": st.sampled_from(("1", "42#", 5)) | values,
    "parameters": values,
    "activityParams": values,
}
activities = st.lists(st.fixed_dictionaries({}, optional=activity_fields) | values, max_size=5) | values
message_fields = {
    "conversationId": st.sampled_from(("c", "d")) | values,
    "supportedMediaFormats": st.lists(st.sampled_from(sorted(AUDIOCODES_MEDIA)), max_size=3) | values,
    "expectAudioMessages": st.booleans() | values,
    "caller": values,
    "botName": values,
    "participant": values,
    "audioChunk": values,
    "reasonCode": values,
    "activities": activities,
}
messages = st.builds(
    lambda kind, fields: json.dumps({"type": kind} | fields).encode("utf-8", "surrogatepass"),
    st.sampled_from(TYPES) | values,
    st.fixed_dictionaries({}, optional=message_fields),
)

bot_fields = {
    "mediaFormat": st.sampled_from(("raw/lpcm16", "wav/lpcm16_8", "raw/mulaw")) | values,
    "streamId": st.sampled_from(("a", "b")) | values,
    "audioChunk": st.sampled_from(("AAAA", "AAA=", "UklGRg==")) | values,
    "alternatives": st.lists(st.fixed_dictionaries({}, optional={"text": values}), max_size=2) | values,
    "altText": values,
    "activities": st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(("event", "message")) | values,
                "name": st.sampled_from(BOT_EVENTS) | values,
                "text": values,
                "value": values,
                "activityParams": st.dictionaries(st.sampled_from(BOT_PARAMS), values, max_size=3) | values,
                "sessionParams": st.dictionaries(st.sampled_from(BOT_SETTINGS), values, max_size=3) | values,
            },
        )
        | values,
        max_size=3,
    )
    | values,
}
bot_messages = st.builds(
    lambda kind, fields: json.dumps({"type": kind} | fields).encode("utf-8", "surrogatepass"),
    st.sampled_from(BOT_TYPES) | values,
    st.fixed_dictionaries({}, optional=bot_fields),
)


def feed(codec: AudioCodesCodec, raw: bytes) -> list[Any]:
    try:
        return list(codec.receive(raw))
    except MalformedMessageError:
        return []


@given(st.lists(messages, max_size=6), st.booleans())
def test_any_json_gives_events_or_the_documented_error(raws: list[bytes], is_accepted: bool) -> None:
    codec = AudioCodesCodec()
    if is_accepted:
        codec.receive(INITIATE)
        codec.send(AcceptSession(RAW))
    has_ended = False
    for raw in raws:
        for event in feed(codec, raw):
            has_ended = has_ended or isinstance(event, SessionEnded)
            if isinstance(event, DtmfReceived):
                assert event.digits
                assert set(event.digits) <= set("0123456789*#ABCD")
        for ack in codec.messages_to_send():
            assert json.loads(ack)["type"] in (
                "connection.validated",
                "userStream.started",
                "userStream.stopped",
            )
    if is_accepted:
        # Still usable: a playback opens, unless the session is over.
        assert bool(codec.send(OpenPlayback("p", RAW))) is not has_ended


@given(st.binary(max_size=300))
def test_any_bytes_give_events_or_the_documented_error(raw: bytes) -> None:
    feed(AudioCodesCodec(), raw)
    codec = AudioCodesCodec()
    codec.receive(INITIATE)
    codec.send(AcceptSession(RAW))
    feed(codec, raw)
    feed(codec, b'{"type":' + raw + b"}")


@given(st.integers(0, 400), st.data())
def test_message_cut_or_damaged_anywhere_is_survived(at: int, data: st.DataObject) -> None:
    whole = (
        b'{"type":"activities","conversationId":"c","activities":[{"type":"event","name":"DTMF","value":"5"},'
        b'{"type":"event","name":"transferStatus","value":{"status":"failed","reasonCode":"busy"}}]}'
    )
    codec = AudioCodesCodec()
    codec.receive(INITIATE)
    codec.send(AcceptSession(RAW))
    feed(codec, whole[: at % len(whole)])
    damaged = bytearray(whole)
    damaged[at % len(whole)] = data.draw(st.integers(0, 255))
    feed(codec, bytes(damaged))
    assert len(codec.receive(whole)) == 2


@given(st.text(min_size=1, max_size=40), st.binary(max_size=20_000))
def test_whatever_the_id_and_audio_every_message_is_json_and_nothing_is_lost(name: str, data: bytes) -> None:
    codec = AudioCodesCodec()
    codec.receive(INITIATE)
    codec.send(AcceptSession(RAW))
    data = data[: len(data) // 2 * 2]
    codec.send(OpenPlayback(name, RAW))
    sent = [json.loads(raw) for raw in codec.send(PlayAudio(name, data))]
    assert all(message["streamId"] == name for message in sent)
    assert sum(
        len(message["audioChunk"]) * 3 // 4 - message["audioChunk"].count("=") for message in sent
    ) == len(data)


@given(st.lists(bot_messages | st.binary(max_size=60), max_size=8))
def test_line_notes_what_a_bot_does_wrong_and_never_raises(raws: list[bytes]) -> None:
    line = PhoneLine(LineOptions(formats=("raw/lpcm16", "wav/lpcm16_8", "raw/mulaw")))
    line.initiate(0.0)
    line.receive(b'{"type":"session.accepted","mediaFormat":"raw/lpcm16"}', 0.0)
    for at, raw in enumerate(raws):
        line.receive(raw, at / 10)
        line.advance(at / 10 + 0.05)
        deadline = line.next_deadline(at / 10 + 0.05)
        assert deadline is None or deadline > at / 10 + 0.05 - 1e-9
        for message in line.messages_to_send():
            json.loads(message)
    line.recording(8000)

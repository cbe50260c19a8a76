"""Whatever a client sends: only documented errors, each answered, and the codec stays usable."""

import base64
import itertools
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Uplink
from fastagent.audio import wav
from fastagent.audio.formats import AudioFormat, Encoding
from fastagent.errors import MalformedMessageError, WireError
from fastagent.wire.agentws import AgentCodec
from fastagent.wire.agentws_client import read_server_message
from fastagent.wire.agentws_words import CLIENT_MEDIA, ClientMessage, ErrorCode, ServerMessage
from fastagent.wire.events import (
    AcceptSession,
    CallerAudio,
    DtmfReceived,
    IgnoredMessage,
    RefuseSession,
    SessionEnded,
    SessionOffered,
    SessionResumed,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
media_names = st.sampled_from([*CLIENT_MEDIA, "audio/opus", "AUDIO/PCMU", "audio/pcm; rate=8000"])
audio_text = st.binary(max_size=80).map(lambda data: base64.b64encode(data).decode())
riffs = st.sampled_from(
    [wav.header(AudioFormat(kind, rate)) for kind in Encoding for rate in (8_000, 44_100)]
)
wav_text = st.builds(lambda head, data: base64.b64encode(head + data).decode(), riffs, st.binary(max_size=40))
payloads = st.fixed_dictionaries(
    {},
    optional={
        "agent_id": st.sampled_from(("front", "nobody")) | values,
        "media": media_names | values,
        "metadata": st.fixed_dictionaries({}, optional={"caller_id": values, "x": values}) | values,
        "format": media_names | values,
        "encoding": st.just("base64") | values,
        "data": audio_text | wav_text | values,
        "chunk_id": st.integers(0, 9) | values,
        "text": values,
        "digits": st.text("0123456789*#ABCDabcd", max_size=4) | values,
        "playback_id": values,
        "reason": values,
    },
)
envelopes = st.fixed_dictionaries(
    {"type": st.sampled_from([*ClientMessage, *ServerMessage]) | values},
    optional={"payload": payloads | values, "session_id": st.just("s") | values, "timestamp": values},
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    members = list(draw(envelopes).items())
    return json.dumps(dict(draw(st.permutations(members)))).encode("utf-8", "surrogatepass")


@given(st.lists(messages() | st.binary(max_size=60), max_size=12), st.none() | st.text(max_size=8))
def test_whatever_a_client_says_is_an_event_or_an_answered_error(
    texts: list[bytes], resume_id: str | None
) -> None:
    codec = AgentCodec(agents={"front"}, resume_id=resume_id, new_id=lambda: "s")
    has_ended = False

    def take(events: list[Any]) -> None:
        nonlocal has_ended
        for event in events:
            assert not has_ended or isinstance(event, IgnoredMessage)
            match event:
                case SessionOffered(offers=offers):
                    assert codec.send(AcceptSession(offers[0]))
                case SessionResumed():
                    assert codec.send(RefuseSession("not here"))
                    has_ended = True
                case DtmfReceived(digits=digits):
                    assert digits
                    assert set(digits) <= set("0123456789*#ABCD")
                case SessionEnded():
                    has_ended = True

    take(codec.open())
    for text in texts:
        try:
            take(codec.receive(text))
        except WireError:
            [answer] = codec.messages_to_send()
            said = json.loads(answer)
            assert said["type"] == "error"
            assert said["payload"]["code"] in set(ErrorCode)
        for reply in codec.messages_to_send():
            assert json.loads(reply)["type"] == "session_ended"
        assert codec.may_close is has_ended


kinds = st.builds(AudioFormat, st.sampled_from(Encoding), st.sampled_from((8_000, 16_000, 24_000)))


@given(
    media=st.sampled_from(sorted(CLIENT_MEDIA)),
    source=kinds,
    data=st.binary(min_size=2, max_size=900),
    cuts=st.lists(st.integers(1, 899), max_size=6),
)
@example("audio/x-wav", AudioFormat(Encoding.PCM16, 16_000), b"RIFFRIFF" * 40, [1, 2, 3, 44, 45])
def test_wav_in_pieces_is_the_wav_as_a_whole(
    media: str, source: AudioFormat, data: bytes, cuts: list[int]
) -> None:
    stream = wav.header(source) + data[: len(data) // 2 * 2]
    bounds = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    # A later piece that itself begins like a header is one to any reader.
    pieces = [stream[a:b] for a, b in itertools.pairwise(bounds)]
    if any(piece.startswith(b"RIFF"[: len(piece)]) for piece in pieces[1:]):
        return

    def read(*parts: bytes) -> bytes:
        codec = AgentCodec(new_id=lambda: "s")
        codec.receive(json.dumps({"type": "start_session", "payload": {"media": media}}).encode())
        codec.send(AcceptSession(CLIENT_MEDIA[media].offer))
        format = CLIENT_MEDIA[media].offer.format
        kind = (format.encoding.value, format.sample_rate)
        native = codec.caller_media
        pump = Uplink(EnvelopeSpec(native.discriminator, native.values, native.audio), *kind, *kind, b"", b"")
        audio = b""
        for part in parts:
            payload = {"format": "audio/x-wav", "data": base64.b64encode(part).decode()}
            for event in codec.receive(json.dumps({"type": "audio_data", "payload": payload}).encode()):
                assert isinstance(event, CallerAudio)
                audio += base64.b64decode(pump.feed(event.message) or b"")
        return audio

    assert read(*pieces) == read(stream)


@given(st.binary(max_size=60) | messages())
def test_whatever_a_server_says_is_an_event_or_the_documented_error(text: bytes) -> None:
    try:
        repr(read_server_message(text))
    except MalformedMessageError:
        pass

"""Pumps for any input: whole = chunked, the lead is never exceeded, nothing is lost or put out of order."""

import base64
import json
import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Downlink, Uplink
from tests.reference.convert_reference import FORMATS, convert

CALLER = EnvelopeSpec(("type",), ("chunk",), ("audio",), ())
MODEL = EnvelopeSpec(("type",), ("delta",), ("audio",), (("response_id",), ("item_id",), ("content_index",)))
PREFIX, SUFFIX = b'{"out":"', b'"}'

formats = st.sampled_from(FORMATS)


@st.composite
def streams(draw: st.DrawFn, longest: int = 1500) -> bytes:
    return random.Random(draw(st.integers(0, 1 << 32))).randbytes(draw(st.integers(0, longest)))


@st.composite
def cut_up(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """A stream in chunks of any length, empty ones too."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def message_of(audio: bytes, **fields: str) -> bytes:
    kind = "delta" if fields else "chunk"
    return json.dumps({"type": kind, "audio": base64.b64encode(audio).decode()} | fields).encode()


def audio_of(message: bytes | None) -> bytes:
    if message is None:
        return b""
    return base64.b64decode(message[len(PREFIX) : -len(SUFFIX)], validate=True)


def header(extra_bytes: int) -> bytes:
    extra = (
        b"LIST" + struct.pack("<I", extra_bytes) + bytes(extra_bytes + extra_bytes % 2)
        if extra_bytes
        else b""
    )
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
    return b"RIFF" + bytes(4) + b"WAVE" + form + extra + b"data" + bytes(4)


@given(source=formats, target=formats, stream=streams(), data=st.data())
@settings(deadline=None)
def test_uplink_gives_the_reference_for_any_chunking(source, target, stream, data):
    pump = Uplink(CALLER, *source, *target, PREFIX, SUFFIX)
    parts = data.draw(cut_up(stream))
    assert b"".join(audio_of(pump.feed(message_of(part))) for part in parts) == convert(
        stream, source, target
    )
    assert pump.samples_in == len(stream) // (2 if source[0] == "pcm16" else 1)


@given(
    source=formats,
    target=formats,
    stream=streams(6000),
    append_ms=st.integers(1, 200),
    flushes=st.sets(st.integers(0, 12)),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_gathering_changes_no_bit_and_no_order(source, target, stream, append_ms, flushes, data):
    pump = Uplink(CALLER, *source, *target, PREFIX, SUFFIX, append_ms=append_ms)
    sample_size = 2 if target[0] == "pcm16" else 1
    got = b""
    for number, part in enumerate(data.draw(cut_up(stream))):
        message = pump.feed(message_of(part))
        if message is not None:
            assert len(audio_of(message)) >= target[1] * append_ms // 1000 * sample_size
            assert not pump.is_gathering
        got += audio_of(message)
        if number in flushes:
            got += audio_of(pump.flush())
    assert got + audio_of(pump.flush()) == convert(stream, source, target)


@given(target=formats, stream=streams(300), extra_bytes=st.sampled_from((0, 1, 7, 100, 300)), data=st.data())
@settings(deadline=None)
def test_wav_header_is_skipped_for_any_chunking(target, stream, extra_bytes, data):
    pump = Uplink(CALLER, "pcm16", 8000, *target, PREFIX, SUFFIX, has_wav_header=True)
    parts = data.draw(cut_up(header(extra_bytes) + stream))
    expected = convert(stream, ("pcm16", 8000), target)
    assert b"".join(audio_of(pump.feed(message_of(part))) for part in parts) == expected


arrivals = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.0, 0.001, 0.02, 0.05, 0.1, 0.4, 1.0)),
        st.one_of(st.none(), st.integers(0, 6000)),
    ),
    max_size=40,
)
"""Seconds since the event before, and bytes of a delta (None: only a tick)."""


@given(
    source=st.sampled_from((("pcm16", 24_000), ("mulaw", 8000), ("alaw", 8000))),
    target=formats,
    arrivals=arrivals,
    lead_ms=st.sampled_from((1, 20, 100, 400, 5000)),
    quantum_ms=st.sampled_from((1, 20, 100, 1000)),
    seed=st.integers(0, 1 << 32),
)
@settings(deadline=None, max_examples=60)
def test_downlink_keeps_its_lead_and_loses_nothing(source, target, arrivals, lead_ms, quantum_ms, seed):
    pump = Downlink(MODEL, *source, *target, PREFIX, SUFFIX, lead_ms=lead_ms, quantum_ms=quantum_ms)
    lead = target[1] * lead_ms // 1000
    size = 2 if target[0] == "pcm16" else 1
    generator = random.Random(seed)
    stream, left, now, played = b"", b"", 10.0, 0

    def check(message: bytes | None) -> None:
        nonlocal left, played
        left += audio_of(message)
        assert message is None or audio_of(message)
        assert pump.sent == len(left) // size
        assert pump.sent - pump.played(now) <= lead
        assert pump.enqueued == pump.sent + pump.queued
        assert pump.is_queued is (pump.queued > 0)
        assert pump.played(now) >= played
        played = pump.played(now)

    for gap_s, length in arrivals:
        now += gap_s
        if length is None:
            check(pump.due(now))
            continue
        audio = generator.randbytes(length)
        stream += audio
        was_idle = pump.played(now) == pump.sent and not pump.is_queued
        before = pump.enqueued
        message = pump.feed(message_of(audio, response_id="r", item_id="i"), now)
        check(message)
        if was_idle and pump.enqueued > before:
            assert message is not None
        while (message := pump.due(now)) is not None:
            check(message)
    pump.finish_item(now)
    for _ in range(100_000):
        if not pump.is_queued:
            break
        check(pump.due(now))
        now += lead_ms / 2000
    # Flushing what never heard a sample gives the filter's silence only when the item was met.
    expected = convert(stream, source, target, is_flushed=bool(stream))
    assert left == expected
    assert pump.sent == pump.enqueued == len(expected) // size
    assert pump.received == len(stream) // (2 if source[0] == "pcm16" else 1)
    assert pump.dropped == 0

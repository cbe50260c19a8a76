"""The pump, message in to message out: whatever stands between the brackets, it counts and carries on."""

from base64 import b64decode

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Downlink, Uplink

CALLER = EnvelopeSpec(("type",), ("userStream.chunk",), ("audioChunk",), ())
MODEL = EnvelopeSpec(
    ("type",),
    ("response.output_audio.delta", "response.audio.delta"),
    ("delta",),
    (("response_id",), ("item_id",), ("content_index",)),
)
PREFIX, SUFFIX = b'{"audio":"', b'"}'
FORMATS = (("pcm16", 8000), ("pcm16", 16_000), ("pcm16", 24_000), ("mulaw", 8000), ("alaw", 8000))


def audio_bytes(message: bytes | None) -> int:
    """How much audio a sent message carries; it must be whole."""
    if message is None:
        return 0
    assert message.startswith(PREFIX)
    assert message.endswith(SUFFIX)
    return len(b64decode(message[len(PREFIX) : -len(SUFFIX)], validate=True))


def feed(pump: Uplink | Downlink, message: bytes, now: float) -> int:
    """Bytes of audio that came out; a message that is refused is counted by the pump."""
    refused = pump.malformed + pump.bad_audio
    try:
        size = audio_bytes(pump.feed(message, now))
    except ValueError:
        assert pump.malformed + pump.bad_audio == refused + 1
        return 0
    except LookupError:  # another message, for the codec to read
        size = 0
    assert pump.malformed + pump.bad_audio == refused
    return size


def check(data: bytes) -> None:
    """Three bytes pick formats and headers; then a line is a message; a second passes after every eighth."""
    if len(data) < 3:
        return
    source, target = FORMATS[data[0] % len(FORMATS)], FORMATS[data[1] % len(FORMATS)]
    width = 2 if target[0] == "pcm16" else 1
    up = Uplink(CALLER, *source, *target, PREFIX, SUFFIX, has_wav_header=bool(data[2] & 1))
    down = Downlink(MODEL, *source, *target, PREFIX, SUFFIX)
    down.on_item = lambda response_id, item_id, content_index: len(item_id) % 2 == 0
    now, sent = 1000.0, 0
    for at, line in enumerate(data[3:].split(b"\n")):
        now += 0.02
        feed(up, line, now)
        sent += feed(down, line, now)
        if at % 8 == 7:
            now += 1.0
            while (more := down.due(now)) is not None:
                sent += audio_bytes(more)
            down.finish_item(now)
        assert sent <= (down.sent + 2) * width
        assert 0 <= down.played(now) <= down.sent
    for message in up.release():
        audio_bytes(message)
    down.cut(now)
    up.reset()

"""Audio files as mono samples: every WAV encoding, other containers, limits, and whatever is broken."""

import io
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile

from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.clip_files import CHANNELS_MAX, ClipLimits, container_of, decode_file
from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.errors import AudioError, ClipTooLargeError, FastAgentError, FormatMismatchError

LIMITS = ClipLimits()
EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def sine(frames: int = 800, rate: int = 8_000, hz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hz * np.arange(frames) / rate)


def riff(fmt: bytes, data: bytes, *, before: bytes = b"", data_bytes: int | None = None) -> bytes:
    size = len(data) if data_bytes is None else data_bytes
    inner = b"WAVE" + before + struct.pack("<4sI", b"fmt ", len(fmt)) + fmt
    inner += struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI", b"RIFF", len(inner)) + inner


def fmt(tag: int, width: int, *, channels: int = 1, rate: int = 8_000, bits: int | None = None) -> bytes:
    block = channels * width
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits or 8 * width)


def extensible(tag: int, width: int, *, bits: int) -> bytes:
    return fmt(0xFFFE, width, bits=8 * width) + struct.pack("<HHIH", 22, bits, 0, tag) + EXTENSIBLE_TAIL


def int24(x: np.ndarray) -> bytes:
    wide = np.rint(x * 2**23).astype("<i4")
    return wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def int16(x: np.ndarray) -> bytes:
    return np.rint(x * 2**15).astype("<i2").tobytes()


ENCODINGS = {
    "pcm8": (fmt(1, 1), lambda x: np.rint(x * 128 + 128).astype(np.uint8).tobytes(), 1 / 128),
    "pcm16": (fmt(1, 2), int16, 2**-15),
    "pcm24": (fmt(1, 3), int24, 2**-22),
    "pcm32": (fmt(1, 4), lambda x: np.rint(x * 2**31).astype("<i4").tobytes(), 2**-22),
    "float32": (fmt(3, 4), lambda x: x.astype("<f4").tobytes(), 2**-24),
    "float64": (fmt(3, 8), lambda x: x.astype("<f8").tobytes(), 2**-24),
    "mulaw": (fmt(7, 1) + b"\0\0", lambda x: g711.ulaw_encode(int16(x)), 0.02),
    "alaw": (fmt(6, 1) + b"\0\0", lambda x: g711.alaw_encode(int16(x)), 0.02),
    "pcm12 in 16": (fmt(1, 2, bits=12), int16, 2**-15),
    "extensible pcm24": (extensible(1, 3, bits=24), int24, 2**-22),
    "extensible pcm24 in 32": (
        extensible(1, 4, bits=24),
        lambda x: (np.rint(x * 2**23).astype("<i4") << 8).tobytes(),
        2**-22,
    ),
    "extensible float": (extensible(3, 4, bits=32), lambda x: x.astype("<f4").tobytes(), 2**-24),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_wav_of_every_encoding_gives_its_samples(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    head, encode, error = ENCODINGS[name]
    samples, rate = decode_file(riff(head, encode(sine())), LIMITS)
    assert rate == 8_000
    assert samples.dtype == np.float32
    assert samples.shape == (800,)
    assert np.abs(samples - sine()).max() <= error


@pytest.mark.parametrize("channels", [2, 3, 8, CHANNELS_MAX])
def test_channels_are_averaged(channels):
    interleaved = np.zeros((800, channels))
    interleaved[:, 0] = sine()
    interleaved[:, 1] = 0.25
    data = riff(fmt(3, 4, channels=channels), interleaved.astype("<f4").tobytes())
    samples, _ = decode_file(data, LIMITS)
    assert np.abs(samples - (sine() + 0.25) / channels).max() < 1e-6


@pytest.mark.parametrize("frames", [1, 65_535, 65_536, 65_537, 200_000])
def test_length_is_kept_to_the_frame_across_blocks(frames):
    ramp = (np.arange(frames) % 30_000).astype("<i2")
    stereo = np.repeat(ramp, 2).astype("<i2")
    samples, _ = decode_file(riff(fmt(1, 2, channels=2), stereo.tobytes()), LIMITS)
    assert np.array_equal(samples * 2**15, ramp)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 96_000, 192_000])
def test_rate_is_told(rate):
    assert decode_file(riff(fmt(1, 2, rate=rate), bytes(20)), LIMITS)[1] == rate


def test_extremes_of_integers_stay_within_full_scale():
    for width, low, high in ((1, b"\x00", b"\xff"), (3, b"\0\0\x80", b"\xff\xff\x7f")):
        samples, _ = decode_file(riff(fmt(1, width), low + high), LIMITS)
        assert samples[0] == -1.0
        assert 0.99 < samples[1] <= 1.0


def test_floats_beyond_full_scale_saturate():
    data = np.array([2.0, -1e30, 0.5], "<f4").tobytes()
    assert decode_file(riff(fmt(3, 4), data), LIMITS)[0].tolist() == [1.0, -1.0, 0.5]


@pytest.mark.parametrize("values", [[np.nan, 0], [np.inf, 0], [0, -np.inf], [np.inf, -np.inf], [1e300, 0]])
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(FormatMismatchError, match="finite"):
        decode_file(riff(fmt(3, 8, channels=2), np.array(values, "<f8").tobytes()), LIMITS)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, AssertionError, OverflowError])
def test_whatever_the_library_raises_means_a_broken_file(error, monkeypatch):
    def fail(*arguments):
        raise error("secret words")

    monkeypatch.setattr(soundfile, "SoundFile", fail)
    with pytest.raises(FormatMismatchError, match="this flac file is broken") as caught:
        decode_file(b"fLaC" + bytes(100), LIMITS)
    assert caught.value.__cause__ is None


def test_chunks_before_the_data_may_be_large_and_odd():
    before = struct.pack("<4sI", b"id3 ", 99_999) + bytes(100_000) + struct.pack("<4sI", b"LIST", 4) + b"INFO"
    samples, _ = decode_file(riff(fmt(1, 2), int16(sine()), before=before), LIMITS)
    assert len(samples) == 800


@pytest.mark.parametrize("head", [wav.header(PCM16_8K), wav.header(MULAW_8K)])
def test_stream_of_unknown_length_goes_to_the_end_of_the_file(head):
    samples, _ = decode_file(head + bytes(321), LIMITS)
    assert len(samples) == 321 // (2 if head == wav.header(PCM16_8K) else 1)


def test_sizes_left_at_zero_mean_a_stream_too():
    data = bytearray(wav.header(PCM16_8K, 1, 0) + bytes(320))
    data[4:8] = bytes(4)
    assert len(decode_file(bytes(data), LIMITS)[0]) == 160


def test_trailing_chunk_is_not_audio():
    data = riff(fmt(1, 2), int16(sine(10))) + struct.pack("<4sI", b"LIST", 4) + b"\x7f\x7f\x7f\x7f"
    assert len(decode_file(data, LIMITS)[0]) == 10


BROKEN = {
    "empty": b"",
    "text": b"hello, this is no audio at all",
    "riff of another kind": b"RIFF\x10\0\0\0AVI " + bytes(40),
    "header only": b"RIFF\x10\0\0\0WAVE",
    "no data chunk": b"RIFF\x10\0\0\0WAVEfmt \x10\0\0\0" + fmt(1, 2),
    "data before fmt": b"RIFF\x10\0\0\0WAVEdata\x04\0\0\0\0\0\0\0",
    "short fmt": riff(fmt(1, 2)[:12], bytes(20)),
    "shorter than it says": riff(fmt(1, 2), bytes(20), data_bytes=40),
    "no samples": riff(fmt(1, 2), b""),
    "half a sample": riff(fmt(1, 2), b"\0"),
    "no channels": riff(fmt(1, 2, channels=0), bytes(20)),
    "too many channels": riff(fmt(1, 1, channels=CHANNELS_MAX + 1), bytes(66)),
    "rate 0": riff(fmt(1, 2, rate=0), bytes(20)),
    "rate too low": riff(fmt(1, 2, rate=3_999), bytes(20)),
    "rate too high": riff(fmt(1, 2, rate=192_001), bytes(20)),
    "rate impossible": riff(fmt(1, 2)[:4] + b"\xff\xff\xff\xff" + fmt(1, 2)[8:], bytes(20)),
    "unknown encoding": riff(fmt(0x1234, 2), bytes(20)),
    "block size of another width": riff(fmt(1, 5), bytes(20)),
    "flac without a body": b"fLaC" + bytes(100),
    "ogg without a body": b"OggS" + bytes(100),
    "mp3 without a body": b"ID3\x04" + bytes(100),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused(name):
    with pytest.raises(FormatMismatchError):
        decode_file(BROKEN[name], LIMITS)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_give_samples_or_a_documented_error(seed):
    random = np.random.default_rng(seed)
    whole = [
        *(riff(head, encode(sine(200))) for head, encode, _ in ENCODINGS.values()),
        *(encoded(sine(4_000), *kind) for kind in CONTAINERS.values()),
    ]
    for number in range(400):
        data = bytearray(whole[number % len(whole)])
        for _ in range(random.integers(1, 6)):
            data[random.integers(0, min(len(data), 120))] = random.integers(0, 256)
        cut = random.integers(0, len(data) + 1) if number % 3 == 0 else len(data)
        try:
            samples, rate = decode_file(bytes(data[:cut]), LIMITS)
        except FastAgentError:
            continue
        assert len(samples) > 0
        assert np.abs(samples).max() <= 1.0
        assert rate > 0


# Containers


CONTAINERS = {
    "flac": ("FLAC", "PCM_16"),
    "flac24": ("FLAC", "PCM_24"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "adpcm": ("WAV", "MS_ADPCM"),
}


def encoded(samples: np.ndarray, format: str, subtype: str, rate: int = 48_000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=format, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_other_containers_are_read_by_soundfile(kind):
    tone = sine(48_000, 48_000)
    stereo = np.stack([tone, tone], axis=1)
    samples, rate = decode_file(encoded(stereo, *CONTAINERS[kind]), LIMITS)
    assert rate == 48_000
    assert abs(len(samples) - 48_000) < 3_000  # MP3 and ADPCM have padding
    middle = samples[4_800:43_200]
    assert np.abs(np.fft.rfft(middle)).argmax() * 48_000 / len(middle) == pytest.approx(440, abs=2)
    assert np.abs(middle).max() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_missing_package_is_named_with_its_extra(kind, monkeypatch):
    data = encoded(sine(4_800, 48_000), *CONTAINERS[kind])
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(AudioError, match=r"soundfile: pip install 'fastagent\[export\]'") as caught:
        decode_file(data, LIMITS)
    assert not isinstance(caught.value, FormatMismatchError)


@pytest.mark.parametrize("head", [fmt(0x1234, 2), fmt(1, 5), fmt(1, 2)[:12] + b"\0\0\x10\0"])
def test_wav_that_we_cannot_read_ourselves_is_left_to_soundfile(head, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(AudioError, match="soundfile"):
        decode_file(riff(head, bytes(20)), LIMITS)


def test_flac_from_a_pipe_says_that_its_length_is_missing():
    data = bytearray(encoded(sine(4_800, 48_000), "FLAC", "PCM_16"))
    # STREAMINFO's total samples (36 bits) and checksum, as an encoder leaves them that cannot seek.
    data[21] &= 0xF0
    data[22:42] = bytes(20)
    with pytest.raises(FormatMismatchError, match="how long it is"):
        decode_file(bytes(data), LIMITS)


def test_error_repeats_nothing_of_the_file():
    with pytest.raises(FormatMismatchError) as caught:
        decode_file(b"OggS" + b"secret words" * 10, LIMITS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "container"),
    [
        (b"RIFF\0\0\0\0WAVE", "wav"),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"ID3\x03", "mp3"),
        (b"\xff\xfb\x90\x00", "mp3"),
        (b"\xff\xf3\x40\xc0", "mp3"),
        (b"\xff\xfd\x90\x00", None),  # layer II
        (b"\xff\xea\x00", None),  # a version that is reserved
        (b"\xff", None),
        (b"", None),
        (b"FORM\0\0\0\0AIFF", None),
    ],
)
def test_container_is_known_by_its_first_bytes(data, container):
    assert container_of(data) == container


# Limits


def test_file_at_its_limit_is_taken_and_one_byte_more_is_not():
    data = riff(fmt(1, 2), bytes(200))
    assert len(decode_file(data, ClipLimits(file_bytes=len(data)))[0]) == 100
    with pytest.raises(ClipTooLargeError, match="bytes"):
        decode_file(data, ClipLimits(file_bytes=len(data) - 1))


@pytest.mark.parametrize("kind", ["wav", "flac", "vorbis"])
def test_audio_at_its_limit_is_taken_and_one_sample_more_is_not(kind):
    def file(frames: int) -> bytes:
        if kind == "wav":
            return riff(fmt(1, 2, rate=48_000), bytes(2 * frames))
        return encoded(sine(frames, 48_000), *CONTAINERS[kind])

    for limits in (ClipLimits(duration_s=0.5), ClipLimits(samples=24_000)):
        assert len(decode_file(file(24_000), limits)[0]) == 24_000
        with pytest.raises(ClipTooLargeError):
            decode_file(file(24_001), limits)


def test_small_file_of_much_audio_is_refused_before_it_is_decoded():
    bomb = encoded(np.zeros(48_000 * 301), "FLAC", "PCM_16")
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    with pytest.raises(ClipTooLargeError, match=r"300 s of audio, got 301\.0 s"):
        decode_file(bomb, LIMITS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4_000_000

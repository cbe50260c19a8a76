"""Clips of callers: their marks are where they say, in every format, and survive what servers do to audio."""

import base64

import numpy as np
import pytest
import soxr

from fastagent._native import g711
from fastagent._native.load import LOUD, QUIET_MS
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, Encoding
from fastagent.load.speech import FRAME_MS, SPEECH_RATE, babble, lay_words, silence_clip, speech_clip

SPOKEN = babble(2500, 7)


def samples_of(clip, audio_format):
    size = len(clip.text) // clip.frames
    texts = [clip.text[i * size : (i + 1) * size] for i in range(clip.frames)]
    data = b"".join(base64.b64decode(text, validate=True) for text in texts)
    if audio_format.encoding is Encoding.MULAW:
        data = g711.ulaw_decode(data)
    if audio_format.encoding is Encoding.ALAW:
        data = g711.alaw_decode(data)
    return np.frombuffer(data, dtype="<i2")


def marks_in(samples, rate):
    """Where a loud sample follows enough quiet, in ms: the rule of the engine, in another hand."""
    loud = np.flatnonzero(np.abs(samples.astype(int)) >= LOUD)
    gaps = np.diff(np.concatenate(([-rate], loud)))
    return [int(at) * 1000 / rate for at, gap in zip(loud, gaps, strict=True) if gap > QUIET_MS * rate / 1000]


@pytest.mark.parametrize("audio_format", [MULAW_8K, ALAW_8K, PCM16_8K, PCM16_16K, PCM16_24K], ids=str)
def test_marks_are_found_in_every_format(audio_format):
    clip = speech_clip(SPOKEN, audio_format, FRAME_MS)
    found = marks_in(samples_of(clip, audio_format), audio_format.sample_rate)
    assert found == pytest.approx(SPOKEN.marks_ms, abs=3)
    flagged = [i * FRAME_MS for i, flags in enumerate(clip.flags) if flags & 2]
    assert flagged == [at // FRAME_MS * FRAME_MS for at in SPOKEN.marks_ms]


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_marks_survive_mu_law_and_another_rate(rate):
    heard = g711.ulaw_decode(g711.ulaw_encode(SPOKEN.pcm[::3].tobytes()))
    there = soxr.resample(np.frombuffer(heard, dtype="<i2"), 8000, rate, quality="HQ")
    assert marks_in(there, rate) == pytest.approx(SPOKEN.marks_ms, abs=4)


def test_words_begin_on_the_grid_and_the_clip_is_whole_frames():
    assert {at % 100 for at in SPOKEN.marks_ms} == {10}
    assert SPOKEN.duration_ms % 100 == 0
    assert len(SPOKEN.marks_ms) > 4


def test_silence_holds_nothing_that_is_loud():
    clip = silence_clip(MULAW_8K, FRAME_MS)
    samples = samples_of(clip, MULAW_8K)
    assert len(samples) == 8000
    assert np.abs(samples.astype(int)).max() < LOUD / 10
    assert not any(clip.flags)


def test_speech_without_sound_is_refused():
    with pytest.raises(ValueError, match="silence"):
        lay_words(bytes(2 * SPEECH_RATE), SPEECH_RATE)

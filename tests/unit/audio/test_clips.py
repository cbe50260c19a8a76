"""Clips: resampled whole, levelled without clipping, encoded for a call; and the tones that are clips."""

import math

import numpy as np
import pytest
import soxr

from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.clip_files import ClipLimits
from fastagent.audio.clips import PEAK_DBFS_MAX, Clip
from fastagent.audio.formats import (
    ALAW_8K,
    MULAW_8K,
    PCM16_8K,
    PCM16_16K,
    PCM16_24K,
    AudioFormat,
    Encoding,
)
from fastagent.audio.tones import TONES, render_tone

FORMATS = [MULAW_8K, ALAW_8K, PCM16_8K, PCM16_16K, PCM16_24K]


def sine(duration_s: float, rate: int, hz: float = 1004.0, peak: float = 0.5) -> Clip:
    t = np.arange(round(duration_s * rate)) / rate
    return Clip((peak * np.sin(2 * np.pi * hz * t)).astype(np.float32), rate)


def decoded(data: bytes, format: AudioFormat) -> np.ndarray:
    if format.encoding is Encoding.MULAW:
        data = g711.ulaw_decode(data)
    elif format.encoding is Encoding.ALAW:
        data = g711.alaw_decode(data)
    return np.frombuffer(data, "<i2") / 2.0**15


def db(ratio: float) -> float:
    return 20 * math.log10(ratio)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_clip_keeps_its_length_level_and_pitch_in_every_format(format, rate):
    data = sine(0.8, rate).encoded(format)
    samples = decoded(data, format)
    assert abs(len(samples) - 0.8 * format.sample_rate) <= 1
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    t = np.arange(len(samples)) / format.sample_rate
    wanted = (0.5 * np.sin(2 * np.pi * 1004 * t))[len(samples) // 4 : -len(samples) // 4]
    noise_db = db(np.std(middle - wanted) / np.std(wanted))
    # G.711 alone leaves 36 to 39 dB; PCM16 is limited by its rounding.
    assert noise_db < (-35 if format.encoding is not Encoding.PCM16 else -75)


def test_what_lies_above_the_band_is_gone_and_what_lies_within_it_is_not():
    for hz, is_kept in ((3_400.0, True), (4_400.0, False), (12_000.0, False)):
        samples = decoded(sine(0.5, 48_000, hz).encoded(PCM16_8K), PCM16_8K)
        level = db(max(np.std(samples[400:-400]), 1e-9) / (0.5 / 2**0.5))
        assert level > -0.1 if is_kept else level < -80


def test_resampling_is_done_once_over_the_whole_clip():
    clip = sine(1.0, 44_100, 700.0)
    whole = soxr.resample(clip.samples, 44_100, 8_000, quality="VHQ")
    assert np.array_equal(np.frombuffer(clip.encoded(PCM16_8K), "<i2"), np.rint(whole * 2**15).astype("<i2"))


@pytest.mark.parametrize("codes", [bytes(range(256)) * 3])
def test_telephone_file_is_played_as_it_is(codes):
    for format in (MULAW_8K, ALAW_8K):
        data = Clip.from_file(wav.header(format, 1, len(codes)) + codes, ClipLimits()).encoded(format)
        # The two zeros of µ-law are one sample value.
        assert data == (codes.replace(b"\x7f", b"\xff") if format == MULAW_8K else codes)
    pcm = np.arange(-(2**15), 2**15, 3).astype("<i2").tobytes()
    assert Clip.from_file(wav.header(PCM16_16K, 1, len(pcm)) + pcm, ClipLimits()).encoded(PCM16_16K) == pcm


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_full_scale_saturates_instead_of_wrapping(rate):
    square = np.where(np.arange(rate) // 40 % 2, 1.0, -1.0).astype(np.float32)
    samples = decoded(Clip(square, rate).encoded(PCM16_8K), PCM16_8K)
    exact = soxr.resample(square, rate, 8_000, quality="VHQ")
    assert bool(np.abs(exact).max() > 1.05) is (rate != 8_000)
    assert samples.max() == (2**15 - 1) / 2**15
    assert samples.min() == -1.0
    assert np.abs(samples - np.clip(exact, -1.0, 1.0)).max() <= 2**-15


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_one_sample_is_still_a_clip(format):
    data = Clip(np.array([0.5], np.float32), 192_000).encoded(format)
    assert format.samples(len(data)) >= 1


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_silence_stays_digital_silence(format):
    assert Clip(np.zeros(4_410, np.float32), 44_100).encoded(format) == format.silence(100)


# Level


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("peak", [1.0, 0.5, 0.01])
def test_level_of_a_sine_is_three_db_below_its_peak(peak, rate):
    assert sine(1.0, rate, peak=peak).level_dbfs == pytest.approx(db(peak) - 3.01, abs=0.05)


def test_pauses_do_not_lower_the_level():
    words = sine(1.0, 8_000).samples
    pauses = Clip(np.concatenate([np.zeros(24_000, np.float32), words, np.zeros(24_000, np.float32)]), 8_000)
    assert pauses.level_dbfs == pytest.approx(Clip(words, 8_000).level_dbfs, abs=0.1)


@pytest.mark.parametrize("peak", [0.9, 0.1, 0.02])
@pytest.mark.parametrize("target", [-35.0, -26.0, -20.0])
def test_clip_is_brought_to_the_level_asked_for(peak, target):
    assert sine(1.0, 16_000, peak=peak).at_level(target).level_dbfs == pytest.approx(target, abs=0.05)


def test_peaks_hold_the_level_down_and_keep_their_shape():
    samples = sine(1.0, 8_000, peak=0.05).samples.copy()
    samples[4_000] = 0.5
    clip = Clip(samples, 8_000).at_level(-10.0)
    assert db(np.abs(clip.samples).max()) == pytest.approx(PEAK_DBFS_MAX, abs=0.01)
    assert np.allclose(clip.samples / clip.samples[4_000], samples / samples[4_000], atol=1e-6)


def test_noise_floor_is_not_raised_to_speech():
    assert sine(1.0, 8_000, peak=0.0001).at_level(-20.0).level_dbfs == pytest.approx(-53.0, abs=0.1)


def test_silence_has_no_level_and_stays_as_it_is():
    silence = Clip(np.zeros(800, np.float32), 8_000)
    assert silence.level_dbfs == -math.inf
    assert not silence.at_level(-20.0).samples.any()
    assert Clip(np.zeros(0, np.float32), 8_000).level_dbfs == -math.inf


@pytest.mark.parametrize("level", [0.1, -60.1, math.nan, math.inf, -math.inf])
def test_impossible_level_is_refused(level):
    with pytest.raises(ValueError, match="dBFS"):
        sine(0.1, 8_000).at_level(level)


def test_levelled_clip_leaves_the_original_alone():
    clip = sine(0.1, 8_000)
    before = clip.samples.copy()
    clip.at_level(-40.0)
    clip.encoded(MULAW_8K)
    assert np.array_equal(clip.samples, before)


def test_repr_shows_no_samples():
    assert repr(sine(1.0, 8_000)) == "Clip(sample_rate=8000)"


# Tones


@pytest.mark.parametrize("name", TONES)
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
def test_tone_has_its_frequencies_and_nothing_else(name, rate):
    tone = TONES[name]
    clip = render_tone(tone, rate)
    on = rate * tone.on_ms // 1000
    sounding = clip.samples[rate // 50 : on - rate // 50].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(sounding * np.hanning(len(sounding)), 8 * rate))
    step_hz = 1 / 8
    power = spectrum**2
    width = round(4 / (len(sounding) / rate) / step_hz)
    within = 0.0
    for frequency_hz in tone.frequencies_hz:
        at = round(frequency_hz / step_hz)
        near = power[at - width : at + width]
        assert abs(int(near.argmax()) - width) <= 4  # half a hertz
        within += near.sum()
        power[at - width : at + width] = 0.0
    assert power.sum() < 1e-4 * within


@pytest.mark.parametrize("name", TONES)
def test_tone_ends_in_its_silence_and_begins_softly(name):
    tone = TONES[name]
    clip = render_tone(tone, 8_000)
    assert len(clip.samples) == 8 * (tone.on_ms + tone.off_ms)
    assert not clip.samples[8 * tone.on_ms :].any()
    assert np.abs(np.diff(clip.samples[:8])).max() < 0.03
    assert abs(clip.samples[0]) < 1e-6
    level = tone.level_dbfs + 10 * math.log10(len(tone.frequencies_hz))
    assert clip.level_dbfs == pytest.approx(level, abs=0.3)

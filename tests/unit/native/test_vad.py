"""The detector's promises: exact powers, the net of the header, deaf to tones, safe with anything."""

import math
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from benches.hearing import music, sounds, vad_report, voices
from fastagent._native import vad
from tests.reference import vad_reference

FRAME = voices.FRAME_SAMPLES
PERIODICITY, FIRST_LINE, SECOND_LINE, CROSSINGS, LIKE_40_MS, LIKE_80_MS = 22, 26, 27, 33, 34, 35
"""Places among the measures."""

Preset = Literal["sensitive", "balanced", "strict"]
PRESETS: tuple[Preset, ...] = ("sensitive", "balanced", "strict")

Pcm = NDArray[np.int16]


def noise(frames: int, amplitude: int = 8000, seed: int = 4) -> Pcm:
    return np.random.default_rng(seed).integers(-amplitude, amplitude, frames * FRAME).astype(np.int16)


def band_powers(pcm: Pcm) -> NDArray[np.float64]:
    analyser = vad.BandAnalyser()
    return np.array([analyser.process(frame) for frame in voices.frames_of(pcm)])


def measures(pcm: Pcm) -> NDArray[np.float64]:
    detector = vad.VoiceDetector()
    return np.array([detector.measure(frame) for frame in voices.frames_of(pcm)])


def probabilities(pcm: Pcm) -> NDArray[np.float64]:
    return vad_report.judge(vad.VoiceDetector(), pcm)


def sine(hz: float, frames: int, amplitude: float = 10_000.0) -> Pcm:
    time = np.arange(frames * FRAME) / voices.SAMPLE_RATE
    return np.rint(amplitude * np.sin(2 * np.pi * hz * time)).astype(np.int16)


EXTREMES: dict[str, Pcm] = {
    "silence": np.zeros(50 * FRAME, dtype=np.int16),
    "most negative": np.full(50 * FRAME, -32768, dtype=np.int16),
    "most positive": np.full(50 * FRAME, 32767, dtype=np.int16),
    "slow square": np.where(np.arange(50 * FRAME) // 40 % 2, 32767, -32768).astype(np.int16),
    "fast square": np.where(np.arange(50 * FRAME) % 2, 32767, -32768).astype(np.int16),
    "full-scale noise": np.random.default_rng(1).integers(-32768, 32768, 50 * FRAME).astype(np.int16),
    "small offset": np.full(50 * FRAME, 3, dtype=np.int16),
    "one sample": np.eye(1, 50 * FRAME, 4000, dtype=np.int16)[0] * np.int16(-32768),
}


# Bands


@pytest.mark.parametrize("pcm", [noise(20), noise(20, 30), sine(440, 20), *EXTREMES.values()])
def test_band_powers_equal_the_reference(pcm: Pcm) -> None:
    expected = vad_reference.bands(pcm)
    loudest = float(np.square(pcm.astype(np.float64)).max())
    np.testing.assert_allclose(band_powers(pcm), expected, rtol=1e-4, atol=1e-7 * loudest + 1e-9)


@pytest.mark.parametrize("band", range(10))
def test_a_tone_in_a_band_has_its_power_there_and_nowhere_else(band: int) -> None:
    edges = vad_reference.band_edges()
    hz = (edges[band] + edges[band + 1] - 1) / 2 * 31.25
    powers = band_powers(sine(hz, 12))[4:].mean(axis=0)
    assert powers[band] == pytest.approx(10_000**2 / 2, rel=0.05)
    others = [power for i, power in enumerate(powers) if abs(i - band) > 1]
    assert max(others) < powers[band] * 1e-3


def test_powers_of_a_stream_add_up_to_its_power() -> None:
    # White noise: the bands hold the bins 6 to 121 of 128.
    powers = band_powers(noise(400))[1:]
    expected = np.mean(np.square(noise(400).astype(np.float64))) * 116 / 128
    assert powers.sum(axis=1).mean() == pytest.approx(expected, rel=0.01)


def test_bands_reset_forgets_the_frames_before() -> None:
    analyser = vad.BandAnalyser()
    first = [analyser.process(frame) for frame in voices.frames_of(noise(3))]
    analyser.reset()
    assert [analyser.process(frame) for frame in voices.frames_of(noise(3))] == first


# Measures and net


def test_probabilities_equal_the_reference_net_over_the_same_measures() -> None:
    spoken = voices.conversation(voices.TEST_VOICES, 6.0, 3)
    pcm = voices.on_the_line(spoken.samples + sounds.noise("pink", 6.0, 1) * 0.1)
    np.testing.assert_allclose(probabilities(pcm), vad_reference.probabilities(measures(pcm)), atol=2e-3)


@pytest.mark.parametrize("hz", [70, 100, 147, 205, 290, 380])
def test_pulses_of_a_voice_are_periodic(hz: int) -> None:
    time = np.arange(20 * FRAME) / voices.SAMPLE_RATE
    harmonics = range(math.ceil(300 / hz), 3400 // hz)
    pulses = sum(np.sin(2 * np.pi * hz * k * time) / k for k in harmonics)
    found = measures(voices.on_the_line(voices.at_level(np.asarray(pulses), -25)))[5:]
    assert found[:, PERIODICITY].min() > 0.8
    period = found[:, PERIODICITY + 1] / found[:, PERIODICITY] * 66
    # Of 4 kHz samples: to the nearest one, or a multiple of the period.
    ratio = period * hz / 4000
    assert np.all(np.abs(ratio - np.rint(ratio)) < 0.6 * hz / 4000 + 0.02)


def test_noise_is_not_periodic() -> None:
    assert np.median(measures(noise(100))[5:, PERIODICITY]) < 0.25


@pytest.mark.parametrize("key", sounds.DTMF_HZ)
def test_a_key_is_two_lines(key: str) -> None:
    found = measures(voices.on_the_line(sounds.dtmf(key, on_s=0.3)))[3:12]
    assert np.all(found[:, FIRST_LINE] + found[:, SECOND_LINE] > 0.9)


def test_crossings_follow_the_frequency() -> None:
    found = measures(sine(1000, 20))[2:, CROSSINGS]
    assert np.allclose(found, 2 * 1000 / 8000, atol=0.02)


@pytest.mark.parametrize("lag", [LIKE_40_MS, LIKE_80_MS])
def test_lines_that_stay_are_alike_and_those_that_move_are_not(lag: int) -> None:
    def likeness(hz: NDArray[np.float64]) -> float:
        turns = np.cumsum(hz) / voices.SAMPLE_RATE
        lines = sum(np.sin(2 * np.pi * k * turns) for k in range(2, 15))
        return float(
            np.median(measures(voices.on_the_line(voices.at_level(np.asarray(lines), -20)))[10:, lag])
        )

    time = np.arange(100 * FRAME) / voices.SAMPLE_RATE
    assert likeness(np.full(len(time), 220.0)) > 0.8
    assert likeness(220 * 2 ** (0.4 * np.sin(2 * np.pi * 1.5 * time))) < 0.4
    assert abs(np.median(measures(noise(100))[10:, lag])) < 0.1


# What is heard


@cache
def other_sounds() -> dict[str, list[Pcm]]:
    return vad_report.other_sounds()


@pytest.mark.parametrize("name", ["dtmf", "dial", "ringback"])
def test_network_and_keypad_tones_are_never_speech(name: str) -> None:
    for pcm in other_sounds()[name]:
        assert probabilities(pcm).max() < 0.5


@pytest.mark.parametrize("name", ["clicks", "chords", "hold", "bands"])
def test_clicks_and_music_are_rarely_speech(name: str) -> None:
    scores = np.concatenate([probabilities(pcm) for pcm in other_sounds()[name]])
    assert np.mean(scores >= 0.5) <= 0.05


@pytest.mark.parametrize("dbfs", [-38, -15])
def test_instruments_that_training_never_met_are_rarely_speech(dbfs: float) -> None:
    streams = [
        voices.on_the_line(voices.telephone_band(voices.at_level(kind(8.0, seed), dbfs)), "alaw")
        for kind in music.HELD_OUT_BANDS.values()
        for seed in range(50, 54)
    ]
    scores = np.concatenate([probabilities(pcm) for pcm in streams])
    assert np.mean(scores >= 0.5) <= 0.05


def test_speech_is_heard_after_music_on_hold() -> None:
    shares = []
    for seed in range(4):
        spoken = voices.conversation(voices.TEST_VOICES, 6.0, seed)
        held = np.concatenate([music.band(10.0, 60 + seed), music.bells(10.0, 60 + seed)])
        pcm = voices.on_the_line(np.concatenate([held, spoken.samples]))
        scores = probabilities(pcm)[len(held) // FRAME :]
        shares.append(np.mean(scores[voices.frame_labels(spoken.is_speech)] >= 0.5))
    assert min(shares) > 0.6
    assert np.mean(shares) > 0.8


def test_speech_on_a_labelled_set_is_heard_as_well_as_promised() -> None:
    streams = vad_report.telephone_set(noises=("street", "white", "car", "babble"))
    scores = np.concatenate([probabilities(stream.pcm) for stream in streams])
    labels = np.concatenate([voices.frame_labels(stream.is_speech) for stream in streams])
    assert vad_report.auc(scores, labels) >= 0.90


def test_the_first_sound_is_heard_soon() -> None:
    heard: list[float] = []
    missed = 0
    for seed in range(10):
        spoken = voices.conversation(voices.TEST_VOICES, 12.0, seed)
        pcm = voices.on_the_line(spoken.samples + sounds.noise("office", 12.0, seed) * 0.1)
        found = vad_report.onsets(probabilities(pcm), spoken.is_speech)
        heard, missed = heard + found.heard_ms, missed + found.missed
    assert len(heard) > 20
    assert vad_report.Onsets(heard, missed).quantile_ms(0.5) <= 40


# Anything goes


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_input_gives_finite_answers_and_is_not_speech(name: str) -> None:
    pcm = EXTREMES[name]
    assert np.isfinite(band_powers(pcm)).all()
    assert np.isfinite(measures(pcm)).all()
    scores = probabilities(pcm)
    assert np.all((scores >= 0) & (scores <= 1))
    if name != "full-scale noise":
        assert scores[10:].max() < 0.5


def test_speech_is_heard_again_after_extreme_input() -> None:
    spoken = voices.say("Hello, I would like to change my appointment.", "en-us+f3")
    speech = voices.on_the_line(spoken.samples)
    for pcm in EXTREMES.values():
        scores = probabilities(np.concatenate([pcm, np.zeros(50 * FRAME, dtype=np.int16), speech]))
        assert scores[100:].max() > 0.8


def test_reset_forgets_everything() -> None:
    pcm = voices.on_the_line(voices.conversation(voices.TEST_VOICES, 3.0, 5).samples)
    detector = vad.VoiceDetector()
    first = [detector.process(frame) for frame in voices.frames_of(pcm)]
    assert max(first) > 0.5
    detector.reset()
    assert [detector.process(frame) for frame in voices.frames_of(pcm)] == first


def test_answers_need_nothing_that_comes_later() -> None:
    pcm = voices.on_the_line(voices.conversation(voices.TEST_VOICES, 3.0, 6).samples)
    cut = pcm.copy()
    cut[75 * FRAME :] = noise(75)[: len(cut) - 75 * FRAME]
    assert probabilities(pcm)[:75].tolist() == probabilities(cut)[:75].tolist()


@pytest.mark.parametrize("size", [0, 1, 160, 318, 319, 321, 322, 640])
@pytest.mark.parametrize(
    "take", [vad.BandAnalyser().process, vad.VoiceDetector().process, vad.VoiceDetector().measure]
)
def test_another_size_is_refused(take: Any, size: int) -> None:
    for frame in (bytes(size), bytearray(size), memoryview(bytes(size))):
        with pytest.raises(ValueError, match=f"frame of 320 bytes expected, got {size}"):
            take(frame)


def test_a_refused_frame_feeds_nothing() -> None:
    detector, other = vad.VoiceDetector(), vad.VoiceDetector()
    for frame in voices.frames_of(noise(10)):
        with pytest.raises(ValueError, match="expected"):
            detector.process(frame[:-2])
        assert detector.process(frame) == other.process(frame)


def test_any_buffer_at_any_alignment_gives_the_same() -> None:
    frame = noise(1).tobytes()
    expected = vad.VoiceDetector().process(frame)
    shifted = memoryview(b"x" + frame)[1:]
    for same in (bytearray(frame), memoryview(frame), shifted):
        assert vad.VoiceDetector().process(same) == expected
    with pytest.raises(TypeError):
        vad.VoiceDetector().process("x" * 320)  # type: ignore[arg-type]


# Utterances


def events(segmenter: vad.SpeechSegmenter, scores: list[float]) -> list[tuple[str, int]]:
    return [event for score in scores if (event := segmenter.process(score)) is not None]


def at(frame: int, prefix_ms: int = 0) -> int:
    return frame * FRAME - prefix_ms * 8


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([0.0] * 10, [], id="silence"),
        pytest.param([0, 0, 0, 0, 1, 1], [], id="shorter than the least"),
        pytest.param([0, 0, 0, 0, 1, 1, 1], [("started", at(4, 40))], id="just long enough"),
        pytest.param([1, 1, 1], [("started", 0)], id="not before the stream"),
        pytest.param([0, 0, 0, 0, 1, 0.4, 0.4], [("started", at(4, 40))], id="may dip to the stop's level"),
        pytest.param([0, 0, 0, 0, 0.4, 0.4, 0.4], [], id="must reach the start's level"),
        pytest.param([0, 0, 0, 0, 1, 0.3, 1, 1, 1], [("started", at(6, 40))], id="a gap starts anew"),
        pytest.param([1] * 5 + [0] * 14, [("started", 0)], id="pause shorter than the hangover"),
        pytest.param([1] * 5 + [0] * 15, [("started", 0), ("stopped", at(5))], id="hangover over"),
        pytest.param(
            [1] * 5 + [0] * 14 + [1] + [0] * 15, [("started", 0), ("stopped", at(20))], id="bridged"
        ),
        pytest.param(
            [1] * 5 + [0] * 15 + [1] * 3,
            [("started", 0), ("stopped", at(5)), ("started", at(20, 40))],
            id="twice",
        ),
        pytest.param([1] * 5 + [0.35] * 40, [("started", 0)], id="the stop's level is still speech"),
        pytest.param([math.nan] * 40, [], id="not a number before speech"),
        pytest.param([1] * 3 + [math.nan] * 40, [("started", 0)], id="not a number within speech"),
    ],
)
def test_balanced_segmenter_tells_beginnings_and_ends(
    scores: list[float], expected: list[tuple[str, int]]
) -> None:
    segmenter = vad.SpeechSegmenter()
    assert events(segmenter, scores) == expected
    assert segmenter.position == len(scores) * FRAME
    assert segmenter.is_speaking == (bool(expected) and expected[-1][0] == "started")
    segmenter.reset()
    assert not segmenter.is_speaking
    assert events(segmenter, scores) == expected


def test_a_beginning_is_not_dated_before_the_last_end() -> None:
    segmenter = vad.SpeechSegmenter(hangover_ms=20, min_speech_ms=20, prefix_ms=1000)
    assert events(segmenter, [1, 1, 0, 1, 0]) == [
        ("started", 0), ("stopped", at(2)), ("started", at(2)), ("stopped", at(4)),
    ]  # fmt: skip


def test_times_of_nothing_mean_one_frame() -> None:
    segmenter = vad.SpeechSegmenter(hangover_ms=0, min_speech_ms=0, prefix_ms=0)
    assert events(segmenter, [0, 1, 0]) == [("started", at(1)), ("stopped", at(2))]


def test_stricter_presets_hear_less() -> None:
    pcm = vad_report.telephone_set(noises=("street",))[1].pcm
    scores = probabilities(pcm).tolist()
    spoken = []
    for preset in PRESETS:
        segmenter, speaking = vad.SpeechSegmenter(preset=preset), 0
        for score in scores:
            segmenter.process(score)
            speaking += segmenter.is_speaking
        spoken.append(speaking)
    assert spoken == sorted(spoken, reverse=True)
    assert spoken[0] > spoken[-1]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sentence_is_one_utterance_at_its_place(preset: Preset) -> None:
    spoken = voices.say("Could you tell me how much is left on my account?", "en+m5")
    pause = np.zeros(voices.SAMPLE_RATE)
    pcm = voices.on_the_line(np.concatenate([pause, spoken.samples, pause]))
    inside = np.flatnonzero(spoken.is_speech) + len(pause)
    found = events(vad.SpeechSegmenter(preset=preset), probabilities(pcm).tolist())
    assert [name for name, _ in found] == ["started", "stopped"]
    assert abs(found[0][1] - inside[0]) <= 0.12 * voices.SAMPLE_RATE
    assert abs(found[1][1] - inside[-1]) <= 0.24 * voices.SAMPLE_RATE


def test_detector_presets_share_probabilities_and_differ_in_threshold() -> None:
    detectors = [vad.VoiceDetector(preset=preset) for preset in PRESETS]
    assert [detector.preset for detector in detectors] == list(PRESETS)
    assert all(a.threshold < b.threshold for a, b in pairwise(detectors))
    frame = noise(1).tobytes()
    assert len({detector.process(frame) for detector in detectors}) == 1
    assert vad.VoiceDetector().preset == "balanced"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"preset": "loud"}, "sensitive, balanced or strict expected, got 'loud'"),
        ({"start_probability": 0.0, "stop_probability": 0.0}, "got start 0"),
        ({"start_probability": 1.5}, "got start 1.5"),
        ({"start_probability": math.nan}, "got start nan"),
        ({"stop_probability": -0.1}, "stop -0.1"),
        ({"stop_probability": 0.9}, "stop 0.9"),
        ({"stop_probability": math.nan}, "stop nan"),
        ({"min_speech_ms": -1}, "min_speech -1"),
        ({"hangover_ms": 60_001}, "hangover 60001"),
        ({"prefix_ms": 10**30}, "prefix 60001"),
        ({"prefix_ms": -(10**30)}, "prefix -1"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        vad.SpeechSegmenter(**options)


@pytest.mark.parametrize("options", [{"preset": 3}, {"hangover_ms": 2.5}, {"start_probability": "high"}])
def test_settings_of_another_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        vad.SpeechSegmenter(**options)


def test_detector_refuses_an_unknown_preset() -> None:
    with pytest.raises(ValueError, match="got 'loud'"):
        vad.VoiceDetector(preset="loud")  # type: ignore[arg-type]

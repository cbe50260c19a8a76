"""The detector and the segmenter under any input."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native import vad
from tests.reference import vad_reference

FRAME = 160
PROBABILITIES = st.lists(st.floats(0, 1, width=32), max_size=200)
SAMPLES = st.one_of(st.sampled_from([-32768, -32767, -1, 0, 1, 32767]), st.integers(-32768, 32767))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few frames, each noise of a drawn amplitude, a repeated short pattern, or a drawn constant."""
    frames = []
    for _ in range(draw(st.integers(1, 12))):
        pattern = draw(st.lists(SAMPLES, min_size=1, max_size=8))
        if draw(st.booleans()):
            frames.append(np.resize(np.array(pattern), FRAME))
        else:
            amplitude = draw(st.integers(1, 32767))
            rng = np.random.default_rng(draw(st.integers(0, 1000)))
            frames.append(rng.integers(-amplitude, amplitude + 1, FRAME))
    return np.concatenate(frames).astype("<i2").tobytes()


def frames_of(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + vad.FRAME_BYTES] for at in range(0, len(pcm), vad.FRAME_BYTES)]


@settings(max_examples=60, deadline=None)
@given(streams())
def test_bands_equal_the_reference(pcm: bytes) -> None:
    samples = np.frombuffer(pcm, dtype="<i2")
    analyser = vad.BandAnalyser()
    found = np.array([analyser.process(frame) for frame in frames_of(pcm)])
    loudest = float(np.square(samples.astype(np.float64)).max())
    np.testing.assert_allclose(found, vad_reference.bands(samples), rtol=1e-4, atol=1e-7 * loudest + 1e-9)


@settings(max_examples=60, deadline=None)
@given(streams())
def test_the_net_equals_the_reference_over_finite_measures(pcm: bytes) -> None:
    detector, measurer = vad.VoiceDetector(), vad.VoiceDetector()
    found = np.array([detector.process(frame) for frame in frames_of(pcm)])
    measures = np.array([measurer.measure(frame) for frame in frames_of(pcm)])
    assert np.isfinite(measures).all()
    assert np.all((found >= 0) & (found <= 1))
    np.testing.assert_allclose(found, vad_reference.probabilities(measures), atol=5e-3)


@settings(max_examples=40, deadline=None)
@given(streams(), streams())
def test_reset_makes_a_detector_new(before: bytes, after: bytes) -> None:
    used, new = vad.VoiceDetector(), vad.VoiceDetector()
    for frame in frames_of(before):
        used.process(frame)
    used.reset()
    assert [used.process(f) for f in frames_of(after)] == [new.process(f) for f in frames_of(after)]


@given(
    PROBABILITIES,
    st.floats(0.125, 1, width=32),
    st.floats(0, 1),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_beginnings_and_ends_take_turns_in_order(
    scores: list[float], start: float, share: float, least_ms: int, hangover_ms: int, prefix_ms: int
) -> None:
    segmenter = vad.SpeechSegmenter(
        start_probability=start,
        stop_probability=start * share,
        min_speech_ms=least_ms,
        hangover_ms=hangover_ms,
        prefix_ms=prefix_ms,
    )
    events = []
    for number, score in enumerate(scores):
        event = segmenter.process(score)
        if event is not None:
            assert event[1] <= number * FRAME
            events.append(event)
    assert [name for name, _ in events] == ["started", "stopped"] * (len(events) // 2) + ["started"] * (
        len(events) % 2
    )
    positions = [position for _, position in events]
    assert positions == sorted(positions)
    assert all(position >= 0 for position in positions)
    assert segmenter.is_speaking == (len(events) % 2 == 1)

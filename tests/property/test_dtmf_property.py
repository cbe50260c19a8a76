"""The DTMF kernel for any input: cut anywhere, any parameters within the limits, any samples at all."""

import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native import dtmf
from fastagent.audio.dtmf import dtmf_tones
from fastagent.audio.formats import PCM16_8K
from tests.reference.dtmf_reference import DIGITS, Burst, ms, pcm, silence

phases = st.floats(0, 6.28)
offsets = st.floats(-0.015, 0.015)


def events(chunks: list[bytes]) -> list[tuple[str, bool, int, int]]:
    detector = dtmf.Detector()
    found = [event for chunk in chunks for event in detector.process(chunk)] + detector.flush()
    return [(e.digit, e.is_end, e.position, e.duration) for e in found]


@st.composite
def bursts(draw: st.DrawFn) -> Burst:
    """Any burst that Q.24 asks a receiver to take."""
    stronger = draw(st.floats(-15, -3))
    low_louder = draw(st.floats(-4, 8))
    return Burst(
        draw(st.sampled_from(DIGITS)),
        draw(st.floats(40, 200)),
        stronger if low_louder > 0 else stronger + low_louder,
        stronger - low_louder if low_louder > 0 else stronger,
        draw(offsets),
        draw(offsets),
        draw(phases),
        draw(phases),
    )


@given(bursts(), st.integers(0, 400))
@settings(deadline=None, max_examples=400)
def test_every_burst_within_the_limits_is_taken_at_its_place(burst: Burst, lead: int) -> None:
    start, end = events([pcm(np.zeros(lead), burst.samples(), silence(60))])
    assert (start[:2], end[:2]) == ((burst.digit, False), (burst.digit, True))
    assert abs(start[2] - lead) <= ms(2.5)
    assert abs(end[3] - ms(burst.tone_ms)) <= ms(4)


@given(
    st.text(DIGITS, max_size=8),
    st.integers(42, 120),
    st.integers(40, 120),
    st.lists(st.integers(0, 15_000), max_size=20),
    st.integers(0, 1 << 32),
)
@settings(deadline=None)
def test_generated_digits_come_back_however_they_are_cut(
    digits: str, tone_ms: int, pause_ms: int, places: list[int], seed: int
) -> None:
    clean = np.frombuffer(dtmf_tones(digits, PCM16_8K, tone_ms=tone_ms, pause_ms=pause_ms), "<i2")
    audio = pcm(clean + np.random.default_rng(seed).normal(0, 200, len(clean)))
    cuts = [0, *sorted(min(2 * place, len(audio)) for place in places), len(audio)]
    found = events([audio[a:b] for a, b in pairwise(cuts)])
    assert found == events([audio])
    assert "".join(digit for digit, is_end, _, _ in found if not is_end) == digits


@given(st.integers(0, 1 << 32), st.integers(0, 4000), st.sampled_from(("any", "rails", "bytes")))
@settings(deadline=None)
def test_any_samples_are_safe_and_events_alternate(seed: int, count: int, kind: str) -> None:
    chance = random.Random(seed)
    if kind == "rails":
        audio = b"".join(chance.choice((b"\xff\x7f", b"\0\x80")) for _ in range(count))
    else:
        audio = chance.randbytes(2 * count) if kind == "any" else bytes([chance.randrange(256)]) * 2 * count
    found = events([audio])
    assert [is_end for _, is_end, _, _ in found] == [False, True] * (len(found) // 2)
    assert all(start >= 0 and length >= 0 and start + length <= count for _, _, start, length in found)

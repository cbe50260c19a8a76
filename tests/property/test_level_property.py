"""The level meter for any samples: equal to its oracle, and the same for any chunking."""

import random
import struct
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.level import LevelMeter
from tests.reference import level_reference

POOLS = {
    "any": range(-32768, 32768),
    "rails": (-32768, -32767, -32256, -32124, -32123, 0, 32123, 32124, 32255, 32256, 32766, 32767),
    "faint": range(-60, 61),
}


@given(
    encoding=st.sampled_from(sorted(level_reference.RAILS)),
    sample_rate=st.sampled_from((8000, 16000, 24000)),
    pool=st.sampled_from(sorted(POOLS)),
    count=st.integers(0, 12_000),
    seed=st.integers(0, 1 << 32),
    longest=st.sampled_from((1, 7, 160, 161, 1000, 12_000)),
)
@settings(deadline=None, max_examples=60)
def test_chunked_figures_equal_the_whole_stream_oracle(
    encoding: str, sample_rate: int, pool: str, count: int, seed: int, longest: int
) -> None:
    chance = random.Random(seed)
    samples = chance.choices(POOLS[pool], k=count)
    pcm = struct.pack(f"<{count}h", *samples)
    meter = LevelMeter(sample_rate, encoding)  # type: ignore[arg-type]
    fed = 0
    while fed < count:
        size = min(chance.randint(0, longest), count - fed)
        meter.process(pcm[2 * fed : 2 * (fed + size)], 0.0)
        fed += size
    expected = asdict(level_reference.figures(samples, sample_rate, encoding))
    found = meter.snapshot(0.0)._asdict()
    assert {key: found[key] for key in expected} == pytest.approx(expected)

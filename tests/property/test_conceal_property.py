"""Concealment for any input: bounded, chunk-free, and out of the way where nothing was lost."""

import math
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.conceal import Concealer

steps = st.lists(st.tuples(st.booleans(), st.integers(0, 1500)), max_size=12)
POOLS = {"any": range(-32768, 32768), "rails": (-32768, 32767), "faint": (-1, 0, 1), "bottom": (-32768,)}


def source(pool: str, count: int, seed: int) -> bytes:
    return np.array(random.Random(seed).choices(POOLS[pool], k=count), dtype="<i2").tobytes()


@given(
    sample_rate=st.sampled_from((8000, 16000, 24000)),
    pool=st.sampled_from(sorted(POOLS)),
    plan=steps,
    seed=st.integers(0, 1 << 32),
)
@settings(deadline=None, max_examples=150)
def test_cut_streams_equal_whole_ones_and_good_samples_pass(
    sample_rate: int, pool: str, plan: list[tuple[bool, int]], seed: int
) -> None:
    chance = random.Random(seed)
    whole, cut = Concealer(sample_rate), Concealer(sample_rate)
    joining = 0
    for number, (is_lost, count) in enumerate(plan):
        pcm = source(pool, count, seed + number)
        expected = whole.lost(count) if is_lost else whole.good(pcm)
        assert len(expected) == 2 * count
        middle = chance.randint(0, count)
        if is_lost:
            assert cut.lost(middle) + cut.lost(count - middle) == expected
            joining = sample_rate // 200 if count else joining
        else:
            assert cut.good(pcm[: 2 * middle]) + cut.good(pcm[2 * middle :]) == expected
            assert expected[2 * joining :] == pcm[2 * joining :]
            joining = max(0, joining - count)


@given(
    sample_rate=st.sampled_from((8000, 16000, 24000)),
    pool=st.sampled_from(sorted(POOLS)),
    count=st.integers(0, 3000),
    seed=st.integers(0, 1 << 32),
)
@settings(deadline=None, max_examples=150)
def test_a_fill_never_has_more_energy_than_the_20_ms_before(
    sample_rate: int, pool: str, count: int, seed: int
) -> None:
    concealer = Concealer(sample_rate)
    pcm = source(pool, count, seed)
    concealer.good(pcm)
    block = sample_rate // 200
    newest = np.concatenate([np.zeros(4 * block), np.frombuffer(pcm, dtype="<i2").astype(float)])[
        -4 * block :
    ]
    loudest = (newest.reshape(4, block) ** 2).sum(axis=1).max()
    filled = np.frombuffer(concealer.lost(sample_rate // 2), dtype="<i2").astype(float)
    energies = (filled.reshape(-1, block) ** 2).sum(axis=1)
    # Samples are rounded, each by up to a half.
    assert energies.max() <= (math.sqrt(loudest) + math.sqrt(block) / 2) ** 2 * (1 + 1e-5)
    assert energies[61:].max() == 0

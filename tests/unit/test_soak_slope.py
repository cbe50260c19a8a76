"""What the soak says of a leak."""

import numpy as np
import pytest

from benches.soak.slope import theil_sen


@pytest.mark.parametrize("leak", [0.0, 1024.0])
def test_slope_is_found_under_noise_and_outliers_and_its_interval_holds_it(leak):
    chance = np.random.default_rng(7)
    calls = np.arange(0.0, 1350.0, 15.0)
    memory = 1e8 + leak * calls + chance.normal(0.0, 20_000.0, len(calls))
    memory[::20] += 2e7  # collections that have not come yet
    slope = theil_sen(calls, memory)
    assert slope.low <= leak <= slope.high
    assert abs(slope.value - leak) < 60
    assert slope.high - slope.low < 400


def test_slope_needs_two_different_x():
    with pytest.raises(ValueError, match="two different"):
        theil_sen(np.ones(5), np.arange(5.0))

"""The slope of a leak: what memory gains for each finished call, and how sure that is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Slope", "theil_sen"]

RESAMPLES = 400
CONFIDENCE = 0.95
BLOCK = 12
"""Neighbouring samples that are drawn together: they know of each other, so alone they would look surer."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slope:
    """Gain per unit of x, and the interval that holds it with 95 %."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Slope":
        """The same in another unit."""
        return Slope(self.value * factor, self.low * factor, self.high * factor)


def theil_sen(x: Floats, y: Floats, *, seed: int = 1) -> Slope:
    """The median of the slopes between all pairs of samples, which single outliers do not move.

    Args:
        x: n numbers that do not fall, such as finished calls.
        y: n numbers, such as bytes.

    Raises:
        ValueError: fewer than two different x.

    Source: Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968. The interval is a
    moving-block bootstrap.
    """
    if len(x) != len(y) or len(np.unique(x)) < 2:
        raise ValueError(f"expected as many x as y and two different x, got {len(x)} and {len(y)}")
    chance = np.random.default_rng(seed)
    block = min(BLOCK, max(1, len(x) // 4))
    starts_max = len(x) - block + 1
    found: list[float] = []
    while len(found) < RESAMPLES:
        starts = chance.integers(0, starts_max, -(-len(x) // block))
        chosen = np.sort((starts[:, None] + np.arange(block)).ravel()[: len(x)])
        if len(np.unique(x[chosen])) > 1:
            found.append(_median_slope(x[chosen], y[chosen]))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return Slope(_median_slope(x, y), float(low), float(high))


def _median_slope(x: Floats, y: Floats) -> float:
    first, second = np.triu_indices(len(x), 1)
    dx = x[second] - x[first]
    apart = dx > 0
    return float(np.median((y[second] - y[first])[apart] / dx[apart]))

"""Plain ways to fill a loss, peers of the concealment kernel: silence, the last frame, the last pitch cycle.

Each takes a whole stream and which of its frames are lost, and gives what is heard. None adds delay.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Lost = NDArray[np.bool_]
Fill = Callable[[Samples, Lost], Samples]

FADE_PER_20_MS = 0.7


def zero_fill(pcm: Samples, lost: Lost) -> Samples:
    heard = pcm.reshape(len(lost), -1).copy()
    heard[lost] = 0
    return heard.ravel()


def repeat(pcm: Samples, lost: Lost) -> Samples:
    """The last frame again, 0.7 times as loud each time."""
    heard = pcm.reshape(len(lost), -1).copy()
    last = np.zeros(heard.shape[1])
    for i, is_lost in enumerate(lost):
        if is_lost:
            last *= FADE_PER_20_MS
            heard[i] = np.rint(last)
        else:
            last = heard[i].astype(float)
    return heard.ravel()


def pitch_lag(history: NDArray[np.float64], sample_rate: int) -> int:
    """The lag of 2.5 to 16 ms at which the newest 20 ms resemble the past most."""
    width = sample_rate // 50
    newest = history[-width:]
    lags = range(sample_rate // 400, sample_rate * 16 // 1000 + 1)
    pasts = [history[-width - lag : -lag] for lag in lags]
    likeness = [newest @ past / np.sqrt((newest @ newest) * (past @ past) + 1) for past in pasts]
    return lags[int(np.argmax(likeness))]


class PitchCycle:
    """The newest pitch cycle over and over, its seam overlapped by a quarter, fading by 0.7 per 20 ms."""

    def __init__(self, history: NDArray[np.float64], sample_rate: int) -> None:
        lag = pitch_lag(history, sample_rate)
        seam = lag // 4
        weight = (np.arange(seam) + 1) / (seam + 1)
        self.cycle = history[-lag:].copy()
        self.cycle[-seam:] = (1 - weight) * history[-seam:] + weight * history[-lag - seam : -lag]
        self.frame_samples = sample_rate // 50
        self.made = 0

    def take(self, count: int) -> NDArray[np.float64]:
        at = self.made + np.arange(count)
        self.made += count
        filled: NDArray[np.float64] = self.cycle[at % len(self.cycle)] * FADE_PER_20_MS ** (
            at / self.frame_samples
        )
        return filled


def pitch_cycle(pcm: Samples, lost: Lost, sample_rate: int = 8000) -> Samples:
    """Pitch cycles, cross-faded over 5 ms into what arrives after a loss."""
    frames = pcm.reshape(len(lost), -1).astype(float)
    join = sample_rate // 200
    weight = (np.arange(join) + 1) / (join + 1)
    history = np.zeros(sample_rate * 60 // 1000)
    fill: PitchCycle | None = None
    for i, is_lost in enumerate(lost):
        if is_lost:
            fill = fill or PitchCycle(history, sample_rate)
            frames[i] = fill.take(frames.shape[1])
        elif fill is not None:
            frames[i, :join] = (1 - weight) * fill.take(join) + weight * frames[i, :join]
            fill = None
        history = np.concatenate([history, frames[i]])[-len(history) :]
    heard: Samples = np.clip(np.rint(frames), -32768, 32767).astype(np.int16).ravel()
    return heard


def losses(frames: int, share: float, burst: int, seed: int, spared: int = 10) -> Lost:
    """Which frames are lost: `burst` in a row at random places, a `share` of all; the first are spared."""
    generator = np.random.default_rng(seed)
    lost = np.zeros(frames, dtype=bool)
    start = spared
    while start < frames:
        if generator.random() < share / burst / (1 - share + share / burst):
            lost[start : start + burst] = True
            start += burst
        else:
            start += 1
    return lost

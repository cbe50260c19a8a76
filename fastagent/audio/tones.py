"""The tones of the telephone network as clips: ringing, busy, congestion, and a beep.

Each clip is one period of its cadence and ends in silence, so that it repeats without a seam. Sources: the
North American precise tone plan (Telcordia GR-506-CORE; ITU-T E.180 Supplement 2) and, for names ending in
``-eu``, the 425 Hz tones of ETSI TR 101 041-2 and ITU-T E.180.
"""

from dataclasses import dataclass

import numpy as np

from fastagent.audio.clips import Clip

__all__ = ["TONES", "Tone", "render_tone"]

EDGE_MS = 5
"""Raised-cosine rise and fall: a tone switched hard clicks."""


@dataclass(frozen=True, slots=True)
class Tone:
    """One period of a cadence: it sounds, then it is silent."""

    frequencies_hz: tuple[float, ...]
    on_ms: int
    off_ms: int
    level_dbfs: float = -25.0
    """Of each frequency, as RMS: the -19 dBm0 of ringing in the precise tone plan (0 dBm0 is -6.2 dBFS)."""


TONES = {
    "ringback": Tone((440.0, 480.0), 2000, 4000),
    "busy": Tone((480.0, 620.0), 500, 500),
    "reorder": Tone((480.0, 620.0), 250, 250),
    "ringback-eu": Tone((425.0,), 1000, 4000),
    "busy-eu": Tone((425.0,), 500, 500),
    "congestion-eu": Tone((425.0,), 250, 250),
    "beep": Tone((1000.0,), 200, 50),
}
"""By clip name."""


def render_tone(tone: Tone, sample_rate: int) -> Clip:
    """One period of ``tone``, made at the rate it is wanted in: nothing is resampled."""
    on = sample_rate * tone.on_ms // 1000
    edge = min(on // 2, sample_rate * EDGE_MS // 1000)
    seconds = np.arange(on) / sample_rate
    amplitude = 2**0.5 * 10 ** (tone.level_dbfs / 20)
    samples = np.zeros(on + sample_rate * tone.off_ms // 1000, np.float32)
    for frequency_hz in tone.frequencies_hz:
        samples[:on] += (amplitude * np.sin(2 * np.pi * frequency_hz * seconds)).astype(np.float32)
    rise = (0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / edge)).astype(np.float32)
    samples[:edge] *= rise
    samples[on - edge : on] *= rise[::-1]
    return Clip(samples, sample_rate)

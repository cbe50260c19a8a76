"""The E-model's verdict on a packet voice path: delay and missing packets in, transmission rating R out.

R = 93.2 - Id - Ie,eff, with ITU-T G.107's default values for all that a network does not change:

- Id = 0.024 d + 0.11 (d - 177.3) for the part of d above 177.3 ms: the usual linear form of G.107's delay
  impairment for a path without echo; d is mouth to ear, in ms.
- Ie,eff = 95 p / (p / BurstR + Bpl) for p % of packets missing. Bpl = 25.1 is G.711's with concealment
  (G.113, appendix I; Ie = 0). BurstR is the mean length of the gaps over that of independent losses; it
  counts between 1 and 2, the range G.107 vouches for.

R of 90 and more pleases nearly everyone, 80 most, 70 many; below 60 a path should not be planned (G.109).
"""

from collections.abc import Sequence

__all__ = ["burst_ratio", "delay_impairment", "loss_impairment", "rating"]

R_DEFAULT = 93.2
DELAY_SLOPE = 0.024
KNEE_SLOPE = 0.11
KNEE_MS = 177.3
BPL_G711_PLC = 25.1
BURST_RATIO_MAX = 2.0


def delay_impairment(delay_ms: float) -> float:
    """Id of a one-way delay."""
    return DELAY_SLOPE * delay_ms + KNEE_SLOPE * max(0.0, delay_ms - KNEE_MS)


def burst_ratio(missing: Sequence[bool]) -> float:
    """Mean length of the gaps over the mean length were losses independent; 1 to 2."""
    lost = sum(missing)
    if lost in (0, len(missing)):
        return 1.0
    gaps = sum(now and not before for before, now in zip([False, *missing], missing, strict=False))
    return min(BURST_RATIO_MAX, max(1.0, lost / gaps * (1 - lost / len(missing))))


def loss_impairment(missing_percent: float, ratio: float) -> float:
    """Ie,eff of G.711 with concealment."""
    return 95 * missing_percent / (missing_percent / ratio + BPL_G711_PLC)


def rating(delays_ms: Sequence[float], missing: Sequence[bool], extra_concealed: int = 0) -> float:
    """R of a call.

    Args:
        delays_ms: mouth to ear, of each packet played; their impairments are averaged.
        missing: of each packet sent, whether it was not played.
        extra_concealed: gaps heard though no packet is missing.
    """
    percent = 100 * (sum(missing) + extra_concealed) / len(missing)
    delay = sum(map(delay_impairment, delays_ms)) / len(delays_ms) if delays_ms else 0.0
    return R_DEFAULT - delay - loss_impairment(percent, burst_ratio(missing))

"""A histogram of durations in log-linear classes, the same as the native engine's: 32 to the octave."""

import numpy as np
import numpy.typing as npt

from fastagent._native.load import CLASS_EDGES_NS

__all__ = ["QUANTILES", "DurationHistogram"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)

_EDGES_NS = np.array(CLASS_EDGES_NS, dtype=np.float64)
_MIDDLES_NS = np.append((_EDGES_NS[:-1] + _EDGES_NS[1:]) / 2, _EDGES_NS[-1])


class DurationHistogram:
    """Counts of durations; a quantile is the middle of its class, so its error is below 1.6 %."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(len(_EDGES_NS), dtype=np.int64)
        self.max_ns = 0
        """The largest value, exact."""

    def note_ns(self, value_ns: int) -> None:
        """Count one."""
        at = int(np.searchsorted(_EDGES_NS, max(value_ns, 1), side="right")) - 1
        self.counts[at] += 1
        self.max_ns = max(self.max_ns, value_ns)

    def add_classes(self, counts: bytes, largest_ns: int) -> None:
        """Add what the engine counted (uint32 for each class)."""
        self.counts += np.frombuffer(counts, dtype=np.uint32)
        self.max_ns = max(self.max_ns, largest_ns)

    def add(self, other: "DurationHistogram") -> None:
        """Add another one."""
        self.counts += other.counts
        self.max_ns = max(self.max_ns, other.max_ns)

    @property
    def total(self) -> int:
        """Durations counted."""
        return int(self.counts.sum())

    def quantile_ms(self, q: float) -> float | None:
        """The least duration that a share ``q`` of all does not exceed; None when there is none."""
        total = self.total
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self.counts), max(1.0, q * total)))
        return round(min(float(_MIDDLES_NS[at]), float(self.max_ns)) / 1e6, 4)

    def figures(self) -> dict[str, float | int | None]:
        """``n``, ``mean_ms``, ``p50_ms`` to ``p999_ms`` and ``max_ms``; None where nothing was counted."""
        total = self.total
        figures: dict[str, float | int | None] = {"n": total}
        mean_ns = float(self.counts @ _MIDDLES_NS) / total if total else 0.0
        figures["mean_ms"] = round(mean_ns / 1e6, 4) if total else None
        for q in QUANTILES:
            figures[f"p{f'{q:g}'[2:].ljust(2, '0')}_ms"] = self.quantile_ms(q)
        figures["max_ms"] = round(self.max_ns / 1e6, 4) if total else None
        return figures

    def curve(self) -> list[tuple[float, float]]:
        """Points of the distribution for a chart: share of all, and the duration in ms it does not exceed."""
        shares = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999]
        total = self.total
        kept = [q for q in shares if (1 - q) * total >= 1]
        return [(q, value) for q in kept if (value := self.quantile_ms(q)) is not None]

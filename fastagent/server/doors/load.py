"""How loaded this process is: the event loop's lag and its own share of a core.

`LoadGauge` is fed and asked; `LoadSampler` feeds it from a tick of the loop:

::

    ACCEPTING ──lag p99 or CPU above its limit──▶ OVERLOADED (by that cause)
        ◀──both below `REOPEN_SHARE` of their limits for `REOPEN_AFTER_S`──
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

__all__ = ["LoadCause", "LoadGauge", "LoadSampler"]

TICK_S = 0.02
"""One frame: a lag that audio would notice is not missed."""
LAG_WINDOW_S = 5.0
CPU_WINDOW_S = 3.0
JUDGE_S = 0.1
"""How often the gauge makes up its mind."""
WARM_UP_S = 2.0
"""No judgement before: a process that starts is busy, and has no calls."""
REOPEN_SHARE = 0.8
REOPEN_AFTER_S = 1.0


class LoadCause(StrEnum):
    """What there is too much of."""

    LAG = "loop_lag"
    CPU = "cpu"


class LoadGauge:
    """Judges samples; ``now`` is monotonic seconds.

    Args:
        lag_limit_ms: for the 99th percentile of the last `LAG_WINDOW_S`; 0 does not look.
        cpu_limit_percent: of one core, over the last `CPU_WINDOW_S`; 0 does not look.
    """

    def __init__(self, lag_limit_ms: float, cpu_limit_percent: float) -> None:
        self._lag_limit_s = lag_limit_ms / 1000
        self._cpu_limit = cpu_limit_percent / 100
        self._lags: deque[float] = deque(maxlen=round(LAG_WINDOW_S / TICK_S))
        self._cpu: deque[tuple[float, float]] = deque(maxlen=round(CPU_WINDOW_S / JUDGE_S))
        self._begun: float | None = None
        self._judged = 0.0
        self._calm_since: float | None = None
        self.lag_p99_s = 0.0
        self.cpu_share = 0.0
        """Of one core; more than 1 with busy threads."""
        self.overload: LoadCause | None = None

    def sample(self, now: float, late_s: float, cpu_s: float) -> None:
        """Take what one tick saw.

        Args:
            late_s: how much later than due the tick came. The ticks it kept from coming are counted, too.
            cpu_s: processor time of the process since its start.
        """
        if self._begun is None:
            self._begun = self._judged = now
            self._cpu.append((now, cpu_s))
        self._lags.append(late_s)
        for _ in range(self._lags.maxlen or 0):
            late_s -= TICK_S
            if late_s <= 0:
                break
            self._lags.append(late_s)
        if now - self._judged >= JUDGE_S:
            self._judged = now
            self._cpu.append((now, cpu_s))
            self._judge(now)

    def _judge(self, now: float) -> None:
        lags = sorted(self._lags)
        self.lag_p99_s = lags[min(len(lags) - 1, len(lags) * 99 // 100)]
        (first, first_cpu), (last, last_cpu) = self._cpu[0], self._cpu[-1]
        self.cpu_share = (last_cpu - first_cpu) / (last - first) if last > first else 0.0
        assert self._begun is not None
        if now - self._begun < WARM_UP_S:
            return
        if (cause := self._excess(1.0)) is not None:
            self.overload = cause
            self._calm_since = None
        elif self.overload is not None:
            if self._excess(REOPEN_SHARE) is not None:
                self._calm_since = None
            elif self._calm_since is None:
                self._calm_since = now
            elif now - self._calm_since >= REOPEN_AFTER_S:
                self.overload = self._calm_since = None

    def _excess(self, share: float) -> LoadCause | None:
        if self._lag_limit_s and self.lag_p99_s > share * self._lag_limit_s:
            return LoadCause.LAG
        if self._cpu_limit and self.cpu_share > share * self._cpu_limit:
            return LoadCause.CPU
        return None


class LoadSampler:
    """Feeds a gauge from the running loop."""

    def __init__(
        self,
        gauge: LoadGauge,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._gauge = gauge
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to tick."""
        self._due = self._clock() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._clock()
        self._gauge.sample(now, max(0.0, now - self._due), self._cpu_clock())
        # From now, not from when it was due: ticks that were kept away do not come in a bunch.
        self._due = now + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

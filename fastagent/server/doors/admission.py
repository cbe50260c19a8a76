"""Whether another call is taken: room, rates, the caller's number, and the load of the process."""

import math
from dataclasses import dataclass
from enum import StrEnum

from fastagent.server.doors.limits import NumberLimits, NumberVerdict, TokenBucket
from fastagent.server.doors.load import LoadCause, LoadGauge
from fastagent.settings import Settings
from fastagent.stats import Counters

__all__ = ["Admission", "Refusal", "RefusalCause"]

RETRY_AFTER_S = 1
"""What somebody is told who finds the house full: a call may end at any moment."""
RETRY_AFTER_LOAD_S = 5
"""The same under load, which takes seconds to pass."""


class RefusalCause(StrEnum):
    """Why a call is not taken."""

    DRAINING = "draining"
    FULL = "full"
    CALL_RATE = "call_rate"
    NUMBER_CONCURRENT = "number_concurrent"
    NUMBER_HOURLY = "number_hourly"
    LOOP_LAG = "loop_lag"
    CPU = "cpu"


_LOADS = {LoadCause.LAG: RefusalCause.LOOP_LAG, LoadCause.CPU: RefusalCause.CPU}
_NUMBERS = {
    NumberVerdict.CONCURRENT: RefusalCause.NUMBER_CONCURRENT,
    NumberVerdict.HOURLY: RefusalCause.NUMBER_HOURLY,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call is not taken."""

    cause: RefusalCause
    retry_after_s: int

    @property
    def headers(self) -> dict[str, str]:
        """Of the 503."""
        return {"Retry-After": str(self.retry_after_s)}


class Admission:
    """Decides, and keeps count of what it let in. ``now`` is monotonic seconds."""

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self.load = LoadGauge(settings.admission_lag_ms, settings.admission_cpu_percent)
        self.is_draining = False
        """Set once the end of the process has begun."""
        self._max_sessions = settings.max_sessions
        self._rate = TokenBucket(settings.calls_per_second, settings.call_burst)
        self._numbers = NumberLimits(settings.calls_per_number, settings.calls_per_number_hour)
        self._counters = counters

    def verdict(
        self, now: float, *, calls: int, caller: str | None = None, is_late: bool = False
    ) -> Refusal | None:
        """Why a call is refused, counted by cause; None when it may begin.

        Args:
            calls: those that run, and whatever else will become one.
            caller: its number, as soon as that is known (it is not before the 101).
            is_late: it came before the end of the process began, and is taken all the same.
        """
        refusal = self.foresee(now, calls=calls, caller=caller, is_late=is_late)
        if refusal is not None:
            self._counters.note(f"admission_refused_{refusal.cause}")
        return refusal

    def foresee(
        self, now: float, *, calls: int, caller: str | None = None, is_late: bool = False
    ) -> Refusal | None:
        """The same for who only wants to know."""
        if self.is_draining and not is_late:
            return Refusal(RefusalCause.DRAINING, RETRY_AFTER_LOAD_S)
        if calls >= self._max_sessions:
            return Refusal(RefusalCause.FULL, RETRY_AFTER_S)
        if self.load.overload is not None:
            return Refusal(_LOADS[self.load.overload], RETRY_AFTER_LOAD_S)
        if wait_s := self._rate.wait_s(now):
            return Refusal(RefusalCause.CALL_RATE, math.ceil(wait_s))
        if caller is not None:
            key = self._numbers.key(caller)
            verdict = self._numbers.verdict(key, now)
            if verdict is NumberVerdict.HOURLY:
                return Refusal(_NUMBERS[verdict], math.ceil(self._numbers.wait_s(key, now)))
            if verdict is not None:
                return Refusal(_NUMBERS[verdict], RETRY_AFTER_S)
        return None

    def begin(self, now: float, caller: str) -> bytes:
        """A call begins; gives what `end` wants of it."""
        self._rate.take(now)
        key = self._numbers.key(caller)
        self._numbers.begin(key, now)
        return key

    def end(self, key: bytes) -> None:
        """A call that began is over."""
        self._numbers.end(key)

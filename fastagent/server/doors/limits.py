"""How often something may happen, and how often one number may call. ``now`` is monotonic seconds."""

import hashlib
import os
from collections import Counter, OrderedDict, deque
from enum import StrEnum

__all__ = ["NumberLimits", "NumberVerdict", "TokenBucket"]

NUMBERS_MAX = 10_000
"""Numbers remembered for their calls of the last hour; the one that called longest ago goes first."""
HOUR_S = 3600.0
DIGITS_MIN = 3
"""A caller with fewer digits withholds its number ("anonymous"), or has none: not one caller, but many."""
DIGEST_BYTES = 16


class TokenBucket:
    """At most ``burst`` at once, ``per_s`` a second in the long run."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._left = float(burst)
        self._filled: float | None = None

    def wait_s(self, now: float) -> float:
        """How long until one more is allowed; 0 when it is."""
        self._fill(now)
        return max(0.0, (1.0 - self._left) / self._per_s)

    def take(self, now: float) -> None:
        """One happens, allowed or not."""
        self._fill(now)
        self._left = max(0.0, self._left - 1.0)

    def _fill(self, now: float) -> None:
        if self._filled is not None:
            self._left = min(self._burst, self._left + (now - self._filled) * self._per_s)
        self._filled = now


def number_digits(caller: str) -> str:
    """The digits by which a caller is told from others; empty for one whose number is withheld."""
    digits = "".join(character for character in caller.partition("@")[0] if character.isdigit())
    return digits if len(digits) >= DIGITS_MIN else ""


class NumberVerdict(StrEnum):
    """Why a number has to wait."""

    CONCURRENT = "number_concurrent"
    HOURLY = "number_hourly"


class NumberLimits:
    """Calls at once and within an hour, by the caller's number; 0 for no limit.

    Of a number only a digest is kept, keyed anew in each process: a dump of the memory gives no list of
    callers.
    """

    def __init__(self, at_once_max: int, per_hour_max: int, *, numbers_max: int = NUMBERS_MAX) -> None:
        self._at_once_max = at_once_max
        self._per_hour_max = per_hour_max
        self._numbers_max = numbers_max
        self._secret = os.urandom(32)
        self._running: Counter[bytes] = Counter()
        self._begun: OrderedDict[bytes, deque[float]] = OrderedDict()

    def key(self, caller: str) -> bytes:
        """What stands for a caller; empty for one who is not counted."""
        digits = number_digits(caller)
        if not digits or not (self._at_once_max or self._per_hour_max):
            return b""
        return hashlib.blake2b(digits.encode(), digest_size=DIGEST_BYTES, key=self._secret).digest()

    def verdict(self, key: bytes, now: float) -> NumberVerdict | None:
        """Why this caller cannot call now; None when it can."""
        if not key:
            return None
        if self._at_once_max and self._running[key] >= self._at_once_max:
            return NumberVerdict.CONCURRENT
        if self._per_hour_max and len(self._recent(key, now)) >= self._per_hour_max:
            return NumberVerdict.HOURLY
        return None

    def wait_s(self, key: bytes, now: float) -> float:
        """How long until the hour has room again."""
        recent = self._recent(key, now)
        return recent[0] + HOUR_S - now if recent else 0.0

    def begin(self, key: bytes, now: float) -> None:
        """A call begins."""
        if not key:
            return
        self._running[key] += 1
        if self._per_hour_max:
            self._begun.setdefault(key, deque(maxlen=self._per_hour_max)).append(now)
            self._begun.move_to_end(key)
            if len(self._begun) > self._numbers_max:
                self._begun.popitem(last=False)

    def end(self, key: bytes) -> None:
        """A call that began is over."""
        if self._running[key] <= 1:
            del self._running[key]
        else:
            self._running[key] -= 1

    def _recent(self, key: bytes, now: float) -> deque[float]:
        recent = self._begun.get(key)
        if recent is None:
            return deque()
        while recent and recent[0] <= now - HOUR_S:
            recent.popleft()
        return recent

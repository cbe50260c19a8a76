"""Quotas: how many of something costly may go to one number, and to all, within a day."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable

from fastagent.errors import TelephonyLimitError

__all__ = ["DAY_S", "NUMBERS_MAX", "DailyQuota"]

DAY_S = 86_400.0
NUMBERS_MAX = 10_000
"""Numbers remembered; while there are as many, no further number gets anything."""
DIGEST_BYTES = 16


class DailyQuota:
    """Counts within the last 24 hours, in this process.

    Of a number only a digest is kept, keyed anew in each process.

    Args:
        carrier: named in errors.
        now: monotonic seconds.
    """

    def __init__(
        self,
        carrier: str,
        per_number_max: int,
        total_max: int,
        *,
        numbers_max: int = NUMBERS_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._carrier = carrier
        self._per_number_max = per_number_max
        self._total_max = total_max
        self._numbers_max = numbers_max
        self._now = now
        self._secret = os.urandom(32)
        self._taken: deque[tuple[float, bytes]] = deque()
        self._by_number: dict[bytes, int] = {}

    def take(self, number: str) -> None:
        """One goes to this number.

        Raises:
            TelephonyLimitError: it must not; nothing is counted.
        """
        key = hashlib.blake2b(number.encode(), digest_size=DIGEST_BYTES, key=self._secret).digest()
        self._forget()
        if len(self._taken) >= self._total_max:
            raise TelephonyLimitError(self._carrier, "the day's limit is reached")
        count = self._by_number.get(key, 0)
        if count >= self._per_number_max:
            raise TelephonyLimitError(self._carrier, "the number's limit for a day is reached")
        if not count and len(self._by_number) >= self._numbers_max:
            raise TelephonyLimitError(self._carrier, "too many numbers within a day")
        self._by_number[key] = count + 1
        self._taken.append((self._now(), key))

    def _forget(self) -> None:
        since = self._now() - DAY_S
        while self._taken and self._taken[0][0] <= since:
            _, key = self._taken.popleft()
            self._by_number[key] -= 1
            if not self._by_number[key]:
                del self._by_number[key]

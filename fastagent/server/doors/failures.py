"""Wrong credentials by address: who guesses too often is not listened to for a while."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from fastagent.server.doors.addresses import address_key

__all__ = ["FailureLimit"]

TABLE_MAX = 10_000
"""Addresses remembered; the one whose last failure is oldest goes first."""


@dataclass(slots=True)
class _Record:
    failures: deque[float] = field(default_factory=deque)
    blocked_until: float = 0.0


class FailureLimit:
    """Counts failures in a sliding window; ``now`` is monotonic seconds.

    Args:
        failures_max: within ``window_s``; the last of them blocks the address for ``block_s``.
    """

    def __init__(
        self, failures_max: int, window_s: float, block_s: float, *, table_max: int = TABLE_MAX
    ) -> None:
        self._failures_max = failures_max
        self._window_s = window_s
        self._block_s = block_s
        self._table_max = table_max
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def blocked_for_s(self, address: str, now: float) -> float:
        """How long an address still has to wait; 0 when it may try."""
        record = self._records.get(address_key(address))
        return max(0.0, record.blocked_until - now) if record is not None else 0.0

    def note(self, address: str, now: float) -> None:
        """A wrong credential came from an address."""
        key = address_key(address)
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        while record.failures and record.failures[0] <= now - self._window_s:
            record.failures.popleft()
        record.failures.append(now)
        if len(record.failures) >= self._failures_max:
            record.blocked_until = now + self._block_s
            record.failures.clear()
        while len(self._records) > self._table_max:
            self._records.popitem(last=False)

"""Leaving: a hang-up or a transfer goes out only once everything said was heard."""

from fastagent.media.playout import PlayoutLedger
from fastagent.wire import events as carrier

__all__ = ["Farewell"]


class Farewell:
    """Holds back the command that ends the talk. All times are monotonic seconds.

    Args:
        ledger: knows what was heard.
        limit_s: for the goodbye to be spoken and heard; then we leave anyway.
        grace_s: for the carrier's word that the last playback was heard, once the clock says it was.
    """

    def __init__(self, ledger: PlayoutLedger, *, limit_s: float, grace_s: float) -> None:
        self._ledger = ledger
        self._limit_s = limit_s
        self._grace_s = grace_s
        self._command: carrier.HangUp | carrier.TransferCall | None = None
        self._since = 0.0
        self._quiet_since: float | None = None
        self._look_again_at: float | None = None

    def begin(self, command: carrier.HangUp | carrier.TransferCall, now: float) -> None:
        """Leave with ``command``."""
        self._command = command
        self.begin_anew(now)

    def begin_anew(self, now: float) -> None:
        """The line was away: the limit counts from here."""
        self._since = now
        self._quiet_since = None

    def disturb(self) -> None:
        """Something changed in what is to be heard."""
        self._quiet_since = None

    def take(self, now: float, *, is_more_to_come: bool) -> carrier.HangUp | carrier.TransferCall | None:
        """The command, if it is time for it.

        Args:
            is_more_to_come: something is still to be said, or answered, or a playback is open.
        """
        self._look_again_at = None
        if now < self._since + self._limit_s:
            if is_more_to_come:
                self._quiet_since = None
                return None
            if self._quiet_since is None:
                self._quiet_since = self._ledger.silent_at(now)
            if self._quiet_since is None:
                return None
            if now < self._quiet_since:
                self._look_again_at = self._quiet_since
                return None
            # The clock is an estimate; the carrier's own word is worth a short wait.
            if self._ledger.awaits_finish and now < self._quiet_since + self._grace_s:
                self._look_again_at = self._quiet_since + self._grace_s
                return None
        return self._command

    def next_deadline(self) -> float:
        """When to look again at the latest."""
        limit = self._since + self._limit_s
        return limit if self._look_again_at is None else min(limit, self._look_again_at)

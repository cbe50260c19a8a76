"""Where the call stands: talking, on hold, parked, leaving, and how it ends.

::

    TALKING ──hang_up()──▶ LEAVING ──all heard──▶ HANGING_UP ──session end or hang_up_timeout_s──▶ ENDED
     │  ▲ └──transfer()───▶ LEAVING ──all heard──▶ TRANSFERRING ──session end──▶ ENDED
     │  └─────refused, transfer_timeout_s, or back again────┘
     ├────hold()───────────▶ HELD ──end_hold() or hold_limit_s──▶ TALKING
     ├────carrier_lost()───▶ PARKED ──resume_grace_s──▶ ENDED
     └──◀─carrier_resumed()───┘

A call can be parked while it is LEAVING or TRANSFERRING, too, and goes on there. Nothing follows ENDED.

Some carriers hand the caller on by ending the socket (`handed_over`): the line is away while TRANSFERRING,
and the caller comes back on another socket (`line_returned`), or not at all.
"""

from enum import Enum

from fastagent.bridge.farewell import Farewell
from fastagent.bridge.limits import BridgeLimits
from fastagent.media.playout import PlayoutLedger
from fastagent.stats import Counters
from fastagent.wire import events as carrier

__all__ = ["DEAF_PHASES", "CallPhases", "Phase"]


class Phase(Enum):
    """Where the call stands; the moves are drawn above."""

    TALKING = "talking"
    HELD = "held"
    PARKED = "parked"
    LEAVING = "leaving"
    HANGING_UP = "hanging_up"
    TRANSFERRING = "transferring"
    ENDED = "ended"


DEAF_PHASES = frozenset({Phase.HELD, Phase.PARKED, Phase.HANGING_UP, Phase.TRANSFERRING, Phase.ENDED})
"""Nothing that is said now reaches the caller."""

_OUTCOMES = {
    carrier.EndReason.CALLER: "caller",
    carrier.EndReason.TRANSFERRED: "transferred",
    carrier.EndReason.MACHINE: "machine",
    carrier.EndReason.NOT_ANSWERED: "not_answered",
    carrier.EndReason.ERROR: "error",
    carrier.EndReason.OTHER: "other",
}


class CallPhases:
    """Moves one call through its phases, and keeps their deadlines. All times are monotonic seconds.

    Args:
        ledger: knows what was heard.
        limits: how long to wait for others.
        counters: where oddities are counted.
        now: the call begins.
    """

    def __init__(self, ledger: PlayoutLedger, limits: BridgeLimits, counters: Counters, now: float) -> None:
        self.phase = Phase.TALKING
        """To be read by all, and moved by the methods alone."""
        self.outcome_of_hang_up = "bot"
        """How a call ends that we ended."""
        self._limits = limits
        self._counters = counters
        self._farewell = Farewell(ledger, limit_s=limits.leaving_limit_s, grace_s=limits.hang_up_grace_s)
        self._phase_before_parking = Phase.TALKING
        self._was_transfer_answered = False
        self.is_line_away = False
        """The caller was handed on together with their line."""
        self._deadline: float | None = None
        """Of HELD, PARKED, HANGING_UP and TRANSFERRING."""
        self.is_farewell_awaited = False
        """A task waits for what comes of it, and has no words left to say before it."""
        self._call_deadline: float | None = now + limits.max_call_s

    def end(self) -> None:
        """Nothing more happens."""
        self.phase = Phase.ENDED

    def outcome_of(self, reason: carrier.EndReason) -> str:
        """How the call ended, by the carrier's word."""
        return self.outcome_of_hang_up if reason is carrier.EndReason.BOT else _OUTCOMES[reason]

    # Leaving

    def leave(self, command: carrier.HangUp | carrier.TransferCall, now: float) -> bool:
        """End the talk with ``command`` once everything said was heard.

        Returns:
            Whether the call is leaving from now on. A parked one leaves when it is back, and a second
            farewell changes nothing.
        """
        if self.phase is Phase.PARKED and self._phase_before_parking is Phase.TALKING:
            self._phase_before_parking = Phase.LEAVING
            self.is_farewell_awaited = False
            self._farewell.begin(command, now)
            return False
        if self.phase is not Phase.TALKING:
            return False
        self.is_farewell_awaited = False
        self.phase = Phase.LEAVING
        self._farewell.begin(command, now)
        return True

    def disturb_farewell(self) -> None:
        """Something changed in what is to be heard."""
        self._farewell.disturb()

    def take_farewell(
        self, now: float, *, is_more_to_come: bool
    ) -> carrier.HangUp | carrier.TransferCall | None:
        """The command that ends the talk, if it is time for it.

        Args:
            is_more_to_come: something is still to be said, or answered, or a playback is open.
        """
        farewell = self._farewell.take(now, is_more_to_come=is_more_to_come)
        if farewell is None:
            return None
        if isinstance(farewell, carrier.TransferCall):
            self.phase = Phase.TRANSFERRING
            self._was_transfer_answered = False
            self._deadline = now + self._limits.transfer_timeout_s
        else:
            self.phase = Phase.HANGING_UP
            self._deadline = now + self._limits.hang_up_timeout_s
        return farewell

    def transfer_answered(self) -> bool:
        """The carrier handed the caller on: there is no way back to the talk; true once."""
        was_known, self._was_transfer_answered = self._was_transfer_answered, True
        return self.phase is Phase.TRANSFERRING and not was_known

    def handed_over(self) -> None:
        """The line is gone together with the caller."""
        self.is_line_away = True

    def line_returned(self, now: float) -> None:
        """Nobody took the caller over: they are back, and it is about to be told why."""
        self.is_line_away = False
        self._deadline = now + self._limits.transfer_timeout_s

    def transfer_failed(self) -> bool:
        """Go back to the talk; False when no transfer was under way."""
        if self.phase is not Phase.TRANSFERRING:
            return False
        self._counters.note("transfers_failed")
        self.phase = Phase.TALKING
        self._deadline = None
        return True

    # On hold

    def hold(self, now: float) -> bool:
        """Have nobody hear the caller; False when there is no talk to interrupt."""
        if self.phase is not Phase.TALKING:
            return False
        self.phase = Phase.HELD
        self._deadline = now + self._limits.hold_limit_s
        return True

    def end_hold(self) -> bool:
        """Go back to the talk; False when the caller was not on hold."""
        if self.phase is not Phase.HELD:
            return False
        self.phase = Phase.TALKING
        self._deadline = None
        return True

    # The carrier's socket

    def park(self, now: float) -> None:
        """The carrier's socket is gone: wait for another."""
        self._phase_before_parking = self.phase
        self.phase = Phase.PARKED
        self._deadline = now + self._limits.resume_grace_s

    def resume(self, now: float) -> bool:
        """Another is there: go on in the phase the call was parked in.

        Returns:
            Whether there is a talk to go on with; a transfer goes on by itself.
        """
        self.phase = self._phase_before_parking
        self._deadline = None
        if self.phase is Phase.TRANSFERRING:
            self._deadline = now + self._limits.transfer_timeout_s
            return False
        self._farewell.begin_anew(now)
        return True

    # Time

    def is_overdue(self, now: float) -> bool:
        """Whoever is waited for in this phase did not answer in time."""
        return self._deadline is not None and now >= self._deadline

    def outcome_of_silence(self) -> str | None:
        """How a call that `is_overdue` ends; None for a transfer that failed: the talk goes on."""
        if self.phase is Phase.PARKED:
            return "carrier_lost"
        if self.phase is Phase.HANGING_UP:
            self._counters.note("hang_up_unanswered")
            return self.outcome_of_hang_up
        if self.is_line_away and not self._was_transfer_answered:
            # Nobody told, and the caller is not here: most likely they talk to somebody.
            self._counters.note("transfers_untold")
        return "transferred" if self._was_transfer_answered or self.is_line_away else None

    def take_call_limit(self, now: float) -> bool:
        """Whether the talk has come to the limit of a call; true once."""
        if self.phase is not Phase.TALKING or self._call_deadline is None or now < self._call_deadline:
            return False
        self._counters.note("call_limit_hit")
        self._call_deadline = None
        self.outcome_of_hang_up = "limit"
        return True

    def next_deadline(self) -> float | None:
        """When something is due next."""
        if self.phase is Phase.TALKING:
            return self._call_deadline
        if self.phase is Phase.LEAVING:
            return self._farewell.next_deadline()
        return self._deadline

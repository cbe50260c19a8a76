"""Timers: how long a state, its work, a question and a silence may last."""

from collections.abc import Awaitable
from typing import TypeVar

from fastagent.afsm.run.clock import Clock, Deadline
from fastagent.afsm.spec import Event, SilenceStep, StateSpec
from fastagent.errors import AgentError

__all__ = ["DeadlinePassed", "Timers"]

Result = TypeVar("Result")


class DeadlinePassed(Exception):
    """The current state's ``deadline_s`` is over while it was at work."""


class Timers:
    """The timers of one run.

    Args:
        work_timeout_s: for one decision of a state.
        answer_timeout_s: how long a question may stay open.
    """

    def __init__(self, clock: Clock, *, work_timeout_s: float, answer_timeout_s: float) -> None:
        self._clock = clock
        self._work_timeout_s = work_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._deadline_at: float | None = None
        self._asked_at = 0.0
        self._quiet_since = 0.0
        self._silence: tuple[SilenceStep, ...] = ()
        self._silence_step = 0

    def enter(self, spec: StateSpec) -> None:
        """A state was entered: its deadline and its silence ladder count."""
        self.time_left_s = spec.deadline_s
        self._silence = spec.silence

    def asked(self) -> None:
        """A question was asked."""
        self._asked_at = self._quiet_since = self._clock.now()
        self._silence_step = 0

    def note_activity(self) -> None:
        """Somebody is heard: the silence ladder begins anew."""
        self._quiet_since, self._silence_step = self._clock.now(), 0

    @property
    def time_left_s(self) -> float | None:
        """Until the current state's deadline, below 0 once it has passed; None without one."""
        return None if self._deadline_at is None else self._deadline_at - self._clock.now()

    @time_left_s.setter
    def time_left_s(self, seconds: float | None) -> None:
        self._deadline_at = None if seconds is None else self._clock.now() + seconds

    @property
    def has_deadline_passed(self) -> bool:
        """The current state's time is up."""
        return self._deadline_at is not None and self._deadline_at <= self._clock.now()

    def next_due(self) -> tuple[float, Event | None]:
        """Give the seconds until the next timer, and its event; None is the time for an answer."""
        due, event = self._asked_at + self._answer_timeout_s, None
        if self._silence_step < len(self._silence):
            silent_at = self._quiet_since + self._silence[self._silence_step].after_s
            if silent_at < due:
                due, event = silent_at, Event.SILENCE
        if self._deadline_at is not None and self._deadline_at < due:
            due, event = self._deadline_at, Event.DEADLINE
        return due - self._clock.now(), event

    def take_silence_step(self) -> SilenceStep:
        """Give the step of the ladder that is due, and go on to the next."""
        step = self._silence[self._silence_step]
        self._silence_step += 1
        return step

    async def within_deadline(self, work: Awaitable[Result], state: str) -> Result:
        """Await a state's work, for as long as it may take.

        Raises:
            DeadlinePassed: the state's deadline came first.
            AgentError: the time for one decision is over.
        """
        limit_s, is_deadline = self._work_timeout_s, False
        if self._deadline_at is not None and (left := self._deadline_at - self._clock.now()) < limit_s:
            limit_s, is_deadline = max(0.0, left), True
        try:
            async with Deadline(self._clock, limit_s) as timer:
                return await work
        except TimeoutError:
            if not timer.has_expired:
                raise
        if is_deadline:
            raise DeadlinePassed
        raise AgentError(f"state {state!r} took longer than {self._work_timeout_s:g} s")

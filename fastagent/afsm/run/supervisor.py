"""Supervisor: the region that runs beside the states and sees every event as it comes.

A watch (`WatchSpec`) counts how often it fired and takes the step of that number, so "warn, warn again, hang
up" is one watch with three steps. Each watch is a region of its own: none waits for a state or another watch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastagent.afsm.guards import Guard, Scope, parse_guard, words_in
from fastagent.afsm.run.mailbox import Mail, Mailbox
from fastagent.afsm.run.run_record import RunRecord
from fastagent.afsm.run.standing import Standing
from fastagent.afsm.spec import Event, WatchSpec, WatchStep
from fastagent.afsm.state import CallControl

__all__ = ["Fired", "Supervisor", "SupervisorRegion"]


@dataclass(frozen=True, slots=True)
class Fired:
    """A watch that fired, and the step it takes."""

    watch: str
    step: WatchStep
    times: int


class Supervisor:
    """The watches of one run."""

    def __init__(self, watches: Iterable[WatchSpec]) -> None:
        self._watches = [
            (
                watch,
                [words_in(phrase) for phrase in watch.words],
                parse_guard(watch.when) if watch.when else None,
            )
            for watch in watches
        ]
        self._times: dict[str, int] = {}

    @property
    def times(self) -> dict[str, int]:
        """How often each watch fired (a copy)."""
        return dict(self._times)

    def see(self, event: Event, scope: Scope) -> list[Fired]:
        """Take in an event, at once, and tell which watches fire on it."""
        fired = []
        said = words_in(scope.input) if event is Event.INPUT and self._watches else ()
        for watch, phrases, when in self._watches:
            if watch.on is event and _fires(phrases, when, said, scope):
                times = self._times[watch.name] = self._times.get(watch.name, 0) + 1
                fired.append(Fired(watch.name, watch.steps[min(times, len(watch.steps)) - 1], times))
        return fired


class SupervisorRegion:
    """The supervisor of one run at work: what its watches see is said, done and led to at once.

    Args:
        mailbox: takes the moves of watches.
        refuse_recording: has the line recorded no more.
    """

    def __init__(
        self,
        watches: tuple[WatchSpec, ...],
        control: CallControl,
        standing: Standing,
        mailbox: Mailbox,
        record: RunRecord,
        *,
        scope: Callable[[str], Scope],
        refuse_recording: Callable[[], None],
    ) -> None:
        self._supervisor = Supervisor(watches) if watches else None
        self._control = control
        self._standing = standing
        self._mailbox = mailbox
        self._record = record
        self._scope = scope
        self._refuse_recording = refuse_recording

    def see(self, mail: Mail) -> bool:
        """Show an answer or event to the watches; tell whether one of them leads elsewhere on it."""
        if self._supervisor is None:
            return False
        before = self._mailbox.overrule
        for fired in self._supervisor.see(mail.event, self._scope(mail.text)):
            self._act(fired.watch, fired.step)
        return self._mailbox.overrule is not before

    def _act(self, watch: str, step: WatchStep) -> None:
        state = self._standing.state
        self._record.add(
            "said", {"state": state, "text": step.say, "by": watch, "do": step.do, "is_redacted": False}
        )
        if step.say:
            self._control.announce(step.say)
        match step.do:
            case "hang_up":
                self._control.hang_up(watch)
            case "transfer":
                self._control.transfer(step.target, watch)
            case "stop_recording":
                self._refuse_recording()
        if step.next_state and step.next_state != state:
            self._mailbox.overrule = Mail(Event.INPUT, target=step.next_state, by=watch)
            self._mailbox.wake()


def _fires(phrases: list[tuple[str, ...]], when: Guard | None, said: tuple[str, ...], scope: Scope) -> bool:
    if phrases and not any(_holds(said, phrase) for phrase in phrases):
        return False
    return when is None or when.holds(scope)


def _holds(said: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    size = len(phrase)
    return any(said[start : start + size] == phrase for start in range(len(said) - size + 1))

"""Supervisor: the region that runs beside the states and sees every event as it comes.

A watch (`WatchSpec`) counts how often it fired and takes the step of that number, so "warn, warn again, hang
up" is one watch with three steps. Each watch is a region of its own: none waits for a state or another watch.

What a caller says may come twice: as the answer that the talking model passes on, and as their own words in
the transcript, in either order, and one of them may never come. The first fires a watch; the other, when it
comes, is the same words again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fastagent.afsm.guards import Guard, Scope, holds_phrase, parse_guard, words_in
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
    """The watches of one run: what was seen, by whom, and how often."""

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
        self._heard_ahead: dict[str, int] = {}
        """By watch: how much oftener its words were heard than passed on."""

    @property
    def counts(self) -> dict[str, list[int]]:
        """By watch: how often it fired, and how much oftener its words were heard than passed on."""
        names = {*self._times, *self._heard_ahead}
        return {name: [self._times.get(name, 0), self._heard_ahead.get(name, 0)] for name in sorted(names)}

    @counts.setter
    def counts(self, counts: Mapping[str, Sequence[int]]) -> None:
        self._times = {name: times for name, (times, _) in counts.items()}
        self._heard_ahead = {name: ahead for name, (_, ahead) in counts.items()}

    @property
    def times(self) -> dict[str, int]:
        """How often each watch fired (a copy)."""
        return dict(self._times)

    def see(self, event: Event, scope: Scope, *, is_heard: bool = False) -> list[Fired]:
        """Take in an event, at once, and tell which watches fire on it.

        Args:
            is_heard: the caller was heard to say so before anybody was there to `hear`.
        """
        fired = []
        said = words_in(scope.input) if event is Event.INPUT and self._watches else ()
        for watch, phrases, when in self._watches:
            if watch.on is event and _fires(phrases, when, said, scope):
                if phrases and not is_heard and self._was_taken(watch.name, -1):
                    continue
                fired.append(self._fire(watch))
        return fired

    def hear(self, scope: Scope) -> tuple[bool, list[Fired]]:
        """Take in the caller's own words; tell whether a watch knows them, and which fire on them."""
        fired = []
        is_known = False
        said = words_in(scope.input)
        for watch, phrases, when in self._watches:
            if not phrases or watch.on is not Event.INPUT:
                continue
            if _fires(phrases, when, said, scope):
                is_known = True
                if not self._was_taken(watch.name, 1):
                    fired.append(self._fire(watch))
            elif self._heard_ahead.get(watch.name, 0) < 0:
                # Utterances come in order: the words that were passed on will not be heard any more.
                is_known = True
                self._heard_ahead[watch.name] = 0
        return is_known, fired

    def knows(self, text: str) -> bool:
        """Words of a watch are among these."""
        said = words_in(text)
        return any(holds_phrase(said, phrase) for _, phrases, _ in self._watches for phrase in phrases)

    def _was_taken(self, name: str, way: Literal[1, -1]) -> bool:
        """These words came the other way before."""
        ahead = self._heard_ahead.get(name, 0)
        self._heard_ahead[name] = ahead + way
        return ahead * way < 0

    def _fire(self, watch: WatchSpec) -> Fired:
        times = self._times[watch.name] = self._times.get(watch.name, 0) + 1
        return Fired(watch.name, watch.steps[min(times, len(watch.steps)) - 1], times)


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

    @property
    def counts(self) -> dict[str, list[int]]:
        """See `Supervisor.counts`."""
        return {} if self._supervisor is None else self._supervisor.counts

    @counts.setter
    def counts(self, counts: Mapping[str, Sequence[int]]) -> None:
        if self._supervisor is not None:
            self._supervisor.counts = counts

    def knows(self, text: str) -> bool:
        """A watch would know these words."""
        return self._supervisor is not None and self._supervisor.knows(text)

    def see(self, mail: Mail) -> bool:
        """Show an answer or event to the watches; tell whether one of them leads elsewhere on it."""
        if self._supervisor is None:
            return False
        before = self._mailbox.overrule
        for fired in self._supervisor.see(mail.event, self._scope(mail.text), is_heard=mail.is_heard):
            self._act(fired.watch, fired.step)
        return self._mailbox.overrule is not before

    def hear(self, text: str, *, is_redacted: bool) -> bool:
        """Show the caller's own words to the watches, which act at once; tell whether one leads elsewhere."""
        if self._supervisor is None:
            return False
        is_known, fired = self._supervisor.hear(self._scope(text))
        if is_known:
            data = {"state": self._standing.state, "text": text, "is_redacted": is_redacted}
            self._record.add("heard", data)
        for one in fired:
            self._act(one.watch, one.step)
        return any(one.step.next_state for one in fired)

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
    if phrases and not any(holds_phrase(said, phrase) for phrase in phrases):
        return False
    return when is None or when.holds(scope)

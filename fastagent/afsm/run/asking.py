"""Asking: puts a run's questions, and waits for what comes: an answer, an event, or a timer that runs out."""

from collections.abc import Callable
from dataclasses import replace

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.clock import Clock
from fastagent.afsm.run.engine import Engine
from fastagent.afsm.run.mailbox import Mail, Mailbox
from fastagent.afsm.run.outcome import SAY_NO_ANSWER, RunEnded
from fastagent.afsm.run.run_record import RunRecord
from fastagent.afsm.run.standing import Standing
from fastagent.afsm.run.supervisor import SupervisorRegion
from fastagent.afsm.run.timers import Timers
from fastagent.afsm.spec import Event

__all__ = ["Asking"]


class Asking:
    """The way of one run's questions out, and of answers and events in.

    Args:
        ask: takes each question; it returns at once.
    """

    def __init__(
        self,
        graph: Graph,
        standing: Standing,
        engine: Engine,
        supervisor: SupervisorRegion,
        timers: Timers,
        mailbox: Mailbox,
        record: RunRecord,
        clock: Clock,
        ask: Callable[[str], None],
    ) -> None:
        self._graph = graph
        self._standing = standing
        self._engine = engine
        self._supervisor = supervisor
        self._timers = timers
        self._mailbox = mailbox
        self._record = record
        self._clock = clock
        self._ask = ask

    def put(self, question: str, lead: str = "") -> None:
        """Ask the caller.

        Args:
            lead: said before it, and not again when the question is.

        Raises:
            RunEnded: nobody is there any more.
        """
        standing = self._standing
        if standing.is_hung_up:
            raise RunEnded("")
        standing.open_question = question
        standing.question = question = f"{lead} {question}".strip()
        self._timers.asked()
        self._engine.asked()
        self._record.add_asked(question, is_redacted=self.is_redacted)
        self._ask(question)

    def deliver(self, mail: Mail) -> bool:
        """Queue what came, unless a watch leads elsewhere on it; False when there is no room."""
        if mail.event is Event.HANG_UP:
            if not self._mailbox.put_hang_up(mail):
                return True
            self._supervisor.see(mail)
        elif self._mailbox.is_full:
            return False
        elif self._supervisor.see(mail):
            self.note(mail)  # nobody else reads it
        else:
            self._mailbox.put(mail)
        self._mailbox.wake()
        return True

    def hear(self, text: str) -> bool:
        """The caller was heard to say this; an answer made of it comes by itself. Tells of a watch's move."""
        return self._supervisor.hear(text, is_redacted=self.is_redacted)

    def note(self, mail: Mail) -> None:
        """Record what is read now."""
        self._record.add_input(mail, is_redacted=self.is_redacted)

    async def next_mail(self) -> Mail:
        """Wait for an answer, an event or a timer.

        Raises:
            RunEnded: no answer came in time.
        """
        while True:
            if self._timers.has_deadline_passed:
                return self._timer(Mail(Event.DEADLINE))
            if (overrule := self._mailbox.take_overrule(self._standing.state)) is not None:
                return overrule
            if (mail := self._mailbox.take()) is not None:
                if mail.event is Event.INPUT:
                    self._standing.question = None
                    if mail.is_contradicted is None and self._engine.is_contradicted(mail.text):
                        mail = replace(mail, is_contradicted=True)
                self.note(mail)
                return mail
            wait_s, event = self._timers.next_due()
            if wait_s > 0:
                await self._mailbox.wait(self._clock, wait_s)
            elif (mail := self._expire(event)) is not None:
                return mail

    def _expire(self, event: Event | None) -> Mail | None:
        if event is None:
            raise RunEnded(SAY_NO_ANSWER)
        if event is Event.DEADLINE:
            return self._timer(Mail(Event.DEADLINE))
        step = self._timers.take_silence_step()
        mail = self._timer(Mail(Event.SILENCE, target=step.next_state))
        self._supervisor.see(mail)
        if step.say:
            self._record.add_asked(step.say, is_redacted=False)
            self._ask(step.say)
        return mail if step.next_state else None

    def _timer(self, mail: Mail) -> Mail:
        data = {"event": mail.event.value, "state": self._standing.state, "at_s": self._clock.now()}
        self._record.add("timer", data)
        return mail

    @property
    def is_redacted(self) -> bool:
        """The open question, or its answer, must stay out of records."""
        policy = self._graph.specs[self._standing.state].voice
        return self._engine.asks_redacted or (policy is not None and policy.redaction != "none")

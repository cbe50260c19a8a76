"""Decider: has the current state decide on what came, within its deadline, and holds it to the graph.

Keys are an answer where no state handles them otherwise; they are gathered until the state's keypad grammar
is met. A watch that decides while a state is at work overrules it.
"""

from dataclasses import dataclass
from typing import Any

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.authority import Authority
from fastagent.afsm.run.digressions import Digressions
from fastagent.afsm.run.engine import Engine
from fastagent.afsm.run.mailbox import Mail, Mailbox
from fastagent.afsm.run.outcome import RunEnded
from fastagent.afsm.run.run_record import RunRecord
from fastagent.afsm.run.standing import Standing
from fastagent.afsm.run.timers import DeadlinePassed, Timers
from fastagent.afsm.run.verdict import Verdict
from fastagent.afsm.spec import Event
from fastagent.afsm.spoken import parse_yes_no
from fastagent.afsm.state import AFSMState
from fastagent.context import ConversationContext

__all__ = ["Decider"]

MAX_KEYS = 64


@dataclass(slots=True)
class Decider:
    """Decides for the states of one run."""

    graph: Graph
    context: ConversationContext
    standing: Standing
    engine: Engine
    authority: Authority
    digressions: Digressions
    timers: Timers
    mailbox: Mailbox
    record: RunRecord
    state: AFSMState
    """The current state, as this run has it."""
    _keys: str = ""

    def enter(self, state: AFSMState) -> None:
        """A state was entered."""
        self.state, self._keys = state, ""
        self.engine.enter()

    def asked(self) -> None:
        """The caller is asked: keys of an entry that was not finished are forgotten."""
        self._keys = ""

    async def decide(self, mail: Mail) -> Verdict | None:
        """Give what comes of an answer or event; None: nothing, the question stays open.

        Raises:
            RunEnded: it ends the run.
            AgentError: the state did what it may not do.
        """
        try:
            return await self._decide(mail)
        except DeadlinePassed:
            self.record.add("timer", {"event": Event.DEADLINE.value, "state": self.standing.state})
            return self.authority.move_on(Mail(Event.DEADLINE))

    async def _decide(self, mail: Mail) -> Verdict | None:
        if (overrule := self.mailbox.take_overrule(self.standing.state)) is not None:
            mail = overrule
        if mail.target:
            return self._led(mail)
        if mail.event is not Event.INPUT:
            return await self._on_event(mail)
        if mail.is_fresh and self.graph.digressions:
            into = self.digressions.entered_by(self.engine.scope(mail.text), self.standing.state)
            if into:
                return Verdict("", into, is_push=True)
        said_back, self.standing.said_back = self.standing.said_back, None
        if said_back is not None and parse_yes_no(mail.text) is False:
            return Verdict("", said_back.state, corrects=said_back.slots)
        verdict = await self._on_answer(mail)
        if verdict.event is not None:
            return self.authority.move_on(Mail(verdict.event))
        if (overrule := self.mailbox.take_overrule(self.standing.state)) is not None:
            # A watch decided while the state was at work; its move comes first.
            if verdict.next_state != self.standing.state:
                self.record.refuse(verdict.next_state, f"watch {overrule.by!r} led elsewhere first")
            return self._led(overrule)
        return self.authority.judge(verdict, mail.text)

    async def _on_answer(self, mail: Mail) -> Verdict:
        name = self.standing.state
        if name in self.graph.run_by_engine:
            work = self.engine.decide(
                self.state, mail.text, keys=mail.keys, is_contradicted=mail.is_contradicted is True
            )
            return await self.timers.within_deadline(work, name)
        result: Any = await self.timers.within_deadline(self.state.process(mail.text, self.context), name)
        return self.authority.verdict_of(result)

    def _led(self, mail: Mail) -> Verdict | None:
        """A move of a timer or a watch."""
        if mail.by:
            return Verdict("", mail.target, on=mail.event, by=mail.by, is_judged=True)
        return self.authority.move_on(mail)

    async def _on_event(self, mail: Mail) -> Verdict | None:
        if mail.event is Event.DTMF:
            return await self._on_keys(mail)
        if mail.event is Event.HANG_UP:
            self.standing.is_hung_up = True
        if mail.event is Event.DEADLINE or self.graph.specs[self.standing.state].targets(mail.event):
            return self.authority.move_on(mail)
        return await self._by_hook(mail)

    async def _by_hook(self, mail: Mail) -> Verdict | None:
        name = self.standing.state
        if mail.event in self.graph.specs[name].handles:
            work = self.state.on_event(mail.event, mail.text, self.context)
            result = await self.timers.within_deadline(work, name)
            if result is not None:
                return self.authority.judge(self.authority.verdict_of(result, mail.event), mail.text)
        if mail.event is Event.HANG_UP:
            raise RunEnded("")
        if mail.event is Event.RESUME and self.standing.open_question:
            return Verdict(self.standing.open_question, name)
        return None

    async def _on_keys(self, mail: Mail) -> Verdict | None:
        self._keys = (self._keys + mail.text)[-MAX_KEYS:]
        name = self.standing.state
        spec = self.graph.specs[name]
        policy = spec.voice
        is_single = policy is None or not policy.dtmf_grammar or self.engine.is_confirming
        if not (is_single or (policy is not None and policy.accepts_keys(self._keys))):
            return None
        keys, self._keys = self._keys, ""
        whole = Mail(Event.DTMF, keys)
        if spec.targets(Event.DTMF):
            return self.authority.move_on(whole)
        if Event.DTMF in spec.handles:
            return await self._by_hook(whole)
        self.standing.question = None
        fills_slots = name in self.graph.run_by_engine and bool(self.graph.slots[name])
        if fills_slots:
            return await self._decide(Mail(Event.INPUT, is_fresh=False, keys=keys))
        return await self._decide(Mail(Event.INPUT, keys, is_fresh=False))

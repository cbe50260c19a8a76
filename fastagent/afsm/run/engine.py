"""Engine: decides for the states that have no code of their own, by slots, guards, templates and proposals.

::

    entered ─▶ slots missing? ──ask, check, confirm──▶ filled ─▶ effects ─▶ first way on whose guard holds
                  └─ none declared ─▶ say the template; wait where the answer decides ─▶ the same

A guard that looks at a slot and does not hold opens that slot again. Answers that lead nowhere are asked
again, `Limits.max_attempts` times; then `Event.NO_MATCH` decides. A failed effect is `Event.TOOL_FAILED`.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fastagent.afsm.graph import Graph, Move
from fastagent.afsm.guards import Scope
from fastagent.afsm.run.admission import Admission
from fastagent.afsm.run.heard import Heard
from fastagent.afsm.run.limits import Limits
from fastagent.afsm.run.proposal import Proposal, Reasoner
from fastagent.afsm.run.slot_book import BookPosition, SlotBook
from fastagent.afsm.run.verdict import Verdict
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import Event, StateSpec
from fastagent.afsm.spoken import parse_yes_no
from fastagent.afsm.state import AFSMState, EffectRunner
from fastagent.afsm.template import render
from fastagent.context import ConversationContext

__all__ = ["Engine"]

SAY_AGAIN = "Sorry, I did not get that."
NOT_HEARD = "the caller was heard since the question and did not say yes"


class Engine:
    """Decides for the states of one run that the engine runs.

    Args:
        refuse: takes (to_state, reason) of what is not accepted.
        record: takes (kind, data) for the record.
    """

    def __init__(
        self,
        graph: Graph,
        context: ConversationContext,
        book: SlotBook,
        *,
        limits: Limits,
        reasoner: Reasoner | None,
        effects: EffectRunner | None,
        refuse: Callable[[str, str], None],
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.asks_redacted = False
        """The open question is about a value that stays out of records."""
        self._graph = graph
        self._context = context
        self._book = book
        self._limits = limits
        self._admission = Admission(graph, context, reasoner, refuse=refuse, record=record)
        self._effects = effects
        self._record = record
        self._heard = Heard(context)
        self._is_entering = True
        self._misses = 0

    def enter(self) -> None:
        """A state was entered."""
        self._is_entering = True
        self._misses = 0
        self.asks_redacted = False
        self._book.left()

    @property
    def is_confirming(self) -> bool:
        """The open question is whether a value is right."""
        return self._book.is_confirming

    @property
    def position(self) -> BookPosition:
        """Which slot is open, to come back to."""
        return self._book.position

    @property
    def said_back(self) -> tuple[str, ...]:
        """Slots that the last question says back, so that a "no" is about them."""
        return self._book.said_back

    def asked(self) -> None:
        """A question is put to the caller."""
        if self._book.is_confirming:
            self._heard.mark()

    def is_contradicted(self, text: str) -> bool:
        """Tell whether an answer confirms a value, and the caller was heard not to say so."""
        if not (self._book.is_confirming and self._limits.requires_heard_yes):
            return False
        return parse_yes_no(text) is True and self._heard.contradicts_yes()

    @property
    def misses(self) -> int:
        """Answers in a row that led nowhere."""
        return self._misses

    def question_anew(self, name: str) -> str:
        """What a state asks for that goes on without the words it asked last."""
        slots = self._graph.slots[name]
        if not slots:
            return self._words(self._graph.specs[name])
        step = self._book.step(slots)
        self.asks_redacted = step.asks_redacted
        return step.say

    def restore(self, position: BookPosition, misses: int) -> None:
        """Go on in a state that was entered before."""
        self.come_back(position)
        self._misses = misses

    def come_back(self, position: BookPosition) -> None:
        """The state was entered again to go on at this question."""
        self._book.position = position
        self._is_entering = False

    def scope(self, text: str) -> Scope:
        """What guards may look at."""
        context = self._context
        return Scope(self._book.trusted, context.facts, context.profile, self._book.arguments, text)

    async def decide(
        self, state: AFSMState, text: str, *, keys: str = "", is_contradicted: bool = False
    ) -> Verdict:
        """Decide on one answer, by voice or by keys.

        Args:
            is_contradicted: see `is_contradicted`.
        """
        spec, slots = self._graph.specs[state.name], self._graph.slots[state.name]
        is_entering, self._is_entering = self._is_entering, False
        self._book.take_arguments(slots)
        if not slots and is_entering and self._waits(spec):
            return Verdict(self._words(spec) or spec.description or SAY_AGAIN, spec.name)
        proposal = None
        # Whether a value is right is for the caller alone to say.
        if text and self._admission.has_model and not self._book.is_confirming:
            proposal = await self._admission.ask(
                state, spec, slots, text, prompt=self._words(spec), scope=self.scope(text)
            )
        lead = ""
        if slots:
            step = self._book.step(
                slots,
                text,
                keys=keys,
                proposed=None if proposal is None else proposal.slots,
                is_contradicted=is_contradicted,
            )
            self.asks_redacted = step.asks_redacted
            if step.contradicted:
                self._admission.refuse("", f"slot {step.contradicted!r} is not confirmed: {NOT_HEARD}")
            self._record_slots(spec, slots, step.taken)
            if step.has_given_up:
                return Verdict(event=Event.NO_MATCH)
            if not step.is_filled:
                return Verdict(step.say, spec.name)
            lead = step.say
        if spec.is_terminal:
            failure = await self._carry_out(spec)
            return failure or Verdict(_join(lead, await self._closing(state, spec, text)), spec.name)
        return await self._choose(state, spec, text, proposal, lead)

    # Choosing a way on

    async def _choose(
        self, state: AFSMState, spec: StateSpec, text: str, proposal: Proposal | None, lead: str
    ) -> Verdict:
        scope = self.scope(text)
        chosen = self._admission.move_of(spec, proposal, scope)
        say = proposal.say if proposal is not None and chosen is not None else ""
        if chosen is None and type(state)._determine_next_state is not AFSMState._determine_next_state:
            target = state._determine_next_state(text, self._context)
            return Verdict(_join(lead, await self._closing(state, spec, text)), target)
        if chosen is None:
            chosen = self._by_guards(spec, scope)
        if chosen is None:
            return self._missed(spec, scope, proposal)
        if failure := await self._carry_out(spec):
            return failure
        words = say or await self._closing(state, spec, text)
        if not self._graph.slots[spec.name] and self._waits(spec) and not say:
            words = ""  # the template was this state's question and has been answered
        return Verdict(_join(lead, words), chosen.spec.target)

    def _ways(self, spec: StateSpec) -> list[Move]:
        return [move for move in self._graph.moves[spec.name] if move.spec.on is Event.INPUT]

    def _waits(self, spec: StateSpec) -> bool:
        """The answer to this state's own words decides where it leads."""
        ways = self._ways(spec)
        if spec.is_terminal or (not ways and not spec.transitions):
            return False
        return len(ways) != 1 or ways[0].spec.guard != "" or self._admission.is_asked_in(spec)

    def _by_guards(self, spec: StateSpec, scope: Scope) -> Move | None:
        ways = self._ways(spec)
        for move in ways:
            if move.spec.guard and move.holds(scope, self._context):
                return move
        free = [move for move in ways if not move.spec.guard]
        # Between several ways without a guard nothing but a proposal can decide.
        return free[0] if len(free) == 1 else None

    def _missed(self, spec: StateSpec, scope: Scope, proposal: Proposal | None) -> Verdict:
        """No way leads on: open the slots that stand in the way, else ask again."""
        ways = [move for move in self._ways(spec) if move.spec.guard]
        names = {slot.name for slot in self._graph.slots[spec.name]}
        for move in ways:
            self._admission.refuse(
                move.spec.target, f"the guard of the move to {move.spec.target!r} does not hold"
            )
        words = next((move.spec.say for move in ways if move.spec.say), "")
        self._misses += 1
        if self._misses >= self._limits.max_attempts:
            return Verdict(event=Event.NO_MATCH)
        blamed = {name.partition(".")[2] for move in ways for name in move.looks_at if "slots." in name}
        if opened := blamed & names:
            self._book.reopen(opened)
            step = self._book.step(self._graph.slots[spec.name])
            self.asks_redacted = step.asks_redacted
            return Verdict(_join(words or SAY_AGAIN, step.say), spec.name)
        if proposal is not None and proposal.say and not words:
            return Verdict(proposal.say, spec.name)
        return Verdict(_join(words or SAY_AGAIN, self._words(spec)), spec.name)

    # Words

    def _words(self, spec: StateSpec) -> str:
        context = self._context
        return render(spec.prompt_template, self._book.trusted, context.facts, context.profile)

    async def _closing(self, state: AFSMState, spec: StateSpec, text: str) -> str:
        if type(state)._generate_response is not AFSMState._generate_response:
            return (await state._generate_response(text, self._context)).strip()
        return self._words(spec)

    # Effects

    async def _carry_out(self, spec: StateSpec) -> Verdict | None:
        """Run the effects of a JSON state, in order; what they give becomes a slot of their name."""
        if spec.kind != "json":
            return None
        for effect in spec.effects:
            function = self._graph.functions[effect.name]
            arguments = _accepted(function, self._book.trusted)
            try:
                if self._effects is not None:
                    outcome = await self._effects.run(effect.name, function, arguments)
                else:
                    outcome = await _call(function, arguments)
            except Exception as error:
                self._admission.refuse("", f"effect {effect.name!r} failed with {type(error).__name__}")
                return Verdict(event=Event.TOOL_FAILED)
            self._context.slots[effect.name] = outcome
        return None

    def _record_slots(self, spec: StateSpec, slots: tuple[Slot, ...], taken: tuple[str, ...]) -> None:
        by_name = {slot.name: slot for slot in slots}
        for name in taken:
            self._record(
                "slot",
                {
                    "state": spec.name,
                    "name": name,
                    "value": self._context.slots[name],
                    "confirmation": str(by_name[name].confirmation),
                    "is_redacted": by_name[name].is_redacted,
                },
            )


def _accepted(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values a function has parameters for; all of them for one that takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return dict(values)
    return {parameter.name: values[parameter.name] for parameter in parameters if parameter.name in values}


async def _call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await asyncio.to_thread(function, **arguments)


def _join(*sentences: str) -> str:
    return " ".join(filter(None, sentences))

"""Admission: asks the model for a proposal, and lets in what it may propose.

Nothing is taken from a proposal that is not sure enough, or names a slot the state does not have. Its move
must be one the state may make on an answer, and its guard must hold. Its slots are checked like words heard.
"""

from collections.abc import Callable
from typing import Any

import orjson

from fastagent.afsm.graph import Graph, Move
from fastagent.afsm.guards import Scope
from fastagent.afsm.run.proposal import Proposal, ProposalError, ProposalRequest, Reasoner
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import Event, StateSpec
from fastagent.afsm.state import AFSMState
from fastagent.context import ConversationContext

__all__ = ["Admission"]

HISTORY_FOR_PROPOSALS = 10
REFUSALS_TOLD = 5


class Admission:
    """The way of a model's proposals into one run.

    Args:
        refuse: takes (to_state, reason) of what is not accepted.
        record: takes (kind, data) for the record.
    """

    def __init__(
        self,
        graph: Graph,
        context: ConversationContext,
        reasoner: Reasoner | None,
        *,
        refuse: Callable[[str, str], None],
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._graph = graph
        self._context = context
        self._reasoner = reasoner
        self._refuse = refuse
        self._record = record
        self._refusals: list[str] = []

    @property
    def has_model(self) -> bool:
        """There is a model to ask."""
        return self._reasoner is not None

    def is_asked_in(self, spec: StateSpec) -> bool:
        """Tell whether a state has settings for the model, and there is one."""
        return self._reasoner is not None and bool(spec.llm_config_json)

    def refuse(self, to_state: str, reason: str) -> None:
        """Note what is not accepted; the model is told with the next request."""
        self._refusals = [*self._refusals, reason][-REFUSALS_TOLD:]
        self._refuse(to_state, reason)

    async def ask(
        self,
        state: AFSMState,
        spec: StateSpec,
        slots: tuple[Slot, ...],
        text: str,
        *,
        prompt: str,
        scope: Scope,
    ) -> Proposal | None:
        """Ask for a proposal on one answer; None when there is no model or its proposal may not come in.

        Args:
            prompt: the state's template, filled in.
            scope: what guards may look at; the slots of it are told, but for those that stay out of records.
        """
        if self._reasoner is None:
            return None
        values = {name: value for name, value in scope.slots.items() if not self._graph.is_redacted(name)}
        request = ProposalRequest(
            spec.name,
            spec.description,
            prompt,
            {move.spec.target: self._graph.specs[move.spec.target].description for move in self._ways(spec)},
            {slot.name: slot.schema for slot in slots},
            values,
            text,
            [(said.speaker, said.text) for said in self._context.history[-HISTORY_FOR_PROPOSALS:]],
            tuple(state.scratchpad) if spec.is_scratchpad_enabled else (),
            tuple(self._refusals),
            orjson.loads(spec.llm_config_json) if spec.llm_config_json else {},
        )
        self._refusals = []
        try:
            proposal = await self._reasoner.propose(request)
        except ProposalError as error:
            self.refuse("", f"no usable proposal: {error}")
            return None
        if spec.is_scratchpad_enabled and proposal.scratchpad:
            state.scratchpad.append(proposal.scratchpad)
        self._record(
            "proposal",
            {
                "state": spec.name,
                "next_state": proposal.next_state if proposal.next_state in self._graph.states else "",
                "slots": sorted(proposal.slots.keys() & {slot.name for slot in slots}),
                "confidence": proposal.confidence,
                "text": proposal.say,
                "value": dict(proposal.slots),
                "is_redacted": any(slot.is_redacted for slot in slots),
            },
        )
        return self._admitted(spec, slots, proposal)

    def move_of(self, spec: StateSpec, proposal: Proposal | None, scope: Scope) -> Move | None:
        """Give the move that is proposed, if it may be made."""
        if proposal is None or proposal.next_state in ("", spec.name):
            return None
        for move in self._ways(spec):
            if move.spec.target == proposal.next_state:
                if move.holds(scope, self._context):
                    return move
                self.refuse(move.spec.target, f"the guard of the move to {move.spec.target!r} does not hold")
                return None
        is_known = proposal.next_state in self._graph.states
        known = f"to {proposal.next_state!r}" if is_known else "to an unknown state"
        self.refuse(proposal.next_state if is_known else "", f"state {spec.name!r} may not move {known}")
        return None

    def _ways(self, spec: StateSpec) -> list[Move]:
        return [move for move in self._graph.moves[spec.name] if move.spec.on is Event.INPUT]

    def _admitted(self, spec: StateSpec, slots: tuple[Slot, ...], proposal: Proposal) -> Proposal | None:
        """Leave out what may not be proposed."""
        least = orjson.loads(spec.llm_config_json or b"{}").get("min_confidence", 0.0)
        if not least <= proposal.confidence <= 1.0:
            self.refuse("", f"proposal with a confidence below {least:g}")
            return None
        names = {slot.name for slot in slots}
        if proposal.slots.keys() - names:
            self.refuse("", f"state {spec.name!r} has no such slot; it has {sorted(names)}")
            # Who invents slots is not believed in the rest either.
            return None
        return proposal

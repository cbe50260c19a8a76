"""Passage: takes a run from state to state, and keeps what leads back."""

from collections.abc import Callable, Mapping
from typing import Literal

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.decider import Decider
from fastagent.afsm.run.digressions import Digressions, WayBack
from fastagent.afsm.run.engine import Engine
from fastagent.afsm.run.line_policy import LinePolicy
from fastagent.afsm.run.run_record import RunRecord
from fastagent.afsm.run.slot_book import BookPosition
from fastagent.afsm.run.standing import SaidBack, Standing
from fastagent.afsm.run.timers import Timers
from fastagent.afsm.run.verdict import Verdict
from fastagent.afsm.spec import Event
from fastagent.afsm.state import AFSMState, CallControl, EffectRunner

__all__ = ["Passage", "Reason"]

Reason = Literal[
    "start", "answer", "continue", "silence", "deadline", "dtmf", "hang_up", "transfer", "tool_failed",
    "transfer_failed", "answered_by", "barge_in", "resume", "no_match", "digression", "return", "supervisor",
    "correction",
]  # fmt: skip
"""What led to a move."""


class Passage:
    """The moves of one run, once they are decided.

    Args:
        observer: told of each as (from_state, to_state, reason); ``from_state`` is empty on entry.
    """

    def __init__(
        self,
        graph: Graph,
        standing: Standing,
        engine: Engine,
        decider: Decider,
        digressions: Digressions,
        timers: Timers,
        line: LinePolicy,
        record: RunRecord,
        *,
        control: CallControl,
        effects: EffectRunner | None,
        observer: Callable[[str, str, Reason], None] | None,
    ) -> None:
        self._graph = graph
        self._standing = standing
        self._engine = engine
        self._decider = decider
        self._digressions = digressions
        self._timers = timers
        self._line = line
        self._record = record
        self._control = control
        self._effects = effects
        self._observer = observer
        self._states: dict[str, AFSMState] = {}

    def begin(self) -> None:
        """Enter the initial state."""
        self._enter(self._standing.state, "", "start")

    @property
    def scratchpads(self) -> dict[str, list[str]]:
        """The notes of the states that were entered, where there are any."""
        return {name: list(state.scratchpad) for name, state in self._states.items() if state.scratchpad}

    def resume(self, state: str, scratchpads: Mapping[str, list[str]]) -> None:
        """Stand in a state again that was entered in another process."""
        for name, notes in scratchpads.items():
            if name in self._graph.states:
                bound = self._graph.states[name].bound_to(self._control, self._effects)
                bound.scratchpad = notes
                self._states[name] = bound
        self._enter(state, state, "resume")

    def move(self, verdict: Verdict, reason: Reason) -> None:
        """Make a move that was decided.

        Args:
            reason: what led to it, where the verdict says nothing more exact.
        """
        origin, target = self._standing.state, verdict.next_state
        depth = self._digressions.depth
        if self._digressions.move(origin, target, is_push=verdict.is_push):
            left_s = self._timers.time_left_s
            if left_s is not None and left_s <= 0:
                left_s = None  # it has led here: coming back to it would lead here again, without end
            # Words that go with the move are asked in the digression; the way back leads to what was open.
            open_question = self._standing.open_question
            self._digressions.keep(WayBack(origin, open_question, self._engine.position, left_s))
        said_back = self._said_back(verdict) if self._digressions.depth == depth else None
        self._enter(target, origin, _reason_of(verdict, reason))
        self._standing.said_back = said_back
        if verdict.corrects:
            self._engine.come_back(BookPosition(implicit=verdict.corrects))

    def go_back(self, way_back: WayBack) -> None:
        """Go back to where a digression began."""
        self._enter(way_back.state, self._standing.state, "return")
        if way_back.time_left_s is not None:
            self._timers.time_left_s = way_back.time_left_s
        if way_back.question:
            self._engine.come_back(way_back.position)

    def _said_back(self, verdict: Verdict) -> SaidBack | None:
        """What the next answer may say no to."""
        slots = self._engine.said_back
        if not slots or not verdict.say or verdict.on is not Event.INPUT:
            return None
        origin = self._graph.specs[self._standing.state]
        # An effect that has run is not taken back by going back.
        if origin.effects or self._graph.is_terminal(verdict.next_state):
            return None
        return SaidBack(origin.name, slots)

    def _enter(self, name: str, from_state: str, reason: Reason) -> None:
        standing = self._standing
        standing.state, standing.question, standing.open_question = name, None, ""
        standing.said_back = None
        if name not in self._states:
            self._states[name] = self._graph.states[name].bound_to(self._control, self._effects)
        spec = self._graph.specs[name]
        self._timers.enter(spec)
        self._decider.enter(self._states[name])
        self._line.apply(spec.voice)
        if self._record.is_kept:
            self._record.add("transition", {"from": from_state, "to": name, "reason": reason})
        if self._observer is not None:
            self._observer(from_state, name, reason)


def _reason_of(verdict: Verdict, reason: Reason) -> Reason:
    if verdict.corrects:
        return "correction"
    if verdict.is_push:
        return "digression"
    if verdict.by:
        return "supervisor"
    return reason if verdict.on is Event.INPUT else _REASONS[verdict.on]


_REASONS: dict[Event, Reason] = {
    Event.SILENCE: "silence",
    Event.DEADLINE: "deadline",
    Event.DTMF: "dtmf",
    Event.HANG_UP: "hang_up",
    Event.TRANSFER: "transfer",
    Event.TRANSFER_FAILED: "transfer_failed",
    Event.ANSWERED_BY: "answered_by",
    Event.TOOL_FAILED: "tool_failed",
    Event.BARGE_IN: "barge_in",
    Event.RESUME: "resume",
    Event.NO_MATCH: "no_match",
}

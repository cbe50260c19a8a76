"""Authority: only declared moves whose guard holds are made."""

from collections.abc import Callable, Mapping

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.engine import Engine
from fastagent.afsm.run.mailbox import Mail
from fastagent.afsm.run.outcome import SAY_NOT_UNDERSTOOD, SAY_REFUSED, SAY_TOO_LATE, RunEnded
from fastagent.afsm.run.standing import Standing
from fastagent.afsm.run.verdict import Verdict
from fastagent.afsm.spec import Event
from fastagent.context import ConversationContext
from fastagent.errors import AgentError

__all__ = ["Authority"]


class Authority:
    """Holds what the states of one run decide against the graph.

    Args:
        engine: gives what guards look at.
        refuse: takes (to_state, reason) of what is not accepted.
    """

    def __init__(
        self,
        graph: Graph,
        context: ConversationContext,
        engine: Engine,
        standing: Standing,
        refuse: Callable[[str, str], None],
    ) -> None:
        self._graph = graph
        self._context = context
        self._engine = engine
        self._standing = standing
        self._refuse = refuse

    def verdict_of(self, result: object, on: Event = Event.INPUT) -> Verdict:
        """Read what a state's code gave. Raises: `AgentError`."""
        state = self._standing.state
        if not isinstance(result, Mapping):
            raise AgentError(f"state {state!r}: process() must return a dict")
        response, next_state = result.get("response"), result.get("next_state")
        if not isinstance(response, str) or not isinstance(next_state, str):
            raise AgentError(f"state {state!r}: response and next_state must be strings")
        return Verdict(response.strip(), next_state, on=on)

    def judge(self, verdict: Verdict, text: str) -> Verdict:
        """Let a verdict pass, or keep the run where it is with words for the caller.

        Raises:
            AgentError: the move is not declared.
        """
        state, target = self._standing.state, verdict.next_state
        if target == state:
            return Verdict(verdict.say, state, is_end=True) if self._graph.is_terminal(state) else verdict
        if not self._graph.allows_on(verdict.on, state, target):
            # An unknown name may be made of the caller's words: only names of the graph are told.
            is_known = target in self._graph.states
            known = f"to {target!r}" if is_known else "to an unknown state"
            self._refuse(target if is_known else "", f"state {state!r} may not move {known}")
            raise AgentError(f"state {state!r} may not move {known}")
        if not verdict.is_judged:
            words = self._refusal_of(target, verdict.on, text)
            if words is not None:
                return Verdict(words, state)
        return verdict

    def move_on(self, mail: Mail) -> Verdict | None:
        """Give the first declared move of an event whose guard holds; None takes no notice of the event.

        Raises:
            RunEnded: without such a move the event ends the run.
            AgentError: so does a failed effect.
        """
        state = self._standing.state
        for move in self._graph.moves[state]:
            is_meant = move.spec.on is mail.event and mail.target in ("", move.spec.target)
            if is_meant and self._refusal_of(move.spec.target, mail.event, mail.text) is None:
                return Verdict("", move.spec.target, on=mail.event, is_judged=True)
        match mail.event:
            case Event.HANG_UP:
                raise RunEnded("")
            case Event.DEADLINE:
                raise RunEnded(SAY_TOO_LATE)
            case Event.NO_MATCH:
                raise RunEnded(SAY_NOT_UNDERSTOOD)
            case Event.TOOL_FAILED:
                raise AgentError(f"state {state!r}: an effect failed")
        return None

    def _refusal_of(self, target: str, on: Event, text: str) -> str | None:
        """What to say when a guard forbids the move; None when it may be made."""
        state = self._standing.state
        move = self._graph.move(state, target, on)
        if move is None or move.holds(self._engine.scope(text), self._context):
            return None
        self._refuse(target, f"the guard of the move from {state!r} to {target!r} does not hold")
        return move.spec.say or self._standing.open_question or SAY_REFUSED

"""CallView: a call as those see it who store its session, and how another call's session goes on in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastagent.call.desk import AgentDesk
from fastagent.call.keeping import CallKeeping
from fastagent.call.stored import TakenUp
from fastagent.errors import ConfigurationError
from fastagent.wire.events import SessionOffered

__all__ = ["CallView"]


class CallView:
    """The `SessionView` of one call, once `connect` was called.

    Args:
        owner: whose credential opened the call.
        carrier_name: who brought it.
        media_name: the carrier's name of the format chosen.
    """

    def __init__(
        self, offer: SessionOffered, desk: AgentDesk, owner: str, carrier_name: str, media_name: str
    ) -> None:
        self.turn_count = 0
        self.owner = owner
        self.carrier_name = carrier_name
        self._offer = offer
        self._desk = desk
        self._media_name = media_name
        self._keeping: CallKeeping

    def connect(self, keeping: CallKeeping) -> None:
        """Have ``keeping`` be what keeps the call: it is made with this view."""
        self._keeping = keeping

    @property
    def call_id(self) -> str:
        """The carrier's name for the conversation."""
        return self._offer.conversation_id

    @property
    def caller(self) -> str:
        """The caller's number, empty when withheld."""
        return self._offer.caller

    @property
    def agent_id(self) -> str:
        """Who answers now."""
        return self._desk.agent.agent_id

    @property
    def memory_days(self) -> float:
        """How long the agent remembers a caller; 0 for not at all."""
        return self._desk.agent.memory_days

    @property
    def current_state(self) -> str:
        """Where the task that asked last stands; empty without one."""
        return self._desk.session.current_state

    @property
    def graph_hashes(self) -> Mapping[str, str]:
        """The graphs of the agent's tasks."""
        return {name: task.graph.content_hash for name, task in self._desk.agent.tasks.items()}

    def snapshot(self) -> dict[str, Any]:
        """What another process needs to go on, as JSON values."""
        session = self._desk.session
        return {
            "agent": self.agent_id,
            "about": session.standing,
            "caller": self.caller,
            "bot_name": self._offer.bot_name,
            "media": self._media_name,
            "session": session.snapshot(),
            "effects": [[kind, dict(data)] for kind, data in self._keeping.carried()],
        }

    def memory(self) -> bytes:
        """What is worth knowing in the caller's next call."""
        return self._desk.session.context.export_memory()

    async def go_on(
        self, session_id: str, snapshot: Mapping[str, Any], said: Sequence[tuple[str, str]]
    ) -> TakenUp:
        """Be the session of an earlier call from now on."""
        if snapshot.get("agent") != self.agent_id:
            raise ConfigurationError("the session is another agent's")
        carried = [(str(kind), data) for kind, data in snapshot["effects"]]
        if session_id != self.call_id:
            self._keeping.go_on(session_id, carried)
        self._desk.keep_in(self._keeping.record)
        try:
            return await self._take_up(snapshot["session"], said)
        except Exception:
            if session_id != self.call_id:
                await self._keeping.go_back()
                self._desk.keep_in(self._keeping.record)
            raise

    async def _take_up(self, snapshot: Mapping[str, Any], said: Sequence[tuple[str, str]]) -> TakenUp:
        session = self._desk.session
        context = session.context
        for speaker, text in said:
            if speaker == "caller":
                context.update_context(user_utterance=text)
            else:
                context.update_context(agent_response=text)
        questions, lost = await session.resume(snapshot)
        return TakenUp(questions, lost)

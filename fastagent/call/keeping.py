"""What is kept of a call: its journal, and its session as it outlives the process."""

from collections.abc import Callable, Sequence
from typing import Any

from fastagent.agent import AgentSession, FastAgent
from fastagent.call.record import CallRecord, CallRecords
from fastagent.call.stored import CarriedEntry, SessionView, StoredSession, StoredSessions
from fastagent.stats import Counters
from fastagent.tools.comeback import Comeback

__all__ = ["REDACTED", "CallKeeping"]

REDACTED = "[redacted]"
"""Stands in a stored transcript for words that are not kept."""


class CallKeeping:
    """Keeps one call.

    Args:
        agent: tells which agent answers now.
        session: tells what is to be kept of its talk.
        records: the process's journals; None keeps none.
        sessions: the process's stored sessions; None stores none.
        counters: where the troubles of keeping are added.
        on_claim: told what to tell the model of a claim that is not so.
        carried: effects of the call as another process kept them.
    """

    def __init__(
        self,
        view: SessionView,
        agent: FastAgent,
        session: Callable[[], AgentSession],
        *,
        records: CallRecords | None,
        sessions: StoredSessions | None,
        counters: Counters,
        on_claim: Callable[[str], Any],
        carried: Sequence[CarriedEntry] = (),
    ) -> None:
        self._agent = agent
        self._session = session
        self._records = records
        self._counters = counters
        self._on_claim = on_claim
        self._is_redacting = False
        self._former: list[CallRecord] = []
        self.record: CallRecord | None = None
        if records is not None:
            self.record = records.open(view.call_id, agent, on_claim=on_claim, carried=carried)
        self.stored: StoredSession | None = None if sessions is None else sessions.open(view)

    def begin(self) -> None:
        """The call is taken."""
        if self.stored is not None:
            self.stored.begin()

    def said(self, by: str, text: str) -> None:
        """Keep finished words, unless they may belong to a state in which none are."""
        # Words are written down late: those that come just after such a state may still belong to it.
        is_redacted, self._is_redacting = self._is_redacting, self._session().is_redacting
        is_redacted = is_redacted or self._is_redacting
        if self.record is not None:
            self.record.said(by, text, is_redacted=is_redacted)
        if self.stored is not None:
            self.stored.said(by, REDACTED if is_redacted else text)

    def moved(self) -> None:
        """A task's machine changed its state."""
        self._is_redacting |= self._session().is_redacting

    def changed(self) -> None:
        """A task stands elsewhere."""
        if self.stored is not None:
            self.stored.changed()

    def line_lost(self) -> None:
        """The carrier's socket is gone."""
        if self.stored is not None:
            self.stored.parked()

    def line_back(self) -> None:
        """It is back."""
        if self.stored is not None:
            self.stored.resumed()
        if self.record is not None:
            self.record.resumed()

    async def look_up(self) -> Comeback | None:
        """Find out whether the caller was cut off in an earlier call."""
        return None if self.stored is None else await self.stored.look_up()

    def recall(self) -> bytes | None:
        """What is remembered of the caller, who is known for certain now."""
        return None if self.stored is None else self.stored.recall()

    def carried(self) -> list[CarriedEntry]:
        """What another journal needs to know of the effects of this one."""
        return [] if self.record is None else self.record.carried()

    def go_on(self, session_id: str, carried: Sequence[CarriedEntry]) -> None:
        """Keep what follows in the journal of an earlier call.

        Args:
            carried: of that journal, for when it lies elsewhere.
        """
        if self._records is None or self.record is None:
            return
        self.record.record("handover", {"to_session": session_id})
        self._former.append(self.record)
        self.record = self._records.open(session_id, self._agent, on_claim=self._on_claim, carried=carried)
        self.record.resumed()

    async def go_back(self) -> None:
        """Keep what follows in the call's own journal after all, and leave the earlier call's to others."""
        if not self._former or self.record is None:
            return
        foreign, self.record = self.record, self._former.pop()
        self.record.resumed()
        await self._close(foreign, "not continued")

    def ending(self, outcome: str, *, is_unfinished: bool) -> bool:
        """The call is over, its tasks still stand as they did; tells whether they go on in another call.

        Args:
            is_unfinished: one of them was under way.
        """
        return self.stored is not None and self.stored.ending(outcome, is_unfinished=is_unfinished)

    async def close(self, outcome: str) -> None:
        """End the journals, and give the session up."""
        for record in (*self._former, self.record):
            if record is not None:
                await self._close(record, "continued" if record is not self.record else outcome)
        if self.stored is not None:
            await self.stored.close()

    async def _close(self, record: CallRecord, outcome: str) -> None:
        await record.close(outcome)
        for name, count in record.counters.items():
            self._counters.note(name, count)

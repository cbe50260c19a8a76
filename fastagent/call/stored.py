"""A call's session as it outlives the process, as the call uses it. Where it is stored is for the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastagent.tools.comeback import Comeback
from fastagent.tools.reports import Report

__all__ = ["CarriedEntry", "SessionView", "StoredSession", "StoredSessions", "TakenUp"]

CarriedEntry = tuple[str, Mapping[str, Any]]
"""Kind and data of a journal's entry that another journal goes on from."""


class SessionView(Protocol):
    """What is stored of a call, and what becomes of one that goes on."""

    @property
    def call_id(self) -> str:
        """The carrier's name for the conversation."""

    @property
    def agent_id(self) -> str:
        """Who answers now."""

    @property
    def caller(self) -> str:
        """The caller's number, empty when withheld."""

    @property
    def owner(self) -> str:
        """Whose credential opened the call."""

    @property
    def carrier_name(self) -> str:
        """Who brought it."""

    @property
    def memory_days(self) -> float:
        """How long the agent remembers a caller; 0 for not at all."""

    @property
    def current_state(self) -> str:
        """Where the task that asked last stands; empty without one."""

    @property
    def turn_count(self) -> int:
        """Finished utterances of the caller."""

    @property
    def graph_hashes(self) -> Mapping[str, str]:
        """The graphs of the agent's tasks."""

    def snapshot(self) -> dict[str, Any]:
        """What another process needs to go on, as JSON values; nobody changes them any more."""

    def memory(self) -> bytes:
        """What is worth knowing in the caller's next call."""

    async def go_on(
        self, session_id: str, snapshot: Mapping[str, Any], said: Sequence[tuple[str, str]]
    ) -> "TakenUp":
        """Be the session of an earlier call from now on; where that fails, the call is what it was before.

        Args:
            session_id: of the earlier call.
            snapshot: what its `snapshot` gave.
            said: (speaker, text) of its transcript.

        Raises:
            ConfigurationError: it is no such snapshot.
        """


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What became of an earlier session's tasks in the call that goes on with it."""

    questions: Sequence[Report] = field(default=(), repr=False)
    """Those that are open."""
    lost: Sequence[str] = ()
    """Names of tasks that cannot go on, since they are not what they were."""


class StoredSession(Protocol):
    """One call's session. Nothing here waits but `look_up` and `close`, and nothing raises."""

    @property
    def session_id(self) -> str:
        """Its id: the call's own, or an earlier call's that goes on in this one."""

    def begin(self) -> None:
        """The call is taken."""

    def adopt(self, taken: Any) -> None:
        """Be a session that another process began; what it gave is the store's own affair."""

    def said(self, by: str, text: str) -> None:
        """Finished words of the ``caller`` or the ``agent``; what must not be kept is left out by then."""

    def changed(self) -> None:
        """Something is worth storing."""

    def lost(self) -> None:
        """The session is another call's now."""

    def resumed(self) -> None:
        """The line is back."""

    def parked(self) -> None:
        """The line is lost, and may come back: what there is must be stored at once."""

    async def look_up(self) -> Comeback | None:
        """Find out whether the caller was cut off in an earlier call. Does not wait for long."""

    def recall(self) -> bytes | None:
        """What is remembered of the caller, whose identity is certain now; at the end it is kept anew.

        None where nothing is remembered of callers.
        """

    def ending(self, outcome: str, *, is_unfinished: bool) -> bool:
        """The call is over; its tasks stand as they did. Tells whether they go on in another call.

        Args:
            is_unfinished: one of them was under way.
        """

    async def close(self) -> None:
        """Nothing more happens, and the call's journal is closed: whoever takes the session up may."""


class StoredSessions(Protocol):
    """The sessions of all calls of a process."""

    def open(self, view: SessionView) -> StoredSession:
        """Begin to store a call's session."""

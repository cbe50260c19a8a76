"""RunRecord: what a run leaves behind, entry by entry, and what was not accepted in it."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastagent.afsm.run.mailbox import Mail
from fastagent.afsm.run.standing import Standing

__all__ = ["Recorder", "Refusal", "RunRecord"]

MAX_REFUSALS = 100


class Recorder(Protocol):
    """Keeps a record of a run; must return at once and not raise.

    Where ``data`` holds ``"is_redacted": True`` its ``text`` and ``value`` must not be written down.
    """

    def record(self, kind: str, data: Mapping[str, Any]) -> object:
        """Add an entry: input, proposal, refused, transition, slot, asked, said, timer."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A move or value that was not accepted."""

    state: str
    to_state: str
    """Empty when it was no move, or led to no state of the graph."""
    reason: str
    """For the model and for records: names of the graph and its guards, never what was said."""


class RunRecord:
    """The record of one run; without a recorder it keeps the refusals only."""

    def __init__(self, recorder: Recorder | None, standing: Standing) -> None:
        self.refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)
        """What was not accepted, oldest first."""
        self._recorder = recorder
        self._standing = standing
        self._untold = 0

    @property
    def is_kept(self) -> bool:
        """Somebody takes the entries."""
        return self._recorder is not None

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an entry."""
        if self._recorder is not None:
            self._recorder.record(kind, data)

    def add_input(self, mail: Mail, *, is_redacted: bool) -> None:
        """Add what came."""
        if self._recorder is not None:
            data = {
                "event": mail.event.value,
                "state": self._standing.state,
                "text": mail.text,
                "is_redacted": is_redacted,
            }
            if mail.is_contradicted:
                data["is_contradicted"] = True
            if mail.is_heard:
                data["is_heard"] = True
            self._recorder.record("input", data)

    def add_asked(self, text: str, *, is_redacted: bool) -> None:
        """Add what the caller is asked."""
        if self._recorder is not None:
            data = {"state": self._standing.state, "text": text, "is_redacted": is_redacted}
            self._recorder.record("asked", data)

    def refuse(self, to_state: str, reason: str) -> None:
        """Note what is not accepted; it is told with the next `take_refusals`."""
        state = self._standing.state
        self.refusals.append(Refusal(state, to_state, reason))
        self._untold = min(self._untold + 1, MAX_REFUSALS)
        self.add("refused", {"state": state, "to": to_state, "reason": reason})

    def take_refusals(self) -> list[str]:
        """Give the reasons that came since the last call."""
        news = list(self.refusals)[-self._untold :] if self._untold else []
        self._untold = 0
        return [refusal.reason for refusal in news]

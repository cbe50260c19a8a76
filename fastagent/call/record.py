"""A call's record, as the call uses it: entries, effects, claims. What keeps it is for the server to say."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fastagent.agent import FastAgent
from fastagent.call.stored import CarriedEntry
from fastagent.tools.kept import RunKeeper

__all__ = ["CallRecord", "CallRecords"]


class CallRecord(RunKeeper, Protocol):
    """Everything that is kept of one call. Nothing here waits but `close`, and nothing raises."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What went wrong with it, so far."""

    def said(self, by: str, text: str, *, is_redacted: bool) -> None:
        """Note finished words of the ``caller`` or the ``agent``."""

    def resumed(self) -> None:
        """The caller's line is back: what became of effects that nobody heard of is found out."""

    def carried(self) -> list[CarriedEntry]:
        """The entries that tell of effects, for a journal that goes on from this one elsewhere."""

    async def close(self, outcome: str) -> None:
        """Wait for effects under way, and for the disk, for a while."""


class CallRecords(Protocol):
    """Keeps the records of all calls of a process."""

    def open(
        self,
        call_id: str,
        agent: FastAgent,
        *,
        on_claim: Callable[[str], Any],
        carried: Sequence[CarriedEntry] = (),
    ) -> CallRecord:
        """Begin a call's record.

        Args:
            call_id: the carrier's name for the conversation; one that was kept before is taken up.
            agent: who answers.
            on_claim: told what to tell the model when it said that something was done that was not.
            carried: effects of the call that another process kept, for when its record is not here.
        """

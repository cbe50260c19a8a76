"""RunRecorder: one run of a task in a conversation's journal, told apart from the others."""

from collections.abc import Mapping

from fastagent.journal.journal import Journal

__all__ = ["RunRecorder"]


class RunRecorder:
    """What a machine is given as its recorder: each entry says which run it belongs to.

    Args:
        journal: of the conversation.
        run: the id of the function call that the run answers, as in the keys of its effects.
    """

    def __init__(self, journal: Journal, run: str) -> None:
        self.run = run
        self._journal = journal

    def begin(
        self,
        task: str,
        graph_hash: str,
        *,
        slots: Mapping[str, object],
        facts: Mapping[str, object] | None = None,
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Note what the run begins with, which a replay needs.

        Args:
            task: its name.
            graph_hash: the version of its graph.
            slots: those that the task was started with.
            facts: of the call so far.
            profile: what is known of the caller.
        """
        about = {"task": task, "graph_hash": graph_hash}
        known = {"slots": dict(slots), "facts": dict(facts or {}), "profile": dict(profile or {})}
        self.record("opened", {**about, **known})

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        """Add an entry; never fails."""
        self._journal.record(kind, {**data, "run": self.run})

    def end(self, status: str, state: str) -> None:
        """Note how the run ended, and in which state."""
        self.record("closed", {"status": status, "state": state})

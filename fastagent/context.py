"""ConversationContext: what an agent knows of the caller and of what was said.

One context belongs to one call. A task works on a view of it (`task_view`): history, facts and profile are
the call's and shared by all its tasks; slots belong to the one run.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["DEFAULT_MAX_HISTORY", "MAX_FACTS", "MAX_UTTERANCE_CHARS", "ConversationContext", "Utterance"]

DEFAULT_MAX_HISTORY = 50
MAX_FACTS = 200
"""Facts, and entries of the profile, each; the oldest goes when one more comes."""
MAX_UTTERANCE_CHARS = 4_000
"""About four minutes of speech; longer text is cut."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One thing that was said."""

    speaker: Literal["caller", "agent"]
    text: str = field(repr=False)
    state: str = ""
    """The state that was current, when it is known."""


class ConversationContext:
    """History, salient facts and profile of one call, all bounded, and the slots of the running task.

    Args:
        max_history: utterances kept; the oldest goes first.

    Raises:
        ValueError: ``max_history`` is below 1.
    """

    def __init__(self, max_history: int = DEFAULT_MAX_HISTORY) -> None:
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, got {max_history}")
        self.slots: dict[str, Any] = {}
        self._utterances: deque[Utterance] = deque(maxlen=max_history)
        self._facts: dict[str, Any] = {}
        self._profile: dict[str, Any] = {}
        self._task_facts: dict[str, Any] = {}

    def __repr__(self) -> str:
        return (
            f"<ConversationContext utterances={len(self._utterances)} facts={len(self._facts)} "
            f"profile={len(self._profile)} slots={len(self.slots)}>"
        )

    @property
    def history(self) -> tuple[Utterance, ...]:
        """What was said, oldest first."""
        return tuple(self._utterances)

    @property
    def facts(self) -> dict[str, Any]:
        """The salient facts of the call (a copy), oldest first."""
        return dict(self._facts)

    @property
    def profile(self) -> dict[str, Any]:
        """What is known of the caller (a copy)."""
        return dict(self._profile)

    @property
    def task_facts(self) -> dict[str, Any]:
        """The facts that were added through this view (a copy), oldest first."""
        return dict(self._task_facts)

    def update_context(self, user_utterance: str = "", agent_response: str = "", state: str = "") -> None:
        """Add what the caller said and what the agent answered; an empty side is left out."""
        if user_utterance:
            self._utterances.append(Utterance("caller", user_utterance[:MAX_UTTERANCE_CHARS], state))
        if agent_response:
            self._utterances.append(Utterance("agent", agent_response[:MAX_UTTERANCE_CHARS], state))

    def add_salient_fact(self, name: str, value: Any) -> None:
        """Keep a fact that matters beyond the next turns; a newer value replaces the older one."""
        for facts in (self._facts, self._task_facts):
            _put(facts, name, value)

    def update_user_profile(self, entries: Mapping[str, Any]) -> None:
        """Add to or replace entries of what is known of the caller."""
        for name, value in entries.items():
            _put(self._profile, name, value)

    def task_view(self) -> "ConversationContext":
        """Give a context for one run of a task: the same call, its own empty slots and `task_facts`."""
        view = ConversationContext.__new__(ConversationContext)
        view._utterances, view._facts, view._profile = self._utterances, self._facts, self._profile
        view.slots, view._task_facts = {}, {}
        return view


def _put(entries: dict[str, Any], name: str, value: Any) -> None:
    entries.pop(name, None)  # a renewed entry counts as the newest
    entries[name] = value
    if len(entries) > MAX_FACTS:
        del entries[next(iter(entries))]

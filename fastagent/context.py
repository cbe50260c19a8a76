"""ConversationContext: what an agent knows of the caller and of what was said.

One context belongs to one call. A task works on a view of it (`task_view`): history, facts and profile are
the call's and shared by all its tasks; slots belong to the one run.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from fastagent.errors import ConfigurationError

__all__ = ["DEFAULT_MAX_HISTORY", "MAX_FACTS", "MAX_UTTERANCE_CHARS", "ConversationContext", "Utterance"]

DEFAULT_MAX_HISTORY = 50
MAX_FACTS = 200
"""Facts, and entries of the profile, each; the oldest goes when one more comes."""
MAX_UTTERANCE_CHARS = 4_000
"""About four minutes of speech; longer text is cut."""
MAX_MEMORY_BYTES = 256 * 1024
MEMORY_VERSION = 1


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

    def export_memory(self) -> bytes:
        """Give what is worth knowing in the caller's next call, facts and profile, as JSON.

        Entries that JSON cannot hold are left out, and the oldest facts beyond `MAX_MEMORY_BYTES`. What was
        said and the slots of tasks are not part of it.
        """
        facts, profile = _writable(self._facts), _writable(self._profile)
        while True:
            memory = orjson.dumps({"version": MEMORY_VERSION, "facts": facts, "profile": profile})
            if len(memory) <= MAX_MEMORY_BYTES or not (facts or profile):
                return memory
            larger = facts or profile
            for name in list(larger)[: len(larger) // 2 + 1]:
                del larger[name]

    def import_memory(self, memory: bytes) -> None:
        """Take in what `export_memory` gave in an earlier call; what this call knows already stays.

        Who the caller is must be certain first: the memory of one is not for another.

        Raises:
            ConfigurationError: it is not such a memory.
        """
        if len(memory) > MAX_MEMORY_BYTES:
            raise ConfigurationError(f"a memory may hold {MAX_MEMORY_BYTES} bytes, got {len(memory)}")
        try:
            read = orjson.loads(memory)
        except orjson.JSONDecodeError:
            raise ConfigurationError("the memory is not JSON") from None
        if not isinstance(read, dict) or read.get("version") != MEMORY_VERSION:
            raise ConfigurationError(f"the memory is not of version {MEMORY_VERSION}")
        for mine, earlier in ((self._facts, read.get("facts")), (self._profile, read.get("profile"))):
            if not isinstance(earlier, dict):
                raise ConfigurationError("the memory lacks facts or profile")
            known = dict(mine)
            mine.clear()
            for name, value in (*((n, v) for n, v in earlier.items() if n not in known), *known.items()):
                _put(mine, name, value)

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


def _writable(entries: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in entries.items():
        try:
            found[name] = orjson.loads(orjson.dumps(value))
        except TypeError:
            continue  # an object of this process only
    return found

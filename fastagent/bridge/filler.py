"""Filler: words against a silence while functions or tasks are at work."""

from collections.abc import Sequence

__all__ = ["Filler"]


class Filler:
    """Says when which filler is due. All times are monotonic seconds.

    Each of the words is due once per wait, in order: a caller who waits longer than that hears nothing new
    in them.
    """

    def __init__(self) -> None:
        self.is_agent_at_work = False
        """A task of the agent works without a function call that waits for it."""
        self._after_s: float | None = None
        self._words: tuple[str, ...] = ()
        self._said = 0
        self._due_at: float | None = None
        self._quiet_since: float | None = None

    def set(self, after_s: float | None, words: Sequence[str]) -> None:
        """Have these words said against a silence of so long; None: never."""
        if (after_s, tuple(words)) != (self._after_s, self._words):
            self._after_s, self._words, self._said = after_s, tuple(words), 0

    def due(self, now: float, *, is_working: bool, is_free: bool, silent_at: float | None) -> str | None:
        """Give the words that are to be said now.

        Args:
            is_working: something is at work for the caller.
            is_free: nobody speaks or is about to.
            silent_at: when the bot will have been heard to its end, ``now`` if it has; None while that
                cannot be said.
        """
        self._due_at = None
        if not is_working:
            self._said, self._quiet_since = 0, None
            return None
        if self._after_s is None or not is_free or silent_at is None or self._said >= len(self._words):
            self._quiet_since = None
            return None
        if self._quiet_since is None or silent_at > now:
            self._quiet_since = silent_at
        due_at = self._quiet_since + self._after_s
        if now < due_at:
            self._due_at = due_at
            return None
        self._said += 1
        self._quiet_since = None
        return self._words[self._said - 1]

    def next_deadline(self) -> float | None:
        """When to ask again."""
        return self._due_at

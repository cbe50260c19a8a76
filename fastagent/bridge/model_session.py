"""The model's session: what it is configured with, what was made in it, and when another takes its place."""

from collections.abc import Sequence
from dataclasses import replace

from fastagent.bridge.commands import Command, NoteInterruption, ReplaceModel
from fastagent.bridge.history import ConversationHistory
from fastagent.media.playout import Cut
from fastagent.stats import Counters
from fastagent.wire import realtime_events as model

__all__ = ["ModelSession"]

PAUSE_CHECK_S = 1.0
"""A session that is to be replaced in the midst of the talk: when to look for a pause again."""
REPLACED_BEFORE_END_S = 60.0
CHANGE_DELAY_S = 0.1
"""How long a change of settings waits for others, where no response is about to be asked for."""


class ModelSession:
    """One session at a time, each beginning where the one before ended. All times are monotonic seconds.

    Args:
        settings: what every session is configured with, until `configure` says otherwise.
        history: what a session is rebuilt from.
        limit_s: how old a session may grow.
        counters: where oddities are counted.
    """

    def __init__(
        self,
        settings: model.SessionSettings,
        history: ConversationHistory,
        *,
        limit_s: float,
        counters: Counters,
    ) -> None:
        self.is_connected = False
        self.is_gone = False
        """No session can be had any more."""
        self.items: set[str] = set()
        """Items whose audio the current session made: no other can be truncated in it."""
        self.calls: set[str] = set()
        """Function calls that the current session knows it made, by call id."""
        self._settings = settings
        self._told = settings
        """What the session was told last; it differs from the settings while a change waits."""
        self._is_accepted = False
        """The session has taken an update."""
        self._change_at: float | None = None
        self._history = history
        self._limit_s = limit_s
        self._counters = counters
        self._is_bare = False
        self._deadline: float | None = None
        self._is_replacing = False

    @property
    def turn_detection(self) -> model.TurnDetection:
        """How the model is to hear that the caller's turn begins and ends."""
        return self._told.turn_detection

    @property
    def writes_down(self) -> bool:
        """The caller's words are transcribed."""
        return self._told.transcription_model is not None

    def opened(self, now: float, *, lifetime_s: float | None) -> list[Command]:
        """A session is there: configure it, and replay what was said.

        Args:
            lifetime_s: what it has to live, if the model told.
        """
        limit_s = self._limit_s
        # A lifetime that is over already speaks of a wrong clock, ours or theirs.
        if lifetime_s is not None and lifetime_s > 0:
            # A session is replaced a minute before it ends, or halfway through a short one.
            limit_s = min(limit_s, max(lifetime_s - REPLACED_BEFORE_END_S, lifetime_s / 2))
        self._deadline = now + limit_s
        self.is_connected = True
        self.is_gone = False
        self._is_replacing = False
        self._is_accepted = False
        return [self._tell(), *self._history.replay()]

    def lost(self) -> None:
        """The session is gone, and what was made in it means nothing to the next."""
        self.is_connected = False
        self._deadline = None
        self._change_at = None
        self.items.clear()
        self.calls.clear()

    def accepted(self) -> None:
        """An update is in force."""
        self._is_accepted = True

    def refused(self) -> list[Command] | None:
        """The whole update was refused, formats and tools with it: try once with the bare necessities.

        Returns:
            Nothing to send when an earlier update is in force, for the session goes on with that; None when
            there is none, and the bare necessities were tried already.
        """
        self._counters.note("session_updates_refused")
        if self._is_accepted:
            return []
        if self._is_bare:
            return None
        self._is_bare = True
        self._settings = _bare(self._settings)
        return [self._tell()]

    # Changes

    def configure(self, settings: model.SessionSettings, now: float) -> None:
        """Have other settings in force; `change` sends them. Those of before are then not sent any more."""
        self._settings = _bare(settings) if self._is_bare else settings
        if not self.is_connected or self._settings == self._told:
            self._change_at = None
        elif self._change_at is None:
            self._change_at = now + CHANGE_DELAY_S

    @property
    def change_at(self) -> float | None:
        """When to send a change that waits, in a pause; sooner if a response is asked for."""
        return self._change_at

    def change(self) -> list[Command]:
        """Send the change that waits, if one does. Only at a turn boundary: what is under way is not to end
        under other rules than it began."""
        return [] if self._change_at is None else [self._tell()]

    def _tell(self) -> Command:
        self._told = self._settings
        self._change_at = None
        return model.UpdateSession(self._settings)

    # What the caller heard

    def tell_heard(self, cuts: Sequence[Cut]) -> list[Command]:
        """Have the model, and the record, know of the bot's words only what the caller heard."""
        commands: list[Command] = []
        for cut in cuts:
            is_known = cut.item_id in self.items
            if cut.audio_end_ms > 0:
                if is_known:
                    commands.append(model.TruncateItem(cut.item_id, cut.audio_end_ms, cut.content_index))
                self._history.truncate_item(cut.item_id, cut.audio_end_ms / cut.received_ms)
            else:
                if is_known:
                    commands.append(model.DeleteItem(cut.item_id))
                self._history.delete_item(cut.item_id)
            if cut.received_ms:
                commands.append(NoteInterruption(cut.item_id, cut.audio_end_ms))
        return commands

    def tell_unheard(self, item_id: str) -> list[Command]:
        """An item of which the caller will hear nothing: the model must not think that it was said."""
        self._history.delete_item(item_id)
        return [model.DeleteItem(item_id)] if item_id else []

    # Time

    def is_due(self, now: float) -> bool:
        """It is time for another session."""
        return self._deadline is not None and not self._is_replacing and now >= self._deadline

    def postpone(self, now: float) -> None:
        """Not in the midst of the talk."""
        self._deadline = now + PAUSE_CHECK_S

    def replace(self) -> list[Command]:
        """Have another session opened."""
        self._is_replacing = True
        self._counters.note("model_sessions_replaced")
        return [ReplaceModel()]

    def next_deadline(self) -> float | None:
        """When it is time for another."""
        return None if self._is_replacing else self._deadline


def _bare(settings: model.SessionSettings) -> model.SessionSettings:
    return replace(
        settings,
        voice=None,
        speed=None,
        transcription_model=None,
        transcription_language=None,
        transcription_prompt=None,
        noise_reduction=None,
        max_output_tokens=None,
    )

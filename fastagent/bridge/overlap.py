"""What the caller says over the bot: it takes no turn of itself; our own ears and its words decide.

First the bot is only held; `media.bargein` judges whether it is cut or goes on. What was taken for a
backchannel is weighed once more when its words are known.
"""

from enum import Enum

from fastagent.bridge.clips import ClipPlayer
from fastagent.media.bargein import BargeIn, Decision, says_something
from fastagent.media.playout import PlayoutLedger
from fastagent.stats import Counters
from fastagent.wire import realtime_events as model

__all__ = ["Claim", "Overlap"]

ITEMS_KEPT = 8
"""Utterances over the bot whose words are waited for."""


class Claim(Enum):
    """What the words of somebody who spoke over the bot ask for."""

    NOTHING = "nothing"
    ANSWER = "answer"
    """To be answered, once the bot has said what it says."""
    TURN = "turn"
    """The bot is to stop."""


class Overlap:
    """Speech over the bot. All times are monotonic seconds.

    Args:
        ledger: knows what was heard.
        clips: those that are protected may not be interrupted.
        barge_in: decides by our own ears; None leaves it to the model what may stop the bot.
        counters: where oddities are counted.
    """

    def __init__(
        self, ledger: PlayoutLedger, clips: ClipPlayer, barge_in: BargeIn | None, counters: Counters
    ) -> None:
        self._ledger = ledger
        self._clips = clips
        self._barge_in = barge_in
        self._counters = counters
        self._is_under_way = False
        """What the caller says began over the bot, and has not taken the turn."""
        self._items: list[str] = []
        """Items that began so; their words may still take the turn."""

    @property
    def is_holding(self) -> bool:
        """The bot is held, and the caller's speech not judged yet."""
        return self._barge_in is not None and self._barge_in.is_holding

    def begin(self, item_id: str, now: float) -> bool:
        """The caller begins to speak: whether it is over the bot, so that it takes no turn yet."""
        is_ours_to_judge = self._barge_in is not None or self._clips.is_protected(now)
        self._is_under_way = is_ours_to_judge and self._ledger.is_audible(now)
        if self._is_under_way and item_id:
            # A model takes echo and "uh-huh" for speech, too.
            self._items = [*self._items[1 - ITEMS_KEPT :], item_id]
        return self._is_under_way

    def end(self) -> None:
        """The bot's turn is over: whatever is said from now on is said over nobody."""
        self._is_under_way = False
        if self._barge_in is not None:
            self._barge_in.reset()

    def is_unheeded(self, now: float) -> bool:
        """What the caller says takes no turn: the bot speaks on."""
        return self._is_under_way and self._ledger.is_audible(now)

    def hold(self, now: float) -> bool:
        """The caller is heard over the bot, and it is not the bot's echo: whether the bot falls silent."""
        if self._barge_in is None:
            return False
        if not self._ledger.is_audible(now):
            # They went on where the bot ended: an ordinary turn.
            self._is_under_way = False
            return False
        if self._clips.is_protected(now) or self._barge_in.overlapped(now) is not Decision.HOLD:
            return False
        self._counters.note("holds")
        self._ledger.hold(now)
        return True

    def advance(self, now: float) -> Decision:
        """Judge what is heard of a caller over whom the bot is held; one that resumes is let go here."""
        if self._barge_in is None:
            return Decision.NONE
        decision = self._barge_in.advance(now)
        if decision is Decision.RESUME:
            # The caller meant nothing by it: the bot goes on where it was held.
            self._counters.note("backchannels")
            self._is_under_way = True
            self._ledger.release()
        return decision

    def weigh(self, event: model.CallerTranscript, now: float) -> Claim:
        """The words of what was said over the bot may take the turn after all."""
        if self._barge_in is None or event.item_id not in self._items:
            return Claim.NOTHING
        self._items.remove(event.item_id)
        if not self._is_under_way or self._barge_in.is_holding or self._clips.is_protected(now):
            return Claim.NOTHING
        if self._barge_in.said(event.text) is Decision.CUT and self._ledger.is_audible(now):
            return Claim.TURN
        # A protected bot speaks on; what was said meanwhile is answered then.
        is_owed = self._barge_in.policy.mode != "interruptible" and says_something(event.text)
        return Claim.ANSWER if is_owed else Claim.NOTHING

    def next_deadline(self) -> float | None:
        """When `advance` is due."""
        return None if self._barge_in is None else self._barge_in.next_deadline()

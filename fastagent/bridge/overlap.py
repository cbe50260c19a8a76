"""What the caller says over the bot: it takes no turn of itself; our own ears and its words decide.

First the bot is only held; `media.bargein` judges whether it is cut or goes on. What was taken for a
backchannel is weighed once more when its words are known. What took no turn and was not answered is
remembered: said into the last words of the bot, or with something in it, it is answered after them.
"""

from enum import Enum

from fastagent.bridge.clips import ClipPlayer
from fastagent.media.bargein import BargeIn, Decision, repeats, says_something
from fastagent.media.playout import PlayoutLedger
from fastagent.stats import Counters
from fastagent.wire import realtime_events as model

__all__ = ["Claim", "Overlap"]

ITEMS_KEPT = 8
"""Utterances over the bot whose words are waited for."""
TAIL_S = 1.5
"""What is said so soon before the bot's end answers it: nobody says "yes" to what goes on for longer."""


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
        has_words: the caller's words are transcribed.
        counters: where oddities are counted.
    """

    def __init__(
        self,
        ledger: PlayoutLedger,
        clips: ClipPlayer,
        barge_in: BargeIn | None,
        *,
        has_words: bool,
        counters: Counters,
    ) -> None:
        self._ledger = ledger
        self._clips = clips
        self._barge_in = barge_in
        self._has_words = has_words
        self._counters = counters
        self._is_under_way = False
        """What the caller says began over the bot, and has not taken the turn."""
        self._is_confirmed = False
        """Our own ears heard it, too."""
        self._items: list[str] = []
        """Items that began so; their words may still take the turn."""
        self._ended_at: float | None = None
        """When the last utterance ended that nobody answered."""
        self._says_something: bool | None = None
        """Whether it does; None while its words are not known."""

    @property
    def is_holding(self) -> bool:
        """The bot is held, and the caller's speech not judged yet."""
        return self._barge_in is not None and self._barge_in.is_holding

    def begin(self, item_id: str, now: float) -> bool:
        """The caller begins to speak: whether it is over the bot, so that it takes no turn yet."""
        is_ours_to_judge = self._clips.is_protected(now) or (
            self._barge_in is not None
            and not (self._barge_in.is_models and self._barge_in.policy.mode == "interruptible")
        )
        self._is_under_way = is_ours_to_judge and self._ledger.is_audible(now)
        ears = self._barge_in
        self._is_confirmed = ears is None or ears.is_models or ears.is_caller_talking
        self._ended_at = None
        if self._is_under_way:
            self.add_item(item_id)
        return self._is_under_way

    def add_item(self, item_id: str) -> None:
        """What is said over the bot has this name; a model takes echo and "uh-huh" for speech, too."""
        if item_id:
            self._items = [*self._items[1 - ITEMS_KEPT :], item_id]

    def end(self) -> None:
        """The bot's turn is over: whatever is said from now on is said over nobody."""
        self._is_under_way = False
        self._items.clear()
        self._ended_at = None
        if self._barge_in is not None:
            self._barge_in.reset()

    def is_unheeded(self, now: float) -> bool:
        """What the caller says takes no turn: the bot speaks on."""
        return self._is_under_way and self._ledger.is_audible(now)

    def is_unanswerable(self, now: float) -> bool:
        """An answer that the model gives by itself is not wanted now."""
        if not self._is_under_way:
            return False
        if self._ledger.is_audible(now):
            return self.is_holding or self._ledger.remaining_s(now) > TAIL_S
        # It began over the bot, and our ears heard nobody: most likely its echo. The words will tell.
        return self._has_words and not self._is_confirmed

    # What was not answered

    def leave_unanswered(self, now: float) -> None:
        """An utterance ended, or an answer to it was declined, and the bot speaks on."""
        if self._ended_at is None:
            self._says_something = None
        self._ended_at = now

    @property
    def is_unanswered(self) -> bool:
        """Somebody may still have to be answered."""
        return self._ended_at is not None

    def answered(self) -> None:
        """They were."""
        self._is_under_way = False
        self._ended_at = None

    def take_answer_due(self, now: float) -> bool:
        """The bot has ended: whether what was said over it is to be answered; asked once."""
        if self._ended_at is None:
            return False
        said_at, self._ended_at = self._ended_at, None
        is_late = now - said_at <= TAIL_S
        is_interruptible = self._barge_in is not None and self._barge_in.policy.mode == "interruptible"
        if self._says_something is None:
            # Without words: a protected bot owes an answer to whatever was said, another judged by length.
            return not is_interruptible or (is_late and self._is_confirmed)
        return self._says_something or (is_late and self._is_confirmed)

    # By our own ears

    def hold(self, now: float) -> bool:
        """The caller is heard, and it is not the bot's echo: whether the bot falls silent."""
        if self._barge_in is None:
            return False
        self._is_confirmed = True
        if not self._ledger.is_audible(now):
            # They went on where the bot ended: an ordinary turn.
            self._is_under_way = False
            return False
        return self._hold(self._barge_in, now)

    def hold_beginning(self, now: float) -> bool:
        """The bot begins: whether it is held at once, because the caller goes on speaking."""
        ears = self._barge_in
        return ears is not None and ears.is_caller_talking and self._hold(ears, now)

    def _hold(self, ears: BargeIn, now: float) -> bool:
        if self._clips.is_protected(now) or ears.overlapped(now) is not Decision.HOLD:
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

    def quiet_s(self) -> float:
        """Since the caller's last sound over the bot."""
        return 0.0 if self._barge_in is None else self._barge_in.quiet_s()

    # By its words

    def weigh(self, event: model.CallerTranscript, bot_words: str, now: float) -> Claim:
        """The words of what was said over the bot may take the turn after all.

        Args:
            bot_words: what the bot said last.
        """
        if self._barge_in is None or event.item_id not in self._items:
            return Claim.NOTHING
        self._items.remove(event.item_id)
        if self._clips.is_protected(now):
            return Claim.NOTHING
        is_echo = not self._is_confirmed and repeats(event.text, bot_words)
        says = says_something(event.text, self._barge_in.policy.backchannels) and not is_echo
        if not self._ledger.is_audible(now):
            is_owed = says and self._is_under_way
            if is_owed:
                self.answered()
            return Claim.ANSWER if is_owed else Claim.NOTHING
        if not self._is_under_way and not self.is_holding:
            return Claim.NOTHING
        self._says_something = says
        if not is_echo and self._barge_in.said(event.text) is Decision.CUT:
            return Claim.TURN
        # A bot that may not be stopped speaks on; what was said meanwhile is answered then.
        is_owed = says and self._barge_in.policy.mode != "interruptible"
        if is_owed:
            self._ended_at = None
        return Claim.ANSWER if is_owed else Claim.NOTHING

    def next_deadline(self) -> float | None:
        """When `advance` is due."""
        return None if self._barge_in is None else self._barge_in.next_deadline()

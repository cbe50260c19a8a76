"""What was said, in words: for the carrier while it is spoken, for the agent once it was."""

from fastagent.bridge.commands import BotSaid, CallerSaid, Command
from fastagent.bridge.history import ConversationHistory
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model

__all__ = ["HYPOTHESIS_CHARACTERS_MAX", "Transcripts"]

HYPOTHESIS_CHARACTERS_MAX = 500
"""Each hypothesis repeats the utterance so far: beyond this length only the final transcript is told."""


class Transcripts:
    """Puts the pieces of what the caller says together; cuts what the bot said to what was heard.

    Args:
        history: knows what was heard of the bot's words.
    """

    def __init__(self, history: ConversationHistory) -> None:
        self._history = history
        self._hypothesis_id = ""
        self._hypothesis = ""
        self._last_bot_text = ("", "")
        """The item whose words came last, and the words."""

    def caller_said(self, event: model.CallerTranscript) -> list[Command]:
        """Words of the caller, or a piece of them."""
        if not event.is_final:
            if event.item_id != self._hypothesis_id:
                self._hypothesis_id, self._hypothesis = event.item_id, ""
            self._hypothesis += event.text
            if len(self._hypothesis) > HYPOTHESIS_CHARACTERS_MAX:
                return []
            return [carrier.ReportTranscript(self._hypothesis, is_final=False)]
        self._hypothesis_id, self._hypothesis = "", ""
        if not event.text.strip():
            return []
        return [carrier.ReportTranscript(event.text, is_final=True), CallerSaid(event.text)]

    def bot_said(self, event: model.BotTranscript) -> list[Command]:
        """All words of an item of the bot."""
        heard = self._history.heard_text(event.item_id)
        text = event.text if heard is None else heard
        if not text.strip():
            return []
        self._last_bot_text = (event.item_id, text)
        return [BotSaid(text)]

    @property
    def last_words(self) -> str:
        """What the bot said last."""
        return self._last_bot_text[1]

    def words_of(self, item_id: str) -> str | None:
        """What an item of the bot is about to say, if its words were the last to come."""
        return self._last_bot_text[1] if self._last_bot_text[0] == item_id else None

"""Heard: what the caller was heard to say since a question, held against the answer a model passes on.

An answer comes through the talking model, which may obey what it was told to say, or make an answer up. The
caller's own words come another way, from the transcript. So a "yes" that the caller was heard not to say is
no yes. The transcript may be missing: then nothing is known, and nothing is held against an answer. One that
comes late, so that the words before the question stand after it, costs the caller one question more.
"""

from fastagent.afsm.spoken import parse_yes_no
from fastagent.context import ConversationContext, Utterance

__all__ = ["Heard"]

KEYS = frozenset("0123456789ABCD*# ")


class Heard:
    """The caller's own words since the last question.

    Args:
        context: its history holds the transcript.
    """

    def __init__(self, context: ConversationContext) -> None:
        self._context = context
        self._last: Utterance | None = None

    def mark(self) -> None:
        """A question is asked: what was heard until now is no answer to it."""
        history = self._context.history
        self._last = history[-1] if history else None

    def contradicts_yes(self) -> bool:
        """Tell whether the caller was heard since, and did not say yes.

        Of several clear answers the last one counts; words that hold both yes and no are none.
        """
        was_heard = False
        for utterance in reversed(self._context.history):
            if utterance is self._last:
                break
            if utterance.speaker != "caller" or KEYS.issuperset(utterance.text):
                continue  # keys pressed stand in the history too, and are no words
            was_heard = True
            said_yes = parse_yes_no(utterance.text)
            if said_yes is not None:
                return not said_yes
        return was_heard

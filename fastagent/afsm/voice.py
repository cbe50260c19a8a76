"""VoicePolicy: how the bot behaves on the line while a state is current."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["MAX_FILLER_AFTER_MS", "VoicePolicy"]

MAX_FILLER_AFTER_MS = 60_000

_DTMF_GRAMMAR = re.compile(r"[0-9A-D*#\[\](){}|?+,\\d-]{1,200}")
"""What a keypad grammar may be written with: keys, classes, counts, choices."""


@dataclass(frozen=True, slots=True)
class VoicePolicy:
    """What a caller may interrupt, how they are listened to, and what is kept of what they say."""

    barge_in: Literal["interruptible", "protected", "keyword"] = "interruptible"
    """``protected``: the bot finishes what it says, and answers then; ``keyword``: only ``barge_in_keywords``
    stop it, once they are transcribed."""
    barge_in_keywords: Sequence[str] = ()
    is_recorded: bool = True
    """While it is False a recording holds silence, on both sides: for card numbers and the like."""
    speech: Literal["default", "eager", "patient", "dictation"] = "default"
    """How soon a pause ends the caller's turn: ``eager`` for yes and no, ``patient`` for people who think
    aloud, ``dictation`` for numbers read from a card."""
    tools: Sequence[str] | None = None
    """Functions the model may call while the state is current; None: all the agent has."""
    filler_after_ms: int | None = None
    """Say one of ``filler`` when nothing was said for so long; None: never."""
    filler: Sequence[str] = ()
    dtmf_grammar: str = ""
    """A regular expression for keys pressed one after another (``[0-9]{4}#``); empty takes single keys."""
    redaction: Literal["none", "digits", "all"] = "none"
    """What records leave out of what is said in this state."""
    is_call_only: bool = False
    """What is asked here is answered in a call, never by text message. So is, without this, whatever stays
    out of records or takes a key of the telephone."""

    def __post_init__(self) -> None:
        if self.barge_in not in ("interruptible", "protected", "keyword"):
            raise ValueError(f"expected interruptible, protected or keyword, got {self.barge_in!r}")
        if isinstance(self.barge_in_keywords, str):
            raise ValueError("barge_in_keywords must be a tuple of words, got one string")
        if self.barge_in == "keyword" and not any(word.strip() for word in self.barge_in_keywords):
            raise ValueError("barge-in by keyword needs keywords")
        if self.speech not in ("default", "eager", "patient", "dictation"):
            raise ValueError(f"expected default, eager, patient or dictation, got {self.speech!r}")
        if self.redaction not in ("none", "digits", "all"):
            raise ValueError(f"expected none, digits or all, got {self.redaction!r}")
        if isinstance(self.tools, str) or isinstance(self.filler, str):
            raise ValueError("tools and filler must be tuples of texts, got one string")
        if self.filler_after_ms is not None:
            if not 0 < self.filler_after_ms <= MAX_FILLER_AFTER_MS:
                raise ValueError(f"filler_after_ms must be 1 to {MAX_FILLER_AFTER_MS}")
            if not any(words.strip() for words in self.filler):
                raise ValueError("filler_after_ms needs filler words")
        if self.dtmf_grammar:
            _check_dtmf_grammar(self.dtmf_grammar)
        # Lists are taken too; a policy is a value, so it keeps tuples.
        object.__setattr__(self, "barge_in_keywords", _frozen(self.barge_in_keywords))
        object.__setattr__(self, "filler", _frozen(self.filler))
        if self.tools is not None:
            object.__setattr__(self, "tools", _frozen(self.tools))

    def accepts_keys(self, keys: str) -> bool:
        """Tell whether the keys pressed so far are a whole entry."""
        if not self.dtmf_grammar:
            return len(keys) == 1
        return re.fullmatch(self.dtmf_grammar, keys) is not None


def _check_dtmf_grammar(grammar: str) -> None:
    if not _DTMF_GRAMMAR.fullmatch(grammar):
        raise ValueError("dtmf_grammar may hold 0-9 A-D * # and [ ] ( ) { } | ? + , - \\d, up to 200 of them")
    if re.search(r"\)[+*{]", grammar):
        # Counts of counts take exponential time on a long run of keys.
        raise ValueError("dtmf_grammar may not repeat a group")
    try:
        re.compile(grammar)
    except re.error as error:
        raise ValueError(f"dtmf_grammar is no regular expression: {error.msg}") from None


def _frozen(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)

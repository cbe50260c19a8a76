"""Claims: whether words say that an effect was done."""

import re
from collections.abc import Iterable

__all__ = ["claims_any"]

LOOK_BACK_WORDS = 4
"""How far before a claim a word may stand that turns it into something else."""

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_TURNED = frozenset({
    "not", "no", "never", "cannot", "nothing", "without", "if", "once", "when", "unless", "until", "before",
    "whether", "will", "would", "shall", "should", "could", "can", "might", "must", "let", "going",
})  # fmt: skip


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("\u2019", "'"))


def claims_any(text: str, phrases: Iterable[str]) -> bool:
    """Tell whether a statement in ``text`` holds one of the phrases, word by word.

    Questions, denials, conditions and promises ("shall I book it?", "it is not booked", "once it is booked",
    "it will be booked") are no claims. This reads English.
    """
    wanted = [words for phrase in phrases if (words := _words(phrase))]
    for sentence in _SENTENCE.findall(text):
        if sentence.endswith("?"):
            continue
        said = _words(sentence)
        for words in wanted:
            for at in range(len(said) - len(words) + 1):
                if said[at : at + len(words)] != words:
                    continue
                before = said[max(0, at - LOOK_BACK_WORDS) : at]
                if not any(_is_turning(word) for word in before):
                    return True
    return False


def _is_turning(word: str) -> bool:
    return word in _TURNED or word.endswith(("n't", "'ll"))

"""Text as words: how phrases, prompts and rules compare what was said."""

import re

__all__ = ["normalise"]

_WORD = re.compile(r"[a-z0-9']+")


def normalise(text: str) -> str:
    """The words of a text, lower case, one space between.

    >>> normalise("That's it: 3 PM!")
    "that's it 3 pm"
    """
    return " ".join(_WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")))

"""Segments: what a text message costs, and texts made to fit.

A message of GSM-7 characters holds 160 of them, or 153 in each of several segments; one character beyond that
alphabet makes the whole message UCS-2, with 70 and 67. Source: 3GPP TS 23.038 and TS 23.040. What typography
puts in place of plain quotes, dashes and blanks is written plainly, since it would cost half of the room.
"""

import re

__all__ = ["SEGMENTS_MAX", "fitted", "segments_of"]

SEGMENTS_MAX = 3
"""Of one message: longer ones cost as much as calls."""
GSM_SINGLE, GSM_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
"""Two places each."""
_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
        "\t": " ",
    }
)
_SENTENCES = re.compile(r"(?<=[.!?]) +")


def segments_of(text: str) -> int:
    """How many segments a text takes; 0 for an empty one."""
    if all(one in _BASIC or one in _EXTENDED for one in text):
        places = sum(2 if one in _EXTENDED else 1 for one in text)
        single, part = GSM_SINGLE, GSM_PART
    else:
        places, single, part = len(text.encode("utf-16-le", "replace")) // 2, UCS2_SINGLE, UCS2_PART
    if places <= single:
        return 1 if places else 0
    return -(-places // part)


def fitted(text: str, segments_max: int = SEGMENTS_MAX) -> str:
    """The text in at most so many segments.

    Whole sentences go first, from the beginning: what is asked stands at the end. A last sentence that is
    still too long loses its end.
    """
    text = text.translate(_PLAIN).strip()
    if segments_of(text) <= segments_max:
        return text
    sentences = _SENTENCES.split(text)
    while len(sentences) > 1:
        del sentences[0]
        if segments_of(shorter := " ".join(sentences)) <= segments_max:
            return shorter
    fits, too_long = 0, len(sentences[0])
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if segments_of(sentences[0][:middle]) <= segments_max:
            fits = middle
        else:
            too_long = middle
    return sentences[0][:fits].rstrip()

"""What a text message costs, and texts made to fit."""

import pytest

from fastagent.telephony.segments import fitted, segments_of


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 0),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("я" * 70, 1),
        ("я" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("a" * 134 + "я", 3),
    ],
)
def test_segments_count_the_places_of_the_alphabet_that_a_text_needs(text: str, segments: int) -> None:
    assert segments_of(text) == segments


def test_a_text_that_fits_is_sent_as_it_is_with_plain_marks() -> None:
    assert (
        fitted("Is that \u201cright\u201d \u2013 you\u2019re sure\u2026?")
        == 'Is that "right" - you\'re sure...?'
    )


def test_a_text_that_is_too_long_keeps_its_question() -> None:
    words = "This is explained at great length. " * 20
    text = fitted(words + "Shall I book it?")
    assert text.endswith("great length. Shall I book it?")
    assert segments_of(text) == 3
    assert segments_of(text + words[:35]) == 4


@pytest.mark.parametrize("letter", ["a", "я", "😀"])
def test_a_sentence_that_is_too_long_loses_its_end(letter: str) -> None:
    text = fitted(letter * 2000)
    assert text == letter * len(text)
    assert segments_of(text) == 3
    assert segments_of(text + letter) == 4

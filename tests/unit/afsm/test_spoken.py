"""Spoken values: words in, values out."""

from datetime import date, time
from decimal import Decimal

import pytest

from fastagent.afsm import spoken

TODAY = date(2026, 11, 25)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two hundred and fifty", "250"),
        ("three thousand two hundred", "3200"),
        ("one million", "1000000"),
        ("twenty-five dollars", "25"),
        ("three point five", "3.5"),
        ("minus four", "-4"),
        ("about 1,250.50 please", "1250.50"),
        ("12", "12"),
        ("ten or 12 or 13", None),
        ("nothing at all", None),
    ],
)
def test_numbers(text, number):
    assert spoken.parse_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("four two four two", "4242"),
        ("four double two oh", "4220"),
        ("4 2 42", "4242"),
        ("it is one two, three four", "1234"),
        ("hello", None),
    ],
)
def test_digits(text, digits):
    assert spoken.parse_digits(text) == digits


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes please", True),
        ("that's right", True),
        ("no", False),
        ("no, that's right out", False),
        ("that is not right", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_yes_and_no(text, answer):
    assert spoken.parse_yes_no(text) is answer


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-12-03", date(2026, 12, 3)),
        ("2026-13-03", None),
        ("today", TODAY),
        ("tomorrow", date(2026, 11, 26)),
        ("the day after tomorrow", date(2026, 11, 27)),
        ("on friday", date(2026, 11, 27)),
        ("wednesday", date(2026, 12, 2)),
        ("the third of december", date(2026, 12, 3)),
        ("december twenty third", date(2026, 12, 23)),
        ("march 1st", date(2027, 3, 1)),
        ("february 29th", date(2028, 2, 29)),
        ("april thirty first", None),
        ("some day", None),
    ],
)
def test_days(text, day):
    assert spoken.parse_date(text, TODAY) == day


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("15:30", time(15, 30)),
        ("3:30 pm", time(15, 30)),
        ("three pm", time(15)),
        ("half past two in the afternoon", time(14, 30)),
        ("quarter to nine", time(8, 45)),
        ("twelve am", time(0)),
        ("noon", time(12)),
        ("9am", time(9)),
        ("later", None),
    ],
)
def test_times(text, at):
    assert spoken.parse_time(text) == at


def test_choices_are_found_as_whole_words_and_the_longer_one_wins():
    choices = ["savings", "savings plus", "credit_card"]
    assert spoken.parse_choice("my savings plus account", choices) == "savings plus"
    assert spoken.parse_choice("the credit card", choices) == "credit_card"
    assert spoken.parse_choice("savings or credit card", choices) is None
    assert spoken.parse_choice("spending", choices) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        ("4242", "4 2 4 2"),
        (date(2026, 12, 3), "Thursday, December 3"),
        (time(15, 30), "3:30 pm"),
        (time(0), "12 am"),
        (Decimal("250.00"), "250"),
        (["a_b", 1], "a b, 1"),
    ],
)
def test_values_are_spoken(value, words):
    assert spoken.say_value(value) == words

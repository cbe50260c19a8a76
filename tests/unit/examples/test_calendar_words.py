"""Dates and times as callers say them."""

from datetime import date, time

import pytest

from fastagent.examples.calendar_words import parse_date, parse_time, spoken_date, spoken_time, words_of

TUESDAY = date(2026, 11, 17)


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("today please", "2026-11-17"),
        ("Tomorrow.", "2026-11-18"),
        ("tomorrow at three pm", "2026-11-18"),
        ("not today, tomorrow", "2026-11-18"),
        ("the day after tomorrow", "2026-11-19"),
        ("in three days", "2026-11-20"),
        ("in a week", "2026-11-24"),
        ("in two weeks", "2026-12-01"),
        ("on Friday", "2026-11-20"),
        ("monday", "2026-11-23"),
        ("tuesday", "2026-11-24"),
        ("this tuesday", "2026-11-17"),
        ("next friday", "2026-11-27"),
        ("next tuesday", "2026-11-24"),
        ("next monday", "2026-11-23"),
        ("2026-12-24", "2026-12-24"),
        ("the twenty-fourth", "2026-11-24"),
        ("on the 24th at two", "2026-11-24"),
        ("the third", "2026-12-03"),
        ("the thirty first", "2026-12-31"),
        ("the thirtieth", "2026-11-30"),
        ("24th of November", "2026-11-24"),
        ("the twenty first of december", "2026-12-21"),
        ("November 24", "2026-11-24"),
        ("november the twelfth", "2027-11-12"),
        ("january fifth", "2027-01-05"),
        ("december 3 2026", "2026-12-03"),
        ("the 5th of may 2026", "2026-05-05"),
        ("february twenty ninth", "2028-02-29"),
        ("saturday", "2026-11-21"),
    ],
)
def test_day_is_found(said, day):
    assert parse_date(said, TUESDAY) == date.fromisoformat(day)


@pytest.mark.parametrize(
    "said",
    ["", "hello", "three pm", "just a second", "next week", "2026-02-30", "february 30", "the 45th", "0"],
)
def test_no_day_is_found(said):
    assert parse_date(said, TUESDAY) is None


def test_days_roll_over_the_year():
    assert parse_date("the fifth", date(2026, 12, 31)) == date(2027, 1, 5)
    assert parse_date("the thirty first", date(2027, 1, 31)) == date(2027, 1, 31)


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("three pm", "15:00"),
        ("three p.m.", "15:00"),
        ("3 P M", "15:00"),
        ("3pm", "15:00"),
        ("3p.m. please", "15:00"),
        ("three am", "03:00"),
        ("at three", "15:00"),
        ("at ten", "10:00"),
        ("ten", "10:00"),
        ("at ten in the morning", "10:00"),
        ("eight in the evening", "20:00"),
        ("three o'clock", "15:00"),
        ("ten o'clock in the morning", "10:00"),
        ("half past two", "14:30"),
        ("half past ten am", "10:30"),
        ("quarter past four", "16:15"),
        ("a quarter to three", "14:45"),
        ("quarter to one", "12:45"),
        ("twenty to eleven", "10:40"),
        ("twenty five past nine", "09:25"),
        ("15:30", "15:30"),
        ("9:05 am", "09:05"),
        ("two thirty", "14:30"),
        ("two thirty five pm", "14:35"),
        ("fifteen thirty", "15:30"),
        ("at noon", "12:00"),
        ("twelve", "12:00"),
        ("twelve pm", "12:00"),
        ("twelve am", "00:00"),
        ("midnight", "00:00"),
        ("five", "17:00"),
        ("seven", "07:00"),
    ],
)
def test_time_is_found(said, at):
    assert parse_time(said) == time.fromisoformat(at)


@pytest.mark.parametrize("said", ["", "hello", "at 25", "25:00", "in three days", "on the fifth", "99 pm"])
def test_no_time_is_found(said):
    assert parse_time(said) is None


@pytest.mark.parametrize("said", ["three", "that one", "november 24", "two thirty"])
def test_number_alone_is_a_time_only_where_one_was_asked_for(said):
    assert parse_time(said, bare=False) is None


@pytest.mark.parametrize(
    "said", ["tomorrow at three", "tomorrow three pm", "half past two on friday", "15:30"]
)
def test_clear_time_is_found_anywhere(said):
    assert parse_time(said, bare=False) is not None


def test_words_are_lower_case_and_numbers_digits():
    assert words_of("Twenty-Third, at 3 P.M. O'Clock, never mind!") == [
        *("23th", "at", "3", "pm", "oclock", "nevermind"),
    ]


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (date(2026, 11, 24), "Tuesday the 24th"),
        (date(2026, 11, 1), "Sunday the 1st"),
        (date(2026, 11, 22), "Sunday the 22nd"),
        (date(2026, 11, 3), "Tuesday the 3rd"),
        (date(2026, 11, 11), "Wednesday the 11th"),
        (date(2026, 12, 12), "Saturday the 12th of December"),
        (date(2027, 11, 13), "Saturday the 13th of November"),
    ],
)
def test_day_is_said(day, said):
    assert spoken_date(day, TUESDAY) == said


@pytest.mark.parametrize(
    ("at", "said"), [("15:00", "3 PM"), ("09:30", "9:30 AM"), ("12:00", "noon"), ("12:30", "12:30 PM")]
)
def test_time_is_said(at, said):
    assert spoken_time(time.fromisoformat(at)) == said

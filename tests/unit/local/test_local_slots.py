"""Values found in spoken words."""

from datetime import date

import pytest

from fastagent.local.slots import clock_time, fill, find_date, find_number, find_time, find_truth, iso_date

WEDNESDAY = date(2026, 3, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Book me for tomorrow, please", "tomorrow"),
        ("the day after tomorrow at ten", "the day after tomorrow"),
        ("on Monday", "monday"),
        ("next friday at noon", "next friday"),
        ("the third of may", "the third of may"),
        ("march 3rd", "march 3rd"),
        ("on may the twenty first", "may the twenty first"),
        ("nothing of the sort", None),
    ],
)
def test_a_day_is_found_as_it_was_said(text: str, words: str | None) -> None:
    assert find_date(text) == words


@pytest.mark.parametrize(
    ("text", "words", "clock"),
    [
        ("at three pm", "three pm", "15:00"),
        ("ten am tomorrow", "ten am", "10:00"),
        ("half past two", "half past two", "14:30"),
        ("quarter to nine", "quarter to nine", "08:45"),
        ("at four o'clock in the afternoon", "four o'clock in the afternoon", "16:00"),
        ("at ten thirty", "ten thirty", "10:30"),
        ("at noon", "noon", "12:00"),
        ("twelve am", "twelve am", "00:00"),
        ("in the morning", "in the morning", None),
        ("on monday", None, None),
    ],
)
def test_a_time_is_found_as_it_was_said(text: str, words: str | None, clock: str | None) -> None:
    assert find_time(text) == words
    if words is not None:
        assert clock_time(words) == clock


@pytest.mark.parametrize(
    ("words", "iso"),
    [
        ("today", "2026-03-04"),
        ("tomorrow", "2026-03-05"),
        ("the day after tomorrow", "2026-03-06"),
        ("monday", "2026-03-09"),
        ("wednesday", "2026-03-11"),
        ("next friday", "2026-03-06"),
        ("next week", "2026-03-11"),
        ("2026 12 24", "2026-12-24"),
        ("the third of may", None),
    ],
)
def test_a_day_becomes_a_date(words: str, iso: str | None) -> None:
    assert iso_date(words, WEDNESDAY) == iso


@pytest.mark.parametrize(
    ("text", "number"),
    [("two people", 2), ("twenty three", 23), ("for 14 of us", 14), ("thirty", 30), ("none", None)],
)
def test_the_first_number_is_found(text: str, number: int | None) -> None:
    assert find_number(text) == number


@pytest.mark.parametrize(
    ("text", "truth"),
    [("yes please", True), ("no thank you", False), ("that is not right", False), ("hm", None)],
)
def test_yes_and_no_are_told_apart(text: str, truth: bool | None) -> None:
    assert find_truth(text) is truth


@pytest.mark.parametrize(
    ("name", "parameter", "text", "value"),
    [
        ("date", {"type": "string"}, "tomorrow at ten am", "tomorrow"),
        ("date", {"type": "string", "format": "date"}, "tomorrow at ten am", "2026-03-05"),
        ("start_time", {"type": "string"}, "tomorrow at ten am", "ten am"),
        ("start_time", {"type": "string", "format": "time"}, "tomorrow at ten am", "10:00"),
        ("when", {"type": "string", "description": "The day of the visit"}, "on monday", "monday"),
        (
            "size",
            {"type": "string", "enum": ["small", "very_large", "large"]},
            "a very large one",
            "very_large",
        ),
        ("count", {"type": "integer"}, "three of them", 3),
        ("confirmed", {"type": "boolean"}, "yes", True),
        ("phone", {"type": "string"}, "it is five five five 12", "55512"),
        ("note", {"type": "string"}, "my knee hurts", None),
        ("list", {"type": "array"}, "my knee hurts", None),
        ("date", {"type": "string"}, "hello", None),
    ],
)
def test_an_argument_is_filled_by_its_schema(
    name: str, parameter: dict[str, object], text: str, value: object
) -> None:
    filled = fill({"type": "object", "properties": {name: parameter}}, text, WEDNESDAY)
    assert filled == ({} if value is None else {name: value})


def test_a_required_free_text_gets_the_whole_utterance() -> None:
    schema = {"properties": {"reason": {"type": "string"}}, "required": ["reason"]}
    assert fill(schema, "my knee hurts", WEDNESDAY) == {"reason": "my knee hurts"}


@pytest.mark.parametrize("schema", [{}, {"properties": None}, {"properties": {"x": None}}])
def test_an_odd_schema_gives_no_arguments(schema: dict[str, object]) -> None:
    assert fill(schema, "hello", WEDNESDAY) == {}

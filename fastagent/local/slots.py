"""Values out of spoken words: days, times, numbers, yes and no, and the arguments of a function."""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from fastagent.local.words import normalise

__all__ = ["fill", "find_date", "find_number", "find_time", "find_truth"]

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = {
    word: 10 * tens
    for tens, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}
_NUMBERS = {**{word: value for value, word in enumerate(_UNITS)}, **_TENS, "oh": 0}
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth"),
    *("eighteenth", "nineteenth", "twentieth"),
)

_HOUR_WORDS = "|".join(_UNITS[1:13])
_HOUR = rf"(?:{_HOUR_WORDS}|1[0-2]|0?[1-9])"
_MINUTE_WORDS = "fifteen|thirty|forty five|[0-5][0-9]"
_PART_OF_DAY = r"(?: (?:am|pm|in the morning|in the afternoon|in the evening))"
_WEEKDAY = "|".join(_WEEKDAYS)
_DAY_OF_MONTH = rf"(?:(?:twenty |thirty )?(?:{'|'.join(_ORDINALS)})|thirtieth|[0-3]?[0-9](?:st|nd|rd|th)?)"

_DATE = re.compile(
    rf"\b(?:the day after tomorrow|day after tomorrow|tomorrow|today|tonight|next week"
    rf"|(?:(?:next|this) )?(?:{_WEEKDAY})"
    rf"|(?:the )?{_DAY_OF_MONTH} (?:of )?(?:{_MONTHS})|(?:{_MONTHS}) (?:the )?{_DAY_OF_MONTH}"
    rf"|[0-9]{{4}} [0-9]{{2}} [0-9]{{2}})\b"
)
_TIME = re.compile(
    rf"\b(?:(?P<part>half|quarter|ten|twenty|five) (?P<side>past|to) (?P<parted>{_HOUR}){_PART_OF_DAY}?"
    rf"|(?P<hour>{_HOUR})(?: (?P<minute>{_MINUTE_WORDS}))?(?: o'clock{_PART_OF_DAY}?|{_PART_OF_DAY})"
    rf"|(?<=at )(?P<bare>{_HOUR})(?: (?P<bare_minute>{_MINUTE_WORDS}))?"
    rf"|noon|midday|midnight|in the morning|in the afternoon|in the evening)\b"
)
_PARTS = {"half": 30, "quarter": 15, "ten": 10, "twenty": 20, "five": 5}
_YES = {"yes", "yeah", "yep", "sure", "correct", "okay", "ok", "right", "please"}
_NO = {"no", "nope", "not", "never", "wrong"}


def find_date(text: str) -> str | None:
    """The words that name a day, as they were said."""
    match = _DATE.search(normalise(text))
    return match.group() if match else None


def find_time(text: str) -> str | None:
    """The words that name a time of day, as they were said."""
    match = _TIME.search(normalise(text))
    return match.group() if match else None


def find_number(text: str) -> int | None:
    """The first number, in digits or words up to ninety-nine."""
    words = normalise(text).split()
    for index, word in enumerate(words):
        if word.isdecimal():
            return int(word)
        if word in _TENS and index + 1 < len(words) and 0 < _NUMBERS.get(words[index + 1], 0) < 10:
            return _TENS[word] + _NUMBERS[words[index + 1]]
        if word in _NUMBERS:
            return _NUMBERS[word]
    return None


def find_truth(text: str) -> bool | None:
    """True for a yes, false for a no, None for neither."""
    words = set(normalise(text).split())
    if words & _NO:
        return False
    return True if words & _YES else None


def find_digits(text: str) -> str | None:
    """All digits said, joined: telephone and account numbers."""
    digits = "".join(
        word if word.isdecimal() else str(_NUMBERS[word]) if _NUMBERS.get(word, 10) < 10 else ""
        for word in normalise(text).split()
    )
    return digits or None


def iso_date(words: str, today: date) -> str | None:
    """ISO 8601 of a day named relative to ``today``; None for one this engine does not resolve."""
    if re.fullmatch(r"\d{4} \d\d \d\d", words):
        return words.replace(" ", "-")
    offsets = {"today": 0, "tonight": 0, "tomorrow": 1, "day after tomorrow": 2, "the day after tomorrow": 2}
    if words in offsets:
        return (today + timedelta(days=offsets[words])).isoformat()
    if words == "next week":
        return (today + timedelta(days=7)).isoformat()
    named = words.split()[-1]
    if named in _WEEKDAYS:
        ahead = (_WEEKDAYS.index(named) - today.weekday()) % 7 or 7
        return (today + timedelta(days=ahead)).isoformat()
    return None


def clock_time(words: str) -> str | None:
    """HH:MM of a time of day; an hour from one to six without am or pm is in the afternoon."""
    fixed = {"noon": "12:00", "midday": "12:00", "midnight": "00:00"}
    if words in fixed:
        return fixed[words]
    match = _TIME.search(words) or _TIME.search(f"at {words}")
    if match is None:
        return None
    spoken_hour = match["parted"] or match["hour"] or match["bare"]
    if spoken_hour is None:
        return None
    hour = find_number(spoken_hour) or 0
    if match["part"]:
        minute = _PARTS[match["part"]] if match["side"] == "past" else -_PARTS[match["part"]]
    else:
        minute = find_number(match["minute"] or match["bare_minute"] or "zero") or 0
    is_morning = "am" in words.split() or "morning" in words
    is_evening = any(mark in words for mark in ("pm", "afternoon", "evening"))
    hour %= 12
    if is_evening or (not is_morning and hour in (0, 1, 2, 3, 4, 5, 6)):
        hour += 12
    minutes = (hour * 60 + minute) % (24 * 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def fill(schema: Mapping[str, Any], text: str, today: date) -> dict[str, Any]:
    """Arguments for a JSON Schema of type object, from what the caller said.

    A parameter is recognised by its type, enumeration, format, name and description. What was not said is
    left out, except that a required free text gets the whole utterance.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    required = schema.get("required", ())
    arguments = {}
    for name, parameter in properties.items():
        parameter = parameter if isinstance(parameter, dict) else {}
        value = _value(name, parameter, text, today, is_required=name in required)
        if value is not None:
            arguments[name] = value
    return arguments


def _value(name: str, parameter: Mapping[str, Any], text: str, today: date, *, is_required: bool) -> Any:
    kind = parameter.get("type", "string")
    if isinstance(parameter.get("enum"), list):
        return _listed(parameter["enum"], text)
    if kind == "boolean":
        return find_truth(text)
    if kind in ("integer", "number"):
        return find_number(text)
    if kind != "string":
        return None
    hint = set(normalise(name.replace("_", " ") + " " + str(parameter.get("description", ""))).split())
    name_words = set(normalise(name.replace("_", " ")).split())
    for about in (name_words, hint):
        if parameter.get("format") == "date" or about & {"date", "day", "weekday"}:
            said = find_date(text)
            return iso_date(said, today) if said and parameter.get("format") == "date" else said
        if parameter.get("format") == "time" or about & {"time", "hour"}:
            said = find_time(text)
            return clock_time(said) if said and parameter.get("format") == "time" else said
        if about & {"phone", "telephone", "digits", "pin", "account"}:
            return find_digits(text)
    return text if is_required and text else None


def _listed(values: list[Any], text: str) -> Any:
    """The longest listed value whose words were said."""
    said = f" {normalise(text)} "
    matches = [
        value
        for value in values
        if isinstance(value, str) and f" {normalise(value.replace('_', ' '))} " in said and normalise(value)
    ]
    return max(matches, key=len, default=None)

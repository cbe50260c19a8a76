"""What a caller's words mean as a value: numbers, digits, yes and no, days, times, choices. English."""

import re
from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation

from fastagent.afsm.guards import words_in

__all__ = [
    "parse_choice",
    "parse_date",
    "parse_digits",
    "parse_number",
    "parse_time",
    "parse_yes_no",
    "say_value",
]

_ONES = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2
    )
}
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_DIGITS = {**{word: str(number) for word, number in _ONES.items() if number < 10}, "oh": "0", "o": "0"}
_TIMES = {"double": 2, "triple": 3}
_YES = frozenset(
    ("yes", "yeah", "yep", "yup", "sure", "correct", "right", "ok", "okay", "exactly", "affirmative")
)
_NO = frozenset(("no", "nope", "not", "wrong", "incorrect", "don't", "isn't", "never", "negative", "change"))
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_ORDINALS = {
    word: number
    for number, word in enumerate(
        [
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
            "eleventh",
            "twelfth",
            "thirteenth",
            "fourteenth",
            "fifteenth",
            "sixteenth",
            "seventeenth",
            "eighteenth",
            "nineteenth",
            "twentieth",
        ],
        1,
    )
} | {"thirtieth": 30}
_NUMERAL = re.compile(r"(?<![\d.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?")
_ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_CLOCK = re.compile(r"\b([01]?\d|2[0-3])[:.]([0-5]\d)\s*([ap])?\.?(?:m\b|$|\W)?", re.IGNORECASE)


def parse_yes_no(text: str) -> bool | None:
    """Tell a yes from a no; None when it is neither, or both."""
    words = set(words_in(text))
    said_no, said_yes = bool(words & _NO), bool(words & _YES)
    if said_no:
        return False if not said_yes or words_in(text)[0] in _NO else None
    return True if said_yes else None


def parse_number(text: str) -> Decimal | None:
    """Read one number, in figures or in words ("two hundred and fifty", "three point five")."""
    if numerals := _NUMERAL.findall(text):
        if len(numerals) > 1:
            return None  # which of them was meant cannot be told
        try:
            return Decimal(numerals[0].replace(",", ""))
        except InvalidOperation:
            return None
    total = current = Decimal(0)
    fraction = ""
    is_found = is_after_point = False
    sign = 1
    for word in words_in(text.replace("-", " ")):
        if is_after_point and word in _DIGITS:
            fraction += _DIGITS[word]
        elif word in _ONES:
            current += _ONES[word]
            is_found = True
        elif word in _TENS:
            current += _TENS[word]
            is_found = True
        elif word == "hundred" and (is_found or word):
            current = (current or Decimal(1)) * 100
            is_found = True
        elif word in _SCALES:
            total += (current or Decimal(1)) * _SCALES[word]
            current = Decimal(0)
            is_found = True
        elif word == "point" and is_found:
            is_after_point = True
        elif word == "minus" and not is_found:
            sign = -1
    if not is_found:
        return None
    return sign * (total + current + (Decimal(f"0.{fraction}") if fraction else 0))


def parse_digits(text: str) -> str | None:
    """Read digits said one by one ("four two double four", "4 2 4 4")."""
    digits, times = "", 1
    for word in words_in(text.replace("-", " ")):
        if word in _TIMES:
            times = _TIMES[word]
        elif word in _DIGITS:
            digits += _DIGITS[word] * times
            times = 1
        elif word.isdecimal() and word.isascii():
            digits += word
            times = 1
        elif word in _TENS or (word in _ONES):
            digits += str(_TENS.get(word, _ONES.get(word, 0)))
            times = 1
        else:
            times = 1
    return digits or None


def parse_choice(text: str, choices: Sequence[str]) -> str | None:
    """Find the one choice that was named; None when none or several were."""
    words = f" {' '.join(words_in(text))} "
    named = [
        choice
        for choice in choices
        if (spelled := " ".join(words_in(choice.replace("_", " ")))) and f" {spelled} " in words
    ]
    # "savings plus" names that choice and not "savings" too.
    named = [one for one in named if not any(one != other and one in other for other in named)]
    return named[0] if len(named) == 1 else None


def parse_date(text: str, today: date) -> date | None:
    """Read a day: ISO 8601, today, tomorrow, a weekday (the next one), or a day of a month."""
    if match := _ISO_DATE.search(text):
        try:
            return date(int(match[1]), int(match[2]), int(match[3]))
        except ValueError:
            return None
    words = words_in(text)
    if "tomorrow" in words:
        is_after = "day after tomorrow" in " ".join(words)
        return today + timedelta(days=2 if is_after else 1)
    if "today" in words:
        return today
    for number, name in enumerate(_MONTHS, 1):
        if name in words and (day := _day_of_month(words)) is not None:
            return _next_date(number, day, today)
    for number, name in enumerate(_WEEKDAYS):
        if name in words:
            return today + timedelta(days=(number - today.weekday() - 1) % 7 + 1)
    return None


def _day_of_month(words: tuple[str, ...]) -> int | None:
    day = 0
    for word in words:
        if match := re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)?", word):
            return int(match[1])
        if word in ("twenty", "thirty"):
            day = _TENS[word]
        elif word in _ORDINALS:
            return day + _ORDINALS[word]
        elif word in _ONES:
            return day + _ONES[word]
    return day or None


def _next_date(month: int, day: int, today: date) -> date | None:
    for year in range(today.year, today.year + 5):  # 29 February comes at most every eight years, mostly four
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found >= today:
            return found
    return None


def parse_time(text: str) -> time | None:
    """Read a time of day: 15:30, "three pm", "half past two pm", "noon".

    Without am or pm an hour is taken as it stands on a 24 hour clock.
    """
    words = words_in(text.replace(".m", "m"))
    if "noon" in words or "midday" in words:
        return time(12)
    if "midnight" in words:
        return time(0)
    minute = 0
    if match := _CLOCK.search(text):
        hour, minute = int(match[1]), int(match[2])
    else:
        numbers = [
            _ONES[word] if word in _ONES else int(word)
            for word in (re.sub(r"(?<=\d)[ap]m$", "", word) for word in words)
            if word in _ONES or (word.isdecimal() and word.isascii() and len(word) < 3)
        ]
        if not numbers or not 0 <= numbers[0] < 24:
            return None
        hour = numbers[0]
        joined = " ".join(words)
        if "half past" in joined:
            minute = 30
        elif "quarter past" in joined:
            minute = 15
        elif "quarter to" in joined:
            hour, minute = (hour - 1) % 24, 45
        elif "thirty" in words:
            minute = 30
    is_pm = bool({"pm", "afternoon", "evening"} & set(words)) or any(
        re.fullmatch(r"\d+pm", word) for word in words
    )
    is_am = bool({"am", "morning"} & set(words)) or any(re.fullmatch(r"\d+am", word) for word in words)
    if is_pm and hour < 12:
        hour += 12
    if is_am and hour == 12:
        hour = 0
    return time(hour, minute)


def say_value(value: object) -> str:
    """Give a value as it is best spoken: digits one by one, days and times in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.isdecimal():
        return " ".join(value)
    if isinstance(value, date) and hasattr(value, "weekday"):
        return f"{_WEEKDAYS[value.weekday()].title()}, {_MONTHS[value.month - 1].title()} {value.day}"
    if isinstance(value, time):
        half = "am" if value.hour < 12 else "pm"
        minute = f":{value.minute:02}" if value.minute else ""
        return f"{(value.hour - 1) % 12 + 1}{minute} {half}"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, list | tuple):
        return ", ".join(say_value(part) for part in value)
    return str(value).replace("_", " ")

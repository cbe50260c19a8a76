"""Dates and times as callers say them, and as an agent says them back."""

import re
from datetime import date, time, timedelta

__all__ = ["parse_date", "parse_time", "spoken_date", "spoken_time", "words_of"]

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
CARDINALS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
ORDINALS = (
    *(
        "zeroth",
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
    ),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth"),
    *("eighteenth", "nineteenth"),
)
NUMBERS = {
    **{word: str(number) for number, word in enumerate(CARDINALS)},
    **{word: f"{number}th" for number, word in enumerate(ORDINALS)},
    **{
        "twenty": "20",
        "thirty": "30",
        "forty": "40",
        "fifty": "50",
        "twentieth": "20th",
        "thirtieth": "30th",
    },
}

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_WORD = re.compile(rf"{_ISO_DATE.pattern}|\d{{1,2}}:\d{{2}}|\d+(?:st|nd|rd|th)?|[a-z']+")

_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_ORDINAL = r"(?P<day>\d{1,2})(?:st|nd|rd|th)"
_DAY = _ORDINAL + "?"
_YEAR = r"(?: (?P<year>\d{4}))?\b"
_DAYS_OF_MONTH = (
    re.compile(rf"\b{_DAY} (?:of )?{_MONTH}{_YEAR}"),
    re.compile(rf"\b{_MONTH} (?:the )?{_DAY}{_YEAR}"),
    # Alone only with its article: "just a second" is no date.
    re.compile(rf"(?:^|\b(?:the|on) ){_ORDINAL}\b"),
)

_HALF = r"(?: (?P<half>am|pm|in the (?:morning|afternoon|evening)))"
_HOUR = r"\b(?P<hour>\d{1,2})(?: (?P<minute>[0-5]\d))?\b"
_TIMES = (
    re.compile(rf"\b(?P<part>half|quarter|\d{{1,2}}) (?P<side>past|to) (?P<hour>\d{{1,2}})\b{_HALF}?"),
    re.compile(rf"\b(?P<hour>\d{{1,2}}):(?P<minute>\d{{2}})\b{_HALF}?"),
    re.compile(rf"{_HOUR} oclock{_HALF}?"),
    re.compile(rf"{_HOUR}{_HALF}"),
    re.compile(rf"\bat {_HOUR}"),
)
_BARE_TIME = re.compile(rf"{_HOUR}(?! (?:day|week))")


def words_of(text: str) -> list[str]:
    """Give an utterance's words in lower case, numbers as digits: "Twenty-third, 3 p.m." is 23th 3 pm."""
    text = re.sub(r"(?:(?<=\d)|\b)([ap])\.?\s?m\b\.?", r" \1m", text.lower())
    text = text.replace("o'clock", "oclock").replace("never mind", "nevermind")
    words: list[str] = []
    tens = 0
    for word in _WORD.findall(text):
        number = NUMBERS.get(word, word)
        unit = re.fullmatch(r"([1-9])(st|nd|rd|th)?", number)
        if tens and unit and word in NUMBERS:  # "twenty" and then "third"
            words[-1] = f"{tens + int(unit[1])}{unit[2] or ''}"
            tens = 0
            continue
        tens = int(number) if word in ("twenty", "thirty", "forty", "fifty") else 0
        words.append(number)
    return words


def parse_date(text: str, today: date) -> date | None:
    """Find the day an utterance names, seen from ``today``; None when there is none.

    A weekday alone is the nearest one after today; with "next" it is the one of the coming calendar week.
    """
    words = words_of(text)
    said = " ".join(words)
    if found := _ISO_DATE.search(said):
        try:
            return date.fromisoformat(found[0])
        except ValueError:
            return None
    if "day after tomorrow" in said:
        return today + timedelta(days=2)
    if "tomorrow" in words:
        return today + timedelta(days=1)
    if "today" in words:
        return today
    if found := re.search(r"\bin (a|\d{1,2}) (day|week)s?\b", said):
        number = 1 if found[1] == "a" else int(found[1])
        return today + timedelta(days=number * (7 if found[2] == "week" else 1))
    if day := _day_of_month(said, today):
        return day
    for number, name in enumerate(WEEKDAYS):
        if name in words:
            ahead = (number - today.weekday() - 1) % 7 + 1
            if f"next {name}" in said:
                ahead = 7 - today.weekday() + number
            elif f"this {name}" in said:
                ahead %= 7
            return today + timedelta(days=ahead)
    return None


def _day_of_month(said: str, today: date) -> date | None:
    for pattern in _DAYS_OF_MONTH:
        if found := pattern.search(said):
            parts = found.groupdict()
            break
    else:
        return None
    if parts.get("year"):
        months = [(int(parts["year"]), MONTHS.index(parts["month"]) + 1)]
    elif parts.get("month"):
        # The next 29th of February may be eight years away.
        months = [(today.year + more, MONTHS.index(parts["month"]) + 1) for more in range(9)]
    else:
        following = range(today.month - 1, today.month + 2)
        months = [(today.year + month // 12, month % 12 + 1) for month in following]
    for year, month in months:
        try:
            day = date(year, month, int(parts["day"]))
        except ValueError:
            continue
        if day >= today or parts.get("year"):
            return day
    return None


def parse_time(text: str, *, bare: bool = True) -> time | None:
    """Find the time of day an utterance names; None when there is none.

    One to six without "am" or "pm" are taken for the afternoon.

    Args:
        bare: take a number alone ("three") for an hour, as in the answer to a question for the time.
    """
    said = " ".join(words_of(text))
    if re.search(r"\b(?:noon|midday)\b", said):
        return time(12)
    if re.search(r"\bmidnight\b", said):
        return time(0)
    for pattern in (*_TIMES, _BARE_TIME) if bare else _TIMES:
        if found := pattern.search(said):
            return _time_of(found.groupdict())
    return None


def _time_of(parts: dict[str, str | None]) -> time | None:
    hour, minute = int(parts["hour"] or 0), int(parts.get("minute") or 0)
    if part := parts.get("part"):
        minute = {"half": 30, "quarter": 15}.get(part) or int(part)
        if parts["side"] == "to":
            hour, minute = (hour - 2) % 12 + 1, 60 - minute
    half = parts.get("half")
    if half is None:
        hour += 12 if 1 <= hour <= 6 else 0
    elif 1 <= hour <= 12:
        hour = hour % 12 + (0 if half in ("am", "in the morning") else 12)
    try:
        return time(hour, minute)
    except ValueError:
        return None


def spoken_date(day: date, today: date) -> str:
    """Say a day: "Tuesday the 24th", with the month when it is another than today's."""
    suffix = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    said = f"{WEEKDAYS[day.weekday()].capitalize()} the {day.day}{suffix}"
    if (day.year, day.month) != (today.year, today.month):
        said += f" of {MONTHS[day.month - 1].capitalize()}"
    return said


def spoken_time(at: time) -> str:
    """Say a time: "3 PM", "2:30 PM", "noon"."""
    if at == time(12):
        return "noon"
    minutes = f":{at.minute:02}" if at.minute else ""
    return f"{at.hour % 12 or 12}{minutes} {'AM' if at.hour < 12 else 'PM'}"

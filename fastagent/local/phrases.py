"""What a caller of the appointment example may say: the phrase list of the ears."""

from itertools import chain

__all__ = ["BACKCHANNELS", "PHRASES"]

_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_SENTENCES = (
    "hello",
    "i would like to book an appointment",
    "i need an appointment",
    "book an appointment for today",
    "book an appointment for tomorrow",
    "today",
    "tomorrow",
    "tomorrow morning",
    "tomorrow afternoon",
    "the day after tomorrow",
    "in the morning",
    "in the afternoon",
    "next week",
    "at noon",
    "what are your opening hours",
    "where are you located",
    "how much does it cost",
    "do you have parking",
    "yes please",
    "yes",
    "yes that is correct",
    "that is right",
    "no",
    "no thank you",
    "no that is wrong",
    "no that is all",
    "that is all",
    "thank you",
    "cancel",
    "cancel my appointment",
    "goodbye",
    "thank you goodbye",
    "can you help me",
    "can you repeat that",
    "i want to speak to a person",
    "change the time",
    "change the day",
    "i do not know",
)

PHRASES: tuple[str, ...] = tuple(
    chain(
        _SENTENCES,
        chain.from_iterable((day, f"on {day}", f"next {day}") for day in _DAYS),
        (f"book an appointment for {day}" for day in _DAYS),
        (f"{at}{hour} {half}" for at in ("", "at ") for hour in _HOURS for half in ("am", "pm")),
        (f"{at}half past {hour}" for at in ("", "at ") for hour in _HOURS),
        (f"{at}{hour} o'clock" for at in ("", "at ") for hour in _HOURS),
        (f"tomorrow at {hour} {half}" for hour in _HOURS for half in ("am", "pm")),
    )
)
"""Whole utterances, as `fastagent.local.voice.normalise` writes them."""

BACKCHANNELS: tuple[str, ...] = (
    "uh-huh",
    "mhm",
    "hmm",
    "mm",
    "aha",
    "right",
    "great",
    "really",
    "sure",
    "wow",
    "well",
)
"""Sounds of listening. Known to the ears so that none of them becomes a phrase; they mean nothing."""

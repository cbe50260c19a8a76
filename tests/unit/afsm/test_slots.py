"""Slots: declarations, and the way of a value to one that counts."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from fastagent.afsm.run.slot_book import SlotBook
from fastagent.afsm.slots import Digits, Slot, read_slots
from fastagent.afsm.spec import Confirmation
from fastagent.errors import ConfigurationError


def book(*slots, values=None, **options):
    return SlotBook({} if values is None else values, **options), read_slots(
        {slot.name: slot for slot in slots}, "state 's'"
    )


AMOUNT = Slot(Annotated[Decimal, Field(ge=1, le=1000)], "How much?", name="amount", reprompt="Up to 1000.")
PIN = Slot(Annotated[str, Digits(), Field(min_length=4, max_length=4)], "Your PIN?", "keypad", name="pin")
DAY = Slot(date, "Which day?", "implicit", name="day")
KIND = Slot(Literal["cash", "card"], "Cash or card?", name="kind")


def said(slots, *answers, values=None, **options):
    """The words after entry and after each answer; a tuple answers by keys."""
    values = {} if values is None else values
    filling, declared = book(*slots, values=values, **options)
    filling.begin()
    filling.take_arguments(declared)
    words = [filling.step(declared)]
    for answer in answers:
        words.append(
            filling.step(declared, keys=answer[0])
            if isinstance(answer, tuple)
            else filling.step(declared, answer)
        )
    return words, values, filling


def test_no_confirmation_takes_a_valid_value_at_once():
    words, values, _ = said([AMOUNT], "five thousand", "two hundred")
    assert [step.say for step in words] == ["How much?", "Up to 1000. How much?", ""]
    assert words[-1].is_filled
    assert words[-1].taken == ("amount",)
    assert values == {"amount": Decimal(200)}


def test_read_back_takes_a_yes():
    slot = Slot(Decimal, "How much?", "read_back", name="amount")
    words, values, filling = said([slot], "two hundred", "what")
    assert words[1].say == "That is 200. Is that right?"
    assert words[2].say == "Sorry, I did not get that. That is 200. Is that right?"
    assert values == {}
    assert filling.trusted == {}
    words, values, _ = said([slot], "two hundred", "no, three hundred", "yes")
    assert words[2].say == "That is 300. Is that right?"
    assert values == {"amount": Decimal(300)}
    words, values, _ = said([slot], "two hundred", "no")
    assert (words[2].say, values) == ("How much?", {})


def test_keypad_takes_a_key_and_no_word():
    words, values, _ = said([PIN], "four seven one one", "yes", "1", "one")
    assert words[1].say == "That is 4 7 1 1. Press 1 to confirm, or 2 to change it."
    assert values == {}
    assert words[-1].has_given_up
    _, values, _ = said([PIN], ("4711#",), ("1",))
    assert values == {"pin": "4711"}
    words, values, _ = said([PIN], ("4711",), ("2",))
    assert (words[-1].say, values) == ("Your PIN?", {})


def test_implicit_is_said_back_within_the_next_question_and_a_no_opens_it():
    today = {"today": lambda: date(2026, 11, 25)}
    words, values, _ = said([DAY, AMOUNT], "friday", "twenty", **today)
    assert words[1].say == "Friday, November 27. How much?"
    assert words[-1].is_filled
    words, values, _ = said([DAY, AMOUNT], "friday", "no", **today)
    assert words[-1].say == "Which day?"
    assert "day" not in values
    words, values, _ = said([DAY, AMOUNT], "friday", "no, monday", **today)
    assert values["day"] == date(2026, 11, 30)


def test_one_answer_may_fill_what_is_told_by_its_form():
    words, values, _ = said([AMOUNT, KIND], "by card", "fifty")
    assert words[-1].is_filled
    assert values == {"amount": Decimal(50), "kind": "card"}


def test_optional_slots_are_not_asked_for():
    words, _, _ = said([Slot(str, name="note", is_required=False)])
    assert words[0].is_filled


def test_three_answers_that_give_nothing_are_enough():
    words, _, _ = said([AMOUNT], "a", "b", "c")
    assert [step.has_given_up for step in words] == [False, False, False, True]


def test_what_the_model_passed_along_is_checked_like_words():
    slot = Slot(Decimal, "How much?", "read_back", name="amount")
    words, values, filling = said([slot], "yes", values={"amount": "two hundred", "is_admin": True})
    assert words[0].say == "That is 200. Is that right?"
    assert values["amount"] == Decimal(200)
    assert filling.trusted == {"amount": Decimal(200)}, "what nobody checked is not for guards"
    words, values, filling = said([Slot(str, name="note")], values={"note": "left as it is"})
    assert filling.trusted == values == {"note": "left as it is"}
    words, values, _ = said([AMOUNT], values={"amount": "9999"})
    assert (words[0].say, values) == ("How much?", {})


def test_proposed_values_are_checked_and_cannot_confirm():
    slot = Slot(Decimal, "How much?", "read_back", name="amount")
    filling, declared = book(slot)
    filling.step(declared)
    assert filling.step(declared, "hm", proposed={"amount": 20, "other": 1}).say.startswith("That is 20.")
    assert filling.step(declared, "hm", proposed={"amount": 20}).is_filled is False


def test_own_parser_and_validator_decide():
    slot = Slot(
        str, "Code?", name="code",
        parse=lambda text: text.strip().upper() or None,
        validate=lambda value: None if value.startswith("A") else "Codes begin with A.",
    )  # fmt: skip
    words, values, _ = said([slot], "b1", "a1")
    assert words[1].say == "Codes begin with A. Code?"
    assert values == {"code": "A1"}


def test_model_class_declares_slots():
    class Payment(BaseModel):
        amount: Annotated[int, Field(ge=1)] = Field(
            description="How much?", json_schema_extra={"confirmation": "read_back", "redacted": True}
        )
        note: str | None = None

    amount, note = read_slots(Payment, "state 's'")
    assert (amount.prompt, amount.confirmation, amount.is_redacted) == (
        "How much?",
        Confirmation.READ_BACK,
        True,
    )
    assert (note.is_required, note.question) == (False, "What is the note?")
    assert amount.spec.schema["minimum"] == 1


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        (["amount"], "must be a mapping"),
        ({"not a name": str}, "identifier"),
        ({"x": object()}, "cannot be checked"),
        ({f"s{n}": str for n in range(51)}, "50 slots"),
    ],
)
def test_declarations_that_cannot_work_are_refused(declared, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        read_slots(declared, "state 's'")


def test_unknown_confirmation_is_refused():
    with pytest.raises(ConfigurationError, match="confirmation"):
        Slot(str, confirmation="maybe")

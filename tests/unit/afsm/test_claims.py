"""Which words claim an effect."""

import pytest

from fastagent.afsm.effects.claims import claims_any

PHRASES = ("you are booked", "have booked", "is booked", "you're booked", "done")


@pytest.mark.parametrize(
    "text",
    [
        "You are booked for Friday.",
        "Good news! You’re booked for nine",
        "Okay, I have booked it. Anything else?",
        "I could not reach him. It is booked.",
        "On the fifth of May it IS BOOKED!",
        "Done.",
    ],
)
def test_statements_are_claims(text):
    assert claims_any(text, PHRASES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "You are bookedout.",
        "Are you sure that it is booked?",
        "I have not booked anything.",
        "It is not yet booked.",
        "I haven't done that.",
        "Once it is booked, you get a message.",
        "It'll be done.",
        "It will soon be done.",
        "I cannot say that it is booked.",
        "Never have booked that.",
        "You are going to be done.",
        "Booked you are.",
    ],
)
def test_questions_denials_conditions_and_promises_are_not(text):
    assert not claims_any(text, PHRASES)


def test_no_phrases_claim_nothing():
    assert not claims_any("You are booked.", ())
    assert not claims_any("You are booked.", ("", "?!"))

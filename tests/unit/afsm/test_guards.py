"""Guard expressions: what they mean, and that nothing else is an expression."""

import pytest

from fastagent.afsm.guards import MAX_GUARD_CHARS, Scope, parse_guard
from fastagent.errors import ConfigurationError

SCOPE = Scope(
    slots={"amount": 500, "pin": "4711", "day": None},
    facts={"is_verified": True},
    profile={"tier": "gold"},
    arguments={"urgent": True},
    input="Yes, please go on",
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("slots.amount <= 1000 and facts.is_verified", True),
        ("slots.amount > 1000 or not facts.is_verified", False),
        ("0 < slots.amount < 500", False),
        ("slots['amount'] + 1 == 501", True),
        ("-slots.amount < 0", True),
        ("len(slots.pin) == 4", True),
        ("'yes' in words", True),
        ("'Yes' in words", False),
        ("'go on' in lower(input)", True),
        ("profile.tier in ['gold', 'platinum']", True),
        ("arguments.urgent == true", True),
        ("slots.day == null and slots.missing is None", True),
        ("slots.missing < 3", False),
        ("slots.missing > 3", False),
        ("slots.pin + 1 == 2", False),
        ("slots.pin * 1000000000 == 2", False),
        ("len(slots.amount) == 3", False),
        ("3 in slots.missing", False),
    ],
)
def test_what_an_expression_means(text, holds):
    assert parse_guard(text).holds(SCOPE) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "x",
        "slots",
        "slots.a.b",
        "slots.__class__.__mro__",
        "open('x')",
        "slots.get('x')",
        "lambda: 1",
        "[x for x in words]",
        "2 ** 9999",
        "input.__len__",
        "len(words, words)",
        "f'{slots}'",
        "a := 1",
        "1; 2",
        "(" * 200,
        "1 +" * 60 + "1",
        "'x' + " * MAX_GUARD_CHARS + "'x'",
        "b'x'",
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(ConfigurationError, match="guard"):
        parse_guard(text)


def test_guard_tells_what_it_looks_at():
    assert parse_guard("slots.a == 1 and 'x' in words").names == {"slots.a", "input"}

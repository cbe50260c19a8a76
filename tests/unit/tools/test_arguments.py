"""read_arguments takes what fits a tool's schema and says what does not, without quoting it."""

import pytest

from fastagent.tools.arguments import MAX_ARGUMENTS_BYTES, ArgumentsError, read_arguments

SCHEMA = {
    "type": "object",
    "properties": {
        "task": {"type": "string", "enum": ["book", "pay"]},
        "count": {"type": "integer"},
        "price": {"type": ["number", "null"]},
        "is_new": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]},
        "free": {"type": "something of tomorrow"},
        "any": {},
    },
    "required": ["task"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "text",
    [
        '{"task": "book"}',
        '{"task": "pay", "count": 2, "price": null, "is_new": true, "tags": ["a"], "any": [1]}',
        '{"task": "pay", "price": 2, "where": {"street": "Main", "number": 1}, "free": 1}',
        '{"task": "pay", "price": 2.5}',
    ],
)
def test_what_fits_is_taken(text):
    assert read_arguments(text, SCHEMA)["task"] in ("book", "pay")


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_no_arguments_are_an_empty_object(text):
    assert read_arguments(text, {"type": "object"}) == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ('{"task": NaN}', "not valid JSON"),
        ('{"task": "\\ud800"}', "not valid JSON"),
        ('["book"]', "must be a JSON object"),
        ('"book"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{}", "arguments lacks 'task'"),
        ('{"task": 1}', "task must be of type string"),
        ('{"task": "secret"}', "task must be one of book, pay"),
        ('{"task": "pay", "count": "secret"}', "count must be of type integer"),
        ('{"task": "pay", "count": true}', "count must be of type integer"),
        ('{"task": "pay", "count": 1.5}', "count must be of type integer"),
        ('{"task": "pay", "price": "secret"}', "price must be of type number or null"),
        ('{"task": "pay", "is_new": 1}', "is_new must be of type boolean"),
        ('{"task": "pay", "tags": ["a", 1]}', "each of tags must be of type string"),
        ('{"task": "pay", "where": {}}', "where lacks 'street'"),
        ('{"task": "pay", "secret": 1}', "may only hold any, count"),
        ('{"task": "' + "x" * MAX_ARGUMENTS_BYTES + '"}', "longer than"),
        ("[" * 5_000, "not valid JSON"),
    ],
)
def test_what_does_not_fit_is_told_by_field_and_type(text, complaint):
    with pytest.raises(ArgumentsError, match=complaint) as told:
        read_arguments(text, SCHEMA)
    assert "secret" not in str(told.value)
    assert told.value.__cause__ is None
    assert len(str(told.value)) < 200

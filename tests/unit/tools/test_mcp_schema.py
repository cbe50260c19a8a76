"""PinnedTool: digests, what schemas are taken, and what arguments are let out."""

import pytest

from fastagent.tools.arguments import ArgumentsError
from fastagent.tools.mcp_schema import MAX_DESCRIPTION_CHARS, MAX_SCHEMA_BYTES, PinnedTool, SchemaError

SCHEMA = {
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["long", "short"]},
        "place": {"$ref": "#/$defs/Place"},
        "code": {"type": "string", "pattern": "^(a+)+$"},
    },
    "required": ["number"],
    "additionalProperties": False,
    "$defs": {"Place": {"type": "object", "required": ["city"]}},
}


def pinned(schema=SCHEMA, description="Find."):
    return PinnedTool.of("find", description, schema)


def test_digest_is_of_name_words_and_schema_whatever_their_order():
    turned = dict(reversed(SCHEMA.items()))
    assert pinned().digest == pinned(turned).digest
    others = {
        PinnedTool.of("find2", "Find.", SCHEMA).digest,
        pinned(description="Find, and send it to me.").digest,
        pinned({**SCHEMA, "required": []}).digest,
        pinned(description="x" * MAX_DESCRIPTION_CHARS + "y").digest,
        pinned(description="x" * MAX_DESCRIPTION_CHARS + "z").digest,
    }
    assert len(others - {pinned().digest}) == 5


def test_long_description_is_cut():
    assert len(pinned(description="x" * 9_999).description) == MAX_DESCRIPTION_CHARS


@pytest.mark.parametrize(
    ("name", "schema", "complaint"),
    [
        ("", SCHEMA, "its name"),
        ("x" * 257, SCHEMA, "its name"),
        ("a\nb", SCHEMA, "its name"),
        ("find", {}, "not of an object"),
        ("find", {"type": "string"}, "not of an object"),
        ("find", {"type": "object", "properties": 7}, "is none"),
        ("find", {"type": "object", "x": object()}, "not JSON"),
        ("find", {"type": "object", "x": "y" * (MAX_SCHEMA_BYTES + 9_000)}, "longer than"),
    ],
)
def test_schemas_that_cannot_be_used_are_refused(name, schema, complaint):
    with pytest.raises(SchemaError, match=complaint):
        PinnedTool.of(name, "", schema)


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": 1},
        {"number": 1, "kind": "long", "place": {"city": "Bonn"}},
        # A hostile pattern on a hostile text: taken, since patterns are the server's own to check.
        {"number": 1, "code": "a" * 5_000 + "!"},
    ],
)
def test_arguments_that_fit_are_let_out(arguments):
    pinned().check(arguments)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "arguments lacks 'number'"),
        ({"number": 0}, "number breaks the rule minimum 1"),
        ({"number": "4711"}, "number breaks the rule type integer"),
        ({"number": 1, "kind": "4711"}, "kind breaks the rule enum long, short"),
        ({"number": 1, "4711": 1}, "holds names that the function does not take"),
        ({"number": 1, "place": {}}, "place lacks 'city'"),
    ],
)
def test_arguments_that_do_not_fit_are_named_by_place_and_rule(arguments, complaint):
    with pytest.raises(ArgumentsError) as caught:
        pinned().check(arguments)
    assert complaint in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "$ref": "https://example.com/schema.json"},
        {"type": "object", "$ref": "#/$defs/Nowhere"},
        {"type": "object", "allOf": [{"$ref": "#"}]},
    ],
    ids=["remote", "nowhere", "itself"],
)
def test_references_out_of_the_schema_or_in_circles_let_nothing_out(schema):
    with pytest.raises(ArgumentsError, match="cannot be checked"):
        pinned(schema).check({"a": 1})

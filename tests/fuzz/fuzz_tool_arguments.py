"""The arguments a model wrote for a tool: read as the schema says, or the documented error."""

from typing import Any

from fastagent.tools.arguments import ArgumentsError, read_arguments

SCHEMAS: tuple[dict[str, Any], ...] = (
    {},
    {
        "properties": {
            "day": {"type": "string", "enum": ["monday", "friday"]},
            "hour": {"type": "integer"},
            "guests": {"type": "array", "items": {"type": ["string", "null"]}},
        },
        "required": ["day"],
        "additionalProperties": False,
    },
    {"properties": {"a": {"type": "object", "properties": {"b": {"type": "number"}}, "required": ["b"]}}},
)


def check(data: bytes) -> None:
    """The first byte picks a schema; the rest is the text."""
    schema = SCHEMAS[data[0] % len(SCHEMAS)] if data else SCHEMAS[0]
    try:
        arguments = read_arguments(data[1:].decode("utf-8", "replace"), schema)
    except ArgumentsError:
        return
    assert set(schema.get("required", ())) <= set(arguments)
    if schema.get("additionalProperties") is False:
        assert set(arguments) <= set(schema["properties"])

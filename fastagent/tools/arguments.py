"""Checks the arguments of a function call against the small part of JSON Schema that tools use.

Understood: ``type`` (a name or a list), ``enum``, ``required``, ``properties``, ``items`` and
``additionalProperties: false``; any other keyword is a hint for the model alone.
"""

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["MAX_ARGUMENTS_BYTES", "ArgumentsError", "read_arguments"]

MAX_ARGUMENTS_BYTES = 64 * 1024

_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


class ArgumentsError(ValueError):
    """The arguments do not fit; the message names fields and types, never what was said."""


def read_arguments(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the arguments the model wrote; an empty text stands for none.

    Raises:
        ArgumentsError: not JSON, not an object, too long, or not what the schema asks for.
    """
    if len(text) > MAX_ARGUMENTS_BYTES:
        raise ArgumentsError(f"arguments are longer than {MAX_ARGUMENTS_BYTES} bytes")
    try:
        arguments = orjson.loads(text) if text.strip() else {}
    except ValueError:
        raise ArgumentsError("arguments are not valid JSON") from None
    if not isinstance(arguments, dict):
        raise ArgumentsError("arguments must be a JSON object")
    _check(arguments, {"type": "object", **schema}, "arguments")
    return arguments


def _check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    expected = schema.get("type")
    if expected is not None:
        names = [expected] if isinstance(expected, str) else list(expected)
        if not any(_is(value, name) for name in names):
            raise ArgumentsError(f"{where} must be of type {' or '.join(names)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ArgumentsError(f"{where} must be one of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                raise ArgumentsError(f"{where} lacks {name!r}")
        if schema.get("additionalProperties") is False and value.keys() - properties.keys():
            raise ArgumentsError(f"{where} may only hold {', '.join(sorted(properties)) or 'nothing'}")
        for name, part in properties.items():
            if name in value:
                _check(value[name], part, name)
    elif isinstance(value, list) and "items" in schema:
        for part in value:
            _check(part, schema["items"], f"each of {where}")


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name != "boolean":
        return False  # to Python a bool is an int, to JSON it is not a number
    return isinstance(value, _TYPES.get(name, (object,)))

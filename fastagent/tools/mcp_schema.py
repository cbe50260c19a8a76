"""PinnedTool: what a remote tool promised to be, by digest, and the check of arguments against its schema."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from fastagent.tools.arguments import ArgumentsError

__all__ = ["MAX_DESCRIPTION_CHARS", "MAX_SCHEMA_BYTES", "PinnedTool", "SchemaError"]

MAX_DESCRIPTION_CHARS = 2_000
MAX_SCHEMA_BYTES = 32 * 1024
MAX_COMPLAINTS = 5


class SchemaError(ValueError):
    """A schema that is not usable; the message says why."""


@dataclass(frozen=True)
class PinnedTool:
    """A tool's name, words and schema, held to by their digest."""

    name: str
    description: str = field(repr=False)
    input_schema: Mapping[str, Any] = field(repr=False)
    digest: str
    """SHA-256 of name, description and schema as canonical JSON: the words count, as the model obeys them."""

    @classmethod
    def of(cls, name: str, description: str, input_schema: Mapping[str, Any]) -> "PinnedTool":
        """Pin a tool as a server lists it.

        Raises:
            SchemaError: no schema of an object, one too large or too deep, or not one of JSON Schema.
        """
        if not name or len(name) > 256 or not name.isprintable():
            raise SchemaError("its name is empty, too long or not printable")
        if input_schema.get("type") != "object":
            raise SchemaError("its schema is not of an object")
        whole = {"name": name, "description": description, "input_schema": input_schema}
        try:
            written = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            raise SchemaError("its schema is not JSON") from None
        if len(written) > MAX_SCHEMA_BYTES + 4 * MAX_DESCRIPTION_CHARS:
            raise SchemaError(f"its schema is longer than {MAX_SCHEMA_BYTES} bytes")
        pinned = cls(
            name, description[:MAX_DESCRIPTION_CHARS], input_schema, hashlib.sha256(written).hexdigest()
        )
        _ = pinned._validator
        return pinned

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Check arguments before they leave.

        Raises:
            ArgumentsError: they do not fit; the message names places and rules, never values.
        """
        try:
            found = sorted(self._validator.iter_errors(arguments), key=lambda one: list(map(str, one.path)))
        except Exception as error:  # a reference that leads nowhere, a schema that leads to itself
            raise ArgumentsError(f"arguments cannot be checked: {type(error).__name__}") from None
        if found:
            raise ArgumentsError("; ".join(_complaint(one) for one in found[:MAX_COMPLAINTS]))

    @cached_property
    def _validator(self) -> Any:
        # jsonschema comes with the SDK, and costs what only those who use it should pay.
        from jsonschema import SchemaError as BadSchema
        from jsonschema.validators import extend, validator_for
        from referencing import Registry

        schema = dict(self.input_schema)
        kind = validator_for(schema)
        try:
            kind.check_schema(schema)
        except (BadSchema, RecursionError) as error:
            raise SchemaError(f"its schema is none: {type(error).__name__}") from None
        # A pattern is a program of the server's that may run for years on what a caller said; the server
        # checks it anyway. References are followed within the schema alone.
        tame = extend(kind, {"pattern": _ignore, "patternProperties": _ignore})
        return tame(schema, registry=Registry())


def _ignore(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    return None


def _complaint(error: Any) -> str:
    where = ".".join(map(str, error.path)) or "arguments"
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{where} lacks {', '.join(map(repr, missing))}"
    if error.validator == "additionalProperties":
        return f"{where} holds names that the function does not take"
    rule = error.validator_value
    told = (
        f" {rule}"
        if isinstance(rule, str | int | float)
        else f" {', '.join(map(str, rule))}"
        if _is_short(rule)
        else ""
    )
    return f"{where} breaks the rule {error.validator}{told}"


def _is_short(rule: Any) -> bool:
    return isinstance(rule, list) and len(rule) <= 20 and all(isinstance(one, str | int) for one in rule)

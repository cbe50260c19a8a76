"""The schemas of docs/asyncapi.yaml, to hold messages against."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    return loaded


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    # Schemas refer to one another from the root of the document, so the root goes along.
    schema = {"$ref": f"#/components/schemas/{kind}", "components": document()["components"]}
    return jsonschema.Draft202012Validator(schema)


def problems(kind: str, message: Any) -> list[str]:
    """What is wrong with a message of a type; nothing, if nothing is."""
    return [f"{error.json_path}: {error.message[:200]}" for error in validator(kind).iter_errors(message)]

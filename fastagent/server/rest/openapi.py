"""The OpenAPI 3.1 document of the house, made of the operations and models that the routes use."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from fastagent import __version__
from fastagent.server.doors.auth import Scope
from fastagent.server.rest.models import ProblemDetails
from fastagent.server.rest.operations import DOOR_PROBLEMS, Answer, Asked, Operation
from fastagent.server.rest.problems import MEDIA_TYPE, phrase_of

__all__ = ["DOCUMENT", "DOCUMENT_PATH", "document", "document_bytes", "document_handler"]

DOCUMENT_PATH = "/openapi.json"
REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = (
    "Agents and sessions of a running FastAgent server. Every error is answered in problem details "
    "(RFC 9457). Without any token, which is on loopback only, every door is open."
)

DOCUMENT = Operation(
    "GET",
    DOCUMENT_PATH,
    "read_document",
    "This document",
    {200: Answer("OpenAPI 3.1.", schema={"type": "object"})},
    (405, 422),
    tag="document",
    scopes=tuple(Scope),
)


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document of these operations."""
    operations = list(operations)
    taken = [model for one in operations for model in one.bodies.values() if isinstance(model, type)]
    given = [
        answer.model for one in operations for answer in one.answers.values() if answer.model is not None
    ]
    models: list[tuple[Any, Any]] = [(model, "validation") for model in dict.fromkeys(taken)]
    # Answers are described as they are written: every field is there.
    models += [(model, "serialization") for model in dict.fromkeys([*given, ProblemDetails])]
    references, definitions = models_json_schema(models, ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path.replace(":path}", "}"), {})[one.method.lower()] = _operation(
            one, references
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "FastAgent", "version": __version__, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token with one of the scopes that the operation names.",
                }
            },
        },
    }


def document_bytes(operations: Iterable[Operation]) -> bytes:
    """The document as it is served, and checked in."""
    return orjson.dumps(document(operations), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def document_handler(operations: Iterable[Operation]) -> Any:
    """What answers for `DOCUMENT`."""
    content = document_bytes(operations)

    async def answer(asked: Asked) -> Response:
        return Response(content, media_type="application/json")

    return answer


def _operation(one: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.tag],
        "security": [{"bearer": [scope.value for scope in one.scopes]}],
    }
    if one.description:
        found["description"] = one.description
    if parameters := [*_path_parameters(one), *_query_parameters(one)]:
        found["parameters"] = parameters
    if one.bodies:
        found["requestBody"] = {
            "required": True,
            "content": {
                media_type: {
                    "schema": references[model, "validation"] if isinstance(model, type) else dict(model)
                }
                for media_type, model in one.bodies.items()
            },
        }
    found["responses"] = {
        **{str(status): _answer(answer, references) for status, answer in one.answers.items()},
        **{str(status): _problem(status, references) for status in sorted({*one.problems, *DOOR_PROBLEMS})},
    }
    return found


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": "path",
            "required": True,
            "description": parameter.description,
            "schema": {"type": "string", "minLength": 1}
            | ({"pattern": parameter.pattern} if parameter.pattern else {}),
        }
        for parameter in one.parameters
    ]


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    found = []
    schema = one.query.model_json_schema()
    for name, described in schema.get("properties", {}).items():
        described = dict(described)
        described.pop("title", None)
        description = described.pop("description", "")
        # A parameter is left out, it is never null.
        options = [option for option in described.pop("anyOf", []) if option != {"type": "null"}]
        if described.get("default", "") is None:
            del described["default"]
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": description,
                "schema": {**(options[0] if options else {}), **described},
            }
        )
    return found


def _answer(answer: Answer, references: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.description}
    if answer.model is not None:
        found["content"] = {answer.media_type: {"schema": references[answer.model, "serialization"]}}
    elif answer.schema is not None:
        found["content"] = {answer.media_type: {"schema": dict(answer.schema)}}
    return found


def _problem(status: int, references: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "description": phrase_of(status),
        "content": {MEDIA_TYPE: {"schema": references[ProblemDetails, "serialization"]}},
    }

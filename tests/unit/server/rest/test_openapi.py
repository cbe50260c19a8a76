"""The document: it is what is checked in, is OpenAPI, and tells of every route."""

import json
from pathlib import Path

import jsonschema
import pytest

from fastagent import FastAgent
from fastagent.server.app import Service, build_app
from fastagent.server.lines.twilio_dial import DIAL_PATH
from fastagent.server.rest.openapi import document, document_bytes
from fastagent.server.rest.routes import OPERATIONS
from fastagent.settings import Settings
from tests.integration.api_house import ORDER

PAGE = Path(__file__).parents[4] / "docs" / "openapi.json"
ELSEWHERE = {
    "/agent/ws",
    "/asyncapi.yaml",
    "/audiocodes/webhook",
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/profile",
    "/{path}",
}
"""Routes that are no part of this document: carriers' and clients' doors, and what operators' tools ask."""


def test_the_document_that_is_checked_in_is_the_code_s():
    again = "python -m fastagent.server.rest.routes > docs/openapi.json"
    assert PAGE.read_bytes() == document_bytes(OPERATIONS), again


def is_elsewhere(path: str) -> bool:
    return path in ELSEWHERE or (path.startswith("/twilio/") and path != DIAL_PATH)


def test_every_route_of_the_house_is_told_of():
    settings = Settings(
        twilio_auth_tokens=("0" * 32,),
        twilio_account_sid="AC1",
        public_url="https://bridge.example.com",
        dial_allow=("+1555",),
    )
    service = Service([FastAgent("bot")], settings, realtime_url="ws://127.0.0.1:1/")
    told = {
        (path, method.upper())
        for path, methods in document(OPERATIONS)["paths"].items()
        for method in methods
    }
    served = {
        (route.path.replace(":path}", "}"), method)
        for route in build_app(service).routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    assert {one for one in served if not is_elsewhere(one[0])} == told


def test_operations_have_names_of_their_own_and_say_who_may():
    operations = [
        operation for methods in document(OPERATIONS)["paths"].values() for operation in methods.values()
    ]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["security"][0]["bearer"]
        assert {"401", "403", "429"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            media_types = set(response.get("content", {}))
            assert (int(status) >= 400) == (media_types == {"application/problem+json"})


def test_references_lead_somewhere_and_schemas_are_schemas():
    described = document(OPERATIONS)
    schemas = described["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for line in json.dumps(described, indent=0).splitlines():
        if '"$ref"' in line:
            assert line.split("#/components/schemas/")[1].strip('",') in schemas


@pytest.mark.parametrize(
    ("change", "is_valid"), [({}, True), ({"greeting": 1}, False), ({"speech": ""}, False)]
)
def test_the_document_s_schema_judges_a_configuration_as_the_code_does(change, is_valid):
    schema = {**document(OPERATIONS)["components"], "$ref": "#/schemas/AgentConfig"}
    schema = json.loads(json.dumps(schema).replace("#/components/schemas/", "#/schemas/"))
    assert jsonschema.Draft202012Validator(schema).is_valid({**ORDER, **change}) is is_valid

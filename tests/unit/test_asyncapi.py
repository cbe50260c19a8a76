"""The published description says what the codec does: types, codes, formats, examples."""

import copy
from typing import Any

import jsonschema
import pytest

from fastagent.errors import WireError
from fastagent.wire.agentws import AgentCodec
from fastagent.wire.agentws_client import UnknownMessage, read_server_message
from fastagent.wire.agentws_words import CLIENT_MEDIA, DEFAULT_MEDIA, ClientMessage, ErrorCode, ServerMessage
from fastagent.wire.events import AcceptSession
from fastagent.wire.json_message import dump_json
from tests.reference.asyncapi_schemas import document, problems

COMPONENTS = document()["components"]
EXAMPLES = [
    (kind, example["payload"])
    for kind, message in COMPONENTS["messages"].items()
    for example in message["examples"]
]


def names(operation: str) -> set[str]:
    return {entry["$ref"].rpartition("/")[2] for entry in document()["operations"][operation]["messages"]}


def test_document_is_asyncapi_3_and_every_reference_leads_somewhere():
    assert document()["asyncapi"] == "3.0.0"
    assert {"info", "channels", "operations", "components", "servers"} <= set(document())

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return found + [one for inner in value.values() for one in references(inner)]
        return [one for inner in value for one in references(inner)] if isinstance(value, list) else []

    assert references(document())
    for reference in references(document()):
        place: Any = document()
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_document_and_codec_name_the_same_messages():
    assert names("take") == set(ClientMessage)
    assert names("tell") == set(ServerMessage)
    both = set(ClientMessage) | set(ServerMessage)
    assert set(COMPONENTS["messages"]) == set(document()["channels"]["agent"]["messages"]) == both
    assert both <= set(COMPONENTS["schemas"])
    assert document()["channels"]["agent"]["address"] == "/agent/ws"


def test_document_and_codec_name_the_same_codes():
    code = COMPONENTS["schemas"]["error"]["properties"]["payload"]["properties"]["code"]
    assert code["enum"] == list(ErrorCode)
    for one in ErrorCode:
        assert f"`{one}`" in code["description"]


def test_document_and_codec_name_the_same_formats():
    media = COMPONENTS["schemas"]["media"]
    assert media["enum"] == list(CLIENT_MEDIA)
    assert media["default"] == DEFAULT_MEDIA.name
    response = COMPONENTS["schemas"]["audio_response"]["properties"]["payload"]["properties"]
    assert set(response["format"]["enum"]) == {one.response_format for one in CLIENT_MEDIA.values()}


@pytest.mark.parametrize("kind", COMPONENTS["schemas"])
def test_schema_is_one(kind):
    jsonschema.Draft202012Validator.check_schema(COMPONENTS["schemas"][kind])


@pytest.mark.parametrize(("kind", "message"), EXAMPLES)
def test_example_fits_its_schema_and_no_other(kind, message):
    assert problems(kind, message) == []
    for other in COMPONENTS["messages"]:
        assert other == kind or problems(other, message)


@pytest.mark.parametrize(("kind", "message"), [one for one in EXAMPLES if one[0] in set(ClientMessage)])
def test_codec_takes_what_the_document_shows(kind, message):
    codec = AgentCodec(agents={"appointment"})
    if kind != "start_session":
        codec.receive(b'{"type":"start_session"}')
        codec.send(AcceptSession(DEFAULT_MEDIA.offer))
    assert codec.receive(dump_json(message))


@pytest.mark.parametrize(("kind", "message"), [one for one in EXAMPLES if one[0] in set(ServerMessage)])
def test_client_reads_what_the_document_shows_and_misses_each_field(kind, message):
    assert not isinstance(read_server_message(dump_json(message)), UnknownMessage)
    for key in message["payload"]:
        thin = copy.deepcopy(message)
        del thin["payload"][key]
        assert problems(kind, thin)
        if (kind, key) not in {("audio_response", "encoding"), ("state_transition", "from_state")}:
            with pytest.raises(WireError):
                read_server_message(dump_json(thin))
        thin["payload"][key] = ["wrong"]
        assert problems(kind, thin)

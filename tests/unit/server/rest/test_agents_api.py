"""``/agents``: every status of every operation."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import pytest
from starlette.applications import Starlette

from fastagent import FastAgent
from fastagent.server.agents import directory as agents_module
from fastagent.server.agents.directory import AgentDirectory
from fastagent.server.agents.files import AgentFiles
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.rest.agents_api import CONFIG_BYTES_MAX, AgentsApi
from fastagent.server.rest.operations import operation_routes
from fastagent.server.rest.problems import answer_failure
from fastagent.settings import Settings
from fastagent.stats import Counters
from tests.asgi import JSON, Answer, ask
from tests.integration.api_house import ORDER, front_desk

TOKEN = "an-administrator-0123"
CARRIER = "a-carrier-0123456789"
CONFIG = "/agents/front-desk/config"


class House:
    """The operations over a directory, asked without a socket."""

    def __init__(
        self, *, files: AgentFiles | None = None, running: Iterable[str] = (), **settings: Any
    ) -> None:
        self.directory = AgentDirectory([front_desk(), FastAgent("odd name!")], files=files)
        doors = Doorkeeper(Settings(**settings), Counters())
        api = AgentsApi(self.directory, lambda: running)
        self.app = Starlette(
            routes=operation_routes(doors, api.handlers),
            exception_handlers={404: answer_failure, 405: answer_failure},
        )

    def ask(self, *arguments: Any, **named: Any) -> Answer:
        return asyncio.run(ask(self.app, *arguments, **named))

    def post(self, config: Any, target: str = CONFIG, headers: dict[str, str] | None = None) -> Answer:
        body = config if isinstance(config, bytes) else json.dumps(config).encode()
        return self.ask("POST", target, body, JSON if headers is None else headers)


@pytest.fixture
def house() -> House:
    return House()


def test_agents_are_listed_as_they_answer():
    house = House(running=["front-desk", "front-desk", "gone"])
    house.post({**ORDER, "name": "Front desk"})
    listed = house.ask("GET", "/agents").json
    assert listed["total_count"] == 2
    desk, odd = listed["agents"]
    assert (desk["agent_id"], desk["name"], desk["version"], desk["source"]) == (
        "front-desk",
        "Front desk",
        2,
        "api",
    )
    assert (desk["is_default"], desk["active_sessions"]) == (True, 2)
    assert desk["tasks"][0]["states"] == ["ask", "order", "sorry", "done"]
    assert desk["tasks"][0]["initial_state"] == "ask"
    assert (odd["agent_id"], odd["source"], odd["is_default"], odd["tasks"]) == (
        "odd name!",
        "code",
        False,
        [],
    )


def test_a_configuration_is_accepted_and_read_back(house):
    accepted = house.post(ORDER)
    assert accepted.status == 200
    assert accepted.headers["location"] == CONFIG
    assert accepted.json["version"] == 2
    assert accepted.json["is_changed"] is True
    read = house.ask("GET", CONFIG)
    assert read.json["config"] == ORDER
    assert read.json["content_hash"] == accepted.json["content_hash"]
    assert read.headers["etag"] == f'"{accepted.json["content_hash"]}"'
    assert (read.json["is_current"], read.json["source"], read.json["kept_versions"]) == (True, "api", [1, 2])
    again = house.post(ORDER)
    assert (again.status, again.json["version"], again.json["is_changed"]) == (200, 2, False)


def test_a_new_agent_is_created(house):
    assert house.post({"greeting": "Hello"}, "/agents/night/config").status == 201
    assert house.post({"greeting": "Good night"}, "/agents/night/config").status == 200


def test_earlier_versions_are_read(house):
    house.post(ORDER)
    first = house.ask("GET", f"{CONFIG}?version=1").json
    assert (first["config"], first["source"], first["is_current"]) == (None, "code", False)
    assert house.ask("GET", f"{CONFIG}?version=3").is_problem(404, "unknown-version")
    assert house.ask("GET", f"{CONFIG}?version=0").is_problem(422, "invalid-query")
    assert house.ask("GET", f"{CONFIG}?version=x").is_problem(422, "invalid-query")


def test_agents_in_code_are_read_whatever_they_are_called(house):
    assert house.ask("GET", "/agents/odd%20name!/config").json["agent_id"] == "odd name!"
    assert house.ask("GET", "/agents/nobody/config").is_problem(404, "unknown-agent")
    assert house.ask("GET", "/agents/other%20name/config").is_problem(422, "invalid-path")
    assert house.post({}, "/agents/odd%20name!/config").is_problem(422, "invalid-path")
    assert house.post({}, "/agents/a%0A/config").is_problem(422, "invalid-path")
    assert house.post({}, f"/agents/{'x' * 65}/config").is_problem(422, "invalid-path")


def test_warnings_are_listed_and_errors_refuse(house):
    endless = deepcopy(ORDER)
    endless["states"][0]["voice_policy"] = {"tools": ["opening_hours", "opening_hours"]}
    accepted = house.post(endless)
    assert accepted.status == 200
    assert [one["kind"] for one in accepted.json["warnings"]] == ["tool_listed_twice"]
    assert house.ask("GET", CONFIG).json["warnings"] == accepted.json["warnings"]
    island = deepcopy(ORDER)
    island["states"].append({"name": "island", "prompt_template": "?"})
    refused = house.post(island)
    assert refused.is_problem(422, "graph-refused")
    assert refused.json["findings"][0]["kind"] == "unreachable_state"
    assert refused.json["findings"][0]["place"].startswith("states[4]")
    assert house.ask("GET", CONFIG).json["version"] == 2


@pytest.mark.parametrize(
    ("config", "status", "kind"),
    [
        (b"", 400, "not-json"),
        (b"{", 400, "not-json"),
        (b'{"greeting": "a", "greeting": "b"}', 400, "json-doubled-key"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 400, "json-too-deep"),
        (b"[]", 422, "invalid-config"),
        (b"null", 422, "invalid-config"),
        (b'{"greeting": 1}', 422, "invalid-config"),
        (b'{"speech": "x"}', 422, "invalid-config"),
        (b'{"functions": ["pay"]}', 422, "invalid-config"),
        (b'{"greeting": "' + b"x" * CONFIG_BYTES_MAX + b'"}', 413, "body-too-large"),
    ],
)
def test_bad_bodies_are_refused(house, config, status, kind):
    assert house.post(config).is_problem(status, kind)
    assert house.ask("GET", CONFIG).json["version"] == 1


def test_mistakes_are_told_with_their_paths_and_without_what_was_sent(house):
    config = {"greeting": 4711, "states": [{"name": "a", "slots": [{"name": "pin", "type": "secret-4712"}]}]}
    refused = house.post(config)
    assert refused.is_problem(422, "invalid-config")
    paths = {one["path"] for one in refused.json["errors"]}
    assert paths == {"greeting", "states[0].slots[0].type"}
    assert b"471" not in refused.body
    unknown = deepcopy(ORDER)
    unknown["states"][1]["effects"][0]["name"] = "pay"
    assert house.post(unknown).json["errors"] == [
        {"path": "states[1].effects[0].name", "message": "the agent in code has no effect of this name"}
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/json5"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_other_media_types_are_refused(house, headers):
    assert house.post({}, headers=headers).status == 415


def test_json_with_its_charset_is_taken(house):
    assert house.post({}, headers={"content-type": 'Application/JSON; charset="UTF-8"'}).status == 200


@pytest.mark.parametrize("target", ["/agents?x=1", f"{CONFIG}?x=1", f"{CONFIG}?version=1&version=1"])
def test_unknown_and_doubled_parameters_are_refused(house, target):
    assert house.ask("GET", target).is_problem(422, "invalid-query")


@pytest.mark.parametrize(("method", "target"), [("DELETE", CONFIG), ("PUT", CONFIG), ("POST", "/agents")])
def test_other_methods_are_not_allowed(house, method, target):
    answer = house.ask(method, target)
    assert answer.is_problem(405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


def test_doors_open_for_administrators_only():
    house = House(admin_tokens=(TOKEN,), audiocodes_tokens=(CARRIER,), auth_failures_max=3)
    asked: list[Callable[[dict[str, str]], Answer]] = [
        lambda headers: house.ask("GET", "/agents", b"", headers),
        lambda headers: house.ask("GET", CONFIG, b"", headers),
        lambda headers: house.post({}, headers={**JSON, **headers}),
    ]
    for one in asked:
        assert one({}).is_problem(401, "unauthorized")
        assert one({}).headers["www-authenticate"] == "Bearer"
        assert one({"authorization": f"Bearer {CARRIER}"}).is_problem(403, "forbidden")
        assert one({"authorization": f"Bearer {TOKEN}"}).status == 200
    for _ in range(3):
        asked[0]({"authorization": "Bearer guessed-0123456789"})
    blocked = house.ask("GET", "/agents", b"", {}, client="127.0.0.1")
    assert blocked.is_problem(429, "too-many-requests")
    assert int(blocked.headers["retry-after"]) > 0


def test_a_full_house_and_a_full_disk_are_told(tmp_path, monkeypatch):
    house = House(files=AgentFiles(tmp_path))
    monkeypatch.setattr(agents_module, "AGENTS_MAX", 2)
    assert house.post({}, "/agents/third/config").is_problem(409, "too-many-agents")
    monkeypatch.setattr(agents_module, "WAITING_MAX", 0)
    busy = house.post({"greeting": "x"})
    assert busy.is_problem(503, "busy")
    assert busy.headers["retry-after"]
    monkeypatch.undo()

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert house.post({"greeting": "x"}).is_problem(503, "not-kept")


def test_a_client_that_goes_away_is_no_fault(house):
    assert house.ask("POST", CONFIG, (), JSON).status == 400

"""AgentDirectory: who answers, in which version, and what a restart finds."""

import asyncio
import os
import stat
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fastagent import FastAgent
from fastagent.errors import ConfigurationError
from fastagent.server.agents import directory as agents_module
from fastagent.server.agents.config import AgentConfig, ConfigError
from fastagent.server.agents.directory import (
    VERSIONS_KEPT,
    AgentDirectory,
    AgentVersion,
    GraphRefusedError,
    HouseFullError,
    NotKeptError,
)
from fastagent.server.agents.files import AgentFiles, StoredConfig
from fastagent.wire.events import SessionOffered
from tests.integration.api_house import ORDER, front_desk

GREETING = {"greeting": "Good evening!"}


def offer(bot_name: str) -> SessionOffered:
    return SessionOffered("conversation-1", (), True, bot_name=bot_name)


async def put(
    directory: AgentDirectory, agent_id: str, document: dict[str, Any]
) -> tuple[AgentVersion, bool]:
    return await directory.put(agent_id, AgentConfig.model_validate(document), document)


def put_all(directory: AgentDirectory, *puts: tuple[str, dict[str, Any]]) -> list[tuple[AgentVersion, bool]]:
    async def scenario() -> list[tuple[AgentVersion, bool]]:
        return [await put(directory, agent_id, document) for agent_id, document in puts]

    return asyncio.run(scenario())


def test_agents_in_code_answer_by_their_ids_and_the_first_all_others():
    one, two = FastAgent("one"), FastAgent("two")
    directory = AgentDirectory([one, two])
    assert directory.choose(offer("one")) is one
    assert directory.choose(offer("two")) is two
    assert directory.choose(offer("nobody")) is one
    assert directory.default_id == "one"
    with pytest.raises(ConfigurationError):
        AgentDirectory([])


def test_what_is_put_answers_new_calls_and_who_answers_a_call_is_not_changed():
    directory = AgentDirectory([front_desk()])
    before = directory.choose(offer(""))
    graph = before.tasks["pizza"].graph.content_hash
    document = deepcopy(ORDER)
    document["states"][1]["prompt_template"] = "One {size} pizza."
    [(version, is_changed)] = put_all(directory, ("front-desk", document))
    after = directory.choose(offer("front-desk"))
    assert (version.number, is_changed) == (2, True)
    assert after is version.agent is directory.choose(offer("unknown"))
    assert after.tasks["pizza"].graph.content_hash != graph
    assert before.tasks["pizza"].graph.content_hash == graph
    assert [one.number for one in directory.versions("front-desk")] == [1, 2]
    assert directory.versions("front-desk")[1].config == document


def test_what_answers_already_is_no_new_version():
    directory = AgentDirectory([front_desk()])
    found = put_all(directory, ("front-desk", GREETING), ("front-desk", dict(GREETING)), ("front-desk", {}))
    assert [(version.number, is_changed) for version, is_changed in found] == [
        (2, True),
        (2, False),
        (3, True),
    ]


def test_agents_that_are_not_in_code_may_be_put():
    directory = AgentDirectory([front_desk()])
    put_all(directory, ("night", {"instructions": "Be quiet."}))
    assert directory.choose(offer("night")).own_instructions == "Be quiet."
    assert [one.agent_id for one in directory.current] == ["front-desk", "night"]


def test_old_versions_are_forgotten_in_the_end():
    directory = AgentDirectory([FastAgent("bot")])
    put_all(directory, *(("bot", {"greeting": f"Hello {n}"}) for n in range(VERSIONS_KEPT + 5)))
    numbers = [one.number for one in directory.versions("bot")]
    assert numbers == list(range(7, VERSIONS_KEPT + 7))


def test_all_configurations_together_are_bounded_and_earlier_versions_make_room(monkeypatch):
    monkeypatch.setattr(agents_module, "CONFIG_BYTES_MAX", 400)
    directory = AgentDirectory([FastAgent("bot"), FastAgent("other")])
    long = {"instructions": "x" * 150}
    put_all(directory, ("bot", long), ("other", long), ("bot", {"greeting": "short"}))
    assert [one.number for one in directory.versions("bot")] == [1, 2, 3]
    put_all(directory, ("bot", long | {"greeting": "again"}))
    # The oldest of all goes first.
    assert [one.number for one in directory.versions("bot")] == [3, 4]
    assert [one.number for one in directory.versions("other")] == [2]
    with pytest.raises(HouseFullError):
        put_all(directory, ("other", {"instructions": "x" * 300}))
    assert directory.choose(offer("other")).own_instructions == "x" * 150


def test_a_refused_configuration_changes_nothing(tmp_path):
    directory = AgentDirectory([front_desk()], files=AgentFiles(tmp_path))
    island = deepcopy(ORDER)
    island["states"].append({"name": "island", "prompt_template": "?"})
    with pytest.raises(GraphRefusedError) as refused:
        put_all(directory, ("front-desk", island))
    assert refused.value.findings[0].kind == "unreachable_state"
    with pytest.raises(ConfigError):
        put_all(directory, ("front-desk", {"functions": ["pay"]}))
    assert [one.number for one in directory.versions("front-desk")] == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_caller_is_handed_over_to_the_colleague_that_answers():
    billing = FastAgent("billing", purpose="bills")
    desk = FastAgent("desk", colleagues=[billing])
    directory = AgentDirectory([desk, billing])
    put_all(directory, ("billing", {"description": "bills and refunds", "colleagues": ["desk"]}))
    found = directory.choose(offer("desk"))
    newest = directory.choose(offer("billing"))
    assert found.colleagues["billing"] is newest
    assert newest.colleagues["desk"] is found
    [told] = [one for one in found.tools if one["name"] == "hand_over"]
    assert "bills and refunds" in told["parameters"]["properties"]["to"]["description"]
    assert desk.colleagues["billing"] is billing


def test_every_agent_is_looked_at_before_it_answers():
    seen: list[str] = []

    def prepare(agent: FastAgent) -> None:
        if agent.greeting == "no":
            raise ConfigurationError("not this one")
        seen.append(agent.greeting)

    directory = AgentDirectory([FastAgent("bot")], prepare=prepare)
    with pytest.raises(ConfigurationError):
        put_all(directory, ("bot", {"greeting": "yes"}), ("bot", {"greeting": "no"}))
    assert seen == ["", "yes"]
    assert directory.choose(offer("bot")).greeting == "yes"


def test_agents_and_configurations_at_once_are_bounded(monkeypatch):
    monkeypatch.setattr(agents_module, "AGENTS_MAX", 2)
    directory = AgentDirectory([FastAgent("bot")])
    put_all(directory, ("two", {}))
    with pytest.raises(HouseFullError) as full:
        put_all(directory, ("three", {}))
    assert not full.value.retryable
    put_all(directory, ("two", {"greeting": "again"}))

    gate = threading.Event()
    build = agents_module.build_agent

    def build_slowly(*arguments: Any) -> Any:
        assert gate.wait(10)
        return build(*arguments)

    monkeypatch.setattr(agents_module, "build_agent", build_slowly)

    async def crowd() -> None:
        puts = [
            asyncio.create_task(put(directory, "bot", {"greeting": str(n)}))
            for n in range(agents_module.WAITING_MAX)
        ]
        await asyncio.sleep(0)
        with pytest.raises(HouseFullError) as busy:
            await put(directory, "bot", {})
        assert busy.value.retryable
        puts[0].cancel()  # its client went away; what was begun is finished
        gate.set()
        found = await asyncio.gather(*puts[1:])
        # One after another, in the order in which they came.
        assert [version.number for version, _ in found] == list(range(3, len(puts) + 2))

    asyncio.run(crowd())


# Across restarts


def test_a_restart_has_what_was_put(tmp_path):
    first = AgentDirectory([front_desk()], files=AgentFiles(tmp_path / "agents"))
    sorry = {"states": ORDER["states"][2:3], "initial_state": "sorry"}
    put_all(first, ("front-desk", {"greeting": "One"}), ("front-desk", GREETING), ("night", sorry))
    second = AgentDirectory([front_desk()], files=AgentFiles(tmp_path / "agents"))
    for name in ("front-desk", "night"):
        before, after = first.versions(name)[-1], second.versions(name)[-1]
        assert (before.number, before.content_hash, before.config) == (
            after.number,
            after.content_hash,
            after.config,
        )
        assert before.created_at_unix_s == after.created_at_unix_s
    assert second.choose(offer("front-desk")).greeting == "Good evening!"
    [(version, _)] = put_all(second, ("front-desk", {"greeting": "Three"}))
    assert version.number == 4
    assert stat.S_IMODE((tmp_path / "agents").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "agents").iterdir()} == {0o600}
    assert {path.name for path in (tmp_path / "agents").iterdir()} == {"front-desk.json", "night.json"}


def test_a_disk_that_refuses_changes_nothing(tmp_path, monkeypatch):
    files = AgentFiles(tmp_path)
    directory = AgentDirectory([FastAgent("bot")], files=files)
    put_all(directory, ("bot", {"greeting": "kept"}))

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NotKeptError):
        put_all(directory, ("bot", GREETING))
    assert directory.choose(offer("bot")).greeting == "kept"
    assert [one.config for one in files.load()] == [{"greeting": "kept"}]
    assert [path.name for path in tmp_path.iterdir()] == ["bot.json"]


def test_what_does_not_fit_any_more_is_left_out_and_told(tmp_path, caplog):
    files = AgentFiles(tmp_path)
    files.save(StoredConfig("bot", 3, 1.0, {"functions": ["gone"]}))
    files.save(StoredConfig("other", 3, 1.0, {"no_such_key": 1}))
    files.save(StoredConfig("fine", 3, 1.0, {"greeting": "Hello"}))
    directory = AgentDirectory([FastAgent("bot")], files=files)
    assert [(one.agent_id, one.number) for one in directory.current] == [("bot", 1), ("fine", 3)]
    assert len([one for one in caplog.records if "does not fit any more" in one.message]) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format": 2, "agent_id": "bot", "version": 1, "created_at_unix_s": 1, "config": {}}',
        b'{"format": 1, "agent_id": "other", "version": 1, "created_at_unix_s": 1, "config": {}}',
        b'{"format": 1, "agent_id": "bot", "version": 0, "created_at_unix_s": 1, "config": {}}',
        b'{"format": 1, "agent_id": "bot", "version": 1, "created_at_unix_s": 1, "config": []}',
    ],
)
def test_other_files_are_left_out(tmp_path, content, caplog):
    (tmp_path / "bot.json").write_bytes(content)
    assert list(AgentFiles(tmp_path).load()) == []
    assert "bot.json is left out" in caplog.text


def test_links_and_folders_are_not_followed(tmp_path):
    outside = tmp_path / "outside.json"
    AgentFiles(tmp_path / "agents").save(StoredConfig("bot", 1, 1.0, {}))
    (tmp_path / "agents" / "bot.json").rename(outside)
    (tmp_path / "agents" / "bot.json").symlink_to(outside)
    (tmp_path / "agents" / "folder.json").mkdir()
    assert list(AgentFiles(tmp_path / "agents").load()) == []


def test_a_folder_that_cannot_be_made_is_said_at_the_start(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="agents' folder"):
        AgentFiles(Path(tmp_path / "file" / "agents"))

"""The REST API over real sockets with running calls: hot swap, transcripts, goodbyes, recordings."""

import asyncio
import http.client
import json
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fastagent import FastAgent
from fastagent.server.process import RunningServer
from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.api_house import ORDER, front_desk
from tests.integration.scene import Scene, run
from tests.integration.test_state_calls import Talk, say_nothing

NEW_WORDS = deepcopy(ORDER)
NEW_WORDS["states"][0]["slots"][0]["prompt"] = "Small or large?"


def quiet_model() -> RealtimeModel:
    model = RealtimeModel()
    model.on_response = say_nothing
    return model


async def ask(
    server: RunningServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""

    def work() -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        try:
            content = None if body is None else json.dumps(body).encode()
            if body is not None:
                headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            return response.status, answered, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(work)


async def ask_json(server: RunningServer, method: str, path: str, body: Any = None) -> Any:
    status, _, content = await ask(server, method, path, body)
    assert status in (200, 201), content
    return json.loads(content)


def test_a_running_call_keeps_its_graph_and_the_next_gets_the_new_one() -> None:
    async def main(scene: Scene) -> None:
        server = scene.server
        _, session, _ = await scene.call(conversation_id="first")
        first = Talk(session)
        assert (await first.call("pizza"))["say"] == "Which size?"
        accepted = await ask_json(server, "POST", "/agents/front-desk/config", NEW_WORDS)
        assert accepted["version"] == 2

        _, session, _ = await scene.call(conversation_id="second")
        assert (await Talk(session).call("pizza"))["say"] == "Small or large?"
        # The first goes on in its own graph, and a task that begins there now does, too.
        assert (await first.call("task_reply", task="pizza", answer="large"))["status"] == "done"
        assert (await first.call("pizza"))["say"] == "Which size?"

        details = [await ask_json(server, "GET", f"/sessions/{name}") for name in ("first", "second")]
        hashes = [detail["graph_hashes"]["pizza"] for detail in details]
        old, new = [
            (await ask_json(server, "GET", f"/agents/front-desk/config?version={n}"))["tasks"][0][
                "content_hash"
            ]
            for n in (1, 2)
        ]
        assert hashes == [old, new]
        assert old != new
        listed = await ask_json(server, "GET", "/agents")
        assert listed["agents"][0]["active_sessions"] == 2

    run(main, agent=front_desk(), model=quiet_model)


def test_a_posted_agent_answers_the_bot_of_its_name(tmp_path: Path) -> None:
    async def main(scene: Scene) -> None:
        status, _, _ = await ask(scene.server, "POST", "/agents/night/config", {"instructions": "Be quiet."})
        assert status == 201
        _, session, _ = await scene.call(bot_name="night")
        await session.wait_until(lambda one: "Be quiet." in str(one.settings), "its instructions")

    run(main, agent=front_desk(), model=quiet_model, agents_dir=str(tmp_path))

    async def after_a_restart(scene: Scene) -> None:
        listed = await ask_json(scene.server, "GET", "/agents")
        assert [one["agent_id"] for one in listed["agents"]] == ["front-desk", "night"]
        _, session, _ = await scene.call(bot_name="night")
        await session.wait_until(lambda one: "Be quiet." in str(one.settings), "its instructions")

    run(after_a_restart, agent=front_desk(), model=quiet_model, agents_dir=str(tmp_path))


def test_a_refused_configuration_leaves_the_house_as_it_was() -> None:
    async def main(scene: Scene) -> None:
        island = deepcopy(ORDER)
        island["states"].append({"name": "island", "prompt_template": "?"})
        status, headers, content = await ask(scene.server, "POST", "/agents/front-desk/config", island)
        assert (status, headers["content-type"]) == (422, "application/problem+json")
        assert json.loads(content)["findings"][0]["kind"] == "unreachable_state"
        _, session, _ = await scene.call()
        assert (await Talk(session).call("pizza"))["say"] == "Which size?"

    run(main, agent=front_desk(), model=quiet_model)


def test_sessions_tell_where_calls_stand_and_what_was_said(tmp_path: Path) -> None:
    async def main(scene: Scene) -> None:
        server = scene.server
        assert (await ask_json(server, "GET", "/sessions"))["total_count"] == 0
        _, session, _ = await scene.call(conversation_id="one")
        talk = Talk(session)
        await talk.call("pizza")
        session.speech_started()
        session.speech_stopped("A large one")
        await scene.witness.wait_until(lambda witness: witness.caller)
        listed = await ask_json(server, "GET", "/sessions")
        [found] = listed["active_sessions"]
        assert (found["session_id"], found["agent_id"], found["current_state"]) == (
            "one",
            "front-desk",
            "ask",
        )
        assert found["turn_count"] == len(scene.witness.caller) + len(scene.witness.bot)
        assert (await ask_json(server, "GET", "/sessions?state=order"))["total_count"] == 0

        detail = await ask_json(server, "GET", "/sessions/one")
        assert [one["text"] for one in detail["transcript"] if one["speaker"] == "caller"] == ["A large one"]
        assert [(one["task"], one["to_state"]) for one in detail["moves"]] == [("pizza", "ask")]
        assert [(one["task"], one["state"]) for one in detail["tasks"]] == [("pizza", "ask")]
        status, headers, content = await ask(server, "GET", "/sessions/one/journal")
        assert (status, headers["content-type"]) == (200, "application/x-ndjson")
        assert "said" in [json.loads(line)["kind"] for line in content.splitlines()]

    run(main, agent=front_desk(), model=quiet_model, journals_dir=str(tmp_path))


def test_a_call_that_is_ended_says_goodbye_before_it_hangs_up(tmp_path: Path) -> None:
    recordings, journals = tmp_path / "recordings", tmp_path / "journals"

    async def main(scene: Scene) -> None:
        server = scene.server
        phone, session, tap = await scene.call(conversation_id="one")
        status, _, _ = await ask(server, "GET", "/sessions/one/recording")
        assert status == 409
        spoken = len(session.sent("response.create"))
        for _ in range(2):
            status, _, content = await ask(server, "DELETE", "/sessions/one")
            assert (status, content) == (202, b"")
        await phone.wait_ended()
        assert len(session.sent("response.create")) == spoken + 1
        notes = [event["item"] for event in session.sent("conversation.item.create")]
        assert "goodbye" in str(notes[-1])
        # The goodbye was played to its end before the hang-up.
        assert tap.order.index("hangup") > tap.order.index("playStream.chunk")
        assert scene.witness.bot
        assert (await scene.summary()).outcome == "bot"
        status, _, _ = await ask(server, "DELETE", "/sessions/one")
        assert status == 404

        detail = await ask_json(server, "GET", "/sessions/one")
        assert (detail["status"], detail["outcome"]) == ("ended", "bot")
        assert server.service.services.recordings is not None
        assert await asyncio.to_thread(server.service.services.recordings.flush, 10)
        status, _, content = await ask(server, "GET", "/sessions/one/recording")
        assert (status, content[:4]) == (200, b"RIFF")
        status, _, part = await ask(server, "GET", "/sessions/one/recording", Range="bytes=44-143")
        assert (status, part) == (206, content[44:144])

    run(main, agent=FastAgent("bot"), recordings_dir=str(recordings), journals_dir=str(journals))


def test_a_call_whose_line_is_lost_is_ended_at_once() -> None:
    async def main(scene: Scene) -> None:
        phone, _, _ = await scene.call(conversation_id="one")
        await phone.drop()
        while not (await ask_json(scene.server, "GET", "/sessions"))["active_sessions"][0]["is_parked"]:
            pass
        status, _, _ = await ask(scene.server, "DELETE", "/sessions/one")
        assert status == 202
        await scene.summary()

    run(main)


@pytest.mark.parametrize("path", ["/nowhere", "/sessions/a/b/c", "/agents/a"])
def test_what_is_not_there_is_a_problem(path: str) -> None:
    async def main(scene: Scene) -> None:
        status, headers, _ = await ask(scene.server, "GET", path)
        assert (status, headers["content-type"]) == (404, "application/problem+json")

    run(main)


def test_a_large_configuration_does_not_hold_up_the_loop() -> None:
    states: list[dict[str, Any]] = [
        {
            "name": f"s{n}",
            "prompt_template": "Go on.",
            "allowed_transitions": [f"s{n + 1}"] if n < 499 else [],
            "slots": [{"name": f"v{n}", "type": "integer", "minimum": n, "prompt": "How many?"}],
        }
        for n in range(500)
    ]

    async def main(scene: Scene) -> None:
        posting = asyncio.create_task(
            ask(scene.server, "POST", "/agents/large/config", {"states": states, "initial_state": "s0"})
        )
        longest_s = 0.0
        while not posting.done():
            # What this process computes meanwhile: a machine that is busy otherwise has its own stalls.
            begun_s = time.process_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.process_time() - begun_s)
        status, _, content = await posting
        assert status == 201, content[:300]
        # Far less than the seconds that it takes.
        assert longest_s < 0.5, longest_s

    run(main)


def test_the_document_is_served() -> None:
    async def main(scene: Scene) -> None:
        described = await ask_json(scene.server, "GET", "/openapi.json")
        assert described["openapi"] == "3.1.0"
        assert "/agents/{agent_id}/config" in described["paths"]

    run(main)

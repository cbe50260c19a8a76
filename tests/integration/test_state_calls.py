"""Calls with tasks: what is kept, what the model is told as states change, and each effect done once."""

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvloop

from fastagent import AFSMState, FastAgent
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.graph import Graph
from fastagent.afsm.replay import replay, runs_of
from fastagent.afsm.slots import Slot
from fastagent.afsm.voice import VoicePolicy
from fastagent.agent import Task
from fastagent.errors import EffectFailedError
from fastagent.journal import Entry, JournalWriter, read_journal
from fastagent.server.kept.journals import delete_old
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from tests.integration.scene import Scene, run
from tests.written import is_written

AGENT = "tests.integration.test_state_calls:agent"
PIN = "4711"


class Day(AFSMState):
    name = "day"
    description = "Find out the day."
    allowed_transitions = ("confirm",)

    async def process(self, input_text, context):
        if not self.scratchpad:
            self.scratchpad.append("asked")
            return {"response": "Which day?", "next_state": "day", "confidence": 1.0}
        context.slots["day"] = input_text
        return {"response": "Shall I book it?", "next_state": "confirm", "confidence": 1.0}


class Confirm(AFSMState):
    name = "confirm"
    description = "Have the day confirmed with yes or no."
    allowed_transitions = ("extras",)
    voice_policy = VoicePolicy(speech="eager", tools=())

    def __init__(self, bookings: Path) -> None:
        super().__init__()
        self.bookings = bookings

    @effect(undo="cancel", key="day", claims=("you are booked",), failures=(OSError,))
    async def book(self, day: str) -> str:
        with self.bookings.open("a") as file:
            file.write(f"book {day}\n")
        return f"receipt for {day}"

    async def cancel(self, day: str) -> None:
        with self.bookings.open("a") as file:
            file.write(f"cancel {day}\n")

    async def process(self, input_text, context):
        try:
            receipt = await self.effect_runner.run("", self.book, {"day": context.slots["day"]})
        except EffectFailedError:
            return {"response": "It did not work. Again?", "next_state": "confirm", "confidence": 1.0}
        context.slots["receipt"] = receipt
        return {"response": "Booked. Anything else?", "next_state": "extras", "confidence": 1.0}


class Extras(AFSMState):
    name = "extras"
    description = "Ask for extras."
    allowed_transitions = ("end",)

    async def process(self, input_text, context):
        return {"response": "", "next_state": "end", "confidence": 1.0}


class Secret(AFSMState):
    name = "secret"
    description = "Ask for the PIN."
    allowed_transitions = ("end",)
    slots: ClassVar = {"pin": Slot(str, "Your PIN, please?", is_redacted=True)}


def weather() -> str:
    """Tell the weather."""
    return "sunny"


def clinic(bookings: Path) -> FastAgent:
    states = [Day(), Confirm(bookings), Extras(), AFSMState("end", "Goodbye then.")]
    secret = [Secret(), AFSMState("end", "Thank you.")]
    return FastAgent(
        "clinic",
        instructions="You are a clinic.",
        tasks=[
            Task("book", "Book a day.", None, states, "day"),
            Task("identify", "Identify.", None, secret, "secret"),
        ],
        functions=[weather],
    )


agent = clinic(Path(os.environ.get("BOOKINGS", os.devnull)))


class Talk:
    """Plays the model of one session."""

    def __init__(self, session: ModelSession) -> None:
        self.session = session

    async def settled(self) -> None:
        await self.session.wait_until(lambda one: one.active_response_id is None, "the end of a response")

    async def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a function; gives what it reports."""
        await self.settled()
        call_id = self.session.call_function(name, arguments)
        await self.session.wait_until(lambda one: self._outputs(call_id), f"the output of {name}")
        report: dict[str, Any] = json.loads(self._outputs(call_id)[0])
        return report

    def _outputs(self, call_id: str) -> list[str]:
        items = [event["item"] for event in self.session.sent("conversation.item.create")]
        return [item["output"] for item in items if item.get("call_id") == call_id and "output" in item]

    async def book(self, day: str = "Monday", *, until: str = "end") -> dict[str, Any]:
        assert (await self.call("book"))["say"] == "Which day?"
        report = await self.call("task_reply", task="book", answer=day)
        if until == "confirm":
            return report
        report = await self.call("task_reply", task="book", answer="yes")
        if until == "extras":
            return report
        return await self.call("task_reply", task="book", answer="no")

    async def tools(self, names: set[str]) -> None:
        def told(session: ModelSession) -> set[str]:
            return {tool["name"] for tool in session.settings["tools"]}

        await self.session.wait_until(lambda one: told(one) == names, f"the tools {sorted(names)}")


ALL = {"book", "identify", "weather", "task_reply", "task_cancel", "end_call"}


def say_nothing(session: ModelSession) -> None:
    session.finish()


def kept(directory: Path, conversation_id: str = "c1") -> list[Entry]:
    return read_journal(directory / f"{conversation_id}.journal").entries()


def kinds(entries: list[Entry]) -> list[str]:
    return [entry.kind for entry in entries]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def play(tmp_path: Path, scenario: Callable[[Scene, AudioCodesPhone, Talk], Any], **settings: Any) -> Scene:
    """Play a scenario in a call that is kept in ``tmp_path / "journals"``."""
    played: list[Scene] = []

    async def main(scene: Scene) -> None:
        played.append(scene)
        scene.model.on_response = say_nothing
        phone, session, _ = await scene.call(conversation_id="c1")
        await scenario(scene, phone, Talk(session))
        await phone.hang_up()
        await scene.summary()

    settings.setdefault("journals_dir", str(tmp_path / "journals"))
    run(main, agent=clinic(tmp_path / "bookings"), **settings)
    return played[0]


# The record


def test_a_call_is_kept_whole_in_order_and_runs_again_to_the_same_states(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        talk.session.speech_started()
        talk.session.speech_stopped("I want to book.")
        assert (await talk.book())["status"] == "done"

    play(tmp_path, scenario)
    file = tmp_path / "journals" / "c1.journal"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    entries = kept(tmp_path / "journals")
    graph = clinic(tmp_path / "bookings").tasks["book"].graph
    assert entries[0].kind == "opened"
    assert entries[0].data["agent"] == "clinic"
    assert entries[0].data["graphs"]["book"] == graph.content_hash
    assert entries[-1].kind == "closed"
    assert entries[-1].data == {"outcome": "caller"}
    said = [entry.data for entry in entries if entry.kind == "said"]
    assert said == [{"by": "caller", "text": "I want to book.", "is_redacted": False}]
    order = kinds(entries)
    assert order.index("effect_intent") < order.index("effect_outcome")
    [name] = runs_of(entries)
    found = asyncio.run(replay(entries, graph, run=name))
    assert (found.status, found.version, found.divergence) == ("same", "same", None)
    assert found.states == ("day", "confirm", "extras", "end")
    assert lines(tmp_path / "bookings") == ["book Monday"]


def test_without_a_directory_nothing_is_written_and_effects_happen_once(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book()
        await talk.book()

    play(tmp_path, scenario, journals_dir="")
    assert lines(tmp_path / "bookings") == ["book Monday"]
    assert not (tmp_path / "journals").exists()


def test_secrets_are_not_kept_in_any_entry(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        assert (await talk.call("identify"))["say"] == "Your PIN, please?"
        talk.session.speech_started()
        talk.session.speech_stopped(f"It is {PIN}.")
        await scene.witness.wait_until(lambda witness: witness.caller)
        assert (await talk.call("task_reply", task="identify", answer=PIN))["status"] == "done"
        await talk.settled()
        talk.session.speak(talk.session.tone(100), f"You said {PIN}.")
        await scene.witness.wait_until(lambda witness: witness.bot)
        await talk.settled()
        talk.session.speak(talk.session.tone(100), "How can I help?")
        await scene.witness.wait_until(lambda witness: len(witness.bot) == 2)

    play(tmp_path, scenario)
    content = (tmp_path / "journals" / "c1.journal").read_bytes()
    assert not is_written(PIN, content)
    assert b"How can I help?" in content


def test_a_journal_that_opens_late_holds_up_nothing_but_effects_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    really_open = JournalWriter._open

    def open_late(self: JournalWriter, *arguments: Any) -> Any:
        assert gate.wait(20)
        return really_open(self, *arguments)

    monkeypatch.setattr(JournalWriter, "_open", open_late)

    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        try:
            talk.session.speak(talk.session.tone(100), "Hello.")
            await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the first audio")
            await talk.book(until="confirm")
            report = await talk.call("task_reply", task="book", answer="yes")
            assert report["status"] == "working"
            assert lines(tmp_path / "bookings") == []
        finally:
            gate.set()
        await talk.session.wait_until(
            lambda one: any("Anything else" in item.text for item in one.items.values()), "the question"
        )

    play(tmp_path, scenario)
    entries = kept(tmp_path / "journals")
    assert kinds(entries)[:3] == ["opened", "said", "opened"]
    assert lines(tmp_path / "bookings") == ["book Monday"]


def _no_directory(tmp_path: Path) -> None:
    (tmp_path / "journals").write_text("in the way")


def _changed(tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    (tmp_path / "journals" / "c1.journal").write_bytes(b'{"not":"an entry"}\n')


@pytest.mark.parametrize(
    ("prepare", "counter"), [(_no_directory, "journals_not_durable"), (_changed, "journals_not_opened")]
)
def test_trouble_with_the_disk_ends_no_call_and_begins_no_effect(
    prepare: Callable[[Path], None], counter: str, tmp_path: Path
) -> None:
    prepare(tmp_path)

    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book(until="confirm")
        report = await talk.call("task_reply", task="book", answer="yes")
        assert report["say"] == "It did not work. Again?"

    scene = play(tmp_path, scenario)
    assert scene.witness.summaries[0].outcome == "caller"
    assert scene.witness.summaries[0].counters[counter] == 1
    assert lines(tmp_path / "bookings") == []


def test_old_journals_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    for name, age_s in [("old.journal", 100), ("new.journal", 10), ("redaction.key", 100)]:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1_000_000 - age_s,) * 2)
    assert delete_old(tmp_path, 1_000_000 - 50) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"new.journal", "redaction.key"}
    assert delete_old(tmp_path / "missing", 0.0) == 0


def test_a_server_deletes_old_journals_when_it_starts(tmp_path: Path) -> None:
    (tmp_path / "journals").mkdir()
    old = tmp_path / "journals" / "old.journal"
    old.write_text("x")
    os.utime(old, (1, 1))

    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        async with asyncio.timeout(10):
            while old.exists():  # noqa: ASYNC110 - the disk tells nobody
                await asyncio.sleep(0.01)

    play(tmp_path, scenario, journal_retention_days=1.0)


# Claims and cancellation


def test_a_claim_of_what_was_not_done_is_counted_kept_and_told_to_the_model(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        talk.session.speak(talk.session.tone(100), "Great, you are booked for Monday.")
        await talk.session.wait_until(
            lambda one: any(item.role == "system" and "book" in item.text for item in one.items.values()),
            "the note",
        )
        await talk.book(until="extras")
        await talk.settled()
        talk.session.speak(talk.session.tone(100), "Now you are booked for Monday.")
        await scene.witness.wait_until(lambda witness: len(witness.bot) == 2)

    scene = play(tmp_path, scenario)
    assert scene.witness.summaries[0].counters["claims_flagged"] == 1
    [claim] = [entry.data for entry in kept(tmp_path / "journals") if entry.kind == "claim"]
    assert claim == {"name": "book", "reason": "never_run"}


def test_a_cancelled_task_takes_back_what_it_did(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book(until="extras")
        report = await talk.call("task_cancel", task="book")
        assert (report["status"], report["undone"], report["not_undone"]) == ("cancelled", ["book"], [])

    play(tmp_path, scenario)
    assert lines(tmp_path / "bookings") == ["book Monday", "cancel Monday"]
    assert kinds(kept(tmp_path / "journals"))[-4:] == ["closed", "undo_intent", "undo_outcome", "closed"]


def test_what_an_earlier_task_did_stands_when_a_later_one_is_cancelled(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book("Monday")
        await talk.book("Friday", until="extras")
        report = await talk.call("task_cancel", task="book")
        assert (report["undone"], report["not_undone"]) == (["book"], [])

    play(tmp_path, scenario)
    assert lines(tmp_path / "bookings") == ["book Monday", "book Friday", "cancel Friday"]


def test_a_cancelled_task_that_did_nothing_is_just_cancelled(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book(until="confirm")
        report = await talk.call("task_cancel", task="book")
        assert report["status"] == "cancelled"
        assert "undone" not in report

    play(tmp_path, scenario)


# What the model is told


def test_entering_a_state_tells_the_model_before_it_is_asked_to_speak_and_leaving_restores(
    tmp_path: Path,
) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        session = talk.session
        before = json.loads(json.dumps(session.settings))
        await talk.book(until="confirm")
        await session.wait_until(lambda one: "confirmed" in one.settings["instructions"], "the state's words")
        order = [event["type"] for event in session.events if "audio" not in event["type"]]
        last = len(order) - 1 - order[::-1].index("session.update")
        assert order[last - 1 : last + 2] == ["conversation.item.create", "session.update", "response.create"]
        assert {tool["name"] for tool in session.settings["tools"]} == ALL - {"weather"}
        assert session.settings["instructions"].startswith(before["instructions"] + "\n")
        detection = session.settings["audio"]["input"]["turn_detection"]
        assert detection["silence_duration_ms"] == 300
        assert (await talk.call("weather"))[
            "reason"
        ] == "this function is not available at this point of the talk"
        assert (await talk.call("task_reply", task="book", answer="yes"))["status"] == "needs_input"
        await talk.tools(ALL)
        assert (await talk.call("task_reply", task="book", answer="no"))["status"] == "done"
        await session.wait_until(lambda one: one.settings == before, "the settings of the beginning")
        # One for the beginning, one for each state but the last, one for the end: no state is told twice.
        assert session.updates == 5

    play(tmp_path, scenario)


def test_a_lost_session_is_rebuilt_with_what_the_state_says(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book(until="confirm")
        await talk.settled()
        talk.session.reset()
        second = await scene.model.session(1)
        assert second.updates == 1
        assert "confirmed" in second.settings["instructions"]
        assert {tool["name"] for tool in second.settings["tools"]} == ALL - {"weather"}

    play(tmp_path, scenario)


def test_a_parked_call_notes_its_return(tmp_path: Path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk) -> None:
        await talk.book(until="confirm")
        await phone.drop()
        await phone.resume()
        assert (await talk.call("task_reply", task="book", answer="yes"))["status"] == "needs_input"

    play(tmp_path, scenario)
    assert kinds(kept(tmp_path / "journals")).count("resumed") == 1
    assert lines(tmp_path / "bookings") == ["book Monday"]


# A process that is killed


@contextmanager
def serving(model_url: str, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    environment = {
        **os.environ,
        "FASTAGENT_REALTIME_URL": model_url,
        "FASTAGENT_JOURNALS_DIR": str(tmp_path / "journals"),
        "FASTAGENT_BARGE_IN": "model",
        "BOOKINGS": str(tmp_path / "bookings"),
    }
    command = [sys.executable, "-m", "fastagent", "serve", AGENT, "--port", "0"]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.search(r"AudioCodes at (ws://\S+)", line):
                    yield server, found[1]
                    break
            else:
                pytest.fail("the server did not start")
        finally:
            server.kill()


def test_a_killed_server_leaves_a_journal_that_replays_and_its_successor_repeats_nothing(
    tmp_path: Path,
) -> None:
    async def life(model: RealtimeModel, number: int) -> None:
        with serving(model.url, tmp_path) as (server, url):
            phone = AudioCodesPhone(LineOptions(), conversation_id="c1")
            await phone.connect(url, None)
            await phone.initiate()
            talk = Talk(await model.session(number))
            assert (await talk.book(until="extras"))["say"] == "Booked. Anything else?"
            server.send_signal(signal.SIGKILL)
            await phone.close()

    async def main() -> None:
        async with RealtimeModel() as model:
            model.on_response = say_nothing
            await life(model, 0)
            first = _replayed(tmp_path)
            assert [run["states"] for run in first] == [["day", "confirm", "extras"]]
            await life(model, 1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert lines(tmp_path / "bookings") == ["book Monday"]
    order = kinds(kept(tmp_path / "journals"))
    assert order.count("effect_intent") == order.count("resumed") == 1
    assert "closed" not in order
    assert _replayed(tmp_path)[0]["status"] == "same"


def _replayed(tmp_path: Path) -> list[dict[str, Any]]:
    file = tmp_path / "journals" / "c1.journal"
    command = [
        sys.executable,
        "-m",
        "fastagent",
        "replay",
        str(file),
        "--agent",
        AGENT,
        "--json",
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    assert runs[0]["status"] == "same", runs
    assert runs[0]["version"] == "same"
    return runs


def test_graph_of_the_agent_is_the_same_in_every_process() -> None:
    graphs: list[Graph] = [clinic(Path(name)).tasks["book"].graph for name in ("/a", "/b")]
    assert graphs[0].content_hash == graphs[1].content_hash

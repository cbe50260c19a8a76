"""``fastagent replay``: what it prints, and its exit codes."""

import asyncio
import json
from pathlib import Path

import pytest

from fastagent.afsm.replay import _SilentControl
from fastagent.afsm.run.machine import Machine
from fastagent.cli import main
from fastagent.context import ConversationContext
from fastagent.examples.appointment import agent
from fastagent.journal import JournalWriter, RunRecorder

AGENT = "fastagent.examples.appointment:agent"
TASK = "book_appointment"
SCRIPT = ["hello", "hm", "what"]


def call_of(directory: Path, *, task: str = TASK, redacted: tuple[str, ...] = ()) -> Path:
    """A journal of a call that nothing came of, so that it does not matter when it was."""

    async def record() -> Path:
        writer = JournalWriter(directory)
        journal = await writer.open("call", redacted=redacted)
        recorder = RunRecorder(journal, "item1")
        graph = agent.tasks[TASK].graph
        recorder.begin(task, graph.content_hash, slots={})
        machine = Machine(
            graph,
            ConversationContext().task_view(),
            _SilentControl("item1"),
            ask=lambda question: None,
            recorder=recorder,
        )
        running = asyncio.create_task(machine.run(SCRIPT[0]))
        for words in SCRIPT[1:]:
            for _ in range(100):
                await asyncio.sleep(0)
            machine.post(words)
        for _ in range(100):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        await journal.close()
        assert await asyncio.to_thread(writer.close, 30)
        return journal.path

    return asyncio.run(record())


@pytest.fixture
def call(tmp_path):
    return call_of(tmp_path)


def test_without_an_agent_the_chain_is_checked(call, capsys):
    assert main(["replay", str(call)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("8 entries, chain whole: 3 asked, 3 input, 1 opened, 1 transition")
    assert "hello" not in said


def test_a_call_that_goes_the_same_way_gives_0(call, capsys):
    assert main(["replay", str(call), "--agent", AGENT]) == 0
    assert "run item1: same, 4 entries agree\n  collect_date\n" in capsys.readouterr().out


def test_json_says_all_of_it(call, capsys):
    assert main(["replay", str(call), "--agent", AGENT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["entries"] == 8
    assert found["runs"] == [
        {
            "run": "item1",
            "status": "same",
            "version": "same",
            "compared": 4,
            "states": ["collect_date"],
            "reason": "",
            "divergence": None,
        }
    ]


def test_a_call_that_goes_another_way_gives_1_and_the_entry(call, capsys, monkeypatch):
    monkeypatch.setattr("fastagent.examples.appointment.ASK_DATE", "Which day?")
    assert main(["replay", str(call), "--agent", AGENT]) == 1
    said = capsys.readouterr().out
    assert "run item1: diverged" in said
    assert "  entry 3\n    expected  asked" in said
    assert "What day would you like?" in said
    assert "Which day?" in said
    assert main(["replay", str(call), "--agent", AGENT, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["runs"][0]["divergence"]["entry"] == 3


def test_a_redacted_call_gives_3(tmp_path, capsys):
    call = call_of(tmp_path, redacted=("text",))
    assert main(["replay", str(call), "--agent", AGENT]) == 3
    assert "is redacted" in capsys.readouterr().out


def test_a_damaged_journal_gives_1_and_the_entry(call, capsys):
    call.write_bytes(call.read_bytes().replace(b"hello", b"hallo"))
    assert main(["replay", str(call)]) == 1
    assert "entry 1: its hash does not fit" in capsys.readouterr().err


def test_an_unfinished_entry_is_told(call, capsys):
    call.write_bytes(call.read_bytes()[:-5])
    assert main(["replay", str(call)]) == 0
    assert "bytes of an unfinished entry" in capsys.readouterr().out


def test_no_file_and_no_task_give_1(tmp_path, capsys):
    assert main(["replay", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    call = call_of(tmp_path, task="other")
    assert main(["replay", str(call), "--agent", AGENT]) == 1
    assert "has no task 'other'" in capsys.readouterr().err

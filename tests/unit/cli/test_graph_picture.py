"""``fastagent graph``: Mermaid or SVG, of an agent or a file, with coverage from journals."""

import asyncio
import json

import pytest

from fastagent.cli import main
from fastagent.journal import JournalWriter, RunRecorder

AGENT = "fastagent.examples.appointment:agent"


def test_mermaid_is_printed(capsys):
    assert main(["graph", AGENT]) == 0
    said = capsys.readouterr().out
    assert said.startswith("flowchart TD\n")
    assert '"collect_date"' in said


def test_svg_goes_into_a_file(tmp_path, capsys):
    path = tmp_path / "a.svg"
    assert main(["graph", AGENT, "--format", "svg", "--output", str(path)]) == 0
    assert path.read_text().startswith("<svg")
    assert capsys.readouterr().out == ""
    assert main(["graph", AGENT, "--output", str(tmp_path / "no" / "a.svg")]) == 1


def test_a_graph_in_a_file_is_drawn(tmp_path, capsys):
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"initial_state": "only", "states": [{"name": "only"}]}))
    assert main(["graph", str(path)]) == 0
    assert 's0(["only"])' in capsys.readouterr().out


def test_journals_tell_what_was_walked(tmp_path, capsys):
    async def record():
        writer = JournalWriter(tmp_path)
        journal = await writer.open("call")
        recorder = RunRecorder(journal, "1")
        recorder.record("transition", {"from": "", "to": "collect_date", "reason": "start"})
        recorder.record("transition", {"from": "collect_date", "to": "confirm", "reason": "answer"})
        await journal.close()
        assert await asyncio.to_thread(writer.close, 30)
        return journal.path

    path = asyncio.run(record())
    assert main(["graph", AGENT, "--coverage", str(path)]) == 0
    said = capsys.readouterr()
    assert '"confirm ×1"' in said.out
    assert "1 runs: 2 of 5 states, 1 of 9 ways" in said.err
    assert "never entered: goodbye" in said.err
    assert "never walked:  confirm → anything_else (input)" in said.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([AGENT, "--task", "nope"], "no task 'nope'"),
        ([AGENT, "--coverage", "nothing.journal"], "nothing.journal"),
        (["no.such.module:agent"], "no module"),
    ],
)
def test_what_is_not_there_is_said(arguments, complaint, capsys):
    assert main(["graph", *arguments]) == 1
    assert complaint in capsys.readouterr().err

"""``fastagent explore``: what it prints, and its exit codes."""

import json
import sys

import pytest

from fastagent.cli import main

AGENT = "fastagent.examples.appointment:agent"
MODULE = """\
from fastagent import FastAgent
from fastagent.afsm.explore import never
asks = {"name": "a", "slots": [{"name": "b"}], "allowed_transitions": ["c"]}
agent = FastAgent("desk", [asks, {"name": "c"}], "a")
invariants = [never("ends", lambda now: now.state == "c")]
harmless = [never("moves away", lambda now: now.state == "elsewhere")]
wrong = ["a promise"]
"""
FEW = ["--calls", "20", "--steps", "5"]


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "explored_under_test.py").write_text(MODULE)
    yield "explored_under_test"
    sys.modules.pop("explored_under_test", None)


def test_the_example_breaks_nothing(capsys):
    assert main(["explore", AGENT, *FEW]) == 0
    said = capsys.readouterr().out
    assert said.startswith("no promise was broken\n")
    assert "of 5 states" in said


def test_promises_beside_the_agent_are_taken_and_a_broken_one_is_told(module, capsys):
    assert main(["explore", f"{module}:agent", *FEW]) == 1
    said = capsys.readouterr().out
    assert said.startswith("broken: never ends\n  caller: ")
    assert "  [c]\n" in said


def test_other_promises_may_be_named(module, capsys):
    assert main(["explore", f"{module}:agent", "--invariants", f"{module}:harmless", *FEW]) == 0
    assert "no promise was broken" in capsys.readouterr().out


def test_json_tells_the_call_and_what_was_missed(module, capsys):
    assert main(["explore", f"{module}:agent", "--json", "--seed", "3", *FEW]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["counterexample"]["invariant"] == "never ends"
    assert said["missed_states"] == []
    assert said["runs"] > 0


def test_a_graph_in_a_file_is_explored(tmp_path, capsys):
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"initial_state": "only", "states": [{"name": "only"}]}))
    assert main(["explore", str(path), *FEW]) == 0
    assert "1 of 1 states" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no.such.module:agent"], "no module"),
        ([AGENT, "--invariants", "no.such.module:x"], "no.such"),
        ([AGENT, "--invariants", "fastagent.examples.appointment:agent"], "no list of invariants"),
        ([AGENT, "--task", "nope"], "no task"),
        ([AGENT, "--calls", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_loaded_is_2(arguments, complaint, capsys):
    assert main(["explore", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_list_of_something_else_is_2(module, capsys):
    assert main(["explore", f"{module}:agent", "--invariants", f"{module}:wrong"]) == 2
    assert "no list of invariants" in capsys.readouterr().err

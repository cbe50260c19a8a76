"""``fastagent verify``: what it prints, and its exit codes."""

import json
import sys

import pytest

from fastagent.cli import main

AGENT = "fastagent.examples.appointment:agent"
BROKEN = """\
from fastagent import FastAgent
agent = FastAgent("broken", [
    {"name": "a", "allowed_transitions": ["end"], "slots": [{"name": "day"}], "prompt_template": "{facts.x}"},
    *LOST, {"name": "end"}], "a")
"""
GRAPH = {
    "initial_state": "a",
    "states": [
        {"name": "a", "allowed_transitions": ["b"], "slots": [{"name": "amount"}],
         "effects": [{"name": "pay", "key": "amount", "undo": "refund"}], "handles": {"tool_failed": "b"}},
        {"name": "b"},
    ],
}  # fmt: skip


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current folder and gives its agent's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(lost):
        (tmp_path / "verified_under_test.py").write_text(BROKEN.replace("*LOST, ", lost))
        return "verified_under_test:agent"

    yield write
    sys.modules.pop("verified_under_test", None)


def test_nothing_wrong_is_said_and_is_0(capsys):
    assert main(["verify", AGENT]) == 0
    assert capsys.readouterr().out == "nothing found\n"


def test_an_error_is_1_with_its_place_and_how_to_mend_it(module, capsys):
    assert main(["verify", module('{"name": "lost", "allowed_transitions": ["end"]}, ')]) == 1
    said = capsys.readouterr().out
    assert "states[1]: error: broken/lost:" in said
    assert "mend: " in said
    assert "1 errors, 1 warnings, 0 hints" in said


def test_warnings_alone_fail_only_when_strict(module, capsys):
    name = module("")
    assert main(["verify", name]) == 0
    assert main(["verify", name, "--strict"]) == 1
    assert "[template_never_written]" in capsys.readouterr().out


def test_json_has_every_part_of_a_finding(module, capsys):
    assert main(["verify", module(""), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["errors"], said["warnings"], said["hints"]) == (0, 1, 0)
    (found,) = said["findings"]
    assert {name: found[name] for name in ("level", "kind", "task", "state", "place")} == {
        "level": "warning",
        "kind": "template_never_written",
        "task": "broken",
        "state": "a",
        "place": "states[0].prompt_template",
    }


@pytest.mark.parametrize(
    "name", ["no.such.module:agent", "fastagent.examples.appointment:nobody", "nothing.json"]
)
def test_what_cannot_be_loaded_is_2(name, capsys):
    assert main(["verify", name]) == 2
    assert "fastagent verify: " in capsys.readouterr().err
    assert main(["verify", name, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]


def test_a_graph_in_a_file_is_verified(tmp_path, capsys):
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(GRAPH))
    assert main(["verify", str(path)]) == 0
    GRAPH_WITHOUT_KEY = {
        **GRAPH,
        "states": [{**GRAPH["states"][0], "effects": [{"name": "pay"}]}, GRAPH["states"][1]],
    }
    path.write_text(json.dumps(GRAPH_WITHOUT_KEY))
    assert main(["verify", str(path)]) == 1
    assert "states[0].effects[0]: error: a: " in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", '{"states": []}'])
def test_a_file_that_is_no_graph_is_2(text, tmp_path, capsys):
    path = tmp_path / "graph.json"
    path.write_text(text)
    assert main(["verify", str(path)]) == 2
    assert str(path) in capsys.readouterr().err

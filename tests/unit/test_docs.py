"""The documents: their code runs, their commands are the tool's, and what they name is there."""

import importlib
import importlib.util
import re
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fastagent.cli import VERBS, main
from fastagent.settings import Settings
from fastagent.settings.sources import read_sources
from tests.unit.cli.test_replay_call import call_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "benches" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
AGENTS_PAGE = ROOT / "docs" / "finite_state_agents.md"
BENCHES = {
    name
    for names in re.findall(
        r"^([a-z |]+)\) command=", (ROOT / "scripts" / "bench").read_text(encoding="utf-8"), re.MULTILINE
    )
    for name in names.split(" | ")
}
"""What scripts/bench takes."""
SUBPROTOCOL = "fastagent.v1"
"""Looks like a module, and is none."""
MADE_HERE = ("front_desk", "promises")
"""Modules that the commands of the page write or name."""


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(first line's number, text) of a page's code of one language."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, one.start(1)) + 1, one[1]) for one in found]


def commands(page: Path) -> Iterator[str]:
    """The calls of our tool on a page, without variables and comments."""
    lines = [line for _, block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [
        line[2:] for _, block in blocks(page, "console") for line in block.splitlines() if line[:2] == "$ "
    ]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words and words[0] == "fastagent":
            yield shlex.join(words[1:])


COMMANDS = [(page.name, command) for page in PAGES for command in commands(page)]


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


def test_the_page_about_agents_runs_from_top_to_bottom() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    code = blocks(AGENTS_PAGE, "python")
    assert len(code) > 15
    for line, text in code:
        exec(compile("\n" * (line - 1) + text, str(AGENTS_PAGE), "exec"), names)


def test_there_are_commands_to_check() -> None:
    pages = {page for page, _ in COMMANDS}
    assert {"README.md", "finite_state_agents.md", "configuration.md"} <= pages


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_understood(page: str, command: str, parser: ArgumentParser) -> None:
    for number, word in enumerate(words := shlex.split(command)):
        if word == "--set":
            assert words[number + 1].partition("=")[0] in {field.name for field in fields(Settings)}
    parser.parse_args(words)  # what it does not know ends in SystemExit


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the files that the page's commands are given."""
    [(_, graph)] = blocks(AGENTS_PAGE, "json")
    (tmp_path / "pay.json").write_text(graph)
    [promises] = [text for _, text in blocks(AGENTS_PAGE, "python") if text.startswith("# promises.py")]
    (tmp_path / "promises.py").write_text(promises)
    call_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in MADE_HERE:
        sys.modules.pop(name, None)
    yield tmp_path
    for name in MADE_HERE:
        sys.modules.pop(name, None)


def fits(shown: str, printed: str) -> bool:
    """What was printed is what is shown, where ``...`` stands for anything."""
    pattern = "".join(".*?" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", shown))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@pytest.mark.parametrize(("shown", "is_fit"), [("a\n...\nd\n", True), ("a\nc\n", False), ("... d\n", False)])
def test_fitting_tells_other_output(shown: str, is_fit: bool) -> None:
    assert fits(shown, "a\nb\nc\nd\n") is is_fit


def test_the_commands_print_what_the_page_shows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = "".join(text for _, text in blocks(AGENTS_PAGE, "console"))
    runs = re.findall(r"^\$ fastagent (.*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)
    assert len(runs) > 5
    for command, shown in runs:
        main(shlex.split(command))
        printed = capsys.readouterr().out
        assert fits(shown, printed), f"{command}\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_are_there(page: Path) -> None:
    named = set(re.findall(r"\bFASTAGENT_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8")))
    reading = read_sources(fields(Settings), dict.fromkeys(named - {"FASTAGENT_CONFIG"}, "1"))
    assert reading.unknown_variables == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_links_and_files_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"`(fastagent(?:\.\w+)+)`", text)) - {SUBPROTOCOL}:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name
    for path in re.findall(r"`((?:docs|fastagent|tests|deploy)/[\w/.@-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\b(?:scripts|deploy|native)/[\w/]*\w", text):
        assert (ROOT / path).exists() or list((ROOT / path).parent.glob(f"{Path(path).name}.*")), path
    assert set(re.findall(r"\bscripts/bench (\w+)", text)) <= BENCHES
    for module in re.findall(r"\bpython -m (benches[\w.]+)", text):
        assert importlib.util.find_spec(module) is not None, module
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = page if not path else page.parent / path
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, target


def test_readme_agents_have_the_functions_it_names() -> None:
    [text] = [text for _, text in blocks(ROOT / "README.md", "python") if "colleagues=" in text]
    names: dict[str, Any] = {}
    exec("from fastagent import FastAgent\n" + text, names)
    assert {"hand_over", "transfer_call"} <= {one["name"] for one in names["front"].tools}

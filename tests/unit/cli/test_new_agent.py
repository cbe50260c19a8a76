"""``fastagent new``: its files are right as they are, and it overwrites nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastagent.cli import main

ROOT = Path(__file__).parents[3]


def in_folder(folder, *command):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# The type check shares the project's cache: without it, the packages behind fastagent take half a minute.
def test_the_files_pass_verify_their_test_and_the_type_check(tmp_path, capsys):
    assert main(["new", "front_desk", "--directory", str(tmp_path)]) == 0
    assert "front_desk.py" in capsys.readouterr().out
    for command in (
        ("-m", "fastagent", "verify", "front_desk:agent", "--strict"),
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_front_desk.py"),
        ("-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"),
         "--cache-dir", str(ROOT / ".mypy_cache"), "front_desk.py", "test_front_desk.py"),
        ("-m", "ruff", "check", "--no-cache", "--isolated", "--line-length", "110", "."),
        ("-m", "ruff", "format", "--no-cache", "--isolated", "--line-length", "110", "--check", "."),
    ):  # fmt: skip
        done = in_folder(tmp_path, *command)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["", "Front", "1st", "front-desk", "../desk", "class", "a" * 64])
def test_a_name_that_cannot_be_a_module_is_refused(name, tmp_path, capsys):
    assert main(["new", name, "--directory", str(tmp_path)]) == 1
    assert "cannot name a module" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["desk.py", "test_desk.py"])
def test_what_is_there_already_is_not_touched(there, tmp_path, capsys):
    (tmp_path / there).write_text("mine")
    assert main(["new", "desk", "--directory", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["new", "desk", "--directory", str(tmp_path / "file")]) == 1
    assert "file: " in capsys.readouterr().err

"""Marks of several processes, here several objects of one folder."""

from pathlib import Path

import pytest

from fastagent.server.life.marks import Marks


class Clock:
    def __init__(self) -> None:
        # Beyond the file system's own times.
        self.now = 4e9

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_mark_is_made_once(tmp_path: Path, is_shared: bool) -> None:
    folder = tmp_path if is_shared else None
    one, other = Marks(folder, "tickets", 60.0), Marks(folder, "tickets", 60.0)
    assert one.make("a")
    assert not one.make("a")
    assert one.holds("a")
    assert other.holds("a") is is_shared
    assert other.make("a") is not is_shared
    assert other.make("b")


def test_kinds_do_not_meet_and_no_name_is_in_the_folder(tmp_path: Path) -> None:
    assert Marks(tmp_path, "tickets", 60.0).make("CA1")
    assert Marks(tmp_path, "calls", 60.0).make("CA1")
    assert not list(tmp_path.rglob("*CA1*"))


def test_old_marks_go(tmp_path: Path) -> None:
    assert Marks(tmp_path, "calls", 60.0).make("CA1")
    clock = Clock()
    late = Marks(tmp_path, "calls", 60.0, wall_clock=clock)
    assert not late.holds("CA1")
    assert late.make("CA2")
    assert len(list((tmp_path / "marks" / "calls").iterdir())) == 1
    clock.now += 61
    assert not late.holds("CA2")


def test_a_folder_that_cannot_be_used_leaves_the_memory(tmp_path: Path) -> None:
    (tmp_path / "marks").write_text("no folder")
    marks = Marks(tmp_path, "calls", 60.0)
    assert marks.make("CA1")
    assert not marks.make("CA1")

"""docs/profiling.md against the code: every stage, way and limit, and none that is not."""

import re
from pathlib import Path

from fastagent._native.stages import STAGE_NAMES, WAY_NAMES
from fastagent.profile.reading import DEFAULT_EVERY, DURATION_MAX_S
from fastagent.profile.report import WAYS

TEXT = (Path(__file__).parents[3] / "docs" / "profiling.md").read_text()


def named_in(head: str) -> list[str]:
    table = TEXT.split(head, 1)[1].split("\n\n", 1)[0]
    return [
        name
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    ]


def test_tables_hold_every_stage_and_way_in_their_order():
    assert tuple(named_in("| stage | holds |")) == STAGE_NAMES
    assert tuple(named_in("| way | a frame is |")) == WAY_NAMES == tuple(WAYS)


def test_limits_are_those_of_the_code():
    assert f"every={DEFAULT_EVERY}`" in TEXT
    assert f"for {DURATION_MAX_S} s at most" in TEXT

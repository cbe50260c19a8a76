"""docs/observability.md against the code: every family, label, stage and setting, and none that is not."""

import dataclasses
import re
from pathlib import Path

from fastagent.call import Stage
from fastagent.server.watch.costs import TokenCount
from fastagent.server.watch.figures import FAULTS, NATIVE_STAGES, TOKEN_GROUPS
from fastagent.server.watch.metrics import FAMILIES
from fastagent.server.watch.stall_watchdog import DEAD_AFTER_S
from fastagent.settings import Settings
from fastagent.stats import RECENT_TIMES_MAX

TEXT = (Path(__file__).parents[4] / "docs" / "observability.md").read_text()


def test_table_holds_every_family_with_kind_and_labels():
    rows = re.findall(r"^\| `(fastagent_\w+)` \| (\w+) \|([^|]*)\|", TEXT, re.M)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {name: (family.kind, family.labels) for name, family in FAMILIES.items()}


def test_stages_faults_and_kinds_are_told():
    for word in (
        *NATIVE_STAGES,
        *(stage.value for stage in Stage),
        *FAULTS,
        *TokenCount._fields,
        *TOKEN_GROUPS,
    ):
        assert f"`{word}`" in TEXT, word


def test_settings_are_real():
    variables = {entry.metadata["variable"] for entry in dataclasses.fields(Settings)}
    assert set(re.findall(r"\bFASTAGENT_[A-Z_]+", TEXT)) <= variables


def test_figures_are_those_of_the_code():
    assert f"more than {DEAD_AFTER_S:.0f} s" in TEXT
    assert f"last {RECENT_TIMES_MAX} answers" in TEXT
    assert f"`FASTAGENT_STALL_MS` ({Settings().stall_ms})" in TEXT

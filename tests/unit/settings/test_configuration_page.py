"""docs/configuration.md against the code: every variable, its default and its meaning; and its examples."""

import dataclasses
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from fastagent.server.doors.admission import RefusalCause
from fastagent.server.doors.tokens import DenialCause, Scope, read_tokens_file
from fastagent.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_table", ROOT / "scripts" / "settings_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_is_what_the_code_says(script):
    assert script.page(PAGE) == PAGE, "run python scripts/settings_table.py"


def test_every_setting_has_a_meaning(script):
    assert set(script.meanings()) >= {entry.name for entry in dataclasses.fields(Settings)}


def test_examples_in_toml_are_read(tmp_path):
    settings, tokens = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    path = tmp_path / "example.toml"
    path.write_text(settings)
    Settings.from_environment({}, config=str(path))
    assert tomllib.loads(settings)
    path.write_text(tokens)
    assert len({token.principal for token in read_tokens_file(path)}) < len(read_tokens_file(path))


@pytest.mark.parametrize("names", [Scope, DenialCause, RefusalCause])
def test_closed_sets_stand_on_the_page(names):
    assert [name for name in names if f"`{name}`" not in PAGE] == []

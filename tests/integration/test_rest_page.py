"""docs/rest.md: its examples run as printed, against a house with calls."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.api_house import TOKEN, open_house

PAGE = Path(__file__).parents[2] / "docs" / "rest.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
def test_examples_run_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    code = "\n".join(blocks)
    tokens = {"admin_tokens": (TOKEN,), "audiocodes_tokens": ("a-carrier-0123456789",)}
    with open_house(tmp_path / "house", **tokens) as house:
        variables = f"HOUSE={house.url} TOKEN={TOKEN}"
        script, changes = re.subn(r"HOUSE=\S+ TOKEN=\S+", variables, code)
        assert changes == 1
        # Answers go one to a line, which is all that is added.
        script = f"set -euo pipefail\ncurl() {{ command curl -w '\\n' \"$@\"; }}\n{script}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
        )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    posted, agents, config, first, sessions, session = answers[:6]
    assert (posted["agent_id"], posted["version"], posted["warnings"]) == ("pizza-desk", 1, [])
    assert [one["agent_id"] for one in agents["agents"]] == ["front-desk", "pizza-desk"]
    assert config["config"]["greeting"] == "Pizza desk, hello!"
    assert first == config
    assert sessions["total_count"] == 2
    assert session["session_id"] == "call-1"
    assert answers[6]["kind"] == "opened"
    assert (tmp_path / "ended-1.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "header.wav").stat().st_size == 44

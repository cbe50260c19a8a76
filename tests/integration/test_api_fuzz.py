"""A short run of what ``scripts/api_fuzz`` does at length."""

from pathlib import Path

import pytest

from tests.integration.api_fuzz import answered, fuzz

SUCCESSES = {
    "GET /agents": 200,
    "GET /agents/{agent_id}/config": 200,
    "POST /agents/{agent_id}/config": 200,
    "GET /sessions": 200,
    "GET /sessions/{session_id}": 200,
    "GET /sessions/{session_id}/journal": 200,
    "GET /openapi.json": 200,
}


def test_generated_requests_find_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = fuzz(10, seed=7, folder=tmp_path, phases="fuzzing")
    assert code == 0, capfd.readouterr().out
    seen = answered(tmp_path)
    # The doors were open, and there was something behind them.
    missing = {name for name, status in SUCCESSES.items() if not seen.get(name, {}).get(status)}
    assert missing == set(), seen
    assert not any(status >= 500 for counts in seen.values() for status in counts)

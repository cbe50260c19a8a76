"""The relay-cost bench itself: five calls through the C relay and FastAgent, and losses made on purpose."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALLS = 5
SECONDS = 2


def run_bench(report: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    command = [
        *(sys.executable, "-m", "benches.relay.run", "--peer", "c", "--no-pin", "--strict"),
        *("--calls", str(CALLS), "--seconds", str(SECONDS), "--repeats", "1", "--json", str(report)),
        *options,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert report.exists(), done.stderr
    return done.returncode, json.loads(report.read_text())["trials"]


def run_relay(report: Path, *options: str) -> tuple[int, dict[str, Any]]:
    status, trials = run_bench(report, "--relay-only", *options)
    assert len(trials) == 1
    return status, trials[0]


def run_bridge(report: Path, *options: str) -> dict[str, Any]:
    """The second trial; what either costs is no matter here."""
    _, trials = run_bench(report, *options)
    assert [trial["mode"] for trial in trials] == ["relay", "bridge"]
    return trials[1]


def test_all_audio_of_five_calls_comes_through_a_relay_unchanged(tmp_path: Path) -> None:
    status, trial = run_relay(tmp_path / "report.json", "--formats", "raw/lpcm16_24")
    end = trial["end"]

    assert (status, trial["faults"]) == (0, [])
    assert end["ended_well"] == CALLS
    assert end["up_chunks"] >= CALLS * SECONDS * 50
    assert end["down_chunks"] >= CALLS * SECONDS * 8
    assert end["up_received_ms"] == end["up_chunks"] * 20
    assert end["down_received_ms"] == end["down_chunks"] * 100
    assert end["stamps_right"] == end["up_chunks"] + end["down_chunks"]
    stage = trial["stages"][str(CALLS)]
    assert stage["up"]["n"] >= CALLS * SECONDS * 49
    assert 0 < stage["up"]["p50_us"] <= stage["up"]["p99_us"] <= stage["up"]["max_us"]
    assert stage["cpu_ms_per_call_s"] > 0
    assert stage["rss_kib"] > 0


def test_a_chunk_that_never_left_is_reported_as_lost(tmp_path: Path) -> None:
    status, trial = run_relay(tmp_path / "report.json", "--formats", "twilio/mulaw", "--forget-every", "40")

    assert status == 1
    assert trial["end"]["up_lost_ms"] >= CALLS * 20
    assert trial["end"]["stamps_wrong"] > 0
    assert any("uplink audio lost" in fault for fault in trial["faults"])


@pytest.mark.parametrize(
    ("media_format", "gap_ms"), [("raw/lpcm16_24", 0), ("raw/lpcm16_8", 0), ("raw/lpcm16_8", 600)]
)
def test_no_audio_counts_as_lost_whether_or_not_utterances_share_a_play_stream(
    media_format: str, gap_ms: int, tmp_path: Path
) -> None:
    trial = run_bridge(tmp_path / "report.json", "--formats", media_format, "--gap-ms", str(gap_ms))
    end = trial["end"]

    assert trial["faults"] == []
    assert end["utterances"] > CALLS
    assert CALLS <= end["play_streams"] <= end["utterances"]
    if gap_ms == 0:
        assert end["play_streams"] < end["utterances"]
    if media_format == "raw/lpcm16_24":
        assert end["down_surplus_ms"] == 0
        assert end["down_received_ms"] == end["down_chunks"] * 100
    else:
        assert 0 < end["down_surplus_ms"] < end["utterances"] * 20
        assert end["down_received_ms"] == end["down_chunks"] * 100 + end["down_surplus_ms"]


def test_twilio_callers_lose_no_audio_and_get_every_mark_back_from_each_server(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    _, trials = run_bench(report, "--formats", "twilio/mulaw", "--seconds", "0.6")

    servers = [(trial["server"], trial["faults"]) for trial in trials]
    assert servers == [("c", []), ("bridge", []), ("fastapi", [])]
    goals = [verdict["goal"] for verdict in json.loads(report.read_text())["verdicts"]]
    assert f"CPU, bridge / relay, {CALLS} calls" in goals
    assert f"CPU, FastAPI / bridge, {CALLS} calls" in goals
    for trial in trials:
        end = trial["end"]
        assert end["ended_well"] == CALLS
        assert end["up_received_ms"] == end["up_chunks"] * 20
        assert end["down_received_ms"] == end["down_chunks"] * 100
        assert end["calls_up_passthrough"] == end["calls_down_passthrough"] == CALLS
        assert 0 < end["marks"] == end["marks_returned"] <= end["down_chunks"]


def test_a_loss_shows_also_when_utterances_share_a_play_stream(tmp_path: Path) -> None:
    trial = run_bridge(
        tmp_path / "report.json", "--formats", "raw/lpcm16_8", "--gap-ms", "0", "--forget-every", "10"
    )
    end = trial["end"]

    assert end["play_streams"] < end["utterances"]
    assert end["down_lost_ms"] > CALLS * 100
    assert any("downlink audio lost" in fault for fault in trial["faults"])

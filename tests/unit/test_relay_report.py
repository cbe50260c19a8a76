"""Verdicts of the relay-cost bench: which levels are compared, and against what."""

from typing import Any

import pytest

from benches.relay.report import format_tables, judge
from benches.relay.trial import TWILIO_FORMAT, StageResult, Trial, TrialError

END: dict[str, Any] = {
    "failed": 0,
    "up_lost_ms": 0,
    "down_lost_ms": 0,
    "stamps_wrong": 0,
    "orphan_chunks": 0,
    "overlapping_streams": 0,
    "hangups": 0,
    "cuts": 0,
    "calls": 300,
    "ended_well": 300,
    "first_failure": "",
    "level_worst_db": 0.0,
}
LATENCY = {"p50_us": 50.0, "p90_us": 60.0, "p99_us": 90.0, "p999_us": 95.0, "max_us": 99.0}


def trial(server: str, cpu_ms: dict[int, float]) -> Trial:
    """A trial that cost so many ms a call-second at these levels."""
    stages = {
        calls: StageResult(
            calls=calls,
            cpu_ms_per_call_s=ms,
            user_ms_per_call_s=ms / 2,
            system_ms_per_call_s=ms / 2,
            rss_kib=80_000 + 64 * calls,
            server_cpu_percent=ms * calls / 10,
            swarm_cpu_percent=20.0,
            foreign_percent=0.0,
            steal_percent=0.0,
            up=dict(LATENCY),
            down=dict(LATENCY),
            send_lateness=dict(LATENCY),
        )
        for calls, ms in cpu_ms.items()
    }
    return Trial(server, "relay" if server == "c" else "bridge", TWILIO_FORMAT, stages, dict(END))


def cpu_verdicts(relay: Trial, bridge: Trial, *passthroughs: Trial) -> dict[str, tuple[str, bool]]:
    verdicts = judge([relay], [bridge], passthroughs)
    return {v.goal: (v.figure, v.is_met) for v in verdicts if v.goal.startswith("CPU")}


def test_the_pass_through_is_compared_at_its_level_and_at_ours() -> None:
    relay = trial("c", {10: 2.0, 100: 1.5, 300: 1.0})
    bridge = trial("bridge", {10: 2.5, 100: 2.0, 300: 1.2})
    passthrough = trial("fastapi", {10: 9.0, 100: 5.0})

    assert cpu_verdicts(relay, bridge, passthrough) == {
        "CPU, bridge / relay, 300 calls": ("1.20x", True),
        "CPU, FastAPI / bridge, 100 calls": ("2.50x", False),
        "CPU, FastAPI in processes of 100 / bridge, 300 calls": ("4.17x", True),
    }


def test_a_server_that_did_not_get_all_its_calls_is_judged_at_a_level_that_it_reached() -> None:
    relay = trial("c", {10: 2.0, 100: 1.5, 300: 1.0})
    bridge = trial("bridge", {10: 2.5, 100: 2.0, 297: 1.2})

    assert cpu_verdicts(relay, bridge) == {"CPU, bridge / relay, 100 calls": ("1.33x", False)}


def test_a_server_that_owes_work_at_the_end_of_its_window_is_said_to_have_fallen_behind() -> None:
    late = trial("fastapi", {100: 1.5})
    late.stages[100].down["p50_us"] = 500_000.0

    assert "trial 2 fell behind" in format_tables([trial("c", {100: 1.5}), late], [])
    assert "trial 1" not in format_tables([trial("c", {100: 1.5}), late], [])


def test_servers_without_a_level_in_common_are_not_judged() -> None:
    with pytest.raises(TrialError, match="no level"):
        judge([trial("c", {10: 2.0})], [trial("bridge", {9: 2.0})])

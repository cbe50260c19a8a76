"""When a climb of calls ends, and what is told of it. No server runs: trials are made up."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from benches.peers import climb as stairs
from benches.peers import run
from benches.peers.build import PeerBuildError
from benches.peers.climb import Climb, Step, climb, highest
from benches.relay.trial import Cores, Load, StageResult, Trial, TrialError

GOOD: dict[str, Any] = {
    "failed": 0, "first_failure": "", "up_chunks": 100, "down_chunks": 20, "up_lost_ms": 0, "down_lost_ms": 0
}  # fmt: skip


def stage(calls: int, p99_us: float, heard: int) -> StageResult:
    way = {"n": heard, "p50_us": p99_us / 2, "p99_us": p99_us}
    return StageResult(
        calls=calls, cpu_ms_per_call_s=1.5, user_ms_per_call_s=1, system_ms_per_call_s=0.5,
        rss_kib=50_000 + 70 * calls,
        server_cpu_percent=20, swarm_cpu_percent=10, foreign_percent=1, steal_percent=0.5, up=way, down=way,
        send_lateness=way,
    )  # fmt: skip


def run_climb(
    monkeypatch: pytest.MonkeyPatch, levels: list[int], outcome: Callable[[Load], Trial]
) -> tuple[Step, ...]:
    monkeypatch.setattr(stairs, "run_trial", lambda load, start, cores: outcome(load))
    return climb(
        levels,
        lambda stages: Load("bridge", "/", "twilio/mulaw", stages),
        lambda load: lambda model_port: nullcontext(),  # type: ignore[arg-type,return-value]
        Cores(None, None),
        seconds=2,
        told=lambda step: None,
    )


def trial_of(load: Load, p99_us: float = 400, heard: int = 100, **end: Any) -> Trial:
    stages = {calls: stage(calls, p99_us, heard) for calls, _ in load.stages}
    return Trial("server", load.mode, load.media_format, stages, GOOD | end)


def test_a_climb_goes_to_its_top_and_tells_what_a_further_call_takes(monkeypatch) -> None:
    loads: list[Load] = []

    def outcome(load: Load) -> Trial:
        loads.append(load)
        return trial_of(load)

    steps = run_climb(monkeypatch, [10, 25, 700], outcome)

    assert [(s.calls, s.failure, s.kib_per_further_call) for s in steps] == [
        (10, "", None),
        (25, "", 70.0),
        (700, "", 70.0),
    ]
    assert [[calls for calls, _ in load.stages] for load in loads] == [
        [10],
        [10, 25],
        [50, 250, 450, 650, 700],
    ]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (lambda load: trial_of(load, p99_us=700_000), "p99 700 ms"),
        (lambda load: trial_of(load, failed=2, first_failure="closed"), "2 calls failed: closed"),
        (lambda load: trial_of(load, up_lost_ms=200), "5.0 % of the audio lost"),
        (lambda load: trial_of(load, heard=0), "no audio came through"),
        (
            lambda load: Trial("server", "bridge", "", {}, GOOD | {"failed": 20, "first_failure": "late"}),
            "20 calls failed: late",
        ),
    ],
)
def test_a_climb_ends_where_calls_are_no_longer_carried(monkeypatch, outcome, told) -> None:
    steps = run_climb(monkeypatch, [10, 25], outcome)

    assert [(step.calls, step.failure) for step in steps] == [(10, told)]
    assert Climb("x", "X", "", steps).held(10_000) == 0


def test_a_trial_without_a_result_ends_the_climb_with_its_reason_alone(monkeypatch) -> None:
    def outcome(load: Load) -> Trial:
        raise TrialError("the swarm ran out of time before its report; the server's last words:\nmany")

    assert [s.failure for s in run_climb(monkeypatch, [10, 25], outcome)] == [
        "the swarm ran out of time before its report"
    ]


def test_what_is_held_depends_on_the_limit_and_on_both_ways() -> None:
    steps = (Step(10, 2, up_p99_ms=1, down_p99_ms=2), Step(25, 2, up_p99_ms=1, down_p99_ms=30))
    one = Climb("x", "X", "", steps)
    other = Climb("y", "Y", "", (steps[0], Step(25, 2, failure="p99 600 ms")))

    assert [one.held(limit) for limit in (1.5, 5, 50)] == [0, 10, 25]
    assert highest([one, other]) == 10
    assert highest([one]) == 25
    assert not Climb("z", "Z", "", (Step(10, 2, failure="gone"),)).has_carried


def test_a_peer_that_cannot_be_built_is_a_remark_and_the_others_climb(monkeypatch) -> None:
    def environment(peer: object) -> object:
        raise PeerBuildError("agents: pip failed:\nmany lines")

    monkeypatch.setattr(run, "environment", environment)
    remarks: list[str] = []

    assert [one.name for one in run.entrants(["agents"], remarks)] == ["relay", "fastagent", "fastagent-ears"]
    assert remarks == ["OpenAI Agents SDK was not measured: agents: pip failed:"]
    with pytest.raises(ValueError, match="expected peers among fastapi, agents, pipecat, got jambonz"):
        run.entrants(["jambonz"], [])

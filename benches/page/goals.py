"""Every goal of the project that a bench can judge, beside what was found."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from benches.page.findings import Findings
from benches.peers.climb import Climb, highest
from benches.relay.report import needs_no_conversion

__all__ = [
    "CPU_RATIO_PASSTHROUGH",
    "KIB_PER_FURTHER_CALL",
    "P99_LIMIT_MS",
    "PEER_P99_LIMITS_MS",
    "Goal",
    "cpu_ratios",
    "goals_of",
    "kernel_goals_of",
]

CALLS_HELD = 1000
P99_LIMIT_MS = 5.0
"""Each way, while the server holds its calls."""
PEER_P99_LIMITS_MS = (5.0, 50.0, 250.0)
"""Within which the most calls of each server are told: unheard, hardly heard, still a conversation."""
KIB_PER_FURTHER_CALL = 64.0
CPU_RATIO_PASSTHROUGH = 1.1
TIMES_LESS_CPU_THAN_FASTAPI = 4.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal and its figure."""

    section: str
    what: str
    goal: str
    figure: str
    """Empty when it was not measured."""
    is_met: bool | None
    """``None`` when it was not measured."""


def goals_of(findings: Findings) -> list[Goal]:
    """All but the kernels' own goals; these are one line here, and `kernel_goals_of` lists them."""
    kernels = kernel_goals_of(findings)
    met = sum(goal.is_met is True for goal in kernels)
    return [
        *_capacity(findings),
        *_peers(findings),
        *_relay(findings),
        _judged(
            "kernels",
            "kernels within their goals",
            f"all of {len(kernels)}" if kernels else "all",
            f"{met}" if kernels else None,
            met == len(kernels),
        ),
    ]


def kernel_goals_of(findings: Findings) -> list[Goal]:
    """One goal for each kernel's work that has one."""
    return [
        Goal(
            "kernels",
            kernel.subject,
            f"≤ {kernel.goal_ns:.0f} ns per {kernel.unit}",
            f"{kernel.ours_ns:.0f} ns",
            kernel.ours_ns <= kernel.goal_ns,
        )
        for kernel in findings.kernels
        if kernel.goal_ns is not None
    ]


def _judged(section: str, what: str, goal: str, figure: str | None, is_met: bool) -> Goal:
    return (
        Goal(section, what, goal, "", None) if figure is None else Goal(section, what, goal, figure, is_met)
    )


def _named(climbs: list[Climb], name: str) -> Climb | None:
    return next((one for one in climbs if one.name == name), None)


def _capacity(findings: Findings) -> list[Goal]:
    ours = _named(findings.capacity, "fastagent")
    held = 0 if ours is None else ours.held(P99_LIMIT_MS)
    slope = None if ours is None else ours.kib_per_further_call
    return [
        _judged(
            "capacity",
            f"calls on one core, p99 of each way at most {P99_LIMIT_MS:g} ms",
            f"≥ {CALLS_HELD}",
            None if ours is None else f"{held}",
            held >= CALLS_HELD,
        ),
        _judged(
            "capacity",
            "memory per further call",
            f"≤ {KIB_PER_FURTHER_CALL:g} KiB",
            None if slope is None else f"{slope:.0f} KiB",
            slope is not None and slope <= KIB_PER_FURTHER_CALL,
        ),
    ]


def _peers(findings: Findings) -> list[Goal]:
    ours, fastapi = _named(findings.peers, "fastagent"), _named(findings.peers, "fastapi")
    figure: str | None = None
    times = 0.0
    what = "CPU per call, FastAPI pass-through / FastAgent"
    if ours is not None and fastapi is not None and (calls := highest([ours, fastapi])):
        of_ours, of_fastapi = ours.step(calls), fastapi.step(calls)
        assert of_ours is not None
        assert of_fastapi is not None
        times = of_fastapi.cpu_ms_per_call_s / max(of_ours.cpu_ms_per_call_s, 1e-9)
        figure = f"{times:.1f}×"
        what += f", {calls} calls"
    return [
        _judged(
            "peers", what, f"≥ {TIMES_LESS_CPU_THAN_FASTAPI:g}×", figure, times >= TIMES_LESS_CPU_THAN_FASTAPI
        )
    ]


def _relay(findings: Findings) -> list[Goal]:
    what = "CPU beside the byte relay, passthrough"
    if findings.relay is None:
        return [Goal("relay", what, f"≤ {CPU_RATIO_PASSTHROUGH:g}×", "", None)]
    ratios = cpu_ratios(findings.relay.trials)
    release = [
        Goal(
            "relay",
            f"{what}, {media_format}",
            f"≤ {CPU_RATIO_PASSTHROUGH:g}×",
            f"{ratio:.2f}×",
            ratio <= CPU_RATIO_PASSTHROUGH,
        )
        for media_format, ratio in ratios.items()
        if needs_no_conversion(media_format)
    ]
    bounds = [
        Goal(
            "relay",
            f"{verdict['media_format']}: {verdict['goal']}",
            str(verdict["limit"]).replace("<=", "≤").replace(">=", "≥"),
            str(verdict["figure"]),
            bool(verdict["is_met"]),
        )
        for verdict in findings.relay.verdicts
    ]
    return [*release, *bounds]


def cpu_ratios(trials: list[dict[str, Any]]) -> dict[str, float]:
    """CPU of the bridge beside the relay's at the most calls, by format; medians of the rounds."""
    costs: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        last = max(trial["stages"], key=int)
        costs.setdefault(trial["media_format"], {}).setdefault(_side(trial), []).append(
            trial["stages"][last]["cpu_ms_per_call_s"]
        )
    return {
        media_format: median(sides["bridge"]) / median(sides["relay"])
        for media_format, sides in costs.items()
        if "bridge" in sides and "relay" in sides
    }


def _side(trial: dict[str, Any]) -> str:
    """``relay`` or ``bridge``, or the name of a peer."""
    return "relay" if trial["mode"] == "relay" else str(trial["server"])

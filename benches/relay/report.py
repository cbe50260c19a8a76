"""Goals, verdicts and tables of the relay-cost bench."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benches.relay.trial import TWILIO_FORMAT, Trial, TrialError

__all__ = ["Verdict", "format_tables", "judge", "needs_no_conversion"]

PASSTHROUGH = {"raw/lpcm16_24", "raw/mulaw", TWILIO_FORMAT}
"""Caller formats that the Realtime API speaks as well."""
CPU_RATIO_PASSTHROUGH = 1.25
CPU_RATIO_TRANSCODING = 2.0
PASSTHROUGH_RATIO = 4.0
"""CPU per call of a plain FastAPI pass-through beside ours, at least."""
ADDED_P50_MS = 0.15
P99_RATIO = 1.5
KIB_PER_FURTHER_CALL = 96.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and how far from it the figure is."""

    media_format: str
    goal: str
    figure: str
    limit: str
    is_met: bool


def needs_no_conversion(media_format: str) -> bool:
    """Whether audio of this format can go through untouched."""
    return media_format in PASSTHROUGH


def judge(
    relays: Sequence[Trial], bridges: Sequence[Trial], passthroughs: Sequence[Trial] = ()
) -> list[Verdict]:
    """Hold the medians of one format's trials against the goals, at the levels that all of them reached.

    Args:
        passthroughs: of a plain FastAPI server, where it was measured too, up to the calls it can hold.
    """
    media_format = bridges[0].media_format
    few, many = _levels((*relays, *bridges))

    def middle(trials: Sequence[Trial], figure: Callable[[Trial], float]) -> float:
        return median(figure(trial) for trial in trials)

    def verdict(goal: str, figure: float, limit: float, unit: str, digits: int = 2) -> Verdict:
        return Verdict(
            media_format, goal, f"{figure:.{digits}f}{unit}", f"<= {limit:g}{unit}", figure <= limit
        )

    verdicts = [
        verdict(
            f"CPU, bridge / relay, {many} calls",
            middle(bridges, lambda t: t.stages[many].cpu_ms_per_call_s)
            / middle(relays, lambda t: t.stages[many].cpu_ms_per_call_s),
            CPU_RATIO_PASSTHROUGH if needs_no_conversion(media_format) else CPU_RATIO_TRANSCODING,
            "x",
        )
    ]
    if passthroughs:
        verdicts += _beside_passthrough(bridges, passthroughs)
    for way in ("up", "down"):

        def at(trial: Trial, calls: int, percentile: str, way: str = way) -> float:
            latency: dict[str, float] = getattr(trial.stages[calls], way)
            return latency[percentile]

        added_us = middle(bridges, lambda t: at(t, few, "p50_us")) - middle(
            relays, lambda t: at(t, few, "p50_us")
        )
        verdicts.append(verdict(f"added p50 {way}, {few} calls", added_us / 1e3, ADDED_P50_MS, " ms", 3))
    for way in ("up", "down"):

        def p99(trial: Trial, way: str = way) -> float:
            latency: dict[str, float] = getattr(trial.stages[many], way)
            return latency["p99_us"]

        ratio = middle(bridges, p99) / max(1e-9, middle(relays, p99))
        verdicts.append(verdict(f"p99 {way}, bridge / relay, {many} calls", ratio, P99_RATIO, "x"))
    slopes = [slope for trial in bridges if (slope := trial.kib_per_further_call) is not None]
    if slopes:
        verdicts.append(verdict("memory per further call", median(slopes), KIB_PER_FURTHER_CALL, " KiB", 1))
    faults = [fault for trial in bridges for fault in trial.faults]
    verdicts.append(
        Verdict(
            media_format,
            "nothing lost, nothing broken",
            "; ".join(faults) or "nothing",
            "nothing",
            not faults,
        )
    )
    if not needs_no_conversion(media_format):
        tail_ms = min(trial.tail_ms_per_utterance for trial in bridges)
        verdicts.append(
            Verdict(
                media_format, "filter tail sent, per utterance", f"{tail_ms:.2f} ms", "> 0 ms", tail_ms > 0
            )
        )
    return verdicts


def _levels(trials: Sequence[Trial]) -> tuple[int, int]:
    """The least and the most calls that every trial was measured at; one that failed may lack a level."""
    shared = set.intersection(*(set(trial.stages) for trial in trials))
    if not shared:
        raise TrialError("no level of calls was reached by every server")
    return min(shared), max(shared)


def _beside_passthrough(bridges: Sequence[Trial], passthroughs: Sequence[Trial]) -> list[Verdict]:
    """At the pass-through's last level, and with us at ours, where it would take several processes."""
    _, compared = _levels((*bridges, *passthroughs))
    _, many = _levels(bridges)

    def cpu_ms(trials: Sequence[Trial], calls: int) -> float:
        return median(trial.stages[calls].cpu_ms_per_call_s for trial in trials)

    goals = {f"CPU, FastAPI / bridge, {compared} calls": cpu_ms(bridges, compared)}
    if many > compared:
        goals[f"CPU, FastAPI in processes of {compared} / bridge, {many} calls"] = cpu_ms(bridges, many)
    media_format = bridges[0].media_format
    return [
        Verdict(media_format, goal, f"{ratio:.2f}x", f">= {PASSTHROUGH_RATIO:g}x", ratio >= PASSTHROUGH_RATIO)
        for goal, ours_ms in goals.items()
        for ratio in (cpu_ms(passthroughs, compared) / max(1e-9, ours_ms),)
    ]


def format_tables(trials: Sequence[Trial], verdicts: Sequence[Verdict]) -> str:
    """Figures of every trial, then every goal."""
    rows: list[tuple[str, ...]] = [
        (
            "format", "server", "calls", "CPU ms/call-s", "user", "sys", "core %", "swarm %", "others %",
            "up p50", "p90", "p99", "p99.9", "max us", "down p50", "p90", "p99", "p99.9", "max us", "RSS KiB",
        )
    ]  # fmt: skip
    for trial in trials:
        for stage in trial.stages.values():
            rows.append(
                (
                    trial.media_format,
                    trial.server,
                    str(stage.calls),
                    f"{stage.cpu_ms_per_call_s:.3f}",
                    f"{stage.user_ms_per_call_s:.2f}",
                    f"{stage.system_ms_per_call_s:.2f}",
                    f"{stage.server_cpu_percent:.1f}",
                    f"{stage.swarm_cpu_percent:.1f}",
                    f"{stage.foreign_percent + stage.steal_percent:.1f}",
                    *(f"{stage.up[key]:.0f}" for key in PERCENTILES),
                    *(f"{stage.down[key]:.0f}" for key in PERCENTILES),
                    str(stage.rss_kib),
                )
            )
    lines = _aligned(rows)
    for number, trial in enumerate(trials):
        remarks = [
            f"trial {number + 1}, {trial.media_format}, {trial.server}: {fault}" for fault in trial.faults
        ]
        if trial.is_void:
            remarks.append(f"trial {number + 1} is VOID: the swarm used more than 80 % of its core")
        if trial.is_disturbed:
            remarks.append(
                f"trial {number + 1} is disturbed: others used more than 10 % of the server's core"
            )
        if trial.is_behind:
            remarks.append(f"trial {number + 1} fell behind its calls: the CPU of what it owes is missing")
        lines += remarks
    if verdicts:
        lines.append("")
        lines += _aligned(
            [
                ("format", "goal", "figure", "limit", ""),
                *(
                    (v.media_format, v.goal, v.figure, v.limit, "PASS" if v.is_met else "MISS")
                    for v in verdicts
                ),
            ]
        )
    return "\n".join(lines)


PERCENTILES = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

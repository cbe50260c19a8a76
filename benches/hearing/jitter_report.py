"""The table of what jitter buffers make of networks: ``python -m benches.hearing.jitter_report``.

Every buffer plays the same arrivals on the same 20 ms clock. R is the E-model's rating (`emodel`), its delay
the network's plus the buffer's; *added* is the mean wait beyond the fastest packet, in ms; *unplayed* the
share of packets that arrived in vain. The buffers:

- **ours**: the native one with default settings. *heard* rates it again with the concealed frames by which
  its delay grew counted like lost packets.
- **fixed 40, 60, 100, 200**: starts so many ms after the first packet and never moves.
- **histogram**: the rule of WebRTC's NetEq as published, restated: 80 ms at first, then the 95th percentile
  of a forgetting histogram (bins of 20 ms, factor 0.983, fed with the largest delay of each 500 ms).
- **best fixed**: the fixed offset that turns out best, known only afterwards.

The mean leaves out the two traces whose network alone spoils the call. ``--fresh SEED`` adds traces made from
a seed; ``--phases`` averages over the playing clock's phases instead of taking one. ``--strict`` exits with 1
on a missed goal: mean R 87.0, no packet out of order, 15 of 15 scenarios.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from statistics import fmean

from benches.hearing import emodel, jitter_traces
from benches.hearing.jitter_traces import FRAME_MS, PHASE_MS, SATELLITE, Outcome, Rule, Trace

__all__ = ["best_fixed", "fixed", "histogram", "main", "mean_outcome"]

GOAL_R = 87.0
FIXED_MS = (40, 60, 100, 200)
ALL_PHASES_MS = (1.0, 6.0, 11.0, 15.0)


def fixed(wait_ms: int) -> Rule:
    """Plays so long after the first packet."""
    stands: list[float] = []

    def rule(at_ms: float, relative_ms: float) -> float:
        if not stands:
            stands.append(relative_ms + wait_ms)
        return stands[0]

    return rule


def histogram() -> Rule:
    """The forgetting histogram; delays count from the fastest packet of the last two seconds."""
    bin_ms, forget, quantile, window_ms, period_ms = 20, 0.983, 0.95, 2000.0, 500.0
    bins = [0.0] * 100
    recent: list[tuple[float, float]] = []
    state = {"since": -1.0, "worst": 0.0, "target": 80.0}

    def rule(at_ms: float, relative_ms: float) -> float:
        recent.append((at_ms, relative_ms))
        while recent[0][0] < at_ms - window_ms:
            recent.pop(0)
        base = min(delay for _, delay in recent)
        if state["since"] < 0:
            state["since"] = at_ms
        state["worst"] = max(state["worst"], relative_ms - base)
        if at_ms - state["since"] >= period_ms:
            for i in range(len(bins)):
                bins[i] *= forget
            bins[min(len(bins) - 1, int(state["worst"] / bin_ms))] += 1 - forget
            state.update(since=at_ms, worst=0.0)
            mass, wanted = 0.0, quantile * sum(bins)
            for i, weight in enumerate(bins):
                mass += weight
                if mass >= wanted:
                    state["target"] = bin_ms * (i + 1.0)
                    break
        return base + state["target"]

    return rule


def best_fixed(trace: Trace, phase_ms: float = PHASE_MS) -> Outcome:
    """The best of all offsets on the playing clock's grid."""
    first: dict[int, float] = {}
    for number, at in trace.arrivals:
        first.setdefault(number, at - FRAME_MS * number)
    found: list[Outcome] = []
    sent, fastest_ms = trace.sent, trace.fastest_ms
    stands = phase_ms + FRAME_MS * (fastest_ms // FRAME_MS)
    while stands < fastest_ms + 700:
        missing = [first.get(number, float("inf")) > stands for number in range(sent)]
        in_time = sent - sum(missing)
        if in_time:
            rating = emodel.rating([stands], missing)
            unplayed = 100 * (len(first) - in_time) / len(first)
            found.append(Outcome(rating, rating, stands - fastest_ms, unplayed, 0))
        stands += FRAME_MS
    return max(found, key=lambda outcome: outcome.rating)


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        fmean(o.rating for o in outcomes),
        fmean(o.rating_heard for o in outcomes),
        fmean(o.added_delay_ms for o in outcomes),
        fmean(o.unplayed_percent for o in outcomes),
        sum(o.order_errors for o in outcomes),
    )


def buffers() -> dict[str, Callable[[Trace, float], Outcome]]:
    def waiting(wait_ms: int) -> Callable[[Trace, float], Outcome]:
        return lambda trace, phase_ms: jitter_traces.follow(trace, fixed(wait_ms), False, phase_ms)

    return {
        "ours": jitter_traces.play,
        **{f"fixed {wait_ms}": waiting(wait_ms) for wait_ms in FIXED_MS},
        "histogram": lambda trace, phase_ms: jitter_traces.follow(trace, histogram(), True, phase_ms),
        "best fixed": best_fixed,
    }


def row(name: str, outcomes: dict[str, Outcome]) -> str:
    ours, best = outcomes["ours"], outcomes["best fixed"]
    ratings = "".join(
        f"{outcome.rating:11.1f}" for kind, outcome in outcomes.items() if kind not in ("ours", "best fixed")
    )
    return (
        f"{name:24}{ours.rating:6.1f}{ours.rating_heard:7.1f}{ours.added_delay_ms:6.0f}{ours.unplayed_percent:7.2f}"
        f"{ratings}{best.rating:11.1f}{best.added_delay_ms:6.0f}{best.unplayed_percent:7.2f}"
    )


def table(traces: Sequence[Trace], phases_ms: Sequence[float], counted: Callable[[Trace], bool]) -> Outcome:
    """Prints a row per trace and their mean; gives the mean of ours."""
    kinds = buffers()
    others = "".join(f"{kind:>11}" for kind in kinds if kind not in ("ours", "best fixed"))
    shown = f"{'added':>6}{'unpl%':>7}"
    print(f"{'':24}{'ours':>6}{'heard':>7}{shown}{others}{'best fixed':>11}{shown}")
    columns: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    for trace in traces:
        outcomes = {
            kind: mean_outcome([run(trace, phase) for phase in phases_ms]) for kind, run in kinds.items()
        }
        print(row(trace.name + ("" if counted(trace) else " (not in mean)"), outcomes))
        if counted(trace):
            for kind, outcome in outcomes.items():
                columns[kind].append(outcome)
    means = {kind: mean_outcome(column) for kind, column in columns.items()}
    print(row(f"mean of {len(columns['ours'])}", means))
    print("\nmean             R  added ms  unplayed %")
    for kind, mean in means.items():
        print(f"{kind:12}{mean.rating:6.1f}{mean.added_delay_ms:10.0f}{mean.unplayed_percent:12.2f}")
    return means["ours"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benches.hearing.jitter_report", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--fresh", type=int, metavar="SEED", help="add traces made from a seed")
    parser.add_argument("--phases", action="store_true", help="average over phases of the playing clock")
    parser.add_argument("--strict", action="store_true", help="exit 1 on a missed goal")
    chosen = parser.parse_args(arguments)
    phases = ALL_PHASES_MS if chosen.phases else (PHASE_MS,)
    mean = table(jitter_traces.recorded(), phases, lambda trace: trace.name not in SATELLITE)
    if chosen.fresh is not None:
        print(f"\nfresh traces, seed {chosen.fresh}")
        table(list(jitter_traces.fresh(chosen.fresh)), phases, lambda trace: True)
    print(f"\n{'scenario':50}{'discarded':>14}{'lost':>10}{'concealed':>12}{'delay, frames':>15}")
    passed = 0
    for scenario in jitter_traces.scenarios():
        verdict = jitter_traces.attempt(scenario)
        cells = "".join(
            f"{verdict.figures[name]:{width}.{name == 'delay':d}f} /{scenario.limits[name]:3d}"
            for name, width in (("discarded", 9), ("lost", 5), ("concealed", 7), ("delay", 10))
        )
        passed += not verdict.missed
        print(f"{scenario.name:50}{cells}  {'pass' if not verdict.missed else 'FAIL'}")
    reached = mean.rating >= GOAL_R and mean.order_errors == 0 and passed == len(jitter_traces.scenarios())
    print(
        f"\nmean R {mean.rating:.2f} (goal {GOAL_R}), out of order {mean.order_errors}, scenarios {passed}/15"
    )
    return 1 if chosen.strict and not reached else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a run came to: limits, a line for each, and the files that keep it."""

import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benches.baseline import machine_class
from benches.soak.crowd import Tally
from benches.soak.house import ROOT
from benches.soak.samples import Held, Sample

__all__ = ["RESULTS", "Verdict", "figures_of", "judge", "markdown", "write"]

RESULTS = ROOT / "benches" / "results"
LEAK_BYTES_PER_CALL_MAX = 1024
LEAK_SAMPLES_MIN = 90
"""Fewer looks, some ten minutes of a run, cannot tell a kilobyte a call from noise."""
NAMED_SHARE_MIN = 0.99


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit."""

    what: str
    found: str
    limit: str
    is_kept: bool | None
    """None where the run was too short to tell."""


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def figures_of(
    what: str,
    options: Mapping[str, Any],
    tally: Tally,
    samples: list[Sample],
    leak: Mapping[str, Any],
    before: Held,
    after: Held,
    metrics: Mapping[str, float],
    model: Mapping[str, Any],
    log: str,
    **more: Any,
) -> dict[str, Any]:
    """Everything, as JSON values."""
    # `asdict` of 3.11 cannot copy a Counter.
    calls = {field.name: getattr(tally, field.name) for field in fields(tally)}
    calls |= {name: dict(value) for name, value in calls.items() if isinstance(value, Counter)}
    answers = calls.pop("answer_s")
    first, last = (samples[0], samples[-1]) if samples else (None, None)
    server: dict[str, Any] = {}
    if first is not None and last is not None and last.at_s > first.at_s:
        lags = max(1.0, last.lag_count - first.lag_count)
        server = {
            "cpu_percent": round(100 * (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s), 1),
            "rss_mib": {"first": round(first.rss_bytes / 2**20, 1), "last": round(last.rss_bytes / 2**20, 1)},
            "loop_lag_mean_ms": round(1000 * (last.lag_s - first.lag_s) / lags, 3),
            "loop_lag_over_20_ms_percent": round(100 * (last.late_lags - first.late_lags) / lags, 3),
            "stalls": last.stalls - first.stalls,
            "descriptors_max": max(one.descriptors for one in samples),
            "tasks_max": max(one.tasks for one in samples),
        }
    ours = sum(value for name, value in metrics.items() if 'fault="ours"' in name)
    return {
        "what": what,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _commit(),
        "machine_class": machine_class(),
        "processors": os.cpu_count(),
        "load_of_machine": [round(one, 2) for one in os.getloadavg()],
        "python": platform.python_version(),
        "options": dict(options),
        "calls": calls,
        "answer_s": {
            "n": len(answers),
            "p50": round(median(answers), 3) if answers else 0.0,
            "p95": _at(answers, 0.95),
            "p99": _at(answers, 0.99),
            "max": _at(answers, 1.0),
        },
        "server": server,
        "leak": dict(leak),
        "held": {"before": asdict(before), "after": asdict(after)},
        "calls_failed_by_us_in_metrics": ours,
        "model": dict(model),
        "tracebacks": log.count("Traceback (most recent call last)"),
        "drops": {
            name.partition('cause="')[2].partition('"')[0]: value
            for name, value in metrics.items()
            if name.startswith("fastagent_drops_total") and value
        },
        **more,
        "samples": [asdict(one) for one in samples],
    }


def judge(figures: Mapping[str, Any]) -> list[Verdict]:
    """The limits."""
    calls, held, leak = figures["calls"], figures["held"], figures["leak"]
    verdicts = [
        Verdict("calls failed by us", f"{calls['failed']} of {calls['finished']}", "0", calls["failed"] == 0),
        Verdict(
            "calls failed by us, by the server's own metrics",
            f"{figures['calls_failed_by_us_in_metrics']:.0f}",
            "0",
            figures["calls_failed_by_us_in_metrics"] == 0,
        ),
        Verdict(
            "rules of carriers broken",
            str(sum(calls["violations"].values())),
            "0",
            not calls["violations"],
        ),
        Verdict("tracebacks in the log", str(figures["tracebacks"]), "0", figures["tracebacks"] == 0),
    ]
    for kind, name in (("rss_bytes", "resident"), ("uss_bytes", "unique")):
        slope = leak.get(f"{kind}_per_call")
        is_long = leak["samples"] >= LEAK_SAMPLES_MIN
        text = "-" if slope is None else f"{slope['value']:.0f} ({slope['low']:.0f} to {slope['high']:.0f})"
        verdicts.append(
            Verdict(
                f"{name} bytes gained for each finished call",
                text if is_long else f"{text}; too short a run to judge",
                f"upper bound ≤ {LEAK_BYTES_PER_CALL_MAX}",
                slope["high"] <= LEAK_BYTES_PER_CALL_MAX if slope is not None and is_long else None,
            )
        )
    before, after = held["before"], held["after"]
    for name in before:
        verdicts.append(
            Verdict(
                f"{name.replace('_', ' ')}, before and after",
                f"{before[name]}, {after[name]}",
                "no more",
                after[name] <= before[name],
            )
        )
    if figures["what"] == "chaos":
        named = calls["named"]
        kept = calls["named_resumed"] + calls["named_ended"]
        verdicts.append(
            Verdict(
                "calls that a fault befell and that went on or ended politely",
                f"{kept} of {named}",
                f"≥ {100 * NAMED_SHARE_MIN:.0f} %",
                kept >= NAMED_SHARE_MIN * named,
            )
        )
    return verdicts


def markdown(figures: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """The short form."""
    options, calls, answer = figures["options"], figures["calls"], figures["answer_s"]
    server = figures["server"]
    signs = {True: "kept", False: "**missed**", None: "not judged"}
    lines = [
        f"# {str(figures['what']).capitalize()}, {options['minutes']:g} minutes, {figures['date']}",
        "",
        f"Commit {figures['commit']}, {figures['machine_class']}, {figures['processors']} processors, "
        f"Python {figures['python']}, seed {options['seed']}. Level {options['calls']} calls, "
        f"{options['rate']:g} new ones a second; AudioCodes, Twilio and `/agent/ws`. "
        f"Load of the machine at the end {figures['load_of_machine'][0]}.",
        "",
        "| limit | found | wanted | |",
        "|---|---|---|---|",
        *(f"| {one.what} | {one.found} | {one.limit} | {signs[one.is_kept]} |" for one in verdicts),
        "",
        "| figure | value |",
        "|---|---|",
        f"| calls, most at once | {calls['finished']}, {calls['peak']} |",
        f"| kinds | {', '.join(f'{name} {n}' for name, n in sorted(calls['kinds'].items()))} |",
        f"| questions answered, asked again | {calls['answered']}, {calls['asked_again']} |",
        f"| seconds to the answer, p50, p95, p99, max | {answer['p50']}, {answer['p95']}, {answer['p99']}, "
        f"{answer['max']} |",
        *(f"| server: {name.replace('_', ' ')} | {value} |" for name, value in server.items()),
        f"| callers' process, latest tick | {figures['callers_worst_lag_s']} s |",
        f"| model's side | {json.dumps(figures['model'])} |",
    ]
    if "faults" in figures:
        lines += [
            "",
            "| fault | times | named calls | went on | ended politely | failed |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {one['times']} | {one['named']} | {one['resumed']} | {one['ended']} "
            f"| {one['failed']} |"
            for name, one in sorted(figures["faults"].items())
        ]
    if calls["reasons"]:
        lines += ["", "What failed:", "", *(f"- {reason}" for reason in calls["reasons"])]
    return "\n".join(lines) + "\n"


def write(figures: Mapping[str, Any], text: str, folder: Path) -> Path:
    """Both files; gives the path of the text."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{figures['what']}-{figures['date']}-{figures['machine_class']}-{figures['commit']}"
    path = folder / f"{stem}.md"
    path.write_text(text)
    (folder / f"{stem}.json").write_text(json.dumps(figures, indent=1) + "\n")
    return path

"""The report of a load test, as data: what was asked, what was measured, and whether it may be believed."""

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fastagent.load.knee import KneeSearch
from fastagent.load.limits import Breach, breaches
from fastagent.load.order import LoadTest
from fastagent.load.plan import Stage
from fastagent.load.tally import Window

__all__ = ["FORMAT_VERSION", "Report", "Second", "StageReport"]

FORMAT_VERSION = 1
"""Of the JSON; raised when a field changes its meaning or goes."""

OWN_CPU_SHARE_MAX = 0.8
OWN_LATE_P99_MS_MAX = 5.0

SHOWN = {"up_mark": "up", "down_mark": "down"}
"""Names of the report for those of the engine."""


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a run, for charts and the progress display."""

    at_s: float
    stage: str
    live: int
    opening: int
    failed: int
    up_p50_ms: float | None
    up_p99_ms: float | None
    down_p50_ms: float | None
    down_p99_ms: float | None
    turn_p50_ms: float | None
    late_p99_ms: float | None
    own_share: float
    cpu_percent: float | None
    rss_mib: float | None


@dataclass(slots=True)
class StageReport:
    """One level, or rate, that was measured."""

    name: str
    calls: int
    rate_per_s: float
    live: int
    """Calls at its end."""
    duration_s: float
    durations: dict[str, dict[str, float | int | None]]
    counts: dict[str, int]
    failures: dict[str, int]
    own_share: float
    """Of the core that the generator may use, its busiest one."""
    cpu_percent: float | None
    """Of the server, of one core."""
    cpu_ms: float | None
    """Of the server, for a call-second."""
    rss_mib: float | None
    kib_per_call: float | None
    """Of the server, beyond what it took without calls."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    """Why this must not be believed."""

    @property
    def is_kept(self) -> bool:
        """Every limit was kept, and it may be believed."""
        return not self.breaches and not self.void

    def figures(self) -> dict[str, float | None]:
        """By the names that limits use."""
        figures: dict[str, float | None] = {
            f"{what}_{name}": value for what, of in self.durations.items() for name, value in of.items()
        }
        figures |= {
            "failed": self.counts.get("failed", 0),
            "lost_frames": self.counts.get("frames_lost", 0),
            "lost_marks": self.counts.get("marks_lost", 0),
            "unknown_marks": self.counts.get("marks_unknown", 0),
            "barge_ins_ignored": self.counts.get("barge_ins_ignored", 0),
            "unreadable": self.counts.get("unreadable", 0),
            "blocked": self.counts.get("blocked", 0),
            "cpu_ms": self.cpu_ms,
            "cpu_percent": self.cpu_percent,
            "kib_per_call": self.kib_per_call,
            "rss_mib": self.rss_mib,
        }
        return figures


class Report:
    """Collects a run and judges it."""

    def __init__(self, test: LoadTest, *, cores: int) -> None:
        self.stages: list[StageReport] = []
        self.seconds: list[Second] = []
        self.total = Window()
        self.server_pid: int | None = None
        self.is_interrupted = False
        self.metrics: dict[str, float] = {}
        self.model: dict[str, int | None] = {}
        self._test = test
        self._cores = cores
        self._begun_unix_s = time.time()
        self._begun: Mapping[str, float] = {}

    # Collecting

    def begin(self, marks: Mapping[str, float]) -> None:
        """The run begins: this is the server without calls."""
        self._begun = marks

    def add_second(
        self,
        window: Window,
        before: Mapping[str, float],
        now: Mapping[str, float],
        stage: str,
        live: int,
        opening: int,
    ) -> Second:
        """Take one second."""
        elapsed_s = max(now["at_s"] - before["at_s"], 1e-3)
        of = window.durations
        second = Second(
            at_s=round(now["at_s"] - self._begun["at_s"], 3),
            stage=stage,
            live=live,
            opening=opening,
            failed=window.counts["failed"],
            up_p50_ms=of["up_mark"].quantile_ms(0.5),
            up_p99_ms=of["up_mark"].quantile_ms(0.99),
            down_p50_ms=of["down_mark"].quantile_ms(0.5),
            down_p99_ms=of["down_mark"].quantile_ms(0.99),
            turn_p50_ms=of["turn"].quantile_ms(0.5),
            late_p99_ms=of["late"].quantile_ms(0.99),
            own_share=self._own_share(window, before, now),
            cpu_percent=_cpu_percent(before, now, elapsed_s),
            rss_mib=round(now["rss_bytes"] / (1 << 20), 1) if "rss_bytes" in now else None,
        )
        self.seconds.append(second)
        return second

    def add_stage(
        self,
        stage: Stage,
        window: Window,
        begun: Mapping[str, float],
        ended: Mapping[str, float],
        live: int,
    ) -> StageReport:
        """Take what was measured at one level, and judge it."""
        elapsed_s = max(ended["at_s"] - begun["at_s"], 1e-3)
        cpu_percent = _cpu_percent(begun, ended, elapsed_s)
        kib_per_call = None
        if live and "rss_bytes" in ended and "rss_bytes" in self._begun:
            kib_per_call = round((ended["rss_bytes"] - self._begun["rss_bytes"]) / 1024 / live, 1)
        report = StageReport(
            name=stage.name,
            calls=stage.calls,
            rate_per_s=stage.rate_per_s,
            live=live,
            duration_s=round(elapsed_s, 3),
            durations={SHOWN.get(name, name): one.figures() for name, one in window.durations.items()},
            counts=dict(sorted(window.counts.items())),
            failures=dict(window.failures.most_common()),
            own_share=self._own_share(window, begun, ended),
            cpu_percent=cpu_percent,
            cpu_ms=round(cpu_percent * 10 / live, 3) if cpu_percent is not None and live else None,
            rss_mib=round(ended["rss_bytes"] / (1 << 20), 1) if "rss_bytes" in ended else None,
            kib_per_call=kib_per_call,
            curves={SHOWN.get(name, name): one.curve() for name, one in window.durations.items()},
        )
        report.void = _void(report)
        report.breaches = [str(one) for one in self._breaches(report)]
        self.stages.append(report)
        return report

    def finish(
        self,
        rest: Window,
        *,
        is_interrupted: bool,
        metrics: dict[str, float],
        model_sessions: int | None,
        model_strays: int,
        paired_by_order: int,
        model_errors: int,
    ) -> None:
        """The run is over."""
        self.total.add(rest)
        self.is_interrupted = is_interrupted
        self.metrics = metrics
        self.model = {
            "sessions": model_sessions,
            "strays": model_strays,
            "paired_by_order": paired_by_order,
            "errors": model_errors,
        }

    def _breaches(self, report: StageReport) -> list[Breach]:
        return breaches(list(self._test.limits), report.figures())

    def _own_share(self, window: Window, before: Mapping[str, float], now: Mapping[str, float]) -> float:
        elapsed_s = max(now["at_s"] - before["at_s"], 1e-3)
        process = (now["own_cpu_s"] - before["own_cpu_s"]) / elapsed_s / self._cores
        thread = window.counts["thread_cpu_ns"] / 1e9 / elapsed_s
        return round(max(process, thread), 4)

    # Judging

    @property
    def knee(self) -> KneeSearch | None:
        """The search for the knee, if there was one."""
        return self._test.plan.knee

    @property
    def void(self) -> list[str]:
        """Why the run must not be believed; empty when it may."""
        reasons = [f"{stage.name}: {reason}" for stage in self.stages for reason in stage.void]
        return reasons or ([] if self.stages else ["nothing was measured"])

    @property
    def is_kept(self) -> bool:
        """Every limit was kept; a search for the knee expects the last levels to break them."""
        knee = self.knee
        if knee is not None:
            return knee.kept > 0
        return all(not stage.breaches for stage in self.stages)

    @property
    def exit_code(self) -> int:
        """0 when all is well, 1 when a limit was broken, 3 when the run is void."""
        if self.void:
            return 3
        return 0 if self.is_kept else 1

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs; `docs/load.md` explains the fields."""
        test = self._test
        knee = self.knee
        return {
            "format": "fastagent-load",
            "version": FORMAT_VERSION,
            "begun_unix_s": round(self._begun_unix_s, 3),
            "verdict": "void" if self.void else "kept" if self.is_kept else "broken",
            "void": self.void,
            "is_interrupted": self.is_interrupted,
            "machine": {
                "system": platform.platform(),
                "cores": self._cores,
                "python": platform.python_version(),
            },
            "test": {
                "carrier": test.target.carrier,
                "url": test.target.url.partition("?")[0],
                "media": test.target.media,
                "model": None if test.model is None else asdict(test.model),
                "limits": [str(limit) for limit in test.limits],
                "opening_per_s": test.plan.opening_per_s,
                "call_s": test.plan.call_s,
                "seed": test.seed,
                "has_script": bool(test.scenario.script),
                "chances": {
                    name: getattr(test.scenario, name) for name in ("barge_in", "dtmf", "drop", "hang_up")
                },
            },
            "knee": None
            if knee is None
            else {"kept_calls": knee.kept, "broken_calls": knee.broken, "is_found": knee.is_found},
            "stages": [asdict(stage) for stage in self.stages],
            "seconds": [asdict(second) for second in self.seconds],
            "total": {
                "durations": {
                    SHOWN.get(name, name): one.figures() for name, one in self.total.durations.items()
                },
                "counts": dict(sorted(self.total.counts.items())),
                "failures": dict(self.total.failures.most_common()),
            },
            "model_side": self.model,
            "server": {"pid": self.server_pid, "metrics": self.metrics},
        }


def _cpu_percent(before: Mapping[str, float], now: Mapping[str, float], elapsed_s: float) -> float | None:
    if "cpu_s" not in before or "cpu_s" not in now:
        return None
    return round(100 * (now["cpu_s"] - before["cpu_s"]) / elapsed_s, 2)


def _void(report: StageReport) -> list[str]:
    """Signs that the generator, not the server, was measured."""
    reasons = []
    if report.own_share > OWN_CPU_SHARE_MAX:
        share = f"{report.own_share:.0%} of its core"
        reasons.append(f"the generator used {share}, more than {OWN_CPU_SHARE_MAX:.0%}")
    for name, what in (("late", "late"), ("read_late", "late to read")):
        late = report.durations[name]["p99_ms"]
        if late is not None and late > OWN_LATE_P99_MS_MAX:
            reasons.append(f"the generator was {what}: p99 {late:g} ms, more than {OWN_LATE_P99_MS_MAX:g} ms")
    if report.counts.get("events_lost"):
        reasons.append("the generator lost events")
    return reasons

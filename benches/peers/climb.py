"""More and more calls through one server, until it no longer carries them.

Each level is a trial of its own with a freshly started server (`benches.relay.trial`), the same for
FastAgent, the byte relay and every peer: fewer calls first, for the memory slope, then the level.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benches.relay.trial import Cores, Load, StartServer, Trial, TrialError, run_trial

__all__ = ["Climb", "Step", "climb", "highest"]

BASES = (10, 50)
"""Calls from which on memory is taken to grow by calls alone; a level's base is at most half of it."""
BASE_SECONDS = 1.0
RUNG_CALLS = 200
"""Calls opened at a stretch: between a webhook and its stream lies a second in life, not a minute."""
RUNG_SECONDS = 0.1
GIVE_UP_MS = 500.0
"""A p99 beyond this, either way: there is no conversation any more, and the climb ends."""
LOST_LIMIT_PERCENT = 2.0
"""Audio that may be missing at the end of a step: more than a resampler keeps back after each utterance."""


@dataclass(frozen=True, slots=True)
class Step:
    """One level. Figures of a step that failed before its end are zero."""

    calls: int
    seconds: float
    cpu_ms_per_call_s: float = 0.0
    core_percent: float = 0.0
    """Of the server's core, by the server."""
    others_percent: float = 0.0
    """Of the server's core, by others and the hypervisor."""
    swarm_percent: float = 0.0
    """Of the other core, by callers and model: beyond 80 the step measured them."""
    up_p50_ms: float = 0.0
    up_p99_ms: float = 0.0
    down_p50_ms: float = 0.0
    down_p99_ms: float = 0.0
    kib_per_further_call: float | None = None
    rss_mib: float = 0.0
    lost_percent: float = 0.0
    """Audio, both ways together."""
    failure: str = ""
    """Why the climb ended here; empty when it went on."""

    @property
    def p99_ms(self) -> float:
        """The worse of both ways."""
        return max(self.up_p99_ms, self.down_p99_ms)

    @property
    def p50_ms(self) -> float:
        """The worse of both ways."""
        return max(self.up_p50_ms, self.down_p50_ms)


@dataclass(frozen=True, slots=True)
class Climb:
    """What one server carried."""

    name: str
    title: str
    version: str
    steps: tuple[Step, ...]

    def held(self, p99_limit_ms: float) -> int:
        """The most calls that it carried without a failure and within the limit; 0 for none."""
        return max((s.calls for s in self.steps if not s.failure and s.p99_ms <= p99_limit_ms), default=0)

    def step(self, calls: int) -> Step | None:
        """The step of that many calls, if it was carried."""
        return next((s for s in self.steps if s.calls == calls and not s.failure), None)

    @property
    def has_carried(self) -> bool:
        """Whether any step did not fail."""
        return any(not step.failure for step in self.steps)

    @property
    def kib_per_further_call(self) -> float | None:
        """Memory slope at the most calls that it carried; ``None`` when there is none."""
        found = (s.kib_per_further_call for s in reversed(self.steps) if not s.failure)
        return next((slope for slope in found if slope is not None), None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Climb":
        """The climb that `as_json` wrote."""
        return cls(**document | {"steps": tuple(Step(**step) for step in document["steps"])})


def climb(
    levels: Iterable[int],
    load_of: Callable[[tuple[tuple[int, float], ...]], Load],
    start_for: Callable[[Load], StartServer],
    cores: Cores,
    *,
    seconds: float,
    told: Callable[[Step], None],
) -> tuple[Step, ...]:
    """Run level after level until one fails.

    Args:
        levels: calls at once, rising.
        load_of: a load for stages of (calls, seconds).
        start_for: how a server is started for a load.
        cores: where server and swarm run.
        seconds: what is measured at a level.
        told: is given each step when it is done.

    Raises:
        BuildError: the swarm cannot be built.
    """
    steps: list[Step] = []
    for calls in levels:
        load = load_of(_stages(calls, seconds))
        try:
            step = _step(run_trial(load, start_for(load), cores), calls, seconds)
        except TrialError as error:
            step = Step(calls, seconds, failure=str(error).splitlines()[0].partition(";")[0])
        steps.append(step)
        told(step)
        if step.failure:
            break
    return tuple(steps)


def _stages(calls: int, seconds: float) -> tuple[tuple[int, float], ...]:
    base = _base(calls)
    if base is None:
        return ((calls, seconds),)
    rungs = tuple((rung, RUNG_SECONDS) for rung in range(base + RUNG_CALLS, calls, RUNG_CALLS))
    return ((base, BASE_SECONDS), *rungs, (calls, seconds))


def _base(calls: int) -> int | None:
    return max((base for base in BASES if 2 * base <= calls), default=None)


def _slope(trial: Trial, calls: int) -> float | None:
    base = _base(calls)
    if base is None:
        return None
    return (trial.stages[calls].rss_kib - trial.stages[base].rss_kib) / (calls - base)


def _step(trial: Trial, calls: int, seconds: float) -> Step:
    end = trial.end
    if calls not in trial.stages:  # the swarm stops opening calls when too many fail
        return Step(calls, seconds, failure=f"{end['failed']} calls failed: {end['first_failure']}")
    stage = trial.stages[calls]
    sent_ms = 20.0 * end["up_chunks"] + 100.0 * end["down_chunks"]
    lost_percent = 100 * (end["up_lost_ms"] + end["down_lost_ms"]) / max(sent_ms, 1.0)
    figures = Step(
        calls=calls,
        seconds=seconds,
        cpu_ms_per_call_s=stage.cpu_ms_per_call_s,
        core_percent=stage.server_cpu_percent,
        others_percent=stage.foreign_percent + stage.steal_percent,
        swarm_percent=stage.swarm_cpu_percent,
        up_p50_ms=stage.up["p50_us"] / 1e3,
        up_p99_ms=stage.up["p99_us"] / 1e3,
        down_p50_ms=stage.down["p50_us"] / 1e3,
        down_p99_ms=stage.down["p99_us"] / 1e3,
        kib_per_further_call=_slope(trial, calls),
        rss_mib=stage.rss_kib / 1024,
        lost_percent=lost_percent,
    )
    return Step(**asdict(figures) | {"failure": _failure(figures, end, _heard(stage.up, stage.down))})


def _heard(*ways: dict[str, float]) -> bool:
    return all(way["n"] > 0 for way in ways)


def _failure(step: Step, end: dict[str, Any], is_heard: bool) -> str:
    if end["failed"]:
        return f"{end['failed']} calls failed: {end['first_failure']}"
    if not is_heard:
        return "no audio came through"
    if step.p99_ms > GIVE_UP_MS:
        return f"p99 {step.p99_ms:.0f} ms"
    if step.lost_percent > LOST_LIMIT_PERCENT:
        return f"{step.lost_percent:.1f} % of the audio lost"
    return ""


def highest(climbs: Sequence[Climb]) -> int:
    """The most calls that all of them carried; 0 for none."""
    common = [{s.calls for s in one.steps if not s.failure} for one in climbs]
    return max(set.intersection(*common), default=0) if common else 0

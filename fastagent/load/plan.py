"""How many calls there shall be, and when: levels held one after the other, or a rate of new calls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastagent.errors import ConfigurationError
from fastagent.load.knee import KneeSearch

__all__ = ["Plan", "Stage", "parse_rate"]

DURATION_S = 30.0
STEP_S = 15.0
SETTLE_S = 2.0
OPENING_PER_S = 20.0
CALLS_MAX = 20_000
DURATION_S_MAX = 1e6


@dataclass(frozen=True, slots=True)
class Stage:
    """A level of calls that is held, or a rate at which they begin, measured for ``duration_s``."""

    duration_s: float
    calls: int = 0
    rate_per_s: float = 0.0

    @property
    def name(self) -> str:
        """For tables: the level, or the rate."""
        return f"{self.rate_per_s:g}/s" if self.rate_per_s else str(self.calls)


@dataclass(slots=True)
class Plan:
    """The stages of a run, given or sought.

    Raises:
        ConfigurationError: something cannot be.
    """

    stages: tuple[Stage, ...] = ()
    knee: KneeSearch | None = None
    """Chooses the next level by how the last one went; instead of stages."""
    opening_per_s: float = OPENING_PER_S
    """How fast a level is reached."""
    settle_s: float = SETTLE_S
    """Between reaching a level and measuring it."""
    call_s: float | None = None
    """How long a call lasts; one that ends is replaced while a level is held. None: to the end of the run."""
    verdicts: list[bool] = field(default_factory=list)
    """Whether each measured stage kept the limits."""

    def __post_init__(self) -> None:
        if bool(self.stages) == (self.knee is not None):
            raise ConfigurationError("expected stages or the search for a knee")
        if not (math.isfinite(self.opening_per_s) and self.opening_per_s > 0):
            raise ConfigurationError("the rate of opening must be more than 0")
        if not 0 <= self.settle_s < DURATION_S_MAX:
            raise ConfigurationError("--settle-s: expected 0 s or more")
        if self.call_s is not None and not 0 < self.call_s < DURATION_S_MAX:
            raise ConfigurationError("--call-s: expected more than 0 s")
        if self.knee is not None and not 0 < self.knee.step_s < DURATION_S_MAX:
            raise ConfigurationError("--step-s: expected more than 0 s")
        for stage in self.stages:
            if not 0 < stage.duration_s < DURATION_S_MAX:
                raise ConfigurationError("a stage must last longer than 0 s")
            if not (1 <= stage.calls <= CALLS_MAX or 0 < stage.rate_per_s <= 1000):
                raise ConfigurationError(f"expected 1 to {CALLS_MAX} calls, or a rate of up to 1000 a second")
        if any(stage.rate_per_s for stage in self.stages) and self.call_s is None:
            raise ConfigurationError("a rate needs the length of a call (--call-s)")

    def __iter__(self) -> Iterator[Stage]:
        """The stages, each as the one before it was judged."""
        yield from self.stages
        if self.knee is not None:
            while (calls := self.knee.next_level()) is not None:
                yield Stage(self.knee.step_s, calls)

    def judge(self, stage: Stage, is_kept: bool) -> None:
        """Say whether a stage kept the limits."""
        self.verdicts.append(is_kept)
        if self.knee is not None:
            self.knee.judge(stage.calls, is_kept)


def parse_rate(text: str) -> float:
    """New calls a second: ``5/s``, ``300/m``, ``2``.

    Raises:
        ConfigurationError: not a rate.
    """
    number, _, unit = text.partition("/")
    per = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0}.get(unit.strip())
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if per is None or not (math.isfinite(value) and value > 0):
        raise ConfigurationError("--rate: expected calls a second, like 5/s or 300/m")
    return value / per

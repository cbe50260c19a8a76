"""What a server measured of itself over some seconds, as it travels between the server and whoever asks."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "DEFAULT_EVERY",
    "DURATION_MAX_S",
    "EVERY_MAX",
    "Begun",
    "GcReading",
    "LoopReading",
    "MemoryReading",
    "ProcessReading",
    "ProfileReading",
    "StageReading",
    "StagesReading",
    "WayReading",
]


DEFAULT_EVERY = 16
"""One frame in so many is timed."""
EVERY_MAX = 1_000_000
DURATION_MAX_S = 120


class _Reading(BaseModel):
    model_config = ConfigDict(frozen=True)


class Begun(_Reading):
    """The first line of the answer: the measurement runs, and whose it is."""

    kind: Literal["begun"] = "begun"
    pid: int
    version: str
    python: str
    seconds: float


class StageReading(_Reading):
    """A stage, or a whole frame, over all timed frames that met it."""

    frames: int
    mean_ns: float
    """What reading the clock took is taken off."""
    p50_ns: float
    """Quantiles are estimated within a power of two; the clock's own reading is in them."""
    p99_ns: float


class WayReading(_Reading):
    """The frames of one way."""

    frames: int
    """All of them, timed or not."""
    timed: int
    allocations_per_frame: float
    whole: StageReading
    stages: dict[str, StageReading]
    """Those that were met, in the order of the path."""


class StagesReading(_Reading):
    """The stage counters."""

    clock: str
    clock_ns: float
    """What one reading of the clock takes."""
    every: int
    """One frame in so many was timed; 0 for none."""
    ways: dict[str, WayReading]

    @property
    def audio_frames(self) -> int:
        """Frames of audio, both directions."""
        return sum(one.frames for name, one in self.ways.items() if name in ("uplink", "downlink"))


class LoopReading(_Reading):
    """How late the event loop's timers came; it knows whole milliseconds, so one late is none late."""

    beats: int
    lag_mean_ms: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    bounds_ms: tuple[float, ...]
    counts: tuple[int, ...]
    """Beats by lateness: up to each of ``bounds_ms``, and beyond the last."""


class GcReading(_Reading):
    """Python's collections of garbage; the loop stands still meanwhile."""

    collections: tuple[int, ...]
    """By generation, the youngest first."""
    pause_total_ms: float
    pause_max_ms: float


class MemoryReading(_Reading):
    """Python's allocator and the process's memory."""

    allocations: int
    """Blocks that the whole process asked for."""
    blocks_delta: int
    """Blocks that are there now and were not: growth, or calls that began."""
    rss_bytes: int
    rss_delta_bytes: int
    page_faults: int
    """Minor ones: pages touched for the first time."""


class ProcessReading(_Reading):
    """Processor time and switches."""

    user_s: float
    system_s: float
    loop_s: float
    """Of it the event loop's thread."""
    switches_voluntary: int
    switches_forced: int
    """Somebody else was given the processor."""
    threads: int


class ProfileReading(_Reading):
    """The last line of the answer: all that was measured."""

    kind: Literal["reading"] = "reading"
    pid: int
    version: str
    python: str
    seconds: float
    """That were measured."""
    calls_begin: int
    calls_end: int
    stages: StagesReading
    loop: LoopReading
    gc: GcReading
    memory: MemoryReading
    process: ProcessReading

    def per_frame(self, amount: float) -> float | None:
        """A share of each frame of audio; None without any."""
        frames = self.stages.audio_frames
        return amount / frames if frames else None

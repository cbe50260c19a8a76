"""Where the time of the audio path goes: counters of the stages of a frame, one set for the process.

Nothing is timed until `set_every` asks for it; what is left then is a branch a stage. Frames are counted always.
The stages of a frame add up to its whole time, which begins when the listener is given a frame and ends when it
returns; reading the socket comes before it.

Ways: ``uplink`` and ``downlink`` are audio frames, ``tick`` is a look of the shared tick at one call's queue,
``other`` all other frames of media legs. `feed` of a pump counts like a frame of a socket.
"""

from typing import Literal, NamedTuple

STAGE_NAMES: tuple[str, ...]
"""In the order in which a frame meets them; docs/profiling.md tells what each holds."""
WAY_NAMES: tuple[str, ...]

__pyx_capi__: dict[str, object]
"""Where pump and listener find the shared counters; for compiled code only."""

class StageTimes(NamedTuple):
    """How often a stage was met, and what it took."""

    frames: int
    """Timed frames that met it."""
    ns: float
    """Nanoseconds in all of them, the clock's own included: one reading for each frame, or more."""
    classes: tuple[int, ...]
    """Frames by time: class k counts those of [2^k, 2^(k+1)) ticks of the clock (see `ns_per_tick`)."""

class WayTimes(NamedTuple):
    """The frames of one way, and the times of those that were timed."""

    frames: int
    """All, timed or not."""
    timed: int
    allocations: int
    """Blocks that timed frames asked Python's allocator for, while `count_allocations` was on."""
    whole: StageTimes
    stages: dict[str, StageTimes]

def read() -> dict[str, WayTimes]:
    """Everything counted since the process began, by way. May sleep for 20 ms the first time: clocks are compared."""

def every() -> int:
    """One frame in so many is timed; 0 while none is."""

def set_every(frames: int, /) -> None:
    """Time one frame in ``frames`` on average (0 to a million; 0 times none).

    Raises:
        ValueError: it is out of range.
    """

def clock() -> Literal["tsc", "clock_gettime"]:
    """Which clock is read: the processor's counter, where it runs at one rate, or the system's."""

def ns_per_tick() -> float:
    """Nanoseconds of one tick of that clock."""

def clock_ns() -> float:
    """What one reading takes at best, in nanoseconds; each lap of a stage holds one."""

def count_allocations(counts: bool, /) -> None:
    """Count what Python's allocator is asked for (objects and buffers), or stop.

    Objects from free lists and `malloc` of C libraries are not seen. Costs a call for each block.
    """

def allocations() -> int:
    """Blocks asked for while they were counted."""

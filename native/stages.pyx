# distutils: language = c
"""The stage counters of the audio path; the contract is fastagent/_native/stages.pyi."""

from libc.stdint cimport int64_t, uint64_t
from libc.stddef cimport size_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import time
from typing import NamedTuple

from fa_stages cimport (
    FA_STAGE_BASE64,
    FA_STAGE_CHECK,
    FA_STAGE_CLASSES,
    FA_STAGE_COPY,
    FA_STAGE_DECODE,
    FA_STAGE_EARS,
    FA_STAGE_ENCODE,
    FA_STAGE_EVENTS,
    FA_STAGE_GUARD,
    FA_STAGE_QUEUE,
    FA_STAGE_RESAMPLE,
    FA_STAGE_SCAN,
    FA_STAGE_SEND,
    FA_STAGE_UNBASE64,
    FA_STAGES,
    FA_WAY_DOWNLINK,
    FA_WAY_OTHER,
    FA_WAY_TICK,
    FA_WAY_UPLINK,
    FA_WAYS,
    fa_stage_times,
    fa_stages,
    fa_stages_clock,
    fa_stages_set_every,
    fa_stages_share,
    fa_stages_uses_tsc,
)

cdef extern from *:
    """
    /* Zero from the start: counted before any function here has run. */
    static fa_stages fa_shared_stages;
    """
    fa_stages fa_shared_stages

cdef extern from "Python.h":
    ctypedef enum PyMemAllocatorDomain:
        PYMEM_DOMAIN_MEM
        PYMEM_DOMAIN_OBJ
    ctypedef struct PyMemAllocatorEx:
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept nogil
        void *(*calloc)(void *ctx, size_t n, size_t size) noexcept nogil
        void *(*realloc)(void *ctx, void *block, size_t size) noexcept nogil
        void (*free)(void *ctx, void *block) noexcept nogil
    void PyMem_GetAllocator(PyMemAllocatorDomain domain, PyMemAllocatorEx *allocator)
    void PyMem_SetAllocator(PyMemAllocatorDomain domain, PyMemAllocatorEx *allocator)

cdef enum:
    EVERY_MAX = 1_000_000
    CALIBRATION_NS = 20_000_000  # shorter, and the clocks' own grain would show in the rate
    CLOCK_TRIES = 50
    CLOCK_READINGS = 100

STAGES = {
    "guard": FA_STAGE_GUARD,
    "scan": FA_STAGE_SCAN,
    "check": FA_STAGE_CHECK,
    "ears": FA_STAGE_EARS,
    "copy": FA_STAGE_COPY,
    "unbase64": FA_STAGE_UNBASE64,
    "decode": FA_STAGE_DECODE,
    "resample": FA_STAGE_RESAMPLE,
    "encode": FA_STAGE_ENCODE,
    "base64": FA_STAGE_BASE64,
    "queue": FA_STAGE_QUEUE,
    "send": FA_STAGE_SEND,
    "events": FA_STAGE_EVENTS,
}
WAYS = {"uplink": FA_WAY_UPLINK, "downlink": FA_WAY_DOWNLINK, "tick": FA_WAY_TICK, "other": FA_WAY_OTHER}
assert len(STAGES) == FA_STAGES and len(WAYS) == FA_WAYS
STAGE_NAMES = tuple(STAGES)
WAY_NAMES = tuple(WAYS)
del STAGES, WAYS


class StageTimes(NamedTuple):
    """How often a stage was met, and what it took."""

    frames: int
    ns: float
    classes: tuple[int, ...]


class WayTimes(NamedTuple):
    """The frames of one way, and the times of those that were timed."""

    frames: int
    timed: int
    allocations: int
    whole: StageTimes
    stages: dict[str, StageTimes]


cdef fa_stages *shared_stages() noexcept:
    return &fa_shared_stages


cdef int64_t _monotonic_ns() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


cdef uint64_t _loaded_ticks = fa_stages_clock()
cdef int64_t _loaded_ns = _monotonic_ns()
cdef double _ns_per_tick = 0.0


cdef double _rate():
    # Measured once, over all the time since the module was loaded, so that sums only ever grow.
    global _ns_per_tick
    if _ns_per_tick == 0.0:
        if not fa_stages_uses_tsc():
            _ns_per_tick = 1.0
        else:
            spent_ns = _monotonic_ns() - _loaded_ns
            if spent_ns < CALIBRATION_NS:
                time.sleep((CALIBRATION_NS - spent_ns) / 1e9)
            _ns_per_tick = <double>(_monotonic_ns() - _loaded_ns) / <double>(fa_stages_clock() - _loaded_ticks)
    return _ns_per_tick


cdef object _times(const fa_stage_times *times, double rate):
    return StageTimes(times.frames, times.ticks * rate, tuple([times.classes[k] for k in range(FA_STAGE_CLASSES)]))


def read():
    """Everything counted since the process began."""
    cdef double rate = _rate()
    result = {}
    for way, name in enumerate(WAY_NAMES):
        stages = {
            stage: _times(&fa_shared_stages.ways[way].stages[k], rate) for k, stage in enumerate(STAGE_NAMES)
        }
        result[name] = WayTimes(
            fa_shared_stages.ways[way].frames,
            fa_shared_stages.ways[way].timed,
            fa_shared_stages.ways[way].allocations,
            _times(&fa_shared_stages.ways[way].whole, rate),
            stages,
        )
    return result


def every():
    """One frame in so many is timed; 0 while none is."""
    return fa_shared_stages.every


def set_every(int frames, /):
    """Time one frame in so many; 0 times none."""
    if not 0 <= frames <= EVERY_MAX:
        raise ValueError(f"expected 0 to {EVERY_MAX} frames, got {frames}")
    fa_stages_set_every(&fa_shared_stages, frames)


def clock():
    """Which clock is read."""
    return "tsc" if fa_stages_uses_tsc() else "clock_gettime"


def ns_per_tick():
    """What the classes' bounds are to be multiplied with."""
    return _rate()


def clock_ns():
    """What reading the clock takes."""
    cdef uint64_t begun, spent
    cdef uint64_t least = 1 << 62
    cdef int i
    for _ in range(CLOCK_TRIES):
        # Two readings in a row may overlap within the processor, so many are timed together.
        begun = fa_stages_clock()
        for i in range(CLOCK_READINGS):
            spent = fa_stages_clock() - begun
        if 0 < spent < least:
            least = spent
    return least * _rate() / CLOCK_READINGS


# Allocations. Only domains whose callers hold the GIL are counted: `malloc` of C libraries is not seen.

cdef PyMemAllocatorEx _mem_below
cdef PyMemAllocatorEx _obj_below
cdef bint _counts = False


cdef void *_counted_malloc(void *ctx, size_t size) noexcept nogil:
    cdef PyMemAllocatorEx *below = <PyMemAllocatorEx *>ctx
    fa_shared_stages.allocations += 1
    return below.malloc(below.ctx, size)


cdef void *_counted_calloc(void *ctx, size_t n, size_t size) noexcept nogil:
    cdef PyMemAllocatorEx *below = <PyMemAllocatorEx *>ctx
    fa_shared_stages.allocations += 1
    return below.calloc(below.ctx, n, size)


cdef void *_counted_realloc(void *ctx, void *block, size_t size) noexcept nogil:
    cdef PyMemAllocatorEx *below = <PyMemAllocatorEx *>ctx
    fa_shared_stages.allocations += 1
    return below.realloc(below.ctx, block, size)


cdef void _uncounted_free(void *ctx, void *block) noexcept nogil:
    cdef PyMemAllocatorEx *below = <PyMemAllocatorEx *>ctx
    below.free(below.ctx, block)


cdef int _wrap_domain(PyMemAllocatorDomain domain, PyMemAllocatorEx *below) except -1:
    cdef PyMemAllocatorEx ours
    PyMem_GetAllocator(domain, below)
    ours.ctx = below
    ours.malloc = _counted_malloc
    ours.calloc = _counted_calloc
    ours.realloc = _counted_realloc
    ours.free = _uncounted_free
    PyMem_SetAllocator(domain, &ours)
    return 0


cdef bint _is_on_top(PyMemAllocatorDomain domain, PyMemAllocatorEx *below):
    cdef PyMemAllocatorEx top
    PyMem_GetAllocator(domain, &top)
    return top.ctx == <void *>below


def count_allocations(bint counts, /):
    """Count what Python's allocator is asked for, or stop."""
    global _counts
    if counts == _counts:
        return
    if counts:
        _wrap_domain(PYMEM_DOMAIN_MEM, &_mem_below)
        _wrap_domain(PYMEM_DOMAIN_OBJ, &_obj_below)
        _counts = True
    elif _is_on_top(PYMEM_DOMAIN_MEM, &_mem_below) and _is_on_top(PYMEM_DOMAIN_OBJ, &_obj_below):
        PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &_mem_below)
        PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &_obj_below)
        _counts = False
    # Else somebody, such as tracemalloc, stands on ours: taking it out would take theirs along, so it stays.


def allocations():
    """Blocks asked for while they were counted."""
    return fa_shared_stages.allocations


fa_stages_share(&fa_shared_stages)

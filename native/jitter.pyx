# cython: autotestdict=False, auto_pickle=False
"""Adaptive jitter buffer for datagram audio; the contract is fastagent/_native/jitter.pyi."""

from enum import IntEnum

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fa_jitter cimport (
    FA_JITTER_ACCEPTED,
    FA_JITTER_DUPLICATE,
    FA_JITTER_EMPTY,
    FA_JITTER_EXPAND,
    FA_JITTER_FRAME,
    FA_JITTER_HELD,
    FA_JITTER_LATE,
    FA_JITTER_LOST,
    FA_JITTER_NO_ROOM,
    FA_JITTER_OVERFLOW,
    FA_JITTER_PREFETCH,
    FA_JITTER_RESET,
    FA_JITTER_SILENCE,
    fa_jitter,
    fa_jitter_arena_bytes,
    fa_jitter_config,
    fa_jitter_delay_ms,
    fa_jitter_frame,
    fa_jitter_get,
    fa_jitter_init,
    fa_jitter_put,
    fa_jitter_reset,
    fa_jitter_target_ms,
    fa_jitter_waiting,
)


class Arrival(IntEnum):
    """What became of a packet that was put."""

    ACCEPTED = FA_JITTER_ACCEPTED
    LATE = FA_JITTER_LATE
    DUPLICATE = FA_JITTER_DUPLICATE
    OVERFLOW = FA_JITTER_OVERFLOW
    RESET = FA_JITTER_RESET
    HELD = FA_JITTER_HELD


class Turn(IntEnum):
    """What is to be played."""

    FRAME = FA_JITTER_FRAME
    LOST = FA_JITTER_LOST
    EMPTY = FA_JITTER_EMPTY
    EXPAND = FA_JITTER_EXPAND
    SILENCE = FA_JITTER_SILENCE
    PREFETCH = FA_JITTER_PREFETCH


cdef tuple ARRIVALS = tuple(Arrival)
cdef tuple TURNS = tuple(Turn)


@cython.final
cdef class JitterBuffer:
    """Gives packets back in order and in time."""

    # The GIL is held throughout: it is what keeps two threads out of one buffer.
    cdef fa_jitter state
    cdef void *arena
    cdef uint8_t *out
    cdef uint32_t slot_bytes
    cdef fa_jitter_frame last

    def __cinit__(
        self, *, uint32_t clock_hz=8000, uint32_t frame=160, uint32_t slots=64, uint32_t slot_bytes=480,
        uint32_t initial_ms=40, uint32_t min_ms=0, uint32_t max_ms=500, uint32_t path_ms=40,
    ):
        cdef fa_jitter_config config
        config.clock_hz = clock_hz
        config.frame = frame
        config.slots = slots
        config.slot_bytes = slot_bytes
        config.initial_ms = initial_ms
        config.min_ms = min_ms
        config.max_ms = max_ms
        config.path_ms = path_ms
        cdef size_t need = fa_jitter_arena_bytes(&config)
        if need == 0:
            raise ValueError("configuration out of range; the limits stand in the docstring of JitterBuffer")
        # Behind the arena: where a get writes before its bytes object is made.
        self.arena = PyMem_Malloc(need + slot_bytes)
        if self.arena == NULL:
            raise MemoryError
        self.out = <uint8_t *> self.arena + need
        self.slot_bytes = slot_bytes
        fa_jitter_init(&self.state, &config, self.arena, need)

    def __dealloc__(self):
        PyMem_Free(self.arena)

    cdef object feed(self, uint16_t seq, uint32_t timestamp, const void *payload, Py_ssize_t size,
                     uint32_t duration, double now):
        cdef int verdict = fa_jitter_put(
            &self.state, seq, timestamp, <const uint8_t *> payload, <size_t> size, duration, now
        )
        if verdict >= 0:
            return ARRIVALS[verdict]
        if verdict == FA_JITTER_NO_ROOM:
            raise ValueError(f"payload of at most {self.slot_bytes} bytes expected, got {size}")
        raise ValueError("a time and a duration of 1 to 120 ms expected")

    def put(self, uint16_t seq, uint32_t timestamp, payload, double now, uint32_t duration=0):
        """Take a packet that arrived at `now`."""
        if PyBytes_CheckExact(payload):
            return self.feed(
                seq, timestamp, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), duration, now
            )
        cdef Py_buffer view
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            return self.feed(seq, timestamp, view.buf, view.len, duration, now)
        finally:
            PyBuffer_Release(&view)

    def get(self, double now, bint quiet=False):
        """Give what is to be played at `now`."""
        cdef int verdict = fa_jitter_get(&self.state, now, quiet, self.out, self.slot_bytes, &self.last)
        if verdict < 0:
            raise ValueError("a time expected")
        if verdict != FA_JITTER_FRAME:
            return TURNS[verdict], b""
        return TURNS[0], PyBytes_FromStringAndSize(<const char *> self.out, <Py_ssize_t> self.last.bytes)

    def reset(self):
        """Forget all packets and delays."""
        fa_jitter_reset(&self.state)

    def counters(self):
        """What was counted since the buffer was made."""
        return dict(self.state.counters)

    @property
    def seq(self):
        return self.last.seq

    @property
    def timestamp(self):
        return self.last.timestamp

    @property
    def duration(self):
        return self.last.duration

    @property
    def waiting(self):
        return fa_jitter_waiting(&self.state)

    @property
    def delay_ms(self):
        return fa_jitter_delay_ms(&self.state)

    @property
    def target_ms(self):
        return fa_jitter_target_ms(&self.state)

    @property
    def jitter_ms(self):
        return self.state.jitter_ms

    def __sizeof__(self):
        return object.__sizeof__(self) + fa_jitter_arena_bytes(&self.state.config) + self.slot_bytes

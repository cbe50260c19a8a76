# cython: autotestdict=False, auto_pickle=False
"""Stereo timeline of a call for a recording; the contract is fastagent/_native/record.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int16_t, int64_t, uint8_t

from fa_record cimport (
    FA_RECORD_BLOCK,
    FA_RECORD_BOT_SLACK,
    FA_RECORD_MULAW,
    FA_RECORD_PCM16,
    FA_RECORD_RATE,
    FA_RECORD_RING,
    FA_RECORD_RING_BYTES,
    fa_record_advance,
    fa_record_bot,
    fa_record_caller,
    fa_record_due,
    fa_record_flush,
    fa_record_init,
    fa_record_pause,
    fa_record_position,
    fa_record_resume,
    fa_record_take,
    fa_recorder,
)

SAMPLE_RATE = FA_RECORD_RATE
BLOCK_SAMPLES = FA_RECORD_BLOCK
RING_SAMPLES = FA_RECORD_RING
BOT_SLACK_SAMPLES = FA_RECORD_BOT_SLACK

_ENCODINGS = {"pcm16": FA_RECORD_PCM16, "mulaw": FA_RECORD_MULAW}


@cython.final
cdef class Recorder:
    """Puts both parties of a call on one sample clock and gives the interleaved samples of a file."""

    cdef fa_recorder state
    cdef uint8_t *ring

    def __cinit__(self, str encoding not None, double now):
        if encoding not in _ENCODINGS:
            raise ValueError(f"expected one of {sorted(_ENCODINGS)}, got {encoding!r}")
        cdef int kind = _ENCODINGS[encoding]
        self.ring = <uint8_t *> PyMem_Malloc(FA_RECORD_RING_BYTES(kind))
        if self.ring == NULL:
            raise MemoryError()
        fa_record_init(&self.state, kind, self.ring, now)

    def __dealloc__(self):
        PyMem_Free(self.ring)

    cdef bytes due(self):
        cdef size_t size = fa_record_due(&self.state)
        if size == 0:
            return b""
        cdef list parts = []
        cdef bytes part
        while size:
            part = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> size)
            fa_record_take(&self.state, <uint8_t *> PyBytes_AS_STRING(part), size)
            parts.append(part)
            size = fa_record_due(&self.state)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    cdef bytes feed(self, const void *pcm, Py_ssize_t size, double now):
        if size & 1:
            raise ValueError(f"samples of two bytes expected, got {size} bytes")
        # What is due by the time alone goes first: it makes the room that a frame needs.
        fa_record_advance(&self.state, now)
        cdef bytes before = self.due()
        cdef const int16_t *samples = <const int16_t *> pcm
        cdef size_t n = <size_t> size // 2
        cdef size_t taken = fa_record_caller(&self.state, samples, n, now)
        if taken == n:
            after = self.due()
            return before + after if before else after
        cdef list parts = [before]
        while True:
            samples += taken
            n -= taken
            part = self.due()
            parts.append(part)
            if not n or not (taken or part):
                return b"".join(parts)
            taken = fa_record_caller(&self.state, samples, n, now)

    def caller(self, pcm, double now, /):
        """Feed audio of the caller that arrived at `now`; gives what is due for the file."""
        if PyBytes_CheckExact(pcm):
            return self.feed(PyBytes_AS_STRING(pcm), PyBytes_GET_SIZE(pcm), now)
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            return self.feed(view.buf, view.len, now)
        finally:
            PyBuffer_Release(&view)

    def bot(self, pcm, int64_t position, /):
        """Feed audio that the far end plays from `position` on."""
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            if view.len & 1:
                raise ValueError(f"samples of two bytes expected, got {view.len} bytes")
            fa_record_bot(&self.state, <const int16_t *> view.buf, <size_t> view.len // 2, position)
        finally:
            PyBuffer_Release(&view)

    def advance(self, double now, /):
        """Let time pass; gives what is due for the file."""
        fa_record_advance(&self.state, now)
        return self.due()

    def pause(self, double now, /):
        """Keep nothing from `now` on; gives the position."""
        return fa_record_pause(&self.state, now)

    def resume(self, double now, /):
        """Keep audio again from `now` on; gives the position."""
        return fa_record_resume(&self.state, now)

    def flush(self, double now, /):
        """End the recording; gives all that is left."""
        fa_record_flush(&self.state, now)
        return self.due()

    def position(self, double now, /):
        """The position that `now` is at."""
        return fa_record_position(&self.state, now)

    @property
    def is_paused(self):
        return bool(self.state.is_paused)

    @property
    def padded_samples(self):
        return self.state.padded

    @property
    def dropped_samples(self):
        return self.state.dropped

    @property
    def misplaced_samples(self):
        return self.state.misplaced

    def __sizeof__(self):
        return object.__sizeof__(self) + FA_RECORD_RING_BYTES(
            FA_RECORD_MULAW if self.state.width == 1 else FA_RECORD_PCM16
        )

# cython: autotestdict=False, auto_pickle=False
"""Packet loss concealment; the contract is fastagent/_native/conceal.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int16_t

from fa_conceal cimport (
    FA_CONCEAL_BYTES,
    fa_conceal,
    fa_conceal_good,
    fa_conceal_init,
    fa_conceal_lost,
    fa_conceal_reset,
)

# Ten seconds at the highest rate: far past the end of the fade, so more is a mistake of units.
cdef enum:
    LOST_MAX_SAMPLES = 240_000


cdef inline int check_even(Py_ssize_t size) except -1:
    if size & 1:
        raise ValueError(f"samples of two bytes expected, got {size} bytes")
    return 0


@cython.final
cdef class Concealer:
    """Fills in the samples of a stream that did not arrive."""

    # The GIL is held throughout: it is what keeps two threads out of one state.
    cdef fa_conceal *state
    cdef readonly int sample_rate

    def __cinit__(self, int sample_rate=8000):
        if sample_rate not in (8000, 16000, 24000):
            raise ValueError(f"8000, 16000 or 24000 Hz expected, got {sample_rate}")
        self.state = <fa_conceal *> PyMem_Malloc(FA_CONCEAL_BYTES(sample_rate))
        if self.state == NULL:
            raise MemoryError()
        fa_conceal_init(self.state, sample_rate)
        self.sample_rate = sample_rate

    def __dealloc__(self):
        PyMem_Free(self.state)

    cdef bytes copied(self, const void *pcm, Py_ssize_t size):
        check_even(size)
        cdef bytes out = PyBytes_FromStringAndSize(<const char *> pcm, size)
        # CPython hands out one shared object for no bytes, and one for each single byte.
        if size > 0:
            fa_conceal_good(self.state, <int16_t *> PyBytes_AS_STRING(out), <size_t> size // 2)
        return out

    def good(self, pcm, /):
        """Take samples that arrived; gives them back, joined smoothly to what was lost before."""
        if PyBytes_CheckExact(pcm):
            return self.copied(PyBytes_AS_STRING(pcm), PyBytes_GET_SIZE(pcm))
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            return self.copied(view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def good_into(self, pcm, /):
        """Take samples that arrived and join them in place."""
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_WRITABLE)
        try:
            check_even(view.len)
            fa_conceal_good(self.state, <int16_t *> view.buf, <size_t> view.len // 2)
        finally:
            PyBuffer_Release(&view)

    def lost(self, Py_ssize_t samples, /):
        """Give samples in place of those that did not arrive."""
        if not 0 <= samples <= LOST_MAX_SAMPLES:
            raise ValueError(f"0 to {LOST_MAX_SAMPLES} samples expected, got {samples}")
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 2 * samples)
        if samples > 0:
            fa_conceal_lost(self.state, <int16_t *> PyBytes_AS_STRING(out), <size_t> samples)
        return out

    @property
    def state_bytes(self):
        return FA_CONCEAL_BYTES(self.sample_rate)

    def reset(self):
        """Forget all samples."""
        fa_conceal_reset(self.state)

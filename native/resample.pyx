# cython: autotestdict=False, auto_pickle=False
"""Streaming resampler between 8, 16 and 24 kHz; the contract is fastagent/_native/resample.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t

from fa_resample cimport (
    FA_RESAMPLE_FLUSH_ROOM,
    fa_resample_variant,
    fa_resampler,
    fa_resampler_delay_samples,
    fa_resampler_flush,
    fa_resampler_init,
    fa_resampler_process,
    fa_resampler_reset,
    fa_resampler_room,
)


@cython.final
cdef class Resampler:
    """Converts a stream of int16 samples from one rate to another."""

    # The GIL is held throughout: it is what keeps two threads out of one history.
    cdef fa_resampler state
    cdef readonly int in_rate
    cdef readonly int out_rate

    def __cinit__(self, in_rate, out_rate):
        cdef int in_hz = in_rate if 0 < in_rate <= 1_000_000 else 0
        cdef int out_hz = out_rate if 0 < out_rate <= 1_000_000 else 0
        if fa_resampler_init(&self.state, in_hz, out_hz) != 0:
            raise ValueError(
                f"8000<->16000, 8000<->24000 or 16000<->24000 Hz expected, got {in_rate}->{out_rate}"
            )
        self.in_rate = in_hz
        self.out_rate = out_hz

    cdef bytes feed(self, const void *pcm, Py_ssize_t size):
        if size & 1:
            raise ValueError(f"samples of two bytes expected, got {size} bytes")
        cdef size_t n = <size_t> size // 2
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> fa_resampler_room(&self.state, n) * 2)
        fa_resampler_process(&self.state, <const int16_t *> pcm, n, <int16_t *> PyBytes_AS_STRING(out))
        return out

    def process(self, pcm, /):
        """Feed a chunk of any length; gives the samples that are due."""
        if PyBytes_CheckExact(pcm):
            return self.feed(PyBytes_AS_STRING(pcm), PyBytes_GET_SIZE(pcm))
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            return self.feed(view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def flush(self):
        """Give the last `delay_samples` samples and start anew."""
        cdef int16_t tail[FA_RESAMPLE_FLUSH_ROOM]
        cdef size_t count = fa_resampler_flush(&self.state, tail)
        return PyBytes_FromStringAndSize(<char *> tail, <Py_ssize_t> count * 2)

    def reset(self):
        """Forget all input."""
        fa_resampler_reset(&self.state)

    @property
    def delay_samples(self):
        return fa_resampler_delay_samples(&self.state)


def variant():
    """The body in use on this processor."""
    return fa_resample_variant().decode("ascii")

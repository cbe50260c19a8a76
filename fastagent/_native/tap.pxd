from libc.stdint cimport uint8_t, uint64_t

from fa_record cimport fa_recorder
from fa_tap cimport fa_ears, fa_tap

cdef class Tap:
    cdef fa_tap tap
    cdef fa_ears *ears
    cdef int sample_rate
    cdef double ears_since
    cdef public object on_news
    # Another detector than our own.
    cdef object detector
    cdef readonly uint64_t detector_faults
    # The recording.
    cdef fa_recorder recorder
    cdef uint8_t *ring
    cdef uint8_t *out
    cdef Py_ssize_t out_size
    cdef object sink
    cdef readonly uint64_t sink_faults

    cdef bint wants_caller(self, double now)
    cdef bint wants_bot(self, double now)
    cdef int hear_caller(self, const uint8_t *audio, Py_ssize_t n, bint begins, double now) except -1
    cdef int hear_bot(self, const uint8_t *audio, Py_ssize_t n, double now) except -1
    cdef int cut_bot(self, double now) except -1
    cdef bint has_news(self)
    cdef int tell_news(self) except -1
    cdef int _open(self, int wants, str preset, double now) except -1
    cdef int _collect(self) except -1

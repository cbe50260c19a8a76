# cython: autotestdict=False, auto_pickle=False
"""Level meter of one direction of a call; the contract is fastagent/_native/level.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int16_t

from collections import namedtuple

from fa_level cimport (
    FA_LEVEL_ALAW,
    FA_LEVEL_FLOOR_DB,
    FA_LEVEL_MULAW,
    FA_LEVEL_PCM16,
    FA_LEVEL_SILENCE_DBFS,
    fa_level,
    fa_level_encoding,
    fa_level_figures,
    fa_level_init,
    fa_level_process,
    fa_level_reset,
    fa_level_snapshot,
)

FLOOR_DB = FA_LEVEL_FLOOR_DB
SILENCE_DBFS = FA_LEVEL_SILENCE_DBFS

cdef dict ENCODINGS = {"pcm16": FA_LEVEL_PCM16, "mulaw": FA_LEVEL_MULAW, "alaw": FA_LEVEL_ALAW}

LevelFigures = namedtuple(
    "LevelFigures",
    (
        "samples",
        "rms_dbfs",
        "rms_dbm0",
        "recent_rms_dbfs",
        "recent_rms_dbm0",
        "peak",
        "peak_dbfs",
        "clipped_samples",
        "clip_runs",
        "dc_offset",
        "silence_share",
        "silence_s",
        "silence_max_s",
        "age_s",
        "gap_max_s",
    ),
)


@cython.final
cdef class LevelMeter:
    """Measures level, clipping, silence and arrivals of a stream of int16 samples."""

    # The GIL is held throughout: it is what keeps two threads out of one state.
    cdef fa_level state
    cdef readonly int sample_rate
    cdef readonly str encoding

    def __cinit__(self, int sample_rate=8000, str encoding not None="pcm16"):
        code = ENCODINGS.get(encoding)
        if code is None:
            raise ValueError(f"one of {', '.join(ENCODINGS)} expected, got {encoding!r}")
        if fa_level_init(&self.state, sample_rate, <fa_level_encoding> <int> code) != 0:
            raise ValueError(f"a multiple of 50 Hz in 8000..48000 expected, got {sample_rate}")
        self.sample_rate = sample_rate
        self.encoding = encoding

    cdef int feed(self, const void *pcm, Py_ssize_t size, double now) except -1:
        if size & 1:
            raise ValueError(f"samples of two bytes expected, got {size} bytes")
        # Written so that NaN is refused too.
        if not 0 <= now <= 1e300:
            raise ValueError("now must be finite and not negative")
        fa_level_process(&self.state, <const int16_t *> pcm, <size_t> size // 2, now)
        return 0

    def process(self, pcm, double now, /):
        """Take a chunk of any length that arrived at `now`."""
        if PyBytes_CheckExact(pcm):
            self.feed(PyBytes_AS_STRING(pcm), PyBytes_GET_SIZE(pcm), now)
            return
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            self.feed(view.buf, view.len, now)
        finally:
            PyBuffer_Release(&view)

    def snapshot(self, double now, /):
        """All figures as of `now`."""
        cdef fa_level_figures f
        fa_level_snapshot(&self.state, now, &f)
        return LevelFigures(
            f.samples,
            f.rms_dbfs,
            f.rms_dbm0,
            f.recent_rms_dbfs,
            f.recent_rms_dbm0,
            f.peak,
            f.peak_dbfs,
            f.clipped_samples,
            f.clip_runs,
            f.dc_offset,
            f.silence_share,
            f.silence_s,
            f.silence_max_s,
            None if f.age_s < 0 else f.age_s,
            f.gap_max_s,
        )

    def reset(self):
        """Forget all samples and arrivals."""
        fa_level_reset(&self.state)

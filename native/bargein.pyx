# cython: autotestdict=False, auto_pickle=False
"""Echo-aware barge-in gate; the contract is fastagent/_native/bargein.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int16_t
from libc.string cimport memcpy, memset

from fa_bands cimport FA_BANDS, FA_FRAME_SAMPLES, fa_band_frame, fa_bands, fa_bands_init, fa_bands_process
from fa_bargein cimport (
    FA_BARGEIN_BRIDGE_MS,
    FA_BARGEIN_CONFIRM_MAX_MS,
    FA_BARGEIN_CONFIRM_MS,
    FA_BARGEIN_FRAME_MS,
    fa_bargein,
    fa_bargein_bot_audible,
    fa_bargein_init,
    fa_bargein_lag_ms,
    fa_bargein_leak_db,
    fa_bargein_onset_frames,
    fa_bargein_pause_ms,
    fa_bargein_process,
    fa_bargein_rearm,
    fa_bargein_set_confirm_ms,
    fa_bargein_speech_ms,
)
from fa_vad cimport fa_vad, fa_vad_init, fa_vad_process

CONFIRM_MS = FA_BARGEIN_CONFIRM_MS
BRIDGE_MS = FA_BARGEIN_BRIDGE_MS
FRAME_BYTES = 2 * FA_FRAME_SAMPLES
STATE_BYTES = sizeof(fa_bargein)

# By fa_bargein_verdict.
cdef tuple VERDICTS = ("quiet", "echo", "speech", "confirmed")


cdef int take(object frame, int16_t *samples) except -1:
    """Copy a frame out of any buffer, so that its alignment does not matter."""
    if PyBytes_CheckExact(frame) and PyBytes_GET_SIZE(frame) == 2 * FA_FRAME_SAMPLES:
        memcpy(samples, PyBytes_AS_STRING(frame), 2 * FA_FRAME_SAMPLES)
        return 0
    cdef Py_buffer view
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        if view.len != 2 * FA_FRAME_SAMPLES:
            raise ValueError(f"a frame of {2 * FA_FRAME_SAMPLES} bytes expected, got {view.len}")
        memcpy(samples, view.buf, 2 * FA_FRAME_SAMPLES)
    finally:
        PyBuffer_Release(&view)
    return 0


@cython.final
cdef class BargeInGate:
    """Tells the caller's speech over the bot from the bot's echo."""

    # The GIL is held throughout: it is what keeps two threads out of one state.
    cdef fa_bargein gate
    cdef fa_bands caller_bands
    cdef fa_bands bot_bands
    cdef fa_vad vad
    cdef readonly int confirm_ms
    cdef readonly float speech_probability

    def __cinit__(self, *, confirm_ms=FA_BARGEIN_CONFIRM_MS):
        # Out of an int's range is out of ours.
        cdef int wanted = confirm_ms if 0 < confirm_ms <= FA_BARGEIN_CONFIRM_MAX_MS else 0
        self.start()
        if fa_bargein_set_confirm_ms(&self.gate, wanted) != 0:
            raise ValueError(
                f"confirm_ms from {FA_BARGEIN_FRAME_MS} to {FA_BARGEIN_CONFIRM_MAX_MS} expected, got {confirm_ms}"
            )
        self.confirm_ms = wanted

    cdef void start(self) noexcept:
        fa_bargein_init(&self.gate)
        fa_bands_init(&self.caller_bands)
        fa_bands_init(&self.bot_bands)
        fa_vad_init(&self.vad)
        self.speech_probability = 0.0

    def process(self, caller_frame, bot_frame=None, /, *, speech_probability=None):
        """Take the next 20 ms; gives the verdict."""
        cdef int16_t caller[FA_FRAME_SAMPLES]
        cdef int16_t bot[FA_FRAME_SAMPLES]
        cdef fa_band_frame heard
        cdef fa_band_frame played
        cdef float given = -1.0
        if speech_probability is not None:
            given = speech_probability
            if not 0.0 <= given <= 1.0:
                raise ValueError("speech_probability from 0 to 1 expected")
        take(caller_frame, caller)
        if bot_frame is None:
            memset(bot, 0, sizeof(bot))
        else:
            take(bot_frame, bot)
        fa_bands_process(&self.caller_bands, caller, &heard)
        fa_bands_process(&self.bot_bands, bot, &played)
        self.speech_probability = fa_vad_process(&self.vad, caller, &heard)
        if given >= 0.0:
            self.speech_probability = given
        return VERDICTS[fa_bargein_process(&self.gate, &heard, &played, self.speech_probability)]

    def rearm(self):
        """Forget the utterance under way, keep what was learnt."""
        fa_bargein_rearm(&self.gate)

    def reset(self):
        """Forget everything but the confirmation time."""
        self.start()
        fa_bargein_set_confirm_ms(&self.gate, self.confirm_ms)

    @property
    def lag_ms(self):
        cdef int lag_ms = fa_bargein_lag_ms(&self.gate)
        return lag_ms if lag_ms >= 0 else None

    @property
    def leak_db(self):
        cdef float leak[FA_BANDS]
        fa_bargein_leak_db(&self.gate, leak)
        return tuple([leak[b] for b in range(FA_BANDS)])

    @property
    def bot_audible(self):
        return fa_bargein_bot_audible(&self.gate) != 0

    @property
    def onset_ms(self):
        return fa_bargein_onset_frames(&self.gate) * FA_BARGEIN_FRAME_MS

    @property
    def speech_ms(self):
        return fa_bargein_speech_ms(&self.gate)

    @property
    def pause_ms(self):
        return fa_bargein_pause_ms(&self.gate)

# cython: autotestdict=False, auto_pickle=False
"""Band powers, speech probability and utterances; the contract is fastagent/_native/vad.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int64_t
from libc.string cimport memcpy

from fa_bands cimport FA_BANDS, FA_FRAME_SAMPLES, fa_band_frame, fa_bands, fa_bands_init, fa_bands_process
from fa_vad cimport (
    FA_SPEECH_MS_MAX,
    FA_SPEECH_NONE,
    FA_SPEECH_STARTED,
    FA_VAD_MEASURES,
    fa_speech,
    fa_speech_event,
    fa_speech_init,
    fa_speech_options,
    fa_speech_preset,
    fa_speech_process,
    fa_speech_reset,
    fa_vad,
    fa_vad_init,
    fa_vad_measure,
    fa_vad_process,
    fa_vad_reset,
)

FRAME_BYTES = 2 * FA_FRAME_SAMPLES


cdef int take_frame(object frame, int16_t *samples) except -1:
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


cdef fa_speech_options preset_options(object preset) except *:
    cdef fa_speech_options options
    if not isinstance(preset, str):
        raise TypeError(f"the name of a preset expected, got {type(preset).__name__}")
    if fa_speech_preset((<str> preset).encode(), &options) != 0:
        raise ValueError(f"preset sensitive, balanced or strict expected, got {preset!r}")
    return options


@cython.final
cdef class BandAnalyser:
    """Power of a stream's frames in ten bands."""

    cdef fa_bands state

    def __cinit__(self):
        fa_bands_init(&self.state)

    def process(self, frame, /):
        """Analyse the next frame."""
        cdef int16_t samples[FA_FRAME_SAMPLES]
        cdef fa_band_frame bands
        cdef int i
        take_frame(frame, samples)
        fa_bands_process(&self.state, samples, &bands)
        return tuple([bands.band[i] for i in range(FA_BANDS)])

    def reset(self):
        """Forget all input."""
        fa_bands_init(&self.state)


@cython.final
cdef class VoiceDetector:
    """Probability of speech, frame by frame."""

    cdef fa_bands bands
    cdef fa_vad state
    cdef readonly str preset
    cdef readonly double threshold

    def __cinit__(self, *, preset="balanced"):
        self.threshold = preset_options(preset).start_probability
        self.preset = preset
        self.reset()

    def process(self, frame, /):
        """Judge the next frame."""
        cdef int16_t samples[FA_FRAME_SAMPLES]
        cdef fa_band_frame analysed
        take_frame(frame, samples)
        fa_bands_process(&self.bands, samples, &analysed)
        return fa_vad_process(&self.state, samples, &analysed)

    def measure(self, frame, /):
        """Take the next frame's measures without judging it."""
        cdef int16_t samples[FA_FRAME_SAMPLES]
        cdef fa_band_frame analysed
        cdef float measures[FA_VAD_MEASURES]
        cdef int i
        take_frame(frame, samples)
        fa_bands_process(&self.bands, samples, &analysed)
        fa_vad_measure(&self.state, samples, &analysed, measures)
        return tuple([measures[i] for i in range(FA_VAD_MEASURES)])

    def reset(self):
        """Forget all input."""
        fa_bands_init(&self.bands)
        fa_vad_reset(&self.state)


@cython.final
cdef class SpeechSegmenter:
    """Beginnings and ends of utterances, from probabilities."""

    cdef fa_speech state

    def __cinit__(
        self, *, preset="balanced", start_probability=None, stop_probability=None, min_speech_ms=None,
        hangover_ms=None, prefix_ms=None,
    ):
        cdef fa_speech_options options = preset_options(preset)
        if start_probability is not None:
            options.start_probability = start_probability
        if stop_probability is not None:
            options.stop_probability = stop_probability
        if min_speech_ms is not None:
            options.min_speech_ms = self.time_ms(min_speech_ms)
        if hangover_ms is not None:
            options.hangover_ms = self.time_ms(hangover_ms)
        if prefix_ms is not None:
            options.prefix_ms = self.time_ms(prefix_ms)
        if fa_speech_init(&self.state, &options) != 0:
            raise ValueError(
                "probabilities 0 <= stop <= start <= 1 with start > 0 and times from 0 to "
                f"{FA_SPEECH_MS_MAX} ms expected, got start {options.start_probability:g}, "
                f"stop {options.stop_probability:g}, min_speech {options.min_speech_ms}, "
                f"hangover {options.hangover_ms}, prefix {options.prefix_ms}"
            )

    cdef int time_ms(self, object value) except? -1:
        """Any integer as a time; one that is out of range stays so."""
        if not isinstance(value, int):
            raise TypeError(f"milliseconds as an int expected, got {type(value).__name__}")
        return -1 if value < 0 else min(value, FA_SPEECH_MS_MAX + 1)

    def process(self, double probability, /):
        """Take the next frame's probability."""
        cdef int64_t position = 0
        cdef fa_speech_event event = fa_speech_process(&self.state, <float> probability, &position)
        if event == FA_SPEECH_NONE:
            return None
        return ("started" if event == FA_SPEECH_STARTED else "stopped", position)

    @property
    def is_speaking(self):
        return bool(self.state.is_speaking)

    @property
    def position(self):
        return self.state.samples

    def reset(self):
        """Forget all input, keep the options."""
        fa_speech_reset(&self.state)

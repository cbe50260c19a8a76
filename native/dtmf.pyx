# cython: autotestdict=False, auto_pickle=False
"""DTMF detector and generator; the contract is fastagent/_native/dtmf.pyi."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int64_t

from fa_dtmf cimport (
    FA_DTMF_HOP,
    fa_dtmf,
    fa_dtmf_digit,
    fa_dtmf_event,
    fa_dtmf_flush,
    fa_dtmf_generate,
    fa_dtmf_init,
    fa_dtmf_process,
    fa_dtmf_reset,
    fa_dtmf_sound,
)

cdef enum:
    BLOCK = 280  # samples fed at a time: 7 hops, so 8 events at most
    EVENTS = 8

cdef Py_ssize_t SAMPLES_MAX = 1 << 28


@cython.final
cdef class ToneEvent:
    """A tone began or ended."""

    cdef readonly str digit
    cdef readonly bint is_end
    cdef readonly int64_t position
    cdef readonly int64_t duration

    def __init__(self):
        raise TypeError("tone events come from a detector")

    def __repr__(self):
        # A caller's digits stay out of logs.
        kind = "end" if self.is_end else "start"
        return f"<ToneEvent {kind}, {self.duration} samples from {self.position}>"


cdef ToneEvent event_of(const fa_dtmf_event *event):
    cdef ToneEvent tone = ToneEvent.__new__(ToneEvent)
    tone.digit = chr(event.digit)
    tone.is_end = event.is_end
    tone.position = event.position
    tone.duration = event.duration
    return tone


@cython.final
cdef class Detector:
    """Finds keypad digits in a stream of int16 samples at 8 kHz."""

    cdef fa_dtmf state

    def __cinit__(self):
        fa_dtmf_init(&self.state)

    cdef list feed(self, const int16_t *pcm, Py_ssize_t size):
        if size & 1:
            raise ValueError(f"samples of two bytes expected, got {size} bytes")
        cdef fa_dtmf_event events[EVENTS]
        cdef list found = []
        cdef Py_ssize_t left = size // 2, taken
        cdef int count, i
        while left > 0:
            taken = left if left < BLOCK else BLOCK
            count = fa_dtmf_process(&self.state, pcm, <size_t> taken, events, EVENTS)
            for i in range(count):
                found.append(event_of(&events[i]))
            pcm += taken
            left -= taken
        return found

    def process(self, pcm, /):
        """Feed a chunk of any length; gives the events it completes."""
        if PyBytes_CheckExact(pcm):
            return self.feed(<const int16_t *> PyBytes_AS_STRING(pcm), PyBytes_GET_SIZE(pcm))
        cdef Py_buffer view
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            return self.feed(<const int16_t *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def flush(self):
        """End the stream: gives the end of a digit that still sounds, and starts anew."""
        cdef fa_dtmf_event event
        return [event_of(&event)] if fa_dtmf_flush(&self.state, &event) else []

    def reset(self):
        """Forget everything."""
        fa_dtmf_reset(&self.state)

    @property
    def digit(self):
        cdef char digit = fa_dtmf_digit(&self.state)
        return chr(digit) if digit else None


def generate(digits, int sample_rate, Py_ssize_t tone, Py_ssize_t pause, double low_peak, double high_peak,
             Py_ssize_t ramp=0):
    """The tones of `digits` as samples."""
    if not isinstance(digits, str):
        raise TypeError(f"digits as str expected, got {type(digits).__name__}")
    if sample_rate not in (8000, 16000, 24000):
        raise ValueError(f"8000, 16000 or 24000 Hz expected, got {sample_rate}")
    if not 0 < tone <= SAMPLES_MAX or not 0 <= pause <= SAMPLES_MAX or not 0 <= 2 * ramp <= tone:
        raise ValueError("a tone, a pause and ramps of at most half the tone expected")
    if not (0.0 <= low_peak <= 32768.0 and 0.0 <= high_peak <= 32768.0):
        raise ValueError("peaks from 0 to 32768 expected")
    if not digits.isascii():
        raise ValueError("digits of 0-9 * # A-D expected")
    cdef bytes keys = digits.encode("ascii")
    cdef Py_ssize_t count = PyBytes_GET_SIZE(keys)
    if count * (tone + pause) > SAMPLES_MAX:
        raise ValueError(f"at most {SAMPLES_MAX} samples can be made at once")
    cdef fa_dtmf_sound sound
    sound.sample_rate = sample_rate
    sound.tone = <size_t> tone
    sound.pause = <size_t> pause
    sound.ramp = <size_t> ramp
    sound.low_peak = low_peak
    sound.high_peak = high_peak
    cdef bytes out = PyBytes_FromStringAndSize(NULL, count * (tone + pause) * 2)
    cdef int16_t *pcm = <int16_t *> PyBytes_AS_STRING(out)
    if fa_dtmf_generate(&sound, PyBytes_AS_STRING(keys), <size_t> count, pcm) < 0:
        raise ValueError("digits of 0-9 * # A-D expected")
    return out

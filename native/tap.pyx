# cython: autotestdict=False, auto_pickle=False
"""What hears a call beside the audio path; the contract is fastagent/_native/tap.pyi."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int16_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from enum import IntEnum
from typing import NamedTuple

from fa_convert cimport FA_ALAW, FA_PCM16, FA_ULAW
from fa_level cimport fa_level, fa_level_figures, fa_level_snapshot
from fa_record cimport (
    FA_RECORD_MULAW,
    FA_RECORD_PCM16,
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
)
from fa_tap cimport (
    FA_FRAME_SAMPLES,
    FA_TAP_BLOCK_BYTES,
    FA_TAP_CALLER,
    FA_TAP_DIGIT,
    FA_TAP_DTMF,
    FA_TAP_OVERLAP,
    FA_TAP_OVERLAP_CONFIRMED,
    FA_TAP_PLAYED,
    FA_TAP_SPEECH,
    FA_TAP_SPEECH_STARTED,
    FA_TAP_SPEECH_STOPPED,
    fa_bargein_lag_ms,
    fa_bargein_set_confirm_ms,
    fa_ears,
    fa_speech_options,
    fa_speech_preset,
    fa_tap_bot,
    fa_tap_caller,
    fa_tap_caller_reset,
    fa_tap_close_ears,
    fa_tap_cut,
    fa_tap_event,
    fa_tap_init,
    fa_tap_open_ears,
    fa_tap_quiet_ms,
    fa_tap_rearm,
    fa_tap_settle,
    fa_tap_spoken_ms,
    fa_tap_wants_bot,
    fa_tap_wants_caller,
)

from fastagent._native.level import LevelFigures

_ENCODINGS = {"pcm16": FA_PCM16, "mulaw": FA_ULAW, "alaw": FA_ALAW}
_RECORDINGS = {"pcm16": FA_RECORD_PCM16, "mulaw": FA_RECORD_MULAW}

cdef enum:
    # Room for what is recorded until it is handed over: 0.5 s of stereo PCM16.
    RECORDING_BLOCK_BYTES = 16_000
    SAMPLES_PER_MS = 8


class Heard(IntEnum):
    """What the ears found."""

    SPEECH_STARTED = FA_TAP_SPEECH_STARTED
    SPEECH_STOPPED = FA_TAP_SPEECH_STOPPED
    OVERLAP_CONFIRMED = FA_TAP_OVERLAP_CONFIRMED
    DIGIT = FA_TAP_DIGIT


class News(NamedTuple):
    """One thing found; ``age_ms`` of the caller's audio have come since it began."""

    kind: Heard
    age_ms: int
    digit: str


cdef object _figures(const fa_level *meter, double now):
    cdef fa_level_figures f
    fa_level_snapshot(meter, now, &f)
    return LevelFigures(
        f.samples, f.rms_dbfs, f.rms_dbm0, f.recent_rms_dbfs, f.recent_rms_dbm0, f.peak, f.peak_dbfs,
        f.clipped_samples, f.clip_runs, f.dc_offset, f.silence_share, f.silence_s, f.silence_max_s,
        None if f.age_s < 0 else f.age_s, f.gap_max_s,
    )


cdef float _detect(void *context, const int16_t *frame) noexcept:
    cdef Tap tap = <Tap>context
    try:
        return tap.detector(PyBytes_FromStringAndSize(<const char *>frame, FA_FRAME_SAMPLES * 2))
    except Exception:
        tap.detector_faults += 1
        return 0


cdef void _record_caller(void *context, const int16_t *pcm, size_t n, double now) noexcept:
    cdef Tap tap = <Tap>context
    cdef size_t taken
    fa_record_advance(&tap.recorder, now)
    tap._collect()
    while n:
        taken = fa_record_caller(&tap.recorder, pcm, n, now)
        tap._collect()
        if not taken:
            return
        pcm += taken
        n -= taken


cdef void _record_bot(void *context, const int16_t *pcm, int64_t slot) noexcept:
    cdef Tap tap = <Tap>context
    cdef double begins = tap.ears_since + slot * 0.02
    fa_record_advance(&tap.recorder, begins + 0.02)
    tap._collect()
    fa_record_bot(&tap.recorder, pcm, FA_FRAME_SAMPLES, fa_record_position(&tap.recorder, begins))


cdef class Tap:
    """Hears both directions of a call: levels always, the rest when its ears are open."""

    def __cinit__(self, *args, **kwargs):
        memset(&self.tap, 0, sizeof(self.tap))
        self.ears = NULL
        self.ring = NULL
        self.out = NULL

    def __init__(self, str encoding not None, int sample_rate, *, bint has_wav_header=False):
        if self.ears != NULL:
            raise RuntimeError("the ears are open")
        if encoding not in _ENCODINGS:
            raise ValueError(f"expected one of {sorted(_ENCODINGS)}, got {encoding!r}")
        if fa_tap_init(&self.tap, _ENCODINGS[encoding], sample_rate, has_wav_header) < 0:
            raise ValueError(f"a rate from 8000 to 48000 Hz expected, got {sample_rate}")
        self.sample_rate = sample_rate

    def __dealloc__(self):
        fa_tap_close_ears(&self.tap)
        free(self.ears)
        free(self.ring)
        free(self.out)

    # The path

    cdef bint wants_caller(self, double now):
        return fa_tap_wants_caller(&self.tap, now)

    cdef bint wants_bot(self, double now):
        return fa_tap_wants_bot(&self.tap, now)

    cdef int hear_caller(self, const uint8_t *audio, Py_ssize_t n, bint begins, double now) except -1:
        fa_tap_caller(&self.tap, audio, n, begins, now)
        return 0

    cdef int hear_bot(self, const uint8_t *audio, Py_ssize_t n, double now) except -1:
        if fa_tap_bot(&self.tap, audio, n, now) < 0:
            raise MemoryError()
        return 0

    cdef int cut_bot(self, double now) except -1:
        fa_tap_cut(&self.tap, now)
        return 0

    cdef bint has_news(self):
        return self.tap.events_waiting > 0 or self.out_size > 0

    cdef int tell_news(self) except -1:
        if self.out_size:
            self._hand_over()
        if self.tap.events_waiting and self.on_news is not None:
            self.on_news(self.take_news())
        return 0

    def take_news(self):
        """What was found since the last call, oldest first."""
        cdef fa_tap_event *event
        cdef int64_t position = self.ears.position if self.ears != NULL else 0
        news = []
        for i in range(self.tap.events_waiting):
            event = &self.tap.events[i]
            age_ms = max(0, position - event.position) // SAMPLES_PER_MS
            news.append(News(Heard(event.kind), age_ms, chr(event.digit) if event.digit else ""))
        self.tap.events_waiting = 0
        return news

    def caller(self, audio, double now, /):
        """Hear one message of the caller's audio."""
        cdef Py_buffer view
        cdef Py_ssize_t at = 0
        PyObject_GetBuffer(audio, &view, PyBUF_SIMPLE)
        try:
            while at < view.len:
                self.hear_caller(<uint8_t *>view.buf + at, min(FA_TAP_BLOCK_BYTES, view.len - at), at == 0, now)
                at += FA_TAP_BLOCK_BYTES
        finally:
            PyBuffer_Release(&view)

    def bot(self, audio, double now, /):
        """Hear bot audio as it leaves."""
        cdef Py_buffer view
        PyObject_GetBuffer(audio, &view, PyBUF_SIMPLE)
        try:
            self.hear_bot(<uint8_t *>view.buf, view.len, now)
        finally:
            PyBuffer_Release(&view)

    def cut(self, double now, /):
        """The far end dropped what it had not played."""
        self.cut_bot(now)

    def reset_caller(self):
        """The caller's stream begins anew."""
        fa_tap_caller_reset(&self.tap)

    # Ears

    cdef int _open(self, int wants, str preset, double now) except -1:
        cdef fa_speech_options options
        if self.ears == NULL:
            name = preset.encode()
            if fa_speech_preset(name, &options) < 0:
                raise ValueError(f"expected sensitive, balanced or strict, got {preset!r}")
            self.ears = <fa_ears *>malloc(sizeof(fa_ears))
            if self.ears == NULL:
                raise MemoryError()
            if fa_tap_open_ears(&self.tap, self.ears, 0, &options, now) < 0:
                free(self.ears)
                self.ears = NULL
                raise ValueError(f"8, 16 or 24 kHz expected, got {self.sample_rate} Hz")
            self.ears_since = now
        self.ears.wants |= <uint8_t>wants
        return 0

    def open_ears(self, double now, /, *, bint speech=False, bint overlap=False, bint digits=False,
                  str preset not None="balanced", int confirm_ms=60, detector=None):
        """Listen for utterances, for the caller over the bot, for keypad digits."""
        self._open(FA_TAP_SPEECH * speech | FA_TAP_OVERLAP * overlap | FA_TAP_DTMF * digits, preset, now)
        if fa_bargein_set_confirm_ms(&self.ears.gate, confirm_ms) < 0:
            raise ValueError(f"expected a confirmation of 20 to 1000 ms, got {confirm_ms}")
        self.detector = detector
        if detector is not None:
            self.ears.detector = _detect
        self.ears.detector_context = <void *>self

    def spoken_ms(self):
        """How long the caller speaks over the bot, from the first sound to the last one heard."""
        return fa_tap_spoken_ms(&self.tap)

    def quiet_ms(self):
        """Time since that last sound."""
        return fa_tap_quiet_ms(&self.tap)

    def rearm(self):
        """Forget the utterance over the bot: the next one is told anew."""
        fa_tap_rearm(&self.tap)

    @property
    def echo_lag_ms(self):
        """How much later the bot's echo comes back; None while unknown."""
        if self.ears == NULL:
            return None
        lag = fa_bargein_lag_ms(&self.ears.gate)
        return lag if lag >= 0 else None

    @property
    def news_dropped(self):
        """Findings that nobody took in time."""
        return self.tap.events_dropped

    # Levels

    def caller_level(self, double now, /):
        """The caller's level meter."""
        return _figures(&self.tap.caller_level, now)

    def bot_level(self, double now, /):
        """The bot's level meter."""
        return _figures(&self.tap.bot_level, now)

    # Recording

    def record(self, sink not None, str encoding not None, double now, /):
        """Give the interleaved samples of both parties to ``sink``, about twice a second."""
        if encoding not in _RECORDINGS:
            raise ValueError(f"expected one of {sorted(_RECORDINGS)}, got {encoding!r}")
        if self.sink is not None:
            raise RuntimeError("a recording runs")
        cdef int kind = _RECORDINGS[encoding]
        self._open(FA_TAP_PLAYED | FA_TAP_CALLER, "balanced", now)
        free(self.ring)
        free(self.out)
        self.ring = <uint8_t *>malloc(FA_RECORD_RING_BYTES(kind))
        self.out = <uint8_t *>malloc(RECORDING_BLOCK_BYTES + FA_RECORD_RING_BYTES(kind))
        if self.ring == NULL or self.out == NULL:
            raise MemoryError()
        self.out_size = 0
        self.sink = sink
        fa_record_init(&self.recorder, kind, self.ring, now)
        self.ears.sink_context = <void *>self
        self.ears.caller_sink = _record_caller
        self.ears.played_sink = _record_bot

    @property
    def is_recording(self):
        """A recording runs, paused or not."""
        return self.sink is not None

    def pause_recording(self, double now, /):
        """Record silence from ``now`` on."""
        if self.sink is None:
            return 0
        fa_tap_settle(&self.tap, now)
        position = fa_record_pause(&self.recorder, now)
        self._collect()
        return position

    def resume_recording(self, double now, /):
        """Record again from ``now`` on."""
        if self.sink is None:
            return 0
        fa_tap_settle(&self.tap, now)
        position = fa_record_resume(&self.recorder, now)
        self._collect()
        return position

    def settle_recording(self, double now, /):
        """Let time pass, at least every half second: the caller may send nothing."""
        if self.sink is not None:
            fa_tap_settle(&self.tap, now)
            fa_record_advance(&self.recorder, now)
            self._collect()
            self._hand_over()

    def end_recording(self, double now, /):
        """Give the rest, and let go of ``sink``."""
        if self.sink is None:
            return
        fa_tap_settle(&self.tap, now)
        fa_record_flush(&self.recorder, now)
        self._collect()
        self._hand_over()
        self.sink = None
        self.ears.caller_sink = NULL
        self.ears.played_sink = NULL
        self.ears.wants &= <uint8_t>~(FA_TAP_PLAYED | FA_TAP_CALLER)

    cdef int _collect(self) except -1:
        cdef size_t due = fa_record_due(&self.recorder)
        while due:
            if self.out_size >= RECORDING_BLOCK_BYTES:
                self._hand_over()
            self.out_size += <Py_ssize_t>fa_record_take(&self.recorder, self.out + self.out_size, due)
            due = fa_record_due(&self.recorder)
        return 0

    def _hand_over(self):
        cdef Py_ssize_t size = self.out_size
        self.out_size = 0
        if size and self.sink is not None:
            try:
                self.sink(PyBytes_FromStringAndSize(<const char *>self.out, size))
            except Exception:
                self.sink_faults += 1

from libc.stdint cimport int64_t, uint8_t, uint64_t

from fa_convert cimport fa_converter
from fa_envelope cimport fa_envelope_match, fa_span
from fa_playout cimport fa_fifo, fa_playout_clock

from fastagent._native.envelope cimport EnvelopeSpec
from fastagent._native.tap cimport Tap

# What became of a message given to a pump.
cdef enum Verdict:
    PUMP_OTHER = 0       # not media: the slow path's
    PUMP_SEND = 1        # `out` holds a message to send
    PUMP_QUIET = 2       # media, taken in; nothing to send now
    PUMP_MALFORMED = -1  # not a well-formed envelope
    PUMP_BAD_AUDIO = -2  # media whose audio is not canonical base64

# The base64 text of a message's audio.
cdef struct audio_text:
    const char *text
    ptrdiff_t size      # characters
    ptrdiff_t length    # bytes they hold

cdef class Pump:
    cdef EnvelopeSpec spec
    cdef Tap tap
    cdef bytes unescaped
    cdef fa_converter converter
    cdef bint passthrough
    cdef int out_sample_size
    cdef int in_sample_size
    cdef int way                    # how the stage counters call it
    cdef fa_envelope_match match
    cdef bytes prefix
    cdef bytes suffix
    # The outgoing message, with room in front for a WebSocket header. Valid until any pump's next call.
    cdef char *out
    cdef Py_ssize_t out_size
    cdef readonly uint64_t messages
    cdef readonly uint64_t malformed
    cdef readonly uint64_t bad_audio
    cdef readonly uint64_t samples_in

    cdef int _find_audio(self, const char *message, Py_ssize_t n, audio_text *found) except? -9
    cdef bint _is_copied(self, Py_ssize_t length)
    cdef char *_reserve(self, Py_ssize_t size) except NULL
    cdef int _wrap(self, const char *text, Py_ssize_t n) except? -9
    cdef int take(self, const char *message, Py_ssize_t n, double now) except? -9
    cdef int more(self, double now) except? -9
    cdef bint is_waiting(self)

cdef class Uplink(Pump):
    cdef object backlog
    cdef int64_t backlog_samples
    cdef int64_t backlog_limit
    cdef int64_t backlog_quantum
    cdef readonly uint64_t backlog_dropped
    cdef int expected_field
    cdef bytes expected
    cdef int sequence_field
    cdef int64_t last_sequence
    cdef readonly uint64_t gaps
    cdef readonly uint64_t repeats
    cdef bint _is_expected(self)
    cdef void _note_sequence(self) noexcept
    cdef int _tap_text(self, const char *text, Py_ssize_t size, double now) except -1
    cdef int hold(self) except -1
    cdef int _keep(self, bytes message) except -1
    cdef bytes release_first(self)

cdef class Downlink(Pump):
    cdef public object on_item
    cdef fa_fifo queue
    cdef fa_fifo retained
    cdef bint retains
    cdef readonly bint is_held
    cdef fa_playout_clock clock
    cdef int64_t lead
    cdef int64_t quantum
    cdef int64_t queue_limit
    cdef bytes item_key
    cdef bint item_is_played
    cdef readonly int64_t received
    cdef readonly int64_t enqueued
    cdef readonly uint64_t discarded
    cdef readonly uint64_t dropped
    cdef int _same_item(self)
    cdef int _meet_item(self) except -1
    cdef int _trim(self, int64_t unheard) except -1
    cdef int _tap_text(self, const char *text, Py_ssize_t size, double now) except -1
    cdef int _note_sent(self, const uint8_t *audio, Py_ssize_t size, double now) except -1
    cdef int _emit(self, int64_t samples, double now) except -1

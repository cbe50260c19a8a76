# cython: autotestdict=False, auto_pickle=False
"""Many calls of a load test on one thread; the contract is fastagent/_native/load.pyi."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

from fa_load cimport (
    FA_LOAD_CLASSES, FA_LOAD_CLOSED, FA_LOAD_COUNTERS, FA_LOAD_HISTOGRAMS, FA_LOAD_LOUD, FA_LOAD_MESSAGE,
    FA_LOAD_ONSET, FA_LOAD_QUIET, FA_LOAD_QUIET_MS, FA_LOAD_SAID, FA_LOAD_SIGN, FA_LOAD_TEMPLATE_BYTES_MAX,
    fa_load, fa_load_add, fa_load_add_clip, fa_load_add_spec, fa_load_class_ns, fa_load_close, fa_load_counters,
    fa_load_cut, fa_load_event, fa_load_event_fd, fa_load_expect, fa_load_format, fa_load_free, fa_load_hush,
    fa_load_idle, fa_load_media, fa_load_mute, fa_load_new, fa_load_pair, fa_load_run, fa_load_say, fa_load_send,
    fa_load_stop, fa_load_take_events, fa_load_take_histogram, fa_load_times,
)
from fa_sign cimport FA_SIGN_LEVEL, FA_SIGN_NUMBERS, FA_SIGN_SYMBOLS, fa_sign_intervals
from fastagent._native.envelope cimport EnvelopeSpec

LOUD = FA_LOAD_LOUD
QUIET_MS = FA_LOAD_QUIET_MS
SIGN_LEVEL = FA_SIGN_LEVEL
SIGN_NUMBERS = FA_SIGN_NUMBERS
TEMPLATE_BYTES_MAX = FA_LOAD_TEMPLATE_BYTES_MAX - 256

AT_SEQUENCE = b"\1"
AT_CHUNK = b"\2"
AT_TIME_MS = b"\3"
AT_AUDIO = b"\4"

MESSAGE = FA_LOAD_MESSAGE
CLOSED = FA_LOAD_CLOSED
ONSET = FA_LOAD_ONSET
QUIET = FA_LOAD_QUIET
SAID = FA_LOAD_SAID
SIGN = FA_LOAD_SIGN

HISTOGRAMS = ("late", "read_late", "up_frame", "down_frame", "up_mark", "down_mark")
COUNTERS = (
    "frames_sent", "bytes_sent", "frames_received", "bytes_received", "blocked", "verbatim", "frames_lost",
    "marks_sent", "marks_heard", "marks_lost", "marks_unknown", "audio_unreadable", "events_lost", "wakes",
    "thread_cpu_ns",
)
CLASS_EDGES_NS = tuple([fa_load_class_ns(i) for i in range(FA_LOAD_CLASSES)])

cdef dict ENCODINGS = {"pcm16": b"l", "mulaw": b"u", "alaw": b"a"}


def sign_intervals_ms(int number):
    """From each murmur of a sign to the next."""
    cdef int intervals_ms[FA_SIGN_SYMBOLS + 1]
    if not 0 <= number < FA_SIGN_NUMBERS:
        raise ValueError(f"expected a number from 0 to {FA_SIGN_NUMBERS - 1}")
    fa_sign_intervals(<uint32_t> number, intervals_ms)
    return [intervals_ms[i] for i in range(FA_SIGN_SYMBOLS + 1)]


@cython.final
cdef class LoadEngine:
    """Sockets, due times and the account of the audio of many calls."""

    cdef fa_load *engine
    cdef list keepalive
    cdef bint is_running

    def __cinit__(self):
        self.keepalive = []
        self.engine = fa_load_new()
        if self.engine == NULL:
            raise MemoryError("no memory or no descriptors for a load engine")

    def __dealloc__(self):
        if self.engine != NULL:
            fa_load_free(self.engine)

    def run(self):
        """Serve until `stop`, without the GIL."""
        if self.is_running:
            raise RuntimeError("the engine runs already")
        self.is_running = True
        try:
            with nogil:
                fa_load_run(self.engine)
        finally:
            self.is_running = False

    def stop(self):
        """End `run`."""
        fa_load_stop(self.engine)

    def fileno(self):
        """Readable while there are events."""
        return fa_load_event_fd(self.engine)

    def events(self):
        """All that happened since the last call."""
        cdef fa_load_event *events = NULL
        cdef size_t n, i
        cdef list told = []
        with nogil:
            n = fa_load_take_events(self.engine, &events)
        try:
            for i in range(n):
                text = b"" if events[i].text == NULL else PyBytes_FromStringAndSize(events[i].text, <Py_ssize_t> events[i].size)
                told.append((events[i].connection, events[i].kind, events[i].at_ns, events[i].value, text))
        finally:
            for i in range(n):
                free(events[i].text)
            free(events)
        return told

    def add_spec(self, EnvelopeSpec spec not None):
        """Declare a media message."""
        cdef int number = fa_load_add_spec(self.engine, &spec.spec)
        if number < 0:
            raise ValueError("too many media messages")
        self.keepalive.append(spec)
        return number

    def add_clip(self, bytes text not None, int frames, double frame_ms, bytes flags not None,
                 bytes mark_us not None):
        """Declare a clip of equal frames."""
        if frames < 1 or PyBytes_GET_SIZE(text) % frames or PyBytes_GET_SIZE(flags) != frames:
            raise ValueError("expected equal frames and a flag for each")
        if PyBytes_GET_SIZE(mark_us) != 4 * frames or not 1 <= frame_ms <= 10_000:
            raise ValueError("expected a uint32 for each frame, and frames of 1 to 10000 ms")
        cdef int number = fa_load_add_clip(
            self.engine, PyBytes_AS_STRING(text), frames, <uint32_t> (PyBytes_GET_SIZE(text) // frames),
            <uint32_t> (frame_ms * 1000), <const uint8_t *> PyBytes_AS_STRING(flags),
            <const uint32_t *> PyBytes_AS_STRING(mark_us),
        )
        if number < 0:
            raise ValueError("a clip that is empty, too large, or one too many")
        return number

    def add(self, int fd, *, bint is_client, bint is_up, int spec, bytes media not None, int end_quiet_ms,
            bytes first not None=b""):
        """Take over a connected socket behind its upgrade."""
        if PyBytes_GET_SIZE(media) > FA_LOAD_TEMPLATE_BYTES_MAX - 256:
            raise ValueError("the template is too long")
        cdef int number = fa_load_add(
            self.engine, fd, is_client, is_up, spec, PyBytes_AS_STRING(media), <size_t> PyBytes_GET_SIZE(media),
            end_quiet_ms, PyBytes_AS_STRING(first), <size_t> PyBytes_GET_SIZE(first),
        )
        if number < 0:
            raise MemoryError("no memory for a connection")
        return number

    def set_format(self, int connection, str encoding not None, int sample_rate):
        """Say what comes in."""
        code = ENCODINGS.get(encoding)
        if code is None or not 8000 <= sample_rate <= 48000:
            raise ValueError(f"one of {', '.join(ENCODINGS)} at 8000 to 48000 Hz expected")
        return fa_load_format(self.engine, connection, (<bytes> code)[0], sample_rate) == 0

    def set_media(self, int connection, bytes media not None):
        """Another template of media messages."""
        cdef size_t size = <size_t> PyBytes_GET_SIZE(media)
        return fa_load_media(self.engine, connection, PyBytes_AS_STRING(media), size) == 0

    def pair(self, int one, int other):
        """What one sends the other shall hear."""
        return fa_load_pair(self.engine, one, other) == 0

    def send(self, int connection, bytes text not None):
        """Send a text message."""
        return fa_load_send(self.engine, connection, PyBytes_AS_STRING(text), <size_t> PyBytes_GET_SIZE(text)) == 0

    def idle(self, int connection, int clip):
        """Send a clip over and over while nothing is said."""
        return fa_load_idle(self.engine, connection, clip) == 0

    def say(self, int connection, int clip):
        """Say a clip once."""
        return fa_load_say(self.engine, connection, clip) == 0

    def hush(self, int connection):
        """Stop saying."""
        return fa_load_hush(self.engine, connection) == 0

    def mute(self, int connection):
        """Send no more frames."""
        return fa_load_mute(self.engine, connection) == 0

    def expect(self, int connection):
        """Tell of the next loud sample after some quiet."""
        return fa_load_expect(self.engine, connection) == 0

    def cut(self, int connection):
        """Count what was not played as dropped."""
        return fa_load_cut(self.engine, connection) == 0

    def times(self, int connection):
        """Last audio, first loud frame said, end of what is to be played."""
        cdef int64_t last_audio_ns = 0, spoke_ns = 0, played_ns = 0
        fa_load_times(self.engine, connection, &last_audio_ns, &spoke_ns, &played_ns)
        return last_audio_ns, spoke_ns, played_ns

    def close(self, int connection, int code=1000, *, bint is_abrupt=False):
        """Close a connection, or reset it."""
        return fa_load_close(self.engine, connection, code, is_abrupt) == 0

    def take_histogram(self, str name not None):
        """Counts by class since the last call, and the largest value."""
        cdef bytes counts = PyBytes_FromStringAndSize(NULL, FA_LOAD_CLASSES * 4)
        cdef int which = HISTOGRAMS.index(name)
        cdef int64_t largest_ns = fa_load_take_histogram(self.engine, which, <uint32_t *> PyBytes_AS_STRING(counts))
        return counts, largest_ns

    def counters(self):
        """All counters, by name."""
        cdef uint64_t counters[FA_LOAD_COUNTERS]
        fa_load_counters(self.engine, counters)
        return {name: counters[i] for i, name in enumerate(COUNTERS)}

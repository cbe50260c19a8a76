# distutils: language = c
"""The frame pumps: one media message in, at most one out, in C, with no Python object in between."""

from collections import deque

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fa_base64 cimport (
    fa_base64_decode,
    fa_base64_encode,
    fa_base64_encoded_size,
    fa_base64_validate,
)
from fa_convert cimport (
    FA_ALAW,
    FA_PCM16,
    FA_RESAMPLE_FLUSH_ROOM,
    FA_ULAW,
    fa_converter_begin_chunk,
    fa_converter_flush,
    fa_converter_init,
    fa_converter_process,
    fa_converter_reset,
    fa_converter_room,
)
from fa_envelope cimport (
    FA_JSON_NUMBER,
    FA_JSON_STRING,
    fa_envelope_scan,
    fa_envelope_unescape,
)
from fa_playout cimport (
    fa_fifo_clear,
    fa_fifo_drop,
    fa_fifo_pop,
    fa_fifo_prepend,
    fa_fifo_push,
    fa_playout_played,
    fa_playout_sent,
    fa_playout_settle,
)
from fa_scratch cimport fa_scratch
from fa_stages cimport (
    FA_STAGE_BASE64,
    FA_STAGE_CHECK,
    FA_STAGE_COPY,
    FA_STAGE_EARS,
    FA_STAGE_EVENTS,
    FA_STAGE_QUEUE,
    FA_STAGE_SCAN,
    FA_STAGE_UNBASE64,
    FA_WAY_DOWNLINK,
    FA_WAY_OTHER,
    FA_WAY_UPLINK,
    fa_stages_begin_inner,
    fa_stages_end,
    fa_stages_lap,
    fa_stages_share,
)

from fastagent._native.envelope cimport EnvelopeSpec
from fastagent._native.stages cimport shared_stages
from fastagent._native.tap cimport Tap

fa_stages_share(shared_stages())

# Room in front of a message for the largest WebSocket header (RFC 6455, 5.2: 14 bytes).
cdef enum:
    HEADROOM = 16
    # Base64 characters decoded at a time; a multiple of four.
    BLOCK_TEXT = 4096
    BLOCK_BYTES = 3072
    BLOCK_SAMPLES = 1536  # of two bytes: samples are decoded to where they lie well
    SEQUENCE_DIGITS_MAX = 15

_ENCODINGS = {"pcm16": FA_PCM16, "mulaw": FA_ULAW, "alaw": FA_ALAW}


cdef int _encoding(str name) except -1:
    try:
        return _ENCODINGS[name]
    except KeyError:
        raise ValueError(f"expected one of {sorted(_ENCODINGS)}, got {name!r}") from None


cdef bytes _unescaped(const fa_span *span):
    # The meaning of a JSON string; its text as it stands where an escape has no meaning.
    cdef bytes text = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>span.size)
    cdef Py_ssize_t size = fa_envelope_unescape(span, PyBytes_AS_STRING(text))
    return text[:size] if size >= 0 else span.start[:span.size]


cdef class Pump:
    """What both directions share: scan, verbatim copy or conversion, outgoing envelope.

    Args:
        spec: which messages are media and where their audio stands.
        in_encoding, in_rate: how audio arrives (``pcm16``, ``mulaw``, ``alaw``; Hz).
        out_encoding, out_rate: how it leaves.
        prefix, suffix: what is written around the base64 audio.
        has_wav_header: RIFF headers may stand at the start of chunks; they are skipped.
    """

    def __init__(self, EnvelopeSpec spec not None, str in_encoding not None, int in_rate, str out_encoding not None,
                 int out_rate, bytes prefix not None, bytes suffix not None, *, bint has_wav_header=False):
        cdef int inside = _encoding(in_encoding)
        cdef int outside = _encoding(out_encoding)
        if in_rate <= 0 or out_rate <= 0 or \
                fa_converter_init(&self.converter, inside, in_rate, outside, out_rate, has_wav_header) < 0:
            raise ValueError(f"no conversion from {in_rate} to {out_rate} Hz")
        self.spec = spec
        self.prefix = prefix
        self.suffix = suffix
        self.passthrough = inside == outside and in_rate == out_rate and not has_wav_header
        self.in_sample_size = 2 if inside == FA_PCM16 else 1
        self.out_sample_size = 2 if outside == FA_PCM16 else 1
        self.way = FA_WAY_OTHER

    @property
    def is_passthrough(self):
        """Both sides speak the same format: audio text is copied, not converted."""
        return self.passthrough

    cdef char *_reserve(self, Py_ssize_t size) except NULL:
        # Room for `size` bytes of message, until this thread's next message is begun.
        cdef char *buffer = fa_scratch(HEADROOM + size)
        if buffer == NULL:
            raise MemoryError()
        return buffer + HEADROOM

    cdef int _wrap(self, const char *text, Py_ssize_t n) except? -9:
        # Writes prefix + text + suffix.
        cdef Py_ssize_t before = PyBytes_GET_SIZE(self.prefix)
        cdef Py_ssize_t after = PyBytes_GET_SIZE(self.suffix)
        cdef char *out = self._reserve(before + n + after)
        memcpy(out, PyBytes_AS_STRING(self.prefix), before)
        memcpy(out + before, text, n)
        memcpy(out + before + n, PyBytes_AS_STRING(self.suffix), after)
        self.out = out
        self.out_size = before + n + after
        fa_stages_lap(FA_STAGE_COPY)
        return PUMP_SEND

    cdef int _find_audio(self, const char *message, Py_ssize_t n, audio_text *found) except? -9:
        # Scans a message; PUMP_SEND when there is audio to work on. An escaped text lives until the next call.
        cdef int verdict = fa_envelope_scan(&self.spec.spec, message, n, &self.match)
        fa_stages_lap(FA_STAGE_SCAN)
        if verdict == 0:
            return PUMP_OTHER
        if verdict < 0:
            self.malformed += 1
            return PUMP_MALFORMED
        self.messages += 1
        found.text = self.match.audio.start
        found.size = self.match.audio.size
        if self.match.audio.escaped:
            self.unescaped = PyBytes_FromStringAndSize(NULL, found.size)
            found.size = fa_envelope_unescape(&self.match.audio, PyBytes_AS_STRING(self.unescaped))
            if found.size < 0:
                self.bad_audio += 1
                return PUMP_BAD_AUDIO
            found.text = PyBytes_AS_STRING(self.unescaped)
        found.length = fa_base64_validate(found.text, found.size)
        fa_stages_lap(FA_STAGE_CHECK)
        if found.length < 0:
            self.bad_audio += 1
            return PUMP_BAD_AUDIO
        return PUMP_SEND if found.length else PUMP_QUIET

    cdef bint _is_copied(self, Py_ssize_t length):
        # The audio goes on as it came.
        return self.passthrough and length % self.in_sample_size == 0 and not self.converter.carry_size

    cdef int take(self, const char *message, Py_ssize_t n, double now) except? -9:
        raise NotImplementedError

    cdef int more(self, double now) except? -9:
        return PUMP_QUIET

    cdef bint is_waiting(self):
        return False

    def connect_tap(self, Tap tap):
        """Let ``tap`` hear what passes; None for nobody."""
        self.tap = tap

    def feed(self, message, double now=0.0):
        """Take one message; give the message to send, or None.

        Raises:
            LookupError: the message is not media (it belongs to the slow path).
            ValueError: its envelope is malformed or its audio is not canonical base64; it was counted.
        """
        cdef Py_buffer view
        cdef int verdict = PUMP_OTHER
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        cdef int is_timed = fa_stages_begin_inner()
        try:
            verdict = self.take(<const char *>view.buf, view.len, now)
        finally:
            fa_stages_end(is_timed, self.way if verdict == PUMP_SEND or verdict == PUMP_QUIET else FA_WAY_OTHER)
            PyBuffer_Release(&view)
        if verdict == PUMP_SEND:
            return PyBytes_FromStringAndSize(self.out, self.out_size)
        if verdict == PUMP_QUIET:
            return None
        if verdict == PUMP_OTHER:
            raise LookupError("not a media message")
        raise ValueError("malformed envelope" if verdict == PUMP_MALFORMED else "audio is not canonical base64")


cdef class Uplink(Pump):
    """Caller audio on its way to the model, and what is kept of it while the model cannot take it.

    ``backlog_ms`` of audio are kept at most (default 5 s); then the oldest is dropped and counted.

    Args:
        append_ms: audio is gathered until it is this long, and leaves as one message; what is longer goes on as it
            is. 0: each message goes on at once. Whoever gathers must `flush` before anything else is said to the
            model. The tap hears at once.
        expected_field: which of the spec's fields must be the text ``expected``; a message in which it is not
            belongs to the slow path. -1: none.
        sequence_field: which of them is a number, or its digits in a string, that grows by one with each message,
            taken here or not: where it jumps ahead, ``gaps`` counts that; where it does not go on, ``repeats``.
            The audio passes either way. -1: none.
    """

    def __cinit__(self, *args, **kwargs):
        memset(&self.gathered, 0, sizeof(self.gathered))

    def __dealloc__(self):
        fa_fifo_clear(&self.gathered)

    def __init__(self, EnvelopeSpec spec not None, str in_encoding not None, int in_rate, str out_encoding not None,
                 int out_rate, bytes prefix not None, bytes suffix not None, *, bint has_wav_header=False,
                 int backlog_ms=5000, int append_ms=0, int expected_field=-1, bytes expected not None=b"",
                 int sequence_field=-1):
        if backlog_ms < 0:
            raise ValueError(f"expected a backlog of 0 ms or more, got {backlog_ms}")
        if append_ms < 0:
            raise ValueError(f"expected 0 ms or more to gather, got {append_ms}")
        if not -1 <= expected_field < spec.spec.fields or not -1 <= sequence_field < spec.spec.fields:
            raise ValueError(f"expected a field of the spec's {spec.spec.fields}")
        Pump.__init__(self, spec, in_encoding, in_rate, out_encoding, out_rate, prefix, suffix,
                      has_wav_header=has_wav_header)
        self.way = FA_WAY_UPLINK
        # However short, a message counts as a millisecond: that bounds their number too.
        self.backlog_quantum = max(1, out_rate // 1000)
        self.backlog = deque()
        self.backlog_samples = 0
        self.backlog_limit = <int64_t>out_rate * backlog_ms // 1000
        self.append_bytes = <Py_ssize_t>(<int64_t>out_rate * append_ms // 1000 * self.out_sample_size)
        self.expected_field = expected_field
        self.expected = expected
        self.sequence_field = sequence_field
        self.last_sequence = -1

    cdef bint _is_expected(self):
        # The message says what it must say; read right after the scan.
        cdef const fa_span *span = &self.match.field[self.expected_field]
        if span.kind != FA_JSON_STRING:
            return False
        if span.escaped:
            return _unescaped(span) == self.expected
        return <Py_ssize_t>span.size == PyBytes_GET_SIZE(self.expected) and \
            memcmp(span.start, PyBytes_AS_STRING(self.expected), span.size) == 0

    cdef void _note_sequence(self) noexcept:
        # Counts what is missing before this message, and what came before; other than small numbers say nothing.
        cdef const fa_span *span = &self.match.field[self.sequence_field]
        cdef int64_t number = 0
        cdef size_t i
        if span.kind != FA_JSON_NUMBER and span.kind != FA_JSON_STRING:
            return
        if span.size == 0 or span.size > SEQUENCE_DIGITS_MAX:
            return
        for i in range(span.size):
            if not c"0" <= span.start[i] <= c"9":
                return
            number = 10 * number + (span.start[i] - c"0")
        if self.last_sequence >= 0 and number <= self.last_sequence:
            self.repeats += 1
            return
        if self.last_sequence >= 0 and number > self.last_sequence + 1:
            self.gaps += 1
        self.last_sequence = number

    cdef int take(self, const char *message, Py_ssize_t n, double now) except? -9:
        cdef audio_text found
        cdef Py_ssize_t room, before, after, size
        cdef char *out
        cdef uint8_t block[BLOCK_BYTES]
        cdef int verdict = self._find_audio(message, n, &found)
        if self.sequence_field >= 0 and verdict != PUMP_OTHER and verdict != PUMP_MALFORMED:
            self._note_sequence()
        if self.expected_field >= 0 and (verdict == PUMP_SEND or verdict == PUMP_QUIET) and not self._is_expected():
            self.messages -= 1
            return PUMP_OTHER
        if verdict != PUMP_SEND:
            return verdict
        if self._is_copied(found.length):
            self.samples_in += found.length // self.in_sample_size
            if self.gathered.size or found.length < self.append_bytes:
                return self._gather_text(&found, now)
            if self.tap is not None and self.tap.wants_caller(now):
                self._tap_text(found.text, found.size, now)
                fa_stages_lap(FA_STAGE_EARS)
            return self._wrap(found.text, found.size)

        # Decode and convert behind the place of the text, then encode from there to the front.
        before = PyBytes_GET_SIZE(self.prefix)
        after = PyBytes_GET_SIZE(self.suffix)
        room = fa_converter_room(&self.converter, found.length)
        out = self._reserve(before + fa_base64_encoded_size(room) + after + room)
        cdef char *audio = out + before + fa_base64_encoded_size(room) + after
        cdef Py_ssize_t written = 0
        cdef Py_ssize_t at = 0
        cdef ptrdiff_t got
        cdef uint64_t before_samples = self.converter.samples_in
        fa_converter_begin_chunk(&self.converter)
        while at < found.size:
            got = fa_base64_decode(found.text + at, min(BLOCK_TEXT, found.size - at), block)
            fa_stages_lap(FA_STAGE_UNBASE64)
            if self.tap is not None:
                self.tap.hear_caller(block, got, at == 0, now)
                fa_stages_lap(FA_STAGE_EARS)
            at += BLOCK_TEXT
            written += fa_converter_process(&self.converter, block, got, <uint8_t *>audio + written)
        self.samples_in += self.converter.samples_in - before_samples
        if written == 0:
            return PUMP_QUIET
        if self.gathered.size or written < self.append_bytes:
            self._gather(<uint8_t *>audio, written, now)
            return self._give_gathered(self.append_bytes)
        memcpy(out, PyBytes_AS_STRING(self.prefix), before)
        size = fa_base64_encode(<uint8_t *>audio, written, out + before)
        memcpy(out + before + size, PyBytes_AS_STRING(self.suffix), after)
        self.out = out
        self.out_size = before + size + after
        fa_stages_lap(FA_STAGE_BASE64)
        return PUMP_SEND

    cdef int _tap_text(self, const char *text, Py_ssize_t size, double now) except -1:
        cdef int16_t samples[BLOCK_SAMPLES]
        cdef uint8_t *block = <uint8_t *>samples
        cdef Py_ssize_t at = 0
        while at < size:
            self.tap.hear_caller(block, fa_base64_decode(text + at, min(BLOCK_TEXT, size - at), block), at == 0, now)
            at += BLOCK_TEXT
        return 0

    # Gathering

    cdef int _gather(self, const uint8_t *audio, Py_ssize_t size, double now) except -1:
        if self.gathered.size == 0:
            self.gathering_since = now
        if fa_fifo_push(&self.gathered, audio, size) < 0:
            raise MemoryError()
        return 0

    cdef int _gather_text(self, const audio_text *found, double now) except? -9:
        # Decodes once, for the tap and for the message to come.
        cdef int16_t samples[BLOCK_SAMPLES]
        cdef uint8_t *block = <uint8_t *>samples
        cdef Py_ssize_t at = 0
        cdef ptrdiff_t got
        while at < found.size:
            got = fa_base64_decode(found.text + at, min(BLOCK_TEXT, found.size - at), block)
            fa_stages_lap(FA_STAGE_UNBASE64)
            if self.tap is not None:
                self.tap.hear_caller(block, got, at == 0, now)
                fa_stages_lap(FA_STAGE_EARS)
            self._gather(block, got, now)
            at += BLOCK_TEXT
        return self._give_gathered(self.append_bytes)

    cdef int _give_gathered(self, Py_ssize_t at_least) except? -9:
        # One message of all that was gathered, once it is as long as that.
        cdef Py_ssize_t size = <Py_ssize_t>self.gathered.size
        cdef Py_ssize_t before = PyBytes_GET_SIZE(self.prefix)
        cdef Py_ssize_t after = PyBytes_GET_SIZE(self.suffix)
        cdef Py_ssize_t text = fa_base64_encoded_size(size)
        cdef char *out
        cdef char *audio
        if size == 0 or size < at_least:
            fa_stages_lap(FA_STAGE_QUEUE)
            return PUMP_QUIET
        out = self._reserve(before + text + after + size)
        audio = out + before + text + after
        fa_fifo_pop(&self.gathered, <uint8_t *>audio, size)
        memcpy(out, PyBytes_AS_STRING(self.prefix), before)
        fa_base64_encode(<uint8_t *>audio, size, out + before)
        memcpy(out + before + text, PyBytes_AS_STRING(self.suffix), after)
        self.out = out
        self.out_size = before + text + after
        fa_stages_lap(FA_STAGE_BASE64)
        return PUMP_SEND

    def flush(self):
        """One message of what was gathered, or None."""
        if self._give_gathered(0) == PUMP_SEND:
            return PyBytes_FromStringAndSize(self.out, self.out_size)
        return None

    @property
    def is_gathering(self):
        """Audio was heard that did not leave yet."""
        return self.gathered.size > 0

    # Keeping

    cdef int hold(self) except -1:
        # Keeps the message just made.
        self._keep(PyBytes_FromStringAndSize(self.out, self.out_size))
        return 0

    cdef int _keep(self, bytes message) except -1:
        cdef Py_ssize_t text = PyBytes_GET_SIZE(message) - PyBytes_GET_SIZE(self.prefix) - PyBytes_GET_SIZE(self.suffix)
        cdef const char *end = PyBytes_AS_STRING(message) + PyBytes_GET_SIZE(self.prefix) + text
        cdef Py_ssize_t padding = (text >= 4 and end[-1] == b"=") + (text >= 4 and end[-2] == b"=")
        cdef int64_t samples = max(self.backlog_quantum, (text // 4 * 3 - padding) // self.out_sample_size)
        self.backlog.append((message, samples))
        self.backlog_samples += samples
        while self.backlog_samples > self.backlog_limit and self.backlog:
            self.backlog_samples -= <int64_t>self.backlog.popleft()[1]
            self.backlog_dropped += 1
        return 0

    cdef bytes release_first(self):
        # The oldest message kept, or None.
        if not self.backlog:
            return None
        message, samples = self.backlog.popleft()
        self.backlog_samples -= <int64_t>samples
        return message

    def release(self):
        """The messages kept while the model could not take them, oldest first; keeps none, and gathers anew."""
        messages = [message for message, _ in self.backlog]
        self.backlog.clear()
        self.backlog_samples = 0
        if self._give_gathered(0) == PUMP_SEND:
            messages.append(PyBytes_FromStringAndSize(self.out, self.out_size))
        return messages

    @property
    def backlog_messages(self):
        """Messages kept for the model."""
        return len(self.backlog)

    def reset(self):
        """Begin a new stretch of caller audio: forget filter history, unfinished samples and the count."""
        fa_converter_reset(&self.converter)
        self.last_sequence = -1

    def keep(self, bytes message not None):
        """Keep a message that `feed` gave, as the socket path does while the model cannot take it."""
        self._keep(message)


cdef class Downlink(Pump):
    """Model audio on its way to the caller: sent at once while little is in flight, queued beyond.

    Positions count carrier samples since the call began. ``on_item(response_id, item_id, content_index)``
    is called when audio of another item begins; it returns whether to play it, and may change the template.

    Args:
        lead_ms: most audio in flight to the carrier, by the playback clock.
        quantum_ms: smallest piece taken off the queue, unless less is left.
        queue_limit_ms: most audio queued; a message that would exceed it is dropped and counted.
        retains: keep what was sent until it was heard, so that `hold` can take it back.
    """

    def __cinit__(self, *args, **kwargs):
        memset(&self.queue, 0, sizeof(self.queue))
        memset(&self.retained, 0, sizeof(self.retained))

    def __init__(self, EnvelopeSpec spec not None, str in_encoding not None, int in_rate, str out_encoding not None,
                 int out_rate, bytes prefix not None, bytes suffix not None, *, int lead_ms=400,
                 int quantum_ms=100, int queue_limit_ms=120_000, bint retains=False):
        if spec.spec.fields < 3:
            raise ValueError("the spec must declare response id, item id and content index, in this order")
        Pump.__init__(self, spec, in_encoding, in_rate, out_encoding, out_rate, prefix, suffix)
        self.way = FA_WAY_DOWNLINK
        self.clock.sample_rate = out_rate
        self.lead = <int64_t>out_rate * lead_ms // 1000
        self.quantum = min(<int64_t>out_rate * quantum_ms // 1000, self.lead)
        self.queue_limit = <int64_t>out_rate * queue_limit_ms // 1000
        if self.lead < 1 or self.quantum < 1 or self.queue_limit < 1:
            raise ValueError("lead, quantum and queue limit must hold at least one sample each")
        self.item_key = b""
        self.item_is_played = False
        self.on_item = None
        self.retains = retains
        self.is_held = False

    def __dealloc__(self):
        fa_fifo_clear(&self.queue)
        fa_fifo_clear(&self.retained)

    # Positions

    @property
    def sent(self):
        """Carrier samples that left."""
        return self.clock.sent

    @property
    def queued(self):
        """Carrier samples that wait to leave."""
        return <int64_t>self.queue.size // self.out_sample_size

    def played(self, double now):
        """Carrier samples heard by ``now`` (monotonic seconds), by the playback clock."""
        return fa_playout_played(&self.clock, now)

    # Control

    def set_template(self, bytes prefix not None, bytes suffix not None):
        """Write another envelope from now on."""
        self.prefix = prefix
        self.suffix = suffix

    def finish_item(self, double now):
        """No more audio of the current item comes: let out what the resampler still holds.

        The tail is queued; it leaves with the next `due`.
        """
        cdef uint8_t tail[2 * FA_RESAMPLE_FLUSH_ROOM]
        cdef Py_ssize_t n
        if not self.item_is_played:
            return
        n = fa_converter_flush(&self.converter, tail)
        if n and fa_fifo_push(&self.queue, tail, n) < 0:
            raise MemoryError()
        self.enqueued += n // self.out_sample_size

    def insert(self, audio, double now):
        """Queue audio of our own making, in the carrier's format, behind what waits already.

        Returns:
            False when the queue has no room for it; nothing is queued then.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(audio, &view, PyBUF_SIMPLE)
        try:
            if view.len % self.out_sample_size:
                raise ValueError("expected whole samples")
            if self.queue.size + view.len > <size_t>(self.queue_limit * self.out_sample_size):
                self.dropped += 1
                return False
            if fa_fifo_push(&self.queue, <uint8_t *>view.buf, view.len) < 0:
                raise MemoryError()
            self.enqueued += view.len // self.out_sample_size
            return True
        finally:
            PyBuffer_Release(&view)

    def hold(self, double now):
        """Send nothing more; what was sent and not heard by ``now`` returns to the queue.

        For a carrier that is told to drop what it has. `release` goes on at the sample that was held. Audio
        returns as far as it was retained (``retains``).

        Returns:
            Carrier samples taken back.
        """
        cdef int64_t unheard = self.clock.sent - fa_playout_played(&self.clock, now)
        cdef int64_t kept
        if self.is_held:
            return 0
        self.is_held = True
        self._trim(unheard)
        kept = <int64_t>self.retained.size // self.out_sample_size
        if fa_fifo_prepend(&self.queue, &self.retained) < 0:
            raise MemoryError()
        self.clock.sent -= kept
        fa_playout_settle(&self.clock, now)
        if self.tap is not None:
            self.tap.cut_bot(now)
        return kept

    def release(self):
        """Go on where `hold` stopped; the audio leaves with the next `due`."""
        self.is_held = False

    cdef int _trim(self, int64_t unheard) except -1:
        # Forgets what was heard of the audio retained.
        cdef Py_ssize_t size = <Py_ssize_t>self.retained.size - <Py_ssize_t>(unheard * self.out_sample_size)
        if size > 0:
            fa_fifo_drop(&self.retained, size)
        return 0

    cdef int _tap_text(self, const char *text, Py_ssize_t size, double now) except -1:
        # The audio of a message that leaves as it came, for those who want its samples.
        cdef int16_t samples[BLOCK_SAMPLES]
        cdef uint8_t *block = <uint8_t *>samples
        cdef Py_ssize_t at = 0
        while at < size:
            self._note_sent(block, fa_base64_decode(text + at, min(BLOCK_TEXT, size - at), block), now)
            at += BLOCK_TEXT
        return 0

    cdef int _note_sent(self, const uint8_t *audio, Py_ssize_t size, double now) except -1:
        if self.tap is not None:
            self.tap.hear_bot(audio, size, now)
        if self.retains:
            if fa_fifo_push(&self.retained, audio, size) < 0:
                raise MemoryError()
        return 0

    def cut(self, double now):
        """Drop the queue and the rest of the current item; take what was sent as over."""
        fa_fifo_clear(&self.queue)
        fa_fifo_clear(&self.retained)
        self.is_held = False
        if self.tap is not None:
            self.tap.cut_bot(now)
        fa_converter_reset(&self.converter)
        self.item_is_played = False
        self.enqueued = self.clock.sent
        fa_playout_settle(&self.clock, now)

    def settle(self, double now):
        """The carrier says that everything sent was heard."""
        fa_playout_settle(&self.clock, now)

    def forget_item(self):
        """Meet the next message's item anew, even if it is the current one."""
        self.item_key = b""

    # The path

    cdef bint is_waiting(self):
        return self.queue.size > 0

    @property
    def is_queued(self):
        """Audio waits to leave."""
        return self.queue.size > 0

    cdef int _same_item(self):
        # The key is the raw text of both ids, joined by a newline, which no JSON string holds.
        cdef Py_ssize_t first = self.match.field[0].size
        cdef Py_ssize_t second = self.match.field[1].size
        cdef const char *key = PyBytes_AS_STRING(self.item_key)
        if PyBytes_GET_SIZE(self.item_key) != first + 1 + second:
            return 0
        if self.match.field[0].kind != FA_JSON_STRING or self.match.field[1].kind != FA_JSON_STRING:
            return 0
        return (
            memcmp(key, self.match.field[0].start, first) == 0
            and key[first] == 10
            and memcmp(key + first + 1, self.match.field[1].start, second) == 0
        )

    cdef int _meet_item(self) except -1:
        cdef fa_span *response = &self.match.field[0]
        cdef fa_span *item = &self.match.field[1]
        cdef fa_span *index = &self.match.field[2]
        cdef bytes response_id = b""
        cdef bytes item_id = b""
        if response.kind == FA_JSON_STRING:
            response_id = response.start[:response.size]
        if item.kind == FA_JSON_STRING:
            item_id = item.start[:item.size]
        # The key is set first: on_item may ask for the item to be met again.
        self.item_key = response_id + b"\n" + item_id
        # The codec, which unescapes, must know the item by the same names.
        if response.escaped:
            response_id = _unescaped(response)
        if item.escaped:
            item_id = _unescaped(item)
        content_index = 0
        if index.size == 1 and 48 <= index.start[0] <= 57:
            content_index = index.start[0] - 48
        self.item_is_played = True
        if self.on_item is not None:
            self.item_is_played = bool(
                self.on_item(response_id.decode("utf-8", "replace"), item_id.decode("utf-8", "replace"), content_index)
            )
        return 0

    cdef int take(self, const char *message, Py_ssize_t n, double now) except? -9:
        cdef audio_text found
        cdef Py_ssize_t samples
        cdef int64_t in_flight
        cdef ptrdiff_t got
        cdef int verdict = self._find_audio(message, n, &found)
        if verdict != PUMP_SEND:
            return verdict
        if not self._same_item():
            self._meet_item()
            fa_stages_lap(FA_STAGE_EVENTS)
        if not self.item_is_played:
            self.discarded += 1
            return PUMP_QUIET

        samples = found.length // self.in_sample_size
        in_flight = self.clock.sent - fa_playout_played(&self.clock, now)
        if (
            self._is_copied(found.length)
            and self.queue.size == 0
            and not self.is_held
            and in_flight + samples <= self.lead
        ):
            self.samples_in += samples
            self.received += samples
            self.enqueued += samples
            self._trim(in_flight)
            fa_stages_lap(FA_STAGE_QUEUE)
            if self.retains or (self.tap is not None and self.tap.wants_bot(now)):
                self._tap_text(found.text, found.size, now)
                fa_stages_lap(FA_STAGE_EARS)
            fa_playout_sent(&self.clock, samples, now)
            return self._wrap(found.text, found.size)

        if self.queue.size + fa_converter_room(&self.converter, found.length) > \
                <size_t>(self.queue_limit * self.out_sample_size):
            self.dropped += 1
            return PUMP_QUIET
        cdef uint8_t block[BLOCK_BYTES]
        cdef uint8_t converted[3 * BLOCK_BYTES * 2 + 64]
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t written
        cdef uint64_t before = self.converter.samples_in
        while at < found.size:
            got = fa_base64_decode(found.text + at, min(BLOCK_TEXT, found.size - at), block)
            fa_stages_lap(FA_STAGE_UNBASE64)
            at += BLOCK_TEXT
            written = fa_converter_process(&self.converter, block, got, converted)
            if fa_fifo_push(&self.queue, converted, written) < 0:
                raise MemoryError()
            fa_stages_lap(FA_STAGE_QUEUE)
            self.enqueued += written // self.out_sample_size
        # Counted after conversion: an odd byte belongs to the message that completes its sample.
        self.samples_in += self.converter.samples_in - before
        self.received += <int64_t>(self.converter.samples_in - before)
        return self.more(now)

    cdef int more(self, double now) except? -9:
        # The next piece that is due: a quantum while the lead has room for it, or the rest when it fits.
        cdef int64_t waiting = <int64_t>self.queue.size // self.out_sample_size
        cdef int64_t room
        if waiting == 0 or self.is_held:
            return PUMP_QUIET
        room = self.lead - (self.clock.sent - fa_playout_played(&self.clock, now))
        if waiting > room:
            if room < self.quantum:
                return PUMP_QUIET
            waiting = room
        # No message longer than a second, whatever the lead.
        if waiting > <int64_t>self.clock.sample_rate:
            waiting = <int64_t>self.clock.sample_rate
        self._emit(waiting, now)
        return PUMP_SEND

    cdef int _emit(self, int64_t samples, double now) except -1:
        cdef Py_ssize_t size = samples * self.out_sample_size
        cdef Py_ssize_t before = PyBytes_GET_SIZE(self.prefix)
        cdef Py_ssize_t after = PyBytes_GET_SIZE(self.suffix)
        cdef Py_ssize_t text = fa_base64_encoded_size(size)
        cdef char *out = self._reserve(before + text + after + size)
        cdef char *audio = out + before + text + after
        fa_fifo_pop(&self.queue, <uint8_t *>audio, size)
        self._trim(self.clock.sent - fa_playout_played(&self.clock, now))
        fa_stages_lap(FA_STAGE_QUEUE)
        if self.tap is not None or self.retains:
            self._note_sent(<uint8_t *>audio, size, now)
            fa_stages_lap(FA_STAGE_EARS)
        memcpy(out, PyBytes_AS_STRING(self.prefix), before)
        fa_base64_encode(<uint8_t *>audio, size, out + before)
        memcpy(out + before + text, PyBytes_AS_STRING(self.suffix), after)
        self.out = out
        self.out_size = before + text + after
        fa_playout_sent(&self.clock, samples, now)
        fa_stages_lap(FA_STAGE_BASE64)
        return 0

    def due(self, double now):
        """The next queued message that may leave at ``now``, or None."""
        if self.more(now) == PUMP_SEND:
            return PyBytes_FromStringAndSize(self.out, self.out_size)
        return None

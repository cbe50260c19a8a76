# distutils: language = c
"""One WebSocket of a call over picows: frame guard, send cap, and a pump that takes media off the slow path."""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from picows.picows cimport WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from fa_stages cimport (
    FA_STAGE_EVENTS,
    FA_STAGE_GUARD,
    FA_STAGE_QUEUE,
    FA_STAGE_SEND,
    FA_WAY_OTHER,
    FA_WAY_TICK,
    fa_stages_begin,
    fa_stages_begin_inner,
    fa_stages_end,
    fa_stages_lap,
    fa_stages_share,
)
from fa_utf8 cimport FA_UTF8_ACCEPT, FA_UTF8_REJECT, fa_utf8_advance

from fastagent._native.pump cimport (
    PUMP_BAD_AUDIO,
    PUMP_MALFORMED,
    PUMP_OTHER,
    PUMP_QUIET,
    PUMP_SEND,
    Downlink,
    Pump,
    Uplink,
)
from fastagent._native.stages cimport shared_stages

fa_stages_share(shared_stages())

logger = logging.getLogger("fastagent.leg")

cdef enum:
    # Room in front of a message for the largest WebSocket header (RFC 6455, 5.2: 14 bytes).
    HEADROOM = 16
    SMALL_MESSAGE_BYTES = 1024
    # Time classes of the frame histogram: class k holds [2^k, 2^(k+1)) nanoseconds.
    TIME_CLASSES = 32
    # A control frame holds 125 bytes (RFC 6455, 5.5), two of them the code.
    CLOSE_REASON_BYTES = 123


cdef inline int64_t _now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


def _retrieve(ended):
    # The handler hears how a connection ended; picows' own account of it is read, or asyncio complains.
    if not ended.cancelled():
        ended.exception()


cdef bint _may_be_sent(int code):
    # Close codes an endpoint may put on the wire (RFC 6455, 7.4; 1012-1014 from the IANA registry).
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef class Leg(WSListener):
    """One WebSocket of a call.

    Frames are checked as RFC 6455 asks of an endpoint (reserved bits, fragment order, UTF-8, close payload),
    which picows leaves to its listener. A message that `pump` takes goes on to `peer` within this callback;
    every other message reaches ``handler.on_message(data, is_text)`` as bytes.

    ``handler`` also hears ``on_open()``, ``on_closed(code, reason)`` (once), ``on_writable()`` and
    ``on_queued()``. Its exceptions end the connection with 1011.

    Args:
        max_message_bytes: longer messages, fragmented or not, close with 1009.
        send_cap_bytes: more than this unsent closes the connection: the peer does not read.
    """

    cdef object __weakref__
    cdef public object handler
    cdef WSTransport transport
    cdef Pump pump
    cdef Leg peer
    cdef readonly bint is_open
    cdef readonly bint is_blocked
    cdef readonly double blocked_since
    cdef readonly double last_received
    cdef readonly double last_message
    cdef readonly double ping_sent_at
    cdef Py_ssize_t max_message_bytes
    cdef Py_ssize_t send_cap_bytes
    cdef bytearray fragments
    cdef int fragments_type
    cdef uint32_t utf8_state
    cdef int way  # of the frame under way, for the stage counters
    cdef bint is_closed
    cdef int close_code
    cdef str close_reason
    cdef readonly uint64_t frames_in
    cdef readonly uint64_t frames_out
    cdef readonly uint64_t audio_not_sent
    cdef readonly uint64_t protocol_errors
    cdef uint64_t times[TIME_CLASSES]

    def __init__(self, handler=None, *, Py_ssize_t max_message_bytes=65_536, Py_ssize_t send_cap_bytes=262_144):
        self.handler = handler
        self.pump = None
        self.peer = None
        self.transport = None
        self.is_open = False
        self.is_blocked = False
        self.ping_sent_at = 0.0
        self.max_message_bytes = max_message_bytes
        self.send_cap_bytes = send_cap_bytes
        self.fragments = None
        self.close_code = 1006
        self.close_reason = ""
        memset(self.times, 0, sizeof(self.times))

    # Wiring

    def connect_pump(self, Pump pump, Leg peer):
        """Take media by ``pump`` and send what it makes on ``peer`` (None: the pump keeps or drops it)."""
        self.pump = pump
        self.peer = peer

    def disconnect_pump(self):
        """Every message goes to the handler again."""
        self.pump = None
        self.peer = None

    # picows' callbacks

    cpdef on_ws_connected(self, WSTransport transport):
        self.transport = transport
        self.is_open = True
        self.last_received = self.last_message = _now_ns() * 1e-9
        transport.disconnected_future.add_done_callback(_retrieve)
        transport.underlying_transport.set_write_buffer_limits(high=self.send_cap_bytes // 4)
        if self.handler is not None:
            self.handler.on_open()

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.is_open = False
        self._closed()

    cpdef pause_writing(self):
        self.is_blocked = True
        self.blocked_since = _now_ns() * 1e-9

    cpdef resume_writing(self):
        self.is_blocked = False
        if self.is_open and self.handler is not None:
            self.handler.on_writable()

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef int64_t begun = _now_ns()
        cdef int kind = frame.msg_type
        cdef int64_t spent
        cdef int k
        self.last_received = begun * 1e-9
        self.frames_in += 1
        if not self.is_open or transport.is_close_frame_sent:
            if kind == WSMsgType.CLOSE:
                self._take_close(frame)
            return
        cdef int is_timed = fa_stages_begin()
        self.way = FA_WAY_OTHER
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse(1002, "reserved bits are set")
        elif kind == WSMsgType.TEXT or kind == WSMsgType.BINARY:
            self.last_message = self.last_received
            if self.fragments is not None:
                self._refuse(1002, "a new message inside a fragmented one")
            elif not frame.fin:
                self.fragments = bytearray()
                self.fragments_type = kind
                self.utf8_state = FA_UTF8_ACCEPT
                self._take_fragment(frame)
            elif kind == WSMsgType.TEXT and \
                    fa_utf8_advance(FA_UTF8_ACCEPT, frame.payload_ptr, frame.payload_size) != FA_UTF8_ACCEPT:
                self._refuse(1007, "text is not UTF-8")
            else:
                self._message(frame.payload_ptr, frame.payload_size, kind, begun * 1e-9)
        elif kind == WSMsgType.CONTINUATION:
            self.last_message = self.last_received
            if self.fragments is None:
                self._refuse(1002, "a continuation of nothing")
            else:
                self._take_fragment(frame)
        elif kind == WSMsgType.PING:
            # A peer that pings and does not read would fill our memory with answers.
            if not self.is_blocked:
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            self.ping_sent_at = 0.0
        elif kind == WSMsgType.CLOSE:
            self._take_close(frame)
        else:
            self._refuse(1002, "unknown opcode")
        fa_stages_end(is_timed, self.way)
        spent = _now_ns() - begun
        k = 0
        while spent > 1 and k < TIME_CLASSES - 1:
            spent >>= 1
            k += 1
        self.times[k] += 1

    # The guard

    cdef _take_fragment(self, WSFrame frame):
        if len(self.fragments) + frame.payload_size > self.max_message_bytes:
            self._refuse(1009, "message too long")
            return
        if self.fragments_type == WSMsgType.TEXT:
            self.utf8_state = fa_utf8_advance(self.utf8_state, frame.payload_ptr, frame.payload_size)
            if self.utf8_state == FA_UTF8_REJECT or (frame.fin and self.utf8_state != FA_UTF8_ACCEPT):
                self._refuse(1007, "text is not UTF-8")
                return
        self.fragments += frame.get_payload_as_bytes()
        if frame.fin:
            whole = bytes(self.fragments)
            self.fragments = None
            self._message(PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole), self.fragments_type, self.last_received)

    cdef _take_close(self, WSFrame frame):
        cdef int code = 1005
        cdef bytes reason = b""
        cdef const uint8_t *payload = <const uint8_t *>frame.payload_ptr
        if frame.payload_size == 1:
            self._refuse(1002, "close payload of one byte")
            self.transport.disconnect()
            return
        if frame.payload_size >= 2:
            code = payload[0] << 8 | payload[1]
            reason = PyBytes_FromStringAndSize(frame.payload_ptr + 2, frame.payload_size - 2)
            if not _may_be_sent(code):
                self._refuse(1002, "close code may not be sent")
                self.transport.disconnect()
                return
            if fa_utf8_advance(FA_UTF8_ACCEPT, frame.payload_ptr + 2, frame.payload_size - 2) != FA_UTF8_ACCEPT:
                self._refuse(1007, "close reason is not UTF-8")
                self.transport.disconnect()
                return
        self.close_code = code
        self.close_reason = reason.decode()
        if not self.transport.is_close_frame_sent:
            # Echo the code, or its absence (RFC 6455, 5.5.1); send_close always writes one.
            if code == 1005:
                self.transport.send(WSMsgType.CLOSE, b"")
                self.transport.is_close_frame_sent = True
            else:
                self.transport.send_close(<WSCloseCode>code)
        self.transport.disconnect()

    cdef _refuse(self, int code, str reason):
        self.protocol_errors += 1
        self.fragments = None
        self.close(code, reason)

    # Messages

    cdef _message(self, char *text, Py_ssize_t n, int kind, double now):
        if n > self.max_message_bytes:
            self._refuse(1009, "message too long")
            return
        try:
            self._deliver(text, n, kind, now)
        except Exception:
            # A fault of ours: said here, since picows tells nobody on the client's side.
            logger.exception("a leg's handler failed")
            self.close(1011, "internal error")

    cdef _deliver(self, char *text, Py_ssize_t n, int kind, double now):
        # Meeting an item runs the call's code, which may take the pump away: this one is held until we are done.
        cdef Pump pump = self.pump
        cdef int verdict
        fa_stages_lap(FA_STAGE_GUARD)
        if pump is not None:
            verdict = pump.take(text, n, now)
            if verdict == PUMP_SEND or verdict == PUMP_QUIET:
                self.way = pump.way
            if verdict == PUMP_SEND:
                self._pass_on(pump, now)
            elif verdict == PUMP_QUIET:
                self._note_queued(pump)
            if verdict == PUMP_SEND or verdict == PUMP_QUIET or verdict == PUMP_BAD_AUDIO:
                # The audio is on its way: now there is time for what was heard in it.
                if pump.tap is not None and pump.tap.has_news():
                    pump.tap.tell_news()
                    fa_stages_lap(FA_STAGE_EVENTS)
                if verdict != PUMP_BAD_AUDIO or not isinstance(pump, Uplink):
                    return
            # Malformed envelopes and a caller's unreadable audio go to the codec, which may say so to the peer;
            # everything else does too.
        if self.handler is not None:
            self.handler.on_message(PyBytes_FromStringAndSize(text, n), kind == WSMsgType.TEXT)
            fa_stages_lap(FA_STAGE_EVENTS)

    cdef _pass_on(self, Pump pump, double now):
        # Sends what the pump holds ready, and what else is due.
        cdef Leg peer = self.peer
        if peer is None or not peer._takes_audio():
            if isinstance(pump, Uplink):
                (<Uplink>pump).hold()
            else:
                self.audio_not_sent += 1
                self._note_queued(pump)
            return
        peer._send(WSMsgType.TEXT, pump.out, pump.out_size)
        while pump.is_waiting() and peer._takes_audio():
            if pump.more(now) != PUMP_SEND:
                break
            peer._send(WSMsgType.TEXT, pump.out, pump.out_size)
        self._note_queued(pump)

    cdef _note_queued(self, Pump pump):
        if pump.is_waiting() and self.handler is not None:
            self.handler.on_queued()
        fa_stages_lap(FA_STAGE_QUEUE)

    def send_due(self, Downlink pump not None, double now):
        """Send what ``pump`` holds back and is due; True while more waits for its time."""
        if not self.is_open:
            return False
        cdef int is_timed = fa_stages_begin_inner()
        try:
            while self._takes_audio() and pump.more(now) == PUMP_SEND:
                self._send(WSMsgType.TEXT, pump.out, pump.out_size)
        finally:
            fa_stages_lap(FA_STAGE_QUEUE)
            fa_stages_end(is_timed, FA_WAY_TICK)
        return pump.is_waiting()

    def send_backlog(self, Uplink pump not None):
        """Send what ``pump`` kept, oldest first, until the peer stops reading; the rest stays kept."""
        cdef bytes message
        while self._takes_audio():
            message = pump.release_first()
            if message is None:
                return
            self.send(message)

    # Sending

    cdef bint _takes_audio(self):
        return self.is_open and not self.is_blocked and not self.transport.is_close_frame_sent

    cdef _send(self, WSMsgType kind, char *message, Py_ssize_t n):
        # The message has room in front for a header and is overwritten by the client's mask.
        self.frames_out += 1
        self.transport.send_reuse_external_buffer(kind, message, n)
        fa_stages_lap(FA_STAGE_SEND)

    def send(self, bytes message not None, bint is_text=True):
        """Send one message. Nothing happens on a closed connection; a peer that does not read is closed."""
        if not self.is_open or self.transport.is_close_frame_sent:
            return
        if self.is_blocked and \
                self.transport.underlying_transport.get_write_buffer_size() + len(message) > self.send_cap_bytes:
            self.abort(1008, "peer does not read")
            return
        self.frames_out += 1
        cdef WSMsgType kind = WSMsgType.TEXT if is_text else WSMsgType.BINARY
        if len(message) <= SMALL_MESSAGE_BYTES:
            self.transport.send(kind, message)
        else:
            # The transport would keep a copy's memory for the life of the connection.
            self.transport.send_reuse_external_bytearray(kind, bytearray(HEADROOM) + message, HEADROOM)

    def ping(self):
        """Send a ping unless one is unanswered."""
        if self.is_open and not self.transport.is_close_frame_sent and self.ping_sent_at == 0.0:
            self.ping_sent_at = _now_ns() * 1e-9
            self.transport.send_ping()

    def close(self, int code=1000, str reason=""):
        """Begin the closing handshake; whatever comes in is ignored from now on.

        ``reason`` is cut to what a close frame can hold. A peer that does not answer is cut by the watch.

        Raises:
            ValueError: ``code`` may not stand in a close frame.
        """
        cdef bytes text = reason.encode()[:CLOSE_REASON_BYTES].decode("utf-8", "ignore").encode()
        if not _may_be_sent(code):
            raise ValueError(f"close code {code} may not be sent")
        if self.transport is None or self.transport.is_close_frame_sent or not self.is_open:
            return
        self.close_code = code
        self.close_reason = reason
        self.transport.send_close(<WSCloseCode>code, text)

    def abort(self, int code=1006, str reason=""):
        """Close at once, without waiting for the peer."""
        if self.transport is None or not self.is_open:
            return
        # What is still in the read buffer is ignored, what is sent from now on dropped.
        self.is_open = False
        self.close_code = code
        self.close_reason = reason
        self.transport.disconnect(False)

    @property
    def is_closing(self):
        """A close frame was sent, or the connection is gone."""
        return self.transport is not None and (self.transport.is_close_frame_sent or not self.is_open)

    cdef _closed(self):
        if self.is_closed:
            return
        self.is_closed = True
        self.pump = None
        self.peer = None
        if self.handler is not None:
            self.handler.on_closed(self.close_code, self.close_reason)

    @property
    def frame_times(self):
        """Frames by time spent in the callback: item k counts those of [2^k, 2^(k+1)) nanoseconds."""
        return [self.times[k] for k in range(TIME_CLASSES)]

"""Adaptive jitter buffer for datagram audio: packets in as they arrive, frames out in order and in time.

```
PREFETCH ──first packet old enough, or enough of them──▶ playing: FRAME, or one of
   ▲                                                      EMPTY    nothing is here
   └──────── reset, or numbering or clock jumped ◀──      LOST     missing, later packets are here
                                                          EXPAND   nothing is missing: the delay grows by a frame
                                                          SILENCE  the sender paused (its timestamps say so)
```
A packet's relative delay is its arrival less its timestamp. The buffer remembers 16 s of them and plays at that
distance, in whole frames, at which the E-model (ITU-T G.107) expects the least impairment from delay and late
packets together. Moves that are heard must be worth a packet; in a pause (``quiet``) they cost nothing. Where a
late packet arrives while nothing else could be played, the buffer rather waits than skips. WebSocket audio needs
none of this: TCP has put it in order.
"""

from enum import IntEnum
from typing import Self, final

from typing_extensions import Buffer

class Arrival(IntEnum):
    """What became of a packet that was put."""

    ACCEPTED = 0
    LATE = 1
    """Its turn is over; not kept."""
    DUPLICATE = 2
    """Seen before; not kept."""
    OVERFLOW = 3
    """Kept; the oldest packets were discarded to make room."""
    RESET = 4
    """Kept; numbering or timing jumped for the second packet running, all before was discarded."""
    HELD = 5
    """Numbering or timing jumped: set aside until the next packet confirms it, or nothing else is here."""

class Turn(IntEnum):
    """What is to be played; all but FRAME ask for concealment or silence of ``duration``."""

    FRAME = 0
    LOST = 1
    EMPTY = 2
    EXPAND = 3
    SILENCE = 4
    PREFETCH = 5

@final
class JitterBuffer:
    """Gives packets back in order, each at most once, at a delay that follows the network.

    Memory is taken once, when it is made: slots x (slot_bytes + 24)
    + 2 slot_bytes + 3.8 KB. One object for one
    source; calls from several threads are serialised by the GIL.
    """

    def __new__(
        cls,
        *,
        clock_hz: int = 8000,
        frame: int = 160,
        slots: int = 64,
        slot_bytes: int = 480,
        initial_ms: int = 40,
        min_ms: int = 0,
        max_ms: int = 500,
        path_ms: int = 40,
    ) -> Self:
        """Prepare for one source.

        Args:
            clock_hz: of timestamps, 8000 to 192000.
            frame: usual duration of a packet in timestamp units, 1 to 120 ms.
            slots: packets held at most, a power of two, 4 to 1024.
            slot_bytes: longest payload, 1 to 65535.
            initial_ms: waited after the first packet, or until so much is here; between min_ms and max_ms.
            min_ms: delay above the fastest packets, at least.
            max_ms: and at most, up to 2000. With ``min_ms == max_ms`` the buffer is a fixed one: it starts with
                that delay and moves only when it runs dry or holds more than that.
            path_ms: one-way delay assumed outside the buffer, up to 10000. The E-model makes delay dear past
                177 ms in all; a larger value makes the buffer less patient with stragglers.

        Raises:
            ValueError: one of these is out of range.
        """

    def put(self, seq: int, timestamp: int, payload: Buffer, now: float, duration: int = 0) -> Arrival:
        """Take a packet that arrived at ``now``; the payload is copied.

        Args:
            seq: 16 bits, may wrap.
            timestamp: 32 bits, may wrap.
            payload: up to ``slot_bytes`` bytes, any content.
            now: monotonic seconds; a step back counts as no time at all.
            duration: timestamp units, 1 to 120 ms; 0 for ``frame``.

        Raises:
            ValueError: the payload is too long, the duration out of range or the time not a number.
            OverflowError: seq or timestamp do not fit.

        Cost: a put and a get together about 0.5 us, the estimate four times a second included.
        """

    def get(self, now: float, quiet: bool = False) -> tuple[Turn, bytes]:
        """Give what is to be played at ``now``, and its payload (empty unless FRAME).

        Call it again ``duration`` later. ``quiet`` says that the talker pauses, so that a frame more or less
        is not heard: the time to catch up.

        Raises:
            ValueError: the time is not a number.
        """

    def reset(self) -> None:
        """Forget all packets and delays, not the counters: for a new source (SSRC) or codec."""

    def counters(self) -> dict[str, int]:
        """What was counted since the buffer was made.

        Packets: ``received`` = ``played`` + ``late`` + ``duplicates`` + ``discarded`` + ``waiting``;
        ``reordered`` of them came after a higher number. Gets: ``lost``, ``empty`` (EMPTY and PREFETCH),
        ``silences``. Frames by which the delay grew and shrank: ``expanded``, ``accelerated``. ``resets``.
        ``lost`` also has the missing packets that were skipped to shorten the delay.
        """

    @property
    def seq(self) -> int:
        """Of the last FRAME given; 0 after any other turn."""

    @property
    def timestamp(self) -> int:
        """Of the last FRAME given; 0 after any other turn."""

    @property
    def duration(self) -> int:
        """Timestamp units from the last get to the next, whatever its turn."""

    @property
    def waiting(self) -> int:
        """Packets inside."""

    @property
    def delay_ms(self) -> float:
        """How long the last FRAME waited beyond the fastest packets of late."""

    @property
    def target_ms(self) -> float:
        """The delay aimed at."""

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter as RFC 3550, section 6.4.1, estimates it."""

    def __sizeof__(self) -> int: ...

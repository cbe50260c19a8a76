"""Keypad digits as RTP telephone events (RFC 4733, formerly RFC 2833): payloads in both directions, sans I/O.

One payload is one event of four bytes, or several of them one after the other in time (section 2.5.1.5)::

     0                   1                   2                   3
    |     event     |E|R|  volume   |           duration            |

Which packets are telephone events the session description says (``a=rtpmap:… telephone-event/8000``): the
payload type is dynamic, and so is the clock rate, in whose units timestamps and durations count.

An event's identity is the RTP timestamp of its beginning. All packets about it, its updates and the three
copies of its end, bear that timestamp and are one digit, whichever of them arrive. An event longer than
0xFFFF units goes on in segments (section 2.5.1.3): each begins 0xFFFF later, with neither marker nor an end
before it. A digit is reported with its first packet, so no end needs to be waited for.
"""

from collections import OrderedDict
from dataclasses import dataclass
from struct import Struct

from fastagent.errors import MalformedMessageError
from fastagent.wire.events import CarrierEvent, DtmfReceived, IgnoredMessage

__all__ = ["TelephoneEvent", "TelephoneEventPacket", "TelephoneEventReceiver", "digit_packets", "read_events"]

PEER = "RTP"
DIGITS = "0123456789*#ABCD"
"""By event code (section 3.2, table 3)."""

BLOCK = Struct(">BBH")
END_BIT = 0x80
VOLUME_MASK = 0x3F
SEGMENT_MAX = 0xFFFF
TIMESTAMPS = 1 << 32
SEQUENCE_NUMBERS = 1 << 16

EVENTS_MAX = 16
"""In one payload; real ones have one, or a few digits dialled at machine speed."""
EVENTS_KEPT = 16
"""Latest events remembered, so that a late or repeated packet about one of them is no new digit."""
END_COPIES = 3
"""Of the packet that ends an event (section 2.5.1.4)."""


@dataclass(frozen=True, slots=True, repr=False)
class TelephoneEvent:
    """Four bytes of a payload."""

    code: int
    """0 to 255; 0-15 are the digits."""
    is_end: bool
    volume: int
    """Level in dBm0 without its sign, 0 to 63."""
    duration: int
    """So far, in units of the clock rate."""

    @property
    def digit(self) -> str | None:
        """One of ``0-9 * # A-D``, or None for any other event."""
        return DIGITS[self.code] if self.code < len(DIGITS) else None

    def __repr__(self) -> str:
        # A caller's digits stay out of logs.
        return f"<TelephoneEvent{' end' if self.is_end else ''}, {self.duration} units>"

    def payload(self) -> bytes:
        """The four bytes."""
        return BLOCK.pack(self.code, (END_BIT if self.is_end else 0) | self.volume, self.duration)


def read_events(payload: bytes) -> tuple[TelephoneEvent, ...]:
    """Take a payload apart.

    Raises:
        MalformedMessageError: not one to `EVENTS_MAX` blocks of four bytes.
    """
    if not payload or len(payload) % BLOCK.size or len(payload) > EVENTS_MAX * BLOCK.size:
        raise MalformedMessageError(
            PEER, f"expected 1 to {EVENTS_MAX} telephone events of four bytes, got {len(payload)} bytes"
        )
    return tuple(
        TelephoneEvent(code, bool(flags & END_BIT), flags & VOLUME_MASK, duration)
        for code, flags, duration in BLOCK.iter_unpack(payload)
    )


@dataclass(slots=True)
class _Sounding:
    """An event as known so far."""

    code: int
    segment: int
    """Timestamp of the segment it has reached."""
    is_over: bool = False


class TelephoneEventReceiver:
    """Turns the telephone-event packets of one RTP stream into digits, each once."""

    __slots__ = ("_kept", "_latest", "_newest_sequence")

    def __init__(self) -> None:
        # By timestamp of each segment; a long event stands in it several times.
        self._kept: OrderedDict[int, _Sounding] = OrderedDict()
        self._latest: int | None = None
        self._newest_sequence: int | None = None

    def receive(
        self, payload: bytes, timestamp: int, marker: bool, sequence_number: int
    ) -> list[CarrierEvent]:
        """Take one packet, in whatever order the network delivers them.

        Args:
            payload: of the negotiated payload type.
            timestamp: of the RTP header, 0 to 2^32 - 1.
            marker: the header's marker bit: an event begins.
            sequence_number: of the RTP header, 0 to 65535.

        Returns:
            `DtmfReceived` for a digit not heard of before; `IgnoredMessage` for an event that is no digit
            (``not_a_digit``, once per event) and for a digit that is older than another and was not heard
            of before (``late_event``); nothing for all further packets about an event.

        Raises:
            MalformedMessageError: the payload is not whole blocks; nothing has been taken.
        """
        blocks = read_events(payload)
        is_newest = self._advance(sequence_number % SEQUENCE_NUMBERS)
        events: list[CarrierEvent] = []
        start = timestamp % TIMESTAMPS
        for place, block in enumerate(blocks):
            is_begun = marker and place == 0
            events += self._take(block, start, is_begun=is_begun, is_restart=is_begun and is_newest)
            start = (start + block.duration) % TIMESTAMPS
        return events

    def _advance(self, sequence_number: int) -> bool:
        """Note a sequence number; says whether no later packet came before this one."""
        newest = self._newest_sequence
        is_newest = newest is None or _distance(newest, sequence_number, SEQUENCE_NUMBERS) > 0
        if is_newest:
            self._newest_sequence = sequence_number
        return is_newest

    def _take(
        self, block: TelephoneEvent, start: int, *, is_begun: bool, is_restart: bool
    ) -> list[CarrierEvent]:
        known = self._kept.get(start)
        if known is not None:
            known.is_over |= block.is_end
            return []
        latest = self._latest
        if latest is not None:
            if _distance(latest, start, TIMESTAMPS) < 0 and not is_restart:
                # Its place in the order is past; a sender whose clock begins anew says so by a marker.
                return [IgnoredMessage("late_event")]
            sounding = self._kept[latest]
            if not is_begun and _continues(sounding, block, start):
                sounding.segment = start
                sounding.is_over = block.is_end
                self._keep(start, sounding)
                return []
        self._keep(start, _Sounding(block.code, start, block.is_end))
        digit = block.digit
        return [IgnoredMessage("not_a_digit") if digit is None else DtmfReceived(digit)]

    def _keep(self, start: int, sounding: _Sounding) -> None:
        self._kept[start] = sounding
        self._latest = start
        if len(self._kept) > EVENTS_KEPT:
            self._kept.popitem(last=False)


def _continues(sounding: _Sounding, block: TelephoneEvent, start: int) -> bool:
    """Whether a block at an unknown timestamp is a further segment; segments between may have been lost."""
    if sounding.is_over or block.code != sounding.code:
        return False
    return _distance(sounding.segment, start, TIMESTAMPS) % SEGMENT_MAX == 0


def _distance(earlier: int, later: int, modulus: int) -> int:
    """From one to the other on a wheel; negative when ``later`` is the earlier one."""
    return (later - earlier + modulus // 2) % modulus - modulus // 2


@dataclass(frozen=True, slots=True)
class TelephoneEventPacket:
    """What an RTP sender needs for one packet; sequence number, payload type and SSRC are its own."""

    payload: bytes
    timestamp: int
    marker: bool
    at_ms: int
    """When to send it, from the beginning of the tone."""


def digit_packets(
    digit: str,
    timestamp: int,
    *,
    tone_ms: int = 100,
    ptime_ms: int = 20,
    clock_rate: int = 8000,
    volume: int = 10,
) -> tuple[TelephoneEventPacket, ...]:
    """Give the packets that tell one digit: an update each ``ptime_ms``, and the end three times.

    Args:
        digit: one of ``0-9 * # A-D``.
        timestamp: of the tone's beginning; the next digit's must be later by its duration and a pause.
        tone_ms: 1 ms to one hour; longer than 0xFFFF units it goes out in segments.
        ptime_ms: between packets.
        clock_rate: Hz, as negotiated.
        volume: level in dBm0 without its sign, 0 to 63.

    Raises:
        ValueError: an argument is not as said.
    """
    code = DIGITS.find(digit) if len(digit) == 1 else -1
    if code < 0:
        raise ValueError("one of 0-9 * # A-D expected")
    if not 1 <= tone_ms <= 3_600_000 or not 1 <= ptime_ms <= 1000:
        raise ValueError("a tone of 1 ms to an hour in packets of 1 to 1000 ms expected")
    if not 1000 <= clock_rate <= 192_000 or not 0 <= volume <= VOLUME_MASK:
        raise ValueError(f"a clock rate of 1 to 192 kHz and a volume of 0 to {VOLUME_MASK} expected")
    total = tone_ms * clock_rate // 1000
    segment = 0
    packets: list[TelephoneEventPacket] = []

    def add(duration: int, at_ms: int, *, is_end: bool = False) -> None:
        packets.append(
            TelephoneEventPacket(
                TelephoneEvent(code, is_end, volume, duration).payload(),
                (timestamp + segment) % TIMESTAMPS,
                marker=not packets,
                at_ms=at_ms,
            )
        )

    for at_ms in [*range(ptime_ms, tone_ms, ptime_ms), tone_ms]:
        elapsed = at_ms * clock_rate // 1000
        while elapsed - segment > SEGMENT_MAX:
            add(SEGMENT_MAX, at_ms)
            segment += SEGMENT_MAX
        if at_ms < tone_ms:
            add(elapsed - segment, at_ms)
    for copy in range(END_COPIES):
        add(total - segment, tone_ms + copy * ptime_ms, is_end=True)
    return tuple(packets)

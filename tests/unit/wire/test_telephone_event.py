"""RFC 4733: payloads read and written, and packets of a lossy network turned into digits, each once."""

import random
import traceback
from itertools import pairwise

import pytest

from fastagent.errors import MalformedMessageError
from fastagent.wire.events import CarrierEvent, DtmfReceived, IgnoredMessage
from fastagent.wire.telephone_event import (
    TelephoneEvent,
    TelephoneEventPacket,
    TelephoneEventReceiver,
    digit_packets,
    read_events,
)

ALL = "0123456789*#ABCD"


def dialled(digits: str, start: int = 1000, **options: int) -> list[TelephoneEventPacket]:
    """The packets of digits of 100 ms with pauses of 100 ms."""
    return [
        packet
        for place, digit in enumerate(digits)
        for packet in digit_packets(digit, start + place * 1600, **options)
    ]


def received(packets: list[tuple[int, TelephoneEventPacket]], receiver: TelephoneEventReceiver) -> str:
    events = [
        event
        for sequence, packet in packets
        for event in receiver.receive(packet.payload, packet.timestamp, packet.marker, sequence % 65536)
    ]
    return "".join(event.digits for event in events if isinstance(event, DtmfReceived))


def numbered(packets: list[TelephoneEventPacket], first: int = 0) -> list[tuple[int, TelephoneEventPacket]]:
    return list(enumerate(packets, first))


def block(code: int, duration: int, *, is_end: bool = False) -> bytes:
    return TelephoneEvent(code, is_end, 10, duration).payload()


# Payloads


def test_reads_the_fields_of_the_standard() -> None:
    (event,) = read_events(bytes([11, 0x80 | 10, 0x03, 0x20]))
    assert (event.code, event.digit, event.is_end, event.volume, event.duration) == (11, "#", True, 10, 800)


def test_the_reserved_bit_is_ignored() -> None:
    assert read_events(bytes([1, 0x40 | 63, 0, 1])) == (TelephoneEvent(1, False, 63, 1),)


@pytest.mark.parametrize("code", range(256))
def test_codes_0_to_15_are_the_digits_and_payloads_round_trip(code: int) -> None:
    event = TelephoneEvent(code, code % 2 == 0, code % 64, 257 * code)
    assert read_events(event.payload()) == (event,)
    assert event.digit == (ALL[code] if code < 16 else None)


@pytest.mark.parametrize("payload", [b"", b"\1", b"\1\2\3", b"\1\2\3\4\5", bytes(68)])
def test_payloads_that_are_not_blocks_are_refused_and_change_nothing(payload: bytes) -> None:
    receiver = TelephoneEventReceiver()
    with pytest.raises(MalformedMessageError, match="four bytes"):
        receiver.receive(payload, 1000, True, 9)
    assert received(numbered(dialled("7")), receiver) == "7"


def test_no_digit_appears_in_representations_and_errors() -> None:
    assert "7" not in repr(TelephoneEvent(7, True, 10, 100))
    with pytest.raises(ValueError, match="expected") as caught:
        digit_packets("77", 0)
    assert "77" not in "".join(traceback.format_exception_only(caught.value))


# The sender


def test_a_digit_of_100_ms_is_four_updates_and_three_ends() -> None:
    packets = digit_packets("5", 4000, volume=8)
    durations = [
        (event.duration, event.is_end) for packet in packets for event in read_events(packet.payload)
    ]
    assert durations == [(160, False), (320, False), (480, False), (640, False)] + 3 * [(800, True)]
    assert [packet.at_ms for packet in packets] == [20, 40, 60, 80, 100, 120, 140]
    assert [packet.marker for packet in packets] == [True] + 6 * [False]
    assert {packet.timestamp for packet in packets} == {4000}
    assert {(e.code, e.volume) for p in packets for e in read_events(p.payload)} == {(5, 8)}


def test_a_tone_shorter_than_a_packet_is_three_ends_the_first_marked() -> None:
    packets = digit_packets("5", 0, tone_ms=10)
    assert [(p.at_ms, p.marker, p.payload) for p in packets] == [
        (10, True, block(5, 80, is_end=True)),
        (30, False, block(5, 80, is_end=True)),
        (50, False, block(5, 80, is_end=True)),
    ]


@pytest.mark.parametrize("clock_rate", [8000, 16000, 48000])
def test_a_long_event_goes_out_in_segments_that_add_up(clock_rate: int) -> None:
    packets = digit_packets("A", 0xFFFF_0000, tone_ms=20_000, clock_rate=clock_rate)
    starts = list(dict.fromkeys(packet.timestamp for packet in packets))
    assert len(starts) == 1 + 20 * clock_rate // 0xFFFF
    assert all((after - before) % 2**32 == 0xFFFF for before, after in pairwise(starts))
    last = {p.timestamp: read_events(p.payload)[0] for p in packets}
    assert sum(event.duration for event in last.values()) == 20 * clock_rate
    assert [event.is_end for event in last.values()] == [False] * (len(starts) - 1) + [True]
    assert sum(packet.marker for packet in packets) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"tone_ms": 0},
        {"tone_ms": 3_600_001},
        {"ptime_ms": 0},
        {"ptime_ms": 1001},
        {"clock_rate": 999},
        {"clock_rate": 192_001},
        {"volume": -1},
        {"volume": 64},
    ],
)
def test_the_sender_refuses_what_the_payload_cannot_say(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        digit_packets("1", 0, **wrong)


@pytest.mark.parametrize("digit", ["", "x", "a", "12", "٣"])
def test_the_sender_refuses_what_is_no_digit(digit: str) -> None:
    with pytest.raises(ValueError, match="0-9"):
        digit_packets(digit, 0)


# The receiver


def test_every_digit_is_heard_once_and_equal_ones_as_often_as_pressed() -> None:
    assert received(numbered(dialled(ALL + "112233")), TelephoneEventReceiver()) == ALL + "112233"


def test_a_digit_is_reported_with_its_first_packet() -> None:
    first = dialled("3")[0]
    events = TelephoneEventReceiver().receive(first.payload, first.timestamp, True, 0)
    assert events == [DtmfReceived("3")]


@pytest.mark.parametrize("kept", range(7))
def test_any_single_packet_of_a_digit_is_enough(kept: int) -> None:
    packets = numbered(dialled("44"))
    only = [packets[kept], packets[7 + kept]]
    assert received(only, TelephoneEventReceiver()) == "44"


def test_packets_of_an_earlier_digit_are_no_new_digit() -> None:
    packets = numbered(dialled("12"))
    late = packets[:5] + packets[7:10] + packets[5:7] + packets[10:]
    assert received(late, TelephoneEventReceiver()) == "12"


def test_a_repeat_of_the_whole_event_is_no_new_digit() -> None:
    packets = numbered(dialled("12"))
    again = numbered(dialled("1"), first=len(packets))
    assert received(packets + again, TelephoneEventReceiver()) == "12"


def test_a_digit_that_comes_only_after_a_later_one_is_late() -> None:
    first, second = dialled("12")[0], dialled("12")[7]
    receiver = TelephoneEventReceiver()
    receiver.receive(second.payload, second.timestamp, True, 7)
    assert receiver.receive(first.payload, first.timestamp, True, 0) == [IgnoredMessage("late_event")]


def test_timestamps_and_sequence_numbers_wrap() -> None:
    packets = numbered(dialled("1234", start=2**32 - 2000), first=65530)
    assert received([(s, p) for s, p in packets], TelephoneEventReceiver()) == "1234"
    assert packets[0][1].timestamp > packets[-1][1].timestamp


def test_a_sender_whose_clock_begins_anew_is_heard() -> None:
    packets = dialled("12", start=3_000_000) + dialled("34", start=50)
    assert received(numbered(packets), TelephoneEventReceiver()) == "1234"


@pytest.mark.parametrize("clock_rate", [8000, 48000])
@pytest.mark.parametrize("lost", [(), (0,), range(409, 412), range(400, 900)])
def test_a_long_press_is_one_digit_even_with_losses(clock_rate: int, lost: tuple[int, ...]) -> None:
    options = {"tone_ms": 30_000, "clock_rate": clock_rate}
    packets = numbered(list(digit_packets("9", 77, **options)))
    came = [packet for sequence, packet in enumerate(packets) if sequence not in lost]
    receiver = TelephoneEventReceiver()
    assert received(came, receiver) == "9"
    after = numbered(list(digit_packets("9", 77 + 31 * clock_rate)), first=len(packets))
    assert received(after, receiver) == "9"


def test_a_marked_press_at_a_segments_distance_is_a_digit_of_its_own() -> None:
    receiver = TelephoneEventReceiver()
    assert receiver.receive(block(5, 160), 0, True, 0) == [DtmfReceived("5")]
    assert receiver.receive(block(5, 160), 0xFFFF, True, 1) == [DtmfReceived("5")]


def test_after_an_end_the_same_distance_is_a_digit_of_its_own() -> None:
    receiver = TelephoneEventReceiver()
    receiver.receive(block(5, 160, is_end=True), 0, True, 0)
    assert receiver.receive(block(5, 160), 0xFFFF, False, 1) == [DtmfReceived("5")]


def test_several_events_of_one_payload_follow_each_other_in_time() -> None:
    receiver = TelephoneEventReceiver()
    several = block(1, 400, is_end=True) + block(2, 400, is_end=True) + block(2, 160)
    expected: list[CarrierEvent] = [DtmfReceived("1"), DtmfReceived("2"), DtmfReceived("2")]
    assert receiver.receive(several, 8000, True, 0) == expected
    assert receiver.receive(several, 8000, False, 1) == []
    assert receiver.receive(block(2, 320), 8800, False, 2) == []


def test_an_event_that_is_no_digit_is_ignored_once_and_disturbs_none() -> None:
    receiver = TelephoneEventReceiver()
    assert receiver.receive(block(16, 160), 0, True, 0) == [IgnoredMessage("not_a_digit")]
    assert receiver.receive(block(16, 320), 0, False, 1) == []
    assert receiver.receive(block(3, 160), 1600, True, 2) == [DtmfReceived("3")]


@pytest.mark.parametrize("seed", range(40))
def test_loss_and_disorder_within_a_digit_cost_no_digit(seed: int) -> None:
    chance = random.Random(seed)
    digits = "".join(chance.choices(ALL, k=30))
    packets = numbered(dialled(digits, start=chance.randrange(2**32)), first=chance.randrange(65536))
    came = []
    for place in range(0, len(packets), 7):
        about = [packet for packet in packets[place : place + 7] if chance.random() < 0.5]
        about = about or [packets[place + chance.randrange(7)]]
        about += chance.choices(about, k=2)
        chance.shuffle(about)
        came += about
    assert received(came, TelephoneEventReceiver()) == digits


def test_memory_does_not_grow_with_the_call() -> None:
    receiver = TelephoneEventReceiver()
    received(numbered(dialled("5" * 300)), receiver)
    assert len(receiver._kept) == 16

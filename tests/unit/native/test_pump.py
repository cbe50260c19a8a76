"""The pumps without sockets: what a message becomes, when it leaves, what is kept, dropped and counted."""

import base64
import json
import random

import pytest

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Downlink, Uplink
from fastagent._native.tap import Tap
from tests.reference.convert_reference import convert

CALLER = EnvelopeSpec(("type",), ("userStream.chunk",), ("audioChunk",), (("participant",),))
MODEL = EnvelopeSpec(
    ("type",),
    ("response.output_audio.delta", "response.audio.delta"),
    ("delta",),
    (("response_id",), ("item_id",), ("content_index",)),
)
PREFIX, SUFFIX = b'{"type":"append","audio":"', b'"}'
RATE = 8000
"""Of the downlink in most tests, in and out: 8 samples a millisecond."""


def noise(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def said(audio: bytes, **fields: object) -> bytes:
    text = base64.b64encode(audio).decode()
    return json.dumps(
        {"type": "userStream.chunk", "conversationId": "c", "audioChunk": text} | fields
    ).encode()


def delta(audio: bytes, item: str = "item_1", response: str = "resp_1", index: int = 0) -> bytes:
    return json.dumps(
        {
            "type": "response.output_audio.delta",
            "event_id": "event_1",
            "response_id": response,
            "item_id": item,
            "output_index": 0,
            "content_index": index,
            "delta": base64.b64encode(audio).decode(),
        }
    ).encode()


def audio_of(message: bytes | None, prefix: bytes = PREFIX, suffix: bytes = SUFFIX) -> bytes:
    assert message is not None
    assert message.startswith(prefix)
    assert message.endswith(suffix)
    return base64.b64decode(message[len(prefix) : len(message) - len(suffix)], validate=True)


def uplink(in_encoding="mulaw", in_rate=8000, out_encoding="mulaw", out_rate=8000, **options) -> Uplink:
    return Uplink(CALLER, in_encoding, in_rate, out_encoding, out_rate, PREFIX, SUFFIX, **options)


def downlink(in_encoding="mulaw", in_rate=8000, out_encoding="mulaw", out_rate=8000, **options) -> Downlink:
    return Downlink(MODEL, in_encoding, in_rate, out_encoding, out_rate, PREFIX, SUFFIX, **options)


def drained(pump: Downlink, now: float, until: float = 1000.0) -> bytes:
    """Everything that leaves from now on, the clock going in steps of one frame."""
    audio = b""
    while pump.is_queued and now < until:
        while (message := pump.due(now)) is not None:
            audio += audio_of(message)
        now += 0.02
    return audio


# What a message is


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_passthrough_copies_the_audio_text_verbatim(buffer):
    pump = uplink()
    message = said(noise(160))
    assert pump.is_passthrough
    assert pump.feed(buffer(message)) == PREFIX + json.loads(message)["audioChunk"].encode() + SUFFIX
    assert (pump.messages, pump.samples_in, pump.malformed, pump.bad_audio) == (1, 160, 0, 0)


OTHER = {
    "another-type": b'{"type":"userStream.stop"}',
    "no-type": b'{"audioChunk":"AAAA"}',
    "type-not-text": b'{"type":1,"audioChunk":"AAAA"}',
    "empty-object": b"{}",
}
MALFORMED = {
    "empty": b"",
    "not-json": b"hello",
    "array": b'["userStream.chunk"]',
    "cut": said(noise(16))[:-3],
    "behind": said(noise(16)) + b"x",
    "no-audio": b'{"type":"userStream.chunk"}',
    "audio-number": b'{"type":"userStream.chunk","audioChunk":1}',
    "audio-null": b'{"type":"userStream.chunk","audioChunk":null}',
    "audio-twice": b'{"type":"userStream.chunk","audioChunk":"AAAA","audioChunk":"BBBB"}',
    "too-deep": b'{"type":"userStream.chunk","audioChunk":"AAAA","x":' + b"[" * 40 + b"]" * 40 + b"}",
    "control-character": b'{"type":"userStream.chunk","audioChunk":"AA\nAA"}',
}
BAD_AUDIO = {
    "symbol": "AA!A",
    "white-space": "AAAA AAA",
    "url-alphabet": "AA-_",
    "length": "AAA",
    "one-symbol": "A",
    "no-padding": "AA",
    "padding-only": "====",
    "padding-inside": "AA==AAAA",
    "padding-too-long": "A===",
    "bits-below": "AB==",
    "bits-below-two": "AAB=",
    "not-ascii": "AAÀA",
    "escaped-surrogate": "\\ud800AA",
}


@pytest.mark.parametrize("message", OTHER.values(), ids=OTHER.keys())
@pytest.mark.parametrize("make", [uplink, downlink], ids=["up", "down"])
def test_other_messages_are_left_to_the_slow_path_and_not_counted(make, message):
    pump = make()
    with pytest.raises(LookupError):
        pump.feed(message)
    assert (pump.messages, pump.malformed, pump.bad_audio) == (0, 0, 0)


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_envelope_is_refused_and_counted(message):
    pump = uplink()
    with pytest.raises(ValueError, match="malformed envelope"):
        pump.feed(message)
    assert (pump.messages, pump.malformed, pump.bad_audio) == (0, 1, 0)
    assert pump.feed(said(b"\x01\x02")) is not None


@pytest.mark.parametrize("text", BAD_AUDIO.values(), ids=BAD_AUDIO.keys())
@pytest.mark.parametrize("make", [uplink, downlink], ids=["up", "down"])
@pytest.mark.parametrize("out_encoding", ["mulaw", "alaw"], ids=["passthrough", "converted"])
def test_audio_that_is_not_canonical_base64_is_refused_whole_and_counted(make, out_encoding, text):
    pump = make(out_encoding=out_encoding)
    name, key = ("userStream.chunk", "audioChunk") if make is uplink else ("response.audio.delta", "delta")
    with pytest.raises(ValueError, match="not canonical base64"):
        pump.feed(f'{{"type":"{name}","item_id":"i","{key}":"{text}"}}'.encode())
    assert (pump.messages, pump.malformed, pump.bad_audio, pump.samples_in) == (1, 0, 1, 0)


@pytest.mark.parametrize("make", [uplink, downlink], ids=["up", "down"])
def test_empty_audio_makes_no_message(make):
    pump = make()
    assert pump.feed(said(b"") if make is uplink else delta(b"")) is None
    assert (pump.messages, pump.bad_audio) == (1, 0)


def test_error_texts_never_hold_the_message():
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is looked at
        uplink().feed(b'{"type":"userStream.chunk","audioChunk":"secret!"}')
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"in_encoding": "opus"}, "opus"),
        ({"out_encoding": "PCM16"}, "PCM16"),
        ({"in_rate": 44_100}, "44100"),
        ({"in_rate": 0, "out_rate": 0}, "0 to 0"),
        ({"in_rate": -1, "out_rate": -1}, "-1"),
    ],
    ids=["encoding", "case", "rate", "zero", "negative"],
)
@pytest.mark.parametrize("make", [uplink, downlink], ids=["up", "down"])
def test_formats_without_conversion_are_refused(make, options, fault):
    with pytest.raises(ValueError, match=fault):
        make(**options)


@pytest.mark.parametrize(
    "options", [{"lead_ms": 0}, {"quantum_ms": 0}, {"queue_limit_ms": 0}, {"lead_ms": -1}], ids=str
)
def test_downlink_that_could_never_send_is_refused(options):
    with pytest.raises(ValueError, match="at least one sample"):
        downlink(**options)


def test_downlink_needs_ids_in_its_spec():
    with pytest.raises(ValueError, match="item id"):
        Downlink(CALLER, "mulaw", 8000, "mulaw", 8000, PREFIX, SUFFIX)


# Uplink: what is kept while the model cannot take it


def kept(pump: Uplink, parts: list[bytes]) -> list[bytes]:
    messages = [pump.feed(said(part)) for part in parts]
    for message in messages:
        assert message is not None
        pump.keep(message)
    return [message for message in messages if message is not None]


def test_backlog_is_released_oldest_first_and_once():
    pump = uplink()
    messages = kept(pump, [noise(160, seed) for seed in range(5)])
    assert (pump.backlog_messages, pump.backlog_dropped) == (5, 0)
    assert pump.release() == messages
    assert pump.release() == []
    assert pump.backlog_messages == 0


@pytest.mark.parametrize(
    ("out", "backlog_ms", "survivors"),
    [
        (("mulaw", 8000), 100, 5),
        (("mulaw", 8000), 99, 4),
        (("pcm16", 24_000), 100, 5),
        (("mulaw", 8000), 0, 0),
    ],
    ids=["mulaw", "mulaw-short", "pcm", "none"],
)
def test_backlog_bound_drops_the_oldest_and_counts(out, backlog_ms, survivors):
    pump = uplink("mulaw", 8000, *out, backlog_ms=backlog_ms)
    messages = kept(pump, [noise(160, seed) for seed in range(8)])
    assert pump.backlog_dropped == 8 - survivors
    assert pump.release() == messages[8 - survivors :]


def test_backlog_has_room_again_after_a_release():
    pump = uplink(backlog_ms=40)
    kept(pump, [noise(160, seed) for seed in range(4)])
    assert pump.backlog_dropped == 2
    pump.release()
    messages = kept(pump, [noise(160, seed) for seed in range(2)])
    assert pump.backlog_dropped == 2
    assert pump.release() == messages


def test_backlog_bounds_the_number_of_tiny_messages_too():
    pump = uplink(backlog_ms=50)
    kept(pump, [b"\x7f"] * 120)
    assert (pump.backlog_messages, pump.backlog_dropped) == (50, 70)


def test_negative_backlog_is_refused():
    with pytest.raises(ValueError, match="backlog"):
        uplink(backlog_ms=-1)


# Uplink: what is gathered


@pytest.mark.parametrize(
    ("append_ms", "sizes"),
    [(0, [160] * 7), (20, [160] * 7), (21, [320] * 3), (60, [480, 480]), (100, [800])],
)
def test_frames_are_gathered_until_they_are_long_enough(append_ms, sizes):
    pump = uplink(append_ms=append_ms)
    parts = [noise(160, seed) for seed in range(7)]
    messages = [message for part in parts if (message := pump.feed(said(part))) is not None]
    assert [len(audio_of(message)) for message in messages] == sizes
    rest = pump.flush()
    assert (rest is None) is (append_ms <= 20)
    whole = b"".join(map(audio_of, messages + [rest] * (rest is not None)))
    assert whole == b"".join(parts)
    assert pump.flush() is None
    assert (pump.messages, pump.samples_in) == (7, 1120)


def test_long_messages_go_on_as_they_came_but_never_past_what_was_gathered():
    pump = uplink(append_ms=60)
    long = said(noise(480))
    assert pump.feed(long) == PREFIX + json.loads(long)["audioChunk"].encode() + SUFFIX
    assert pump.feed(said(noise(160, 2)), 7.5) is None
    assert (pump.is_gathering, pump.gathering_since) == (True, 7.5)
    assert audio_of(pump.feed(long, 8.0)) == noise(160, 2) + noise(480)
    assert not pump.is_gathering


def test_converted_audio_is_gathered_too():
    at_once, pump = (uplink("mulaw", 8000, "pcm16", 24_000, append_ms=ms) for ms in (0, 60))
    parts = [noise(160, seed) for seed in range(9)]
    expected = b"".join(audio_of(at_once.feed(said(part))) for part in parts)
    messages = [message for part in parts if (message := pump.feed(said(part))) is not None]
    assert 2 <= len(messages) <= 3
    rest = pump.flush()
    assert b"".join(map(audio_of, messages + [rest] * (rest is not None))) == expected


def test_ears_hear_what_is_only_gathered():
    pump = uplink(append_ms=100)
    tap = Tap("mulaw", 8000)
    pump.connect_tap(tap)
    assert pump.feed(said(bytes(160)), 1.0) is None
    assert tap.caller_level(1.0) != Tap("mulaw", 8000).caller_level(1.0)


@pytest.mark.parametrize(("ears", "measured"), [(False, 3), (True, 9)])
def test_what_passes_as_it_came_is_measured_one_message_in_four_unless_ears_are_open(ears, measured):
    caller, bot, tap = uplink(), downlink(lead_ms=1000), Tap("mulaw", 8000)
    caller.connect_tap(tap)
    bot.connect_tap(tap)
    if ears:
        tap.open_ears(1.0, digits=True)
    for n in range(9):
        now = 1.0 + n * 0.02
        assert audio_of(caller.feed(said(noise(160, n)), now)) == noise(160, n)
        assert audio_of(bot.feed(delta(noise(160, n)), now)) == noise(160, n)
    for level in (tap.caller_level(2.16), tap.bot_level(2.16)):
        assert level.samples == measured * 160
        # Arrivals are noted of all of them.
        assert (level.age_s, level.gap_max_s) == (pytest.approx(1.0), pytest.approx(0.02))


def test_what_is_decoded_anyway_is_measured_whole():
    caller, bot, tap = uplink("mulaw", 8000, "pcm16", 24_000), downlink("pcm16", 24_000), Tap("mulaw", 8000)
    caller.connect_tap(tap)
    bot.connect_tap(tap)
    for n in range(9):
        caller.feed(said(noise(160, n)), 1.0)
        bot.feed(delta(noise(960, n)), 1.0)
    for level in (tap.caller_level(2.0), tap.bot_level(2.0)):
        # All but what the converter still holds.
        assert 8 * 160 < level.samples <= 9 * 160


def test_release_gives_what_was_gathered_last():
    pump = uplink(append_ms=40)
    messages = []
    for seed in range(5):
        if (message := pump.feed(said(noise(160, seed)))) is not None:
            messages.append(message)
            pump.keep(message)
    released = pump.release()
    assert released[:2] == messages
    assert [audio_of(one) for one in released[2:]] == [noise(160, 4)]
    assert pump.release() == []
    assert not pump.is_gathering


def test_negative_time_of_gathering_is_refused():
    with pytest.raises(ValueError, match="gather"):
        uplink(append_ms=-1)


NUMBERED = EnvelopeSpec(("type",), ("userStream.chunk",), ("audioChunk",), (("participant",), ("chunk",)))


def numbered(*numbers: object, **options: int) -> Uplink:
    """A pump that was given messages of these numbers."""
    pump = Uplink(NUMBERED, "mulaw", 8000, "mulaw", 8000, PREFIX, SUFFIX, **{"sequence_field": 1, **options})
    for number in numbers:
        assert audio_of(pump.feed(said(b"\xff" * 8, chunk=number))) == b"\xff" * 8
    return pump


@pytest.mark.parametrize(
    ("numbers", "gaps", "repeats"),
    [
        ([], 0, 0),
        (["7"], 0, 0),
        (["1", "2", "3"], 0, 0),
        ([1, 2, 3], 0, 0),
        (["9", "10", 11], 0, 0),
        (["1", "3"], 1, 0),
        (["1", "9", "10"], 1, 0),
        (["1", "1", "2"], 0, 1),
        (["1", "3", "2", "4"], 1, 1),
        (["0", "1"], 0, 0),
        (["1", "", "x", "-1", "1.5", None, True, [2], "9" * 16, "2"], 0, 0),
        (["999999999999998", "999999999999999"], 0, 0),
    ],
)
def test_numbers_of_messages_are_followed(numbers, gaps, repeats):
    pump = numbered(*numbers)
    assert (pump.gaps, pump.repeats) == (gaps, repeats)
    assert pump.samples_in == 8 * len(numbers)


def test_numbers_begin_anew_on_another_stream():
    pump = numbered("5", "6")
    pump.reset()
    pump.feed(said(b"\xff", chunk="1"))
    assert (pump.gaps, pump.repeats) == (0, 0)


def test_messages_without_audio_have_numbers_and_other_messages_none():
    pump = numbered("1")
    assert pump.feed(said(b"", chunk="2")) is None
    with pytest.raises(ValueError, match="base64"):
        pump.feed(b'{"type":"userStream.chunk","audioChunk":"!","chunk":"3"}')
    with pytest.raises(LookupError):
        pump.feed(b'{"type":"another","chunk":"9"}')
    pump.feed(said(b"\xff", chunk="4"))
    assert (pump.gaps, pump.repeats) == (0, 0)


def test_numbers_are_followed_only_where_one_is_declared():
    pump = numbered("1", "5", "5", sequence_field=-1)
    assert (pump.gaps, pump.repeats) == (0, 0)
    for field in (-2, 2):
        with pytest.raises(ValueError, match="field"):
            numbered(sequence_field=field)


def test_messages_are_own_copies():
    first, second = uplink(), uplink()
    one = first.feed(said(noise(160, 1)))
    two = second.feed(said(noise(160, 2)))
    assert audio_of(one) == noise(160, 1)
    assert audio_of(two) == noise(160, 2)


# Downlink: items


class Items:
    """Hears of items, says whether they are played."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.met: list[tuple[str, str, int]] = []
        self.refused = refused

    def __call__(self, response_id: str, item_id: str, content_index: int) -> bool:
        self.met.append((response_id, item_id, content_index))
        return item_id not in self.refused


def test_on_item_is_called_once_for_each_change_of_item():
    pump = downlink(lead_ms=10_000)
    pump.on_item = items = Items()
    for item in ("a", "a", "b", "b", "a"):
        pump.feed(delta(noise(80), item), 0.0)
    pump.feed(delta(noise(80), "a", response="resp_2", index=3), 0.0)
    assert items.met == [
        ("resp_1", "a", 0),
        ("resp_1", "b", 0),
        ("resp_1", "a", 0),
        ("resp_2", "a", 3),
    ]


def test_ids_are_not_confused_by_where_one_ends():
    pump = downlink()
    pump.on_item = items = Items()
    pump.feed(delta(noise(8), item="bc", response="a"), 0.0)
    pump.feed(delta(noise(8), item="c", response="ab"), 0.0)
    assert [met[:2] for met in items.met] == [("a", "bc"), ("ab", "c")]


def test_escaped_ids_are_told_by_their_meaning():
    pump = downlink()
    pump.on_item = items = Items()
    message = delta(noise(8), item="ITEM", response="RESP")
    message = message.replace(b"ITEM", b"item\\/\\u00e9\\n1").replace(b"RESP", b"\\u0072esp")
    pump.feed(message, 0.0)
    pump.feed(message, 0.0)
    assert items.met == [("resp", "item/é\n1", 0)]


def test_ids_that_are_absent_or_no_text_are_empty_and_met_each_time():
    pump = downlink()
    pump.on_item = items = Items()
    message = b'{"type":"response.audio.delta","response_id":7,"item_id":null,"delta":"AAAA"}'
    assert pump.feed(message, 0.0) is not None
    assert pump.feed(message, 0.0) is not None
    assert items.met == [("", "", 0)] * 2


def test_item_that_is_not_to_be_played_is_discarded_and_counted():
    pump = downlink()
    pump.on_item = items = Items(refused=("b",))
    assert pump.feed(delta(noise(80), "a"), 0.0) is not None
    assert pump.feed(delta(noise(80), "b"), 0.0) is None
    assert pump.feed(delta(noise(80), "b"), 0.0) is None
    assert pump.feed(delta(noise(80), "c"), 0.0) is not None
    assert len(items.met) == 3
    assert (pump.discarded, pump.received, pump.enqueued, pump.sent) == (2, 160, 160, 160)
    assert not pump.is_queued


def test_forgotten_item_is_met_again():
    pump = downlink()
    pump.on_item = items = Items()
    pump.feed(delta(noise(8)), 0.0)
    pump.forget_item()
    pump.feed(delta(noise(8)), 0.0)
    assert len(items.met) == 2


def test_template_set_by_on_item_holds_from_its_first_message():
    pump = downlink()

    def open_playback(response_id: str, item_id: str, content_index: int) -> bool:
        pump.set_template(b'{"stream":"' + item_id.encode() + b'","audio":"', b'","end":1}')
        return True

    pump.on_item = open_playback
    for item in ("play-1", "play-22"):
        message = pump.feed(delta(noise(80), item), 0.0)
        assert audio_of(message, b'{"stream":"' + item.encode() + b'","audio":"', b'","end":1}') == noise(80)


def test_template_change_holds_for_audio_that_was_queued_before():
    pump = downlink(lead_ms=100)
    pump.feed(delta(noise(1600)), 0.0)
    pump.set_template(b"<", b">")
    assert audio_of(pump.due(0.1), b"<", b">") == noise(1600)[800:]


def test_fault_of_on_item_reaches_the_caller_and_the_pump_goes_on():
    pump = downlink()

    def fail(*_: object) -> bool:
        raise RuntimeError("fault")

    pump.on_item = fail
    with pytest.raises(RuntimeError, match="fault"):
        pump.feed(delta(noise(80), "a"), 0.0)
    pump.on_item = Items()
    assert audio_of(pump.feed(delta(noise(80), "b"), 0.0)) == noise(80)


# Downlink: time


@pytest.mark.parametrize("out", [("mulaw", 8000), ("alaw", 8000)], ids=["passthrough", "converted"])
def test_first_audio_is_never_held_back(out):
    pump = downlink("mulaw", 8000, *out, lead_ms=400)
    first = audio_of(pump.feed(delta(noise(40_000)), 5.0))
    assert len(first) == 3200
    assert pump.sent == 3200
    assert pump.queued == 36_800


def test_first_audio_of_the_next_turn_is_not_held_back_after_the_line_ran_dry():
    pump = downlink(lead_ms=100)
    assert pump.feed(delta(noise(800)), 0.0) is not None
    assert pump.feed(delta(noise(800), "item_2"), 0.1) is not None


def test_audio_leaves_as_the_lead_has_room():
    pump = downlink(lead_ms=400, quantum_ms=100)
    assert len(audio_of(pump.feed(delta(noise(8000)), 0.0))) == 3200
    assert pump.due(0.05) is None
    assert len(audio_of(pump.due(0.1))) == 800
    assert pump.due(0.1) is None
    assert len(audio_of(pump.due(0.3))) == 1600
    assert pump.queued == 2400
    assert len(audio_of(pump.due(0.9))) == 2400
    assert pump.due(0.9) is None
    assert not pump.is_queued


def test_rest_that_fits_leaves_at_once_however_small():
    pump = downlink(lead_ms=100, quantum_ms=100)
    pump.feed(delta(noise(808)), 0.0)
    assert pump.queued == 8
    assert len(audio_of(pump.due(0.001))) == 8


def test_no_message_is_longer_than_a_second():
    pump = downlink(lead_ms=10_000)
    messages = [pump.feed(delta(noise(4000)), 0.0)]
    pump.feed(delta(noise(81_000)), 0.0)
    while (message := pump.due(0.0)) is not None:
        messages.append(message)
    assert max(len(audio_of(message)) for message in messages) <= 8000


def test_later_audio_waits_behind_what_is_queued():
    pump = downlink(lead_ms=100)
    first, second = noise(1600, 1), noise(80, 2)
    sent = audio_of(pump.feed(delta(first), 0.0))
    assert pump.feed(delta(second), 0.05) is None
    assert sent + drained(pump, 0.05) == first + second


def test_queue_limit_drops_the_message_and_counts():
    for encoding, size in (("mulaw", 1), ("pcm16", 2)):
        pump = downlink(encoding, 8000, encoding, 8000, lead_ms=100, queue_limit_ms=1000)
        pump.feed(delta(noise(size * 800)), 0.0)
        for _ in range(9):
            pump.feed(delta(noise(size * 800)), 0.0)
        assert (pump.queued, pump.dropped) == (7200, 0)
        assert pump.feed(delta(noise(size * 1600)), 0.0) is None
        assert (pump.queued, pump.dropped, pump.received) == (7200, 1, 8000)
        drained(pump, 0.0)
        assert pump.feed(delta(noise(size * 1600)), 100.0) is not None


def test_cut_drops_the_queue_and_refuses_the_rest_of_the_item():
    pump = downlink(lead_ms=100)
    pump.on_item = items = Items()
    pump.feed(delta(noise(8000)), 0.0)
    pump.cut(0.05)
    assert (pump.queued, pump.is_queued, pump.sent, pump.enqueued) == (0, False, 800, 800)
    assert pump.played(0.05) == 800
    assert pump.due(1.0) is None
    assert pump.feed(delta(noise(80)), 0.06) is None
    assert pump.discarded == 1
    assert pump.feed(delta(noise(80), "item_2"), 0.06) is not None
    assert len(items.met) == 2


def test_cut_forgets_the_filter_and_an_unfinished_sample():
    pump = downlink("pcm16", 24_000, "pcm16", 8000)
    pump.feed(delta(noise(4801)), 0.0)
    pump.cut(0.0)
    audio = noise(4800, 2)
    assert audio_of(pump.feed(delta(audio, "item_2"), 0.0)) == convert(
        audio, ("pcm16", 24_000), ("pcm16", 8000)
    )


def test_finished_item_lets_the_tail_of_the_resampler_out():
    audio = noise(4800)
    pump = downlink("pcm16", 24_000, "pcm16", 8000)
    sent = audio_of(pump.feed(delta(audio), 0.0))
    pump.finish_item(0.0)
    assert pump.is_queued
    sent += audio_of(pump.due(0.0))
    assert sent == convert(audio, ("pcm16", 24_000), ("pcm16", 8000), is_flushed=True)
    assert pump.enqueued == pump.sent == len(sent) // 2


@pytest.mark.parametrize("rates", [(8000, 8000), (24_000, 8000)], ids=["same", "resampled"])
def test_finish_without_an_item_makes_nothing(rates):
    pump = downlink("pcm16", rates[0], "pcm16", rates[1])
    pump.finish_item(0.0)
    assert not pump.is_queued
    pump.feed(delta(noise(480)), 0.0)
    pump.cut(0.0)
    pump.finish_item(0.0)
    assert not pump.is_queued


def test_finish_without_resampling_adds_nothing():
    pump = downlink()
    pump.feed(delta(noise(80)), 0.0)
    pump.finish_item(0.0)
    assert not pump.is_queued
    assert pump.enqueued == 80


def test_odd_bytes_count_with_the_message_that_completes_them():
    pump = downlink("pcm16", 8000, "pcm16", 8000, lead_ms=1000)
    audio = noise(600)
    sent = b""
    for at in range(0, 600, 3):
        message = pump.feed(delta(audio[at : at + 3]), 0.0)
        sent += audio_of(message)
    assert sent == audio
    assert (pump.received, pump.samples_in, pump.enqueued, pump.sent) == (300, 300, 300, 300)


# Downlink: the playback clock


# Times are sums of binary fractions and so exact: a sixteenth of a second is 500 samples.


def test_clock_runs_from_the_first_audio_and_stops_at_what_was_sent():
    pump = downlink()
    assert pump.played(100.0) == 0
    pump.feed(delta(noise(1000)), 100.0)
    assert [pump.played(now) for now in (99.0, 100.0, 100.0625, 100.125, 200.0)] == [0, 0, 500, 1000, 1000]


def test_clock_starts_anew_after_the_line_ran_dry():
    pump = downlink()
    pump.feed(delta(noise(1000)), 0.0)
    pump.feed(delta(noise(1000)), 7.0)
    assert [pump.played(now) for now in (7.0, 7.0625, 7.125, 8.0)] == [1000, 1500, 2000, 2000]


def test_clock_goes_on_while_audio_comes_in_time():
    pump = downlink()
    pump.feed(delta(noise(1000)), 0.0)
    pump.feed(delta(noise(1000)), 0.0625)
    assert [pump.played(now) for now in (0.0625, 0.125, 0.25, 1.0)] == [500, 1000, 2000, 2000]


def test_settle_takes_everything_sent_as_heard():
    pump = downlink(lead_ms=125)
    pump.feed(delta(noise(2000)), 0.0)
    pump.settle(0.015625)
    assert pump.played(0.015625) == 1000
    assert len(audio_of(pump.due(0.015625))) == 1000
    assert pump.played(0.078125) == 1500


@pytest.mark.parametrize("encoding", ["mulaw", "alaw", "pcm16"])
def test_queued_passthrough_audio_keeps_its_bytes(encoding):
    audio = bytes(range(256)) * 20
    pump = downlink(encoding, 8000, encoding, 8000, lead_ms=20)
    assert audio_of(pump.feed(delta(audio), 0.0)) + drained(pump, 0.0) == audio


def test_drained_queue_is_empty_and_takes_audio_again():
    pump = downlink(lead_ms=100)
    for turn in range(3):
        audio = noise(40_000, turn)
        now = 100.0 * turn
        assert audio_of(pump.feed(delta(audio, f"item_{turn}"), now)) + drained(pump, now) == audio
        assert (pump.is_queued, pump.queued) == (False, 0)
    assert pump.sent == pump.enqueued == 120_000


def test_first_letters_of_a_header_within_the_stream_are_audio():
    pump = uplink("pcm16", 8000, "pcm16", 8000, has_wav_header=True)
    heard = b"".join(
        audio_of(message)
        for chunk in (b"abcd", b"R", b"I", b"RIF", b"z")
        if (message := pump.feed(said(chunk)))
    )
    assert heard == b"abcdRIRIFz"


@pytest.mark.parametrize("rate", [8000, 24_000])
def test_hold_takes_back_all_that_was_not_heard(rate):
    pump = downlink("pcm16", rate, "pcm16", rate, retains=True)
    pump.on_item = lambda *_: True
    for number in range(4):
        assert pump.feed(delta(noise(rate // 10 * 2, number)), 1.0) is not None
    assert pump.hold(1.05) == rate * 35 // 100
    assert (pump.sent, pump.queued) == (rate * 5 // 100, rate * 35 // 100)
    assert pump.due(1.1) is None, "nothing leaves while it is held"
    pump.release()
    whole = b"".join(noise(rate // 10 * 2, number) for number in range(4))
    assert drained(pump, 1.1) == whole[rate // 10 :]


def test_audio_of_our_own_is_queued_behind_the_rest():
    pump = downlink(lead_ms=100, queue_limit_ms=1000)
    pump.feed(delta(noise(1600)), 1.0)
    assert pump.insert(b"\x11" * 800, 1.0)
    assert not pump.insert(b"\x11" * 8000, 1.0), "beyond the limit"
    assert pump.dropped == 1
    assert drained(pump, 1.1).endswith(b"\x11" * 800)
    with pytest.raises(ValueError, match="whole samples"):
        downlink("pcm16", 8000, "pcm16", 8000).insert(b"abc", 1.0)


# What a message must say, and its count


STRICT = EnvelopeSpec(("type",), ("audio",), ("p", "data"), (("p", "format"), ("p", "n")))


def strict(**options: int) -> Uplink:
    return Uplink(
        STRICT, "pcm16", 8000, "pcm16", 8000, PREFIX, SUFFIX, expected_field=0, expected=b"a/b", **options
    )


@pytest.mark.parametrize(
    "payload",
    [
        b'{"data":"AAAA","format":"a/b"}',
        b'{"format":"a/b","data":"AAAA"}',
        b'{"format":"a\\/b","data":"AAAA"}',
        b'{"format":"\\u0061/b","data":"AAAA"}',
        b'{"format":"a/b","data":""}',
    ],
)
def test_message_that_says_what_it_must_is_taken(payload):
    pump = strict()
    pump.feed(b'{"p":' + payload + b',"type":"audio"}')
    assert pump.messages == 1


@pytest.mark.parametrize(
    "format",
    [
        b'"a/c"',
        b'"a/b "',
        b'"A/b"',
        b'"a/"',
        b'""',
        b"null",
        b"5",
        b"{}",
        b'["a/b"]',
        b'"\\ud800"',
        b'"a\\/c"',
    ],
)
def test_message_that_says_something_else_is_the_slow_paths(format):
    pump = strict()
    for message in (
        b'{"type":"audio","p":{"format":' + format + b',"data":"AAAA"}}',
        b'{"type":"audio","p":{"format":' + format + b',"data":""}}',
        b'{"type":"audio","p":{"data":"AAAA"}}',
    ):
        with pytest.raises(LookupError):
            pump.feed(message)
    assert (pump.messages, pump.samples_in) == (0, 0)


@pytest.mark.parametrize(
    ("numbers", "gaps", "repeats"),
    [
        ("0 1 2 3", 0, 0),
        ("7 8 9", 0, 0),
        ("0 2 3 9", 2, 0),
        ("0 1 1 2", 0, 1),
        ("5 3 4 6", 0, 2),
        ('null "x" 1.5 -1 1e3 true {} [] 9999999999999999', 0, 0),
        ("1 null 2", 0, 0),
    ],
)
def test_gaps_and_repeats_of_the_count_are_counted(numbers, gaps, repeats):
    pump = strict(sequence_field=1)
    for number in numbers.split():
        pump.feed(b'{"type":"audio","p":{"format":"a/b","n":' + number.encode() + b',"data":"AAAA"}}')
    assert (pump.gaps, pump.repeats) == (gaps, repeats)


def test_count_may_begin_anew_after_a_reset():
    pump = strict(sequence_field=1)
    for number in (b"5", b"0"):
        pump.reset()
        pump.feed(b'{"type":"audio","p":{"format":"a/b","n":' + number + b',"data":"AAAA"}}')
    assert (pump.gaps, pump.repeats) == (0, 0)


@pytest.mark.parametrize("options", [{"expected_field": 1}, {"sequence_field": 1}, {"sequence_field": -2}])
def test_field_that_is_not_declared_is_refused(options):
    with pytest.raises(ValueError, match="field"):
        uplink(**options)

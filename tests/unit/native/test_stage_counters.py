"""The stage counters: the stages of a frame add up, all frames are counted, and nothing is timed unasked."""

import base64
import itertools
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from fastagent._native import stages
from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Downlink, Uplink
from fastagent._native.stages import WayTimes
from fastagent._native.tap import Tap

CALLER = EnvelopeSpec(("type",), ("userStream.chunk",), ("audioChunk",), ())
MODEL = EnvelopeSpec(
    ("type",), ("response.audio.delta",), ("delta",), (("response_id",), ("item_id",), ("content_index",))
)
APPEND = b'{"type":"input_audio_buffer.append","audio":"', b'"}'
PLAY = b'{"type":"playStream.chunk","audioChunk":"', b'"}'
FRAMES = 200


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Whatever a test switches on is off afterwards."""
    yield
    stages.set_every(0)
    stages.count_allocations(False)


def chunk(size: int) -> bytes:
    return json.dumps(
        {"type": "userStream.chunk", "audioChunk": base64.b64encode(bytes(size)).decode()}
    ).encode()


def delta(size: int) -> bytes:
    return json.dumps(
        {
            "type": "response.audio.delta",
            "response_id": "r",
            "item_id": "i",
            "content_index": 0,
            "delta": base64.b64encode(bytes(size)).decode(),
        }
    ).encode()


def uplink(encoding: str, rate: int) -> Uplink:
    return Uplink(CALLER, encoding, rate, "pcm16", 24_000, *APPEND)


def since(before: dict[str, WayTimes], way: str) -> WayTimes:
    """What was counted of one way since ``before``."""
    old, new = before[way], stages.read()[way]

    def less(a: stages.StageTimes, b: stages.StageTimes) -> stages.StageTimes:
        classes = tuple(x - y for x, y in zip(a.classes, b.classes, strict=True))
        return stages.StageTimes(a.frames - b.frames, a.ns - b.ns, classes)

    return WayTimes(
        new.frames - old.frames,
        new.timed - old.timed,
        new.allocations - old.allocations,
        less(new.whole, old.whole),
        {name: less(one, old.stages[name]) for name, one in new.stages.items()},
    )


def met(times: WayTimes) -> set[str]:
    return {name for name, one in times.stages.items() if one.frames}


def test_nothing_is_timed_unasked_and_all_is_counted():
    before = stages.read()
    pump = uplink("mulaw", 8000)
    for _ in range(FRAMES):
        pump.feed(chunk(160))
    seen = since(before, "uplink")
    assert stages.every() == 0
    assert (seen.frames, seen.timed, met(seen)) == (FRAMES, 0, set())


@pytest.mark.parametrize(
    ("encoding", "rate", "size", "expected"),
    [
        ("pcm16", 24_000, 960, {"scan", "check", "copy"}),
        ("pcm16", 8_000, 320, {"scan", "check", "unbase64", "decode", "resample", "encode", "base64"}),
        ("mulaw", 8_000, 160, {"scan", "check", "unbase64", "decode", "resample", "encode", "base64"}),
    ],
)
@pytest.mark.parametrize("has_tap", [False, True])
def test_stages_of_the_uplink_add_up(encoding, rate, size, expected, has_tap):
    pump = uplink(encoding, rate)
    if has_tap:
        pump.connect_tap(Tap(encoding, rate))
        expected = expected | {"ears"}
    before = stages.read()
    stages.set_every(1)
    for number in range(FRAMES):
        pump.feed(chunk(size), number * 0.02)
    seen = since(before, "uplink")
    assert (seen.frames, seen.timed, seen.whole.frames) == (FRAMES, FRAMES, FRAMES)
    assert met(seen) == expected
    for name in expected:
        # What passes as it came is measured one message in four.
        is_sampled = name == "ears" and "unbase64" not in expected
        assert seen.stages[name].frames == (FRAMES // 4 if is_sampled else FRAMES)
    assert sum(one.ns for one in seen.stages.values()) == pytest.approx(seen.whole.ns)
    assert seen.whole.ns > 0
    assert sum(seen.whole.classes) == FRAMES


def test_stages_of_the_downlink_are_told_by_what_happened():
    pump = Downlink(MODEL, "pcm16", 24_000, "mulaw", 8_000, *PLAY, lead_ms=400)
    before = stages.read()
    stages.set_every(1)
    for _ in range(10):
        pump.feed(delta(4800), 1.0)
    seen = since(before, "downlink")
    assert (seen.frames, seen.timed) == (10, 10)
    assert seen.stages["events"].frames == 1  # one item was met
    assert seen.stages["queue"].frames == 10
    assert seen.stages["base64"].frames == 4  # what the lead had room for


def test_one_frame_in_so_many_is_timed():
    pump = uplink("mulaw", 8000)
    before = stages.read()
    stages.set_every(8)
    for _ in range(8 * FRAMES):
        pump.feed(chunk(160))
    seen = since(before, "uplink")
    assert seen.frames == 8 * FRAMES
    assert FRAMES / 2 < seen.timed < FRAMES * 2


def test_what_is_no_audio_is_another_way():
    pump = uplink("mulaw", 8000)
    before = stages.read()
    stages.set_every(1)
    with pytest.raises(LookupError):
        pump.feed(b'{"type":"session.end"}')
    assert since(before, "uplink").frames == 0
    assert since(before, "other").frames == 1
    assert met(since(before, "other")) == {"scan"}


def test_counters_only_grow():
    pump = uplink("mulaw", 8000)
    stages.set_every(1)
    readings = []
    for _ in range(5):
        pump.feed(chunk(160))
        readings.append(stages.read())
    for earlier, later in itertools.pairwise(readings):
        for way in stages.WAY_NAMES:
            assert later[way].whole.ns >= earlier[way].whole.ns
            assert all(
                later[way].stages[name].ns >= earlier[way].stages[name].ns for name in stages.STAGE_NAMES
            )


def test_an_item_that_fails_leaves_no_frame_open():
    pump = Downlink(MODEL, "pcm16", 24_000, "pcm16", 24_000, *PLAY)

    def fail(*ids: object) -> bool:
        raise RuntimeError("no")

    pump.on_item = fail
    stages.set_every(1)
    with pytest.raises(RuntimeError):
        pump.feed(delta(960), 1.0)
    pump.on_item = None
    before = stages.read()
    pump.feed(delta(960), 1.1)
    pump.feed(delta(960), 1.2)
    assert since(before, "downlink").timed == 2


@pytest.mark.parametrize("frames", [-1, 1_000_001])
def test_a_distance_out_of_range_is_refused(frames):
    with pytest.raises(ValueError, match="expected 0 to 1000000 frames"):
        stages.set_every(frames)


def test_allocations_are_counted_while_it_is_asked_for():
    before = stages.allocations()
    kept = [object() for _ in range(100)]
    assert stages.allocations() == before
    stages.count_allocations(True)
    kept += [object() for _ in range(100)]
    stages.count_allocations(False)
    counted = stages.allocations() - before
    assert counted >= 100
    kept += [object() for _ in range(100)]
    assert stages.allocations() == before + counted


def test_a_frame_of_audio_allocates_nothing():
    pump = uplink("mulaw", 8000)
    message = chunk(160)
    stages.set_every(1)
    before = stages.read()
    stages.count_allocations(True)
    for _ in range(FRAMES):
        pump.feed(message)
    stages.count_allocations(False)
    seen = since(before, "uplink")
    assert (seen.timed, seen.allocations) == (FRAMES, 0)


def test_somebody_elses_allocator_is_not_taken_out():
    stages.count_allocations(True)
    tracemalloc.start()
    try:
        stages.count_allocations(False)
        kept = bytearray(100_000)
        assert tracemalloc.get_traced_memory()[0] >= len(kept)
    finally:
        tracemalloc.stop()
    stages.count_allocations(False)
    before = stages.allocations()
    assert [object() for _ in range(50)]
    assert stages.allocations() == before


def test_the_clock_is_one_of_two_and_is_quick():
    assert stages.clock() in ("tsc", "clock_gettime")
    assert 0 < stages.clock_ns() < 10_000
    assert stages.ns_per_tick() > 0

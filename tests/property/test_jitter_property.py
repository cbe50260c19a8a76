"""The jitter buffer for any arrivals: always in order, nothing twice, everything accounted for."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.jitter import Arrival, JitterBuffer, Turn
from tests.reference.jitter_reference import Watch

UNITS = 160


@st.composite
def buffers(draw: st.DrawFn) -> JitterBuffer:
    low = draw(st.integers(0, 200))
    high = draw(st.integers(low, 2000))
    return JitterBuffer(
        frame=draw(st.sampled_from((80, 160, 240, 480))),
        slots=draw(st.sampled_from((4, 8, 64, 256))),
        slot_bytes=draw(st.sampled_from((4, 480))),
        min_ms=low,
        max_ms=high,
        initial_ms=draw(st.integers(low, high)),
        path_ms=draw(st.integers(0, 400)),
    )


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.integers(0, 65_535), st.integers(0, 2**32 - 1), st.sampled_from((0, 80, 480))
        ),
        st.tuples(
            st.just("near"), st.integers(-150, 150), st.integers(-5000, 5000), st.sampled_from((0, 160))
        ),
        st.tuples(st.just("next"), st.integers(1, 6), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("get"), st.integers(1, 30), st.booleans(), st.just(0)),
        st.tuples(st.just("wait"), st.integers(-100, 10_000), st.just(0), st.just(0)),
        st.tuples(st.just("reset"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(buffer=buffers(), moves=steps)
@settings(deadline=None, max_examples=300)
def test_any_input_keeps_order_accounts_and_bounds(
    buffer: JitterBuffer, moves: list[tuple[str, int, int, int]]
) -> None:
    watch = Watch(buffer)
    slots = 256
    seq = timestamp = 0
    now = 0.0
    for kind, first, second, third in moves:
        match kind:
            case "put":
                seq, timestamp = first, second
                watch.put(seq, timestamp, now, third)
            case "near":
                watch.put((seq + first) & 0xFFFF, (timestamp + second) & 0xFFFFFFFF, now, third)
            case "next":
                for _ in range(first):
                    seq, timestamp = (seq + second) & 0xFFFF, (timestamp + second * UNITS) & 0xFFFFFFFF
                    watch.put(seq, timestamp, now)
            case "get":
                for _ in range(first):
                    watch.get(now, bool(second))
                    now += buffer.duration / 8000
            case "wait":
                now += first / 1000
            case "reset":
                watch.reset()
        assert 0 <= buffer.waiting <= slots + 1
        assert abs(buffer.target_ms) < 1e9


@given(
    seed=st.integers(0, 2**32),
    first_seq=st.integers(0, 65_535),
    first_timestamp=st.integers(0, 2**32 - 1),
    jitter_ms=st.sampled_from((0, 5, 30, 120)),
    loss=st.sampled_from((0.0, 0.05, 0.3)),
    doubles=st.sampled_from((0.0, 0.2)),
)
@settings(deadline=None, max_examples=80)
def test_a_jittered_stream_comes_out_in_order_wherever_its_numbers_start(
    seed: int, first_seq: int, first_timestamp: int, jitter_ms: int, loss: float, doubles: float
) -> None:
    chance = random.Random(seed)
    arrivals = sorted(
        (n * 0.02 + chance.uniform(0, jitter_ms) / 1000, n)
        for n in range(300)
        if chance.random() >= loss
        for _ in range(2 if chance.random() < doubles else 1)
    )
    watch = Watch(JitterBuffer())
    pending = 0
    for tick in range(400):
        while pending < len(arrivals) and arrivals[pending][0] <= tick * 0.02:
            at, n = arrivals[pending]
            arrival = watch.put((first_seq + n) & 0xFFFF, (first_timestamp + n * UNITS) & 0xFFFFFFFF, at)
            assert arrival in (Arrival.ACCEPTED, Arrival.LATE, Arrival.DUPLICATE)
            pending += 1
        watch.get(tick * 0.02)
    numbers = [(seq - first_seq) % 65_536 for seq in watch.played]
    assert numbers == sorted(set(numbers))
    assert watch.buffer.waiting == 0
    assert watch.turns[-1] is Turn.EMPTY or not numbers
    arrived = {n for _, n in arrivals}
    assert len(numbers) >= 0.8 * len(arrived) - 10

"""Bench: one packet put and one frame got, seen from Python, beside the plain sorted queue, which promises
less.

`extra_info` holds the rating that the buffer reaches over the recorded trace whose arrivals it is fed (see
`benches/hearing/jitter_report.py`).
"""

import collections
import heapq
import itertools
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.hearing import jitter_traces
from fastagent._native.jitter import JitterBuffer, Turn

ROUNDS, ITERATIONS = 40, 1000
TRACES = ("ws_clean", "g1050_D1", "ws_tcp_stall", "batch_100ms")
PAYLOAD = bytes(range(160))

Step = Callable[[], None]


def native(trace: jitter_traces.Trace) -> Step:
    """Plays the trace over and over: a step is a get after what came since the last one."""
    buffer = JitterBuffer()
    put, get = buffer.put, buffer.get
    length = trace.sent
    gets = itertools.count(1)
    packets = (
        (lap * length + number, at / 1000 + lap * length * 0.02)
        for lap in itertools.count()
        for number, at in trace.arrivals
    )
    ahead = [next(packets) for _ in range((ROUNDS + 5) * ITERATIONS)]
    waiting = collections.deque(ahead)

    def step() -> None:
        now = next(gets) * 0.02 + 0.015
        while waiting[0][1] <= now:
            number, at = waiting.popleft()
            put(number & 0xFFFF, number * 160 & 0xFFFFFFFF, PAYLOAD, at)
        get(now)

    return step


def sorted_queue(trace: jitter_traces.Trace) -> Step:
    """Three packets deep, no clock."""
    heap: list[tuple[int, bytes]] = []
    numbers = itertools.count()

    def step() -> None:
        heapq.heappush(heap, (next(numbers), PAYLOAD))
        if len(heap) > 3:
            heapq.heappop(heap)

    return step


@pytest.mark.parametrize("engine", [native, sorted_queue], ids=["fastagent", "heapq"])
@pytest.mark.parametrize("name", TRACES)
def test_put_and_get(
    benchmark: BenchmarkFixture, name: str, engine: Callable[[jitter_traces.Trace], Step]
) -> None:
    benchmark.group = f"jitter buffer, {name}"
    peer = "fastagent" if engine is native else "heapq"
    benchmark.extra_info.update(
        subject=f"jitter put and get, {name}", implementation=peer, unit="20 ms frame"
    )
    trace = next(trace for trace in jitter_traces.recorded() if trace.name == name)
    if engine is native:
        outcome = jitter_traces.play(trace)
        assert outcome.order_errors == 0
        benchmark.extra_info["rating"] = round(outcome.rating, 1)
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        engine(trace), iterations=ITERATIONS, rounds=ROUNDS, warmup_rounds=2
    )


def test_what_goes_in_comes_out() -> None:
    buffer = JitterBuffer(initial_ms=0)
    for number in range(100):
        buffer.put(number, number * 160, bytes([number]), number * 0.02)
        assert buffer.get(number * 0.02) == (Turn.FRAME, bytes([number]))

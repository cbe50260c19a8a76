"""When the gauge closes, when it opens again, and that the sampler feeds it."""

import asyncio
from collections.abc import Callable

import pytest

from fastagent.server.doors.load import (
    CPU_WINDOW_S,
    LAG_WINDOW_S,
    REOPEN_AFTER_S,
    TICK_S,
    WARM_UP_S,
    LoadCause,
    LoadGauge,
    LoadSampler,
)


class Machine:
    """A gauge, and time that passes under it."""

    def __init__(self, lag_limit_ms: float = 20, cpu_limit_percent: float = 70) -> None:
        self.gauge = LoadGauge(lag_limit_ms, cpu_limit_percent)
        self.now = 100.0
        self.cpu_s = 5.0

    def run(self, duration_s: float, *, late_s: float = 0.0, cpu: float = 0.1) -> None:
        for _ in range(round(duration_s / TICK_S)):
            self.now += TICK_S
            self.cpu_s += cpu * TICK_S
            self.gauge.sample(self.now, late_s, self.cpu_s)

    def run_until(self, claim: Callable[[], bool], limit_s: float = 20.0, **load: float) -> float:
        begun = self.now
        while not claim():
            assert self.now - begun < limit_s, "never came"
            self.run(TICK_S, **load)
        return self.now - begun


def test_quiet_machine_takes_calls():
    machine = Machine()
    machine.run(20, late_s=0.019, cpu=0.69)
    assert machine.gauge.overload is None
    assert machine.gauge.cpu_share == pytest.approx(0.69, abs=0.01)


def test_starting_process_is_not_judged():
    machine = Machine()
    machine.run(WARM_UP_S - 0.2, late_s=0.5, cpu=1.0)
    assert machine.gauge.overload is None


def test_lag_closes_within_a_fifth_of_a_second_and_opens_when_it_left_the_window():
    machine = Machine()
    machine.run(10)
    gauge = machine.gauge
    assert machine.run_until(lambda: gauge.overload is LoadCause.LAG, late_s=0.05) <= 0.2
    took_s = machine.run_until(lambda: gauge.overload is None)
    assert LAG_WINDOW_S <= took_s <= LAG_WINDOW_S + REOPEN_AFTER_S + 0.5


def test_one_short_hiccup_is_not_the_99th_percentile():
    machine = Machine()
    machine.run(10)
    machine.run(TICK_S, late_s=0.04)
    machine.run(1)
    assert machine.gauge.overload is None


def test_long_stall_counts_for_the_ticks_it_swallowed():
    machine = Machine()
    machine.run(10)
    machine.now += 0.5
    machine.run(TICK_S, late_s=0.5)
    machine.run(0.2)
    assert machine.gauge.overload is LoadCause.LAG
    assert machine.gauge.lag_p99_s >= 0.4


def test_processor_closes_and_opens_with_hysteresis():
    machine = Machine()
    machine.run(10, cpu=0.5)
    gauge = machine.gauge
    assert machine.run_until(lambda: gauge.overload is LoadCause.CPU, cpu=0.9) <= CPU_WINDOW_S
    machine.run(10, cpu=0.62)  # below the limit, above what opens
    assert gauge.overload is LoadCause.CPU
    assert machine.run_until(lambda: gauge.overload is None, cpu=0.5) >= REOPEN_AFTER_S


def test_return_of_load_restarts_the_wait():
    machine = Machine()
    machine.run(10)
    machine.run(1, late_s=0.05)
    for _ in range(5):
        machine.run(LAG_WINDOW_S + REOPEN_AFTER_S - 0.3)
        machine.run(4 * TICK_S, late_s=0.018)
    assert machine.gauge.overload is LoadCause.LAG


def test_limits_of_zero_do_not_look():
    machine = Machine(0, 0)
    machine.run(20, late_s=0.5, cpu=2.0)
    assert machine.gauge.overload is None
    assert machine.gauge.lag_p99_s >= 0.48


def test_sampler_measures_a_blocked_loop():
    async def main() -> LoadGauge:
        gauge = LoadGauge(20, 70)
        times = {"now": 0.0}
        seen: list[float] = []
        has_ticked = asyncio.Event()
        sample = gauge.sample

        def note(now: float, late_s: float, cpu_s: float) -> None:
            seen.append(late_s)
            if len(seen) == 2:
                has_ticked.set()
            sample(now, late_s, cpu_s)

        gauge.sample = note  # type: ignore[method-assign]
        sampler = LoadSampler(gauge, clock=lambda: times["now"], cpu_clock=lambda: 0.0)
        sampler.start()
        times["now"] = 0.32  # the clock ran on, the tick is late by 300 ms
        async with asyncio.timeout(10):
            await has_ticked.wait()
        sampler.close()
        sampler.close()
        assert seen[0] == pytest.approx(0.3)
        assert seen[1] == 0.0
        return gauge

    asyncio.run(main())

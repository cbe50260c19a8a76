"""One load test from its first call to its report."""

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from fastagent.errors import ConfigurationError
from fastagent.load.caller import Caller, Target
from fastagent.load.exchange import Exchange
from fastagent.load.metrics_page import read_metrics
from fastagent.load.model import ModelSide
from fastagent.load.order import LoadTest
from fastagent.load.plan import Stage
from fastagent.load.report import Report, Second, StageReport
from fastagent.load.server_cost import ServerCost, listener_pid
from fastagent.load.speech import babble
from fastagent.load.tally import Tally, Window
from fastagent.load.upgrade import TlsPipes
from fastagent.testing.fault_proxy import FaultProxy

__all__ = ["LoadRun"]

BABBLE_MS = 2200
ANSWER_MS = 4200
ANSWERS = 4
TICK_S = 1.0
LEVEL_TIMEOUT_S = 20.0
"""Beyond the time that opening so many calls takes, for a level to be reached."""
HOPELESS_CALLS = 20
"""So many calls, at the least, must fail and none be answered before a level is given up early."""
HANG_UP_TIMEOUT_S = 8.0
"""For all calls to end."""


class LoadRun:
    """A run. `run` gives the report; `stop` ends it early, with a report of what was.

    Args:
        on_ready: told the model's URL before the first call; the run waits until it returns.
        on_second: told of each second.
    """

    def __init__(
        self,
        test: LoadTest,
        *,
        on_ready: Callable[[str], None] = lambda url: None,
        on_second: Callable[[Second], None] = lambda second: None,
    ) -> None:
        self.test = test
        self._on_ready = on_ready
        self._on_second = on_second
        self._stop = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._number = 0
        self._is_over = False
        self._exchange = Exchange()
        self._tally = Tally(self._exchange.engine)
        self._stage_name = ""
        self._window: Window | None = None
        self._is_measured = asyncio.Event()
        self._second = Window()
        self._voices = {**{text: babble(BABBLE_MS, i) for i, text in enumerate(test.scenario.spoken())}}
        self._voices.update(test.voices)

    @property
    def is_measuring(self) -> bool:
        """A level was reached and is being measured."""
        return self._window is not None

    async def measuring(self) -> None:
        """Wait until the first level is measured."""
        await self._is_measured.wait()

    @property
    def live(self) -> int:
        """Calls that were answered and go on."""
        return self._tally.live

    @property
    def counts(self) -> Mapping[str, int]:
        """What was counted since the start, as the report's ``total``; as new as the last second told."""
        return self._report.total.counts

    def stop(self) -> None:
        """End the run now; calls hang up."""
        self._stop.set()

    async def run(self) -> Report:
        """Make all calls.

        Raises:
            ConfigurationError: the model's side cannot listen where it shall.
        """
        _raise_descriptor_limit()
        test = self.test
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._exchange)
            self._pipes = TlsPipes()
            stack.push_async_callback(self._pipes.close)
            model: ModelSide | None = None
            if test.model is not None:
                answers = [babble(ANSWER_MS, 1000 + i) for i in range(ANSWERS)]
                try:
                    model = await stack.enter_async_context(ModelSide(self._exchange, answers, test.model))
                except OSError as error:
                    raise ConfigurationError(f"--model-listen: cannot listen ({error.strerror})") from None
            self._target = await self._behind_faults(stack)
            self._on_ready(model.url if model is not None else "")
            self._report = Report(test, cores=len(os.sched_getaffinity(0)))
            self._cost = await asyncio.to_thread(self._find_server)
            self._report.server_pid = self._cost.pid if self._cost is not None else None
            before = await asyncio.to_thread(read_metrics, self._metrics_url())
            sampler = asyncio.create_task(self._sample())
            try:
                await self._run_stages()
            finally:
                self._is_over = True
                await self._hang_up_all()
                sampler.cancel()
                await asyncio.gather(sampler, return_exceptions=True)
            after = await asyncio.to_thread(read_metrics, self._metrics_url())
            self._report.finish(
                self._tally.take(),
                is_interrupted=self._stop.is_set(),
                metrics={name: round(after[name] - before.get(name, 0.0), 6) for name in after},
                model_sessions=model.sessions if model is not None else None,
                model_strays=self._exchange.desk.strays,
                paired_by_order=self._exchange.desk.by_order,
                model_errors=model.errors if model is not None else 0,
            )
            return self._report

    async def _behind_faults(self, stack: contextlib.AsyncExitStack) -> Target:
        target = self.test.target
        if self.test.fault is None:
            return target
        parts = urlsplit(target.url)
        if parts.scheme not in ("ws", "http"):
            raise ConfigurationError("--fault works on plain ws:// and http:// only")
        proxy = FaultProxy(
            f"ws://{parts.netloc}{parts.path}",
            seed=self.test.seed,
            to_server=self.test.fault,
            to_client=self.test.fault,
        )
        await stack.enter_async_context(proxy)
        through = urlsplit(proxy.url)
        return replace(target, through=(through.hostname or "", through.port or 0))

    def _find_server(self) -> ServerCost | None:
        if self.test.pid is not None:
            return ServerCost(self.test.pid)
        parts = urlsplit(self.test.target.url)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            return None
        pid = listener_pid(parts.port or 80)
        return ServerCost(pid) if pid is not None else None

    def _metrics_url(self) -> str:
        parts = urlsplit(self.test.target.url)
        scheme = "https" if parts.scheme in ("wss", "https") else "http"
        return self.test.metrics_url or f"{scheme}://{parts.netloc}/metrics"

    # Stages

    async def _run_stages(self) -> None:
        for stage in self.test.plan:
            self._stage_name = stage.name
            opening = asyncio.create_task(self._open_calls(stage))
            try:
                if stage.calls:
                    await self._reach(stage.calls)
                    await self._wait(self.test.plan.settle_s)
                if self._stop.is_set():
                    return
                report = await self._measure(stage)
                self.test.plan.judge(stage, report.is_kept)
            finally:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            if self._stop.is_set():
                return

    async def _reach(self, calls: int) -> None:
        deadline_s = time.monotonic() + calls / self.test.plan.opening_per_s + LEVEL_TIMEOUT_S
        while self._tally.live < calls and time.monotonic() < deadline_s and not self._stop.is_set():
            if not self._tally.live and self._tally.failed > max(calls, HOPELESS_CALLS):
                return
            await self._wait(0.05)

    async def _open_calls(self, stage: Stage) -> None:
        """Begin calls when they are due, however the ones before them fare; end those that are too many."""
        plan = self.test.plan
        per_s = stage.rate_per_s or plan.opening_per_s
        due_s = time.monotonic()
        while True:
            if not stage.calls or len(self._calls) < stage.calls:
                self._begin(due_s)
            elif due_s < time.monotonic() - 1 / per_s:
                due_s = time.monotonic()  # nothing was due meanwhile
            due_s += 1 / per_s
            left_s = due_s - time.monotonic()
            if left_s > 0:
                await asyncio.sleep(left_s)

    def _begin(self, due_s: float) -> None:
        test = self.test
        end_s = due_s + test.plan.call_s if test.plan.call_s is not None else float("inf")
        caller = Caller(
            self._exchange,
            self._tally,
            self._target,
            test.scenario,
            self._voices,
            number=self._number,
            due_s=due_s,
            until=lambda: 0.0 if self._is_over else end_s,
            pipes=self._pipes,
            awaits_model=test.model is not None,
            seed=test.seed,
        )
        self._number += 1
        task = asyncio.create_task(caller.run())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _hang_up_all(self) -> None:
        """Callers are at a step; they hang up when it is done, or are cut off."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=HANG_UP_TIMEOUT_S)
        rest = list(self._calls)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _measure(self, stage: Stage) -> StageReport:
        self._collect()
        self._window = Window()
        self._is_measured.set()
        begun = self._marks()
        await self._wait(stage.duration_s)
        self._collect()
        window, self._window = self._window, None
        ended = self._marks()
        return self._report.add_stage(stage, window, begun, ended, self._tally.live)

    def _marks(self) -> dict[str, float]:
        """Clocks and meters at this moment."""
        usage = self._cost.read() if self._cost is not None else None
        marks = {"at_s": time.monotonic(), "own_cpu_s": time.process_time()}
        if usage is not None:
            marks |= {"cpu_s": usage.cpu_s, "rss_bytes": usage.rss_bytes}
        return marks

    # Seconds

    def _collect(self) -> Window:
        """Everything since the last call, for whoever counts; gives the second so far."""
        window = self._tally.take()
        self._report.total.add(window)
        self._second.add(window)
        if self._window is not None:
            self._window.add(window)
        return self._second

    async def _sample(self) -> None:
        before = self._marks()
        self._report.begin(before)
        due_s = before["at_s"]
        while True:
            due_s += TICK_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            now = self._marks()
            window = self._collect()
            self._second = Window()
            second = self._report.add_second(
                window, before, now, self._stage_name, self._tally.live, self._tally.opening
            )
            self._on_second(second)
            before = now

    async def _wait(self, duration_s: float) -> None:
        """Let time pass, unless the run is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self._stop.wait()


def _raise_descriptor_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

"""Calls for a long time: ``python -m benches.soak soak 30`` or ``python -m benches.soak chaos 30``.

Writes JSON and a short text to ``benches/results/``; exit code 1 when a limit was missed.
"""

import argparse
import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benches.soak.chaos import Chaos
from benches.soak.crowd import Crowd, Kind
from benches.soak.house import open_house, open_model
from benches.soak.report import RESULTS, figures_of, judge, markdown, write
from benches.soak.samples import Sample, Sampler, leaks, settled
from fastagent.testing.fault_proxy import FaultProxy

WARM_UP_S = 90.0
WARM_UP_RATE = 8.0
"""Many short calls first: the heap has then seen what there is to come."""
PINGS = {"ping_interval_s": 2.5, "ping_timeout_s": 4}
"""Half-open carriers shall be seen within a fault's time."""
WARM_UP_LEVEL = 1.6
"""Times the level to come, so that the run itself asks for no more memory than there was."""
RUSH_CALLS = 40
CHANCE_OF_DROP = 0.05
CHANCE_OF_TOOL = 0.05
DRAIN_LIMIT_S = 120.0
TELL_EVERY = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 when a limit was missed."""
    parser = argparse.ArgumentParser(prog="benches.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("soak", "chaos"))
    parser.add_argument("minutes", type=float)
    parser.add_argument("--calls", type=int, default=25, help="at once (default 25)")
    parser.add_argument("--rate", type=float, default=1.0, help="new ones a second (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=10.0, help="seconds from fault to fault (default 10)")
    parser.add_argument("--warm-up", type=float, default=WARM_UP_S, help="seconds of short calls before")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default benches/results)")
    options = parser.parse_args(arguments)
    if options.minutes <= 0 or options.calls < 1 or options.rate <= 0 or options.every <= 0:
        parser.error("expected numbers above 0")
    logging.disable(logging.WARNING)  # a full buffer of a socket is no news here
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures, log = runner.run(_run(options))
    verdicts = judge(figures)
    text = markdown(figures, verdicts)
    print(text)
    path = write(figures, text, options.out)
    print(path)
    is_missed = any(one.is_kept is False for one in verdicts)
    if is_missed:
        path.with_suffix(".log").write_text(log)
        print(f"a limit was missed; what the server said: {path.with_suffix('.log')}")
    return int(is_missed)


async def _run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The figures, and the server's log."""
    is_chaos = options.what == "chaos"
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastagent-soak-")))
        model = await stack.enter_async_context(
            open_model(
                # Chaos has faults of its own, and must know whom they befall.
                drops=0.0 if is_chaos else CHANCE_OF_DROP,
                tools=CHANCE_OF_TOOL,
                seed=options.seed,
            )
        )
        proxies: dict[str, FaultProxy] = {}
        url = model.url
        if is_chaos:
            proxies["model_proxy"] = await stack.enter_async_context(FaultProxy(url, seed=options.seed))
            url = proxies["model_proxy"].url
        house = await stack.enter_async_context(open_house(folder, url, **(PINGS if is_chaos else {})))
        if is_chaos:
            for name, target in (("carrier", house.audiocodes_url), ("agent", house.agent_url)):
                proxy = FaultProxy(target, seed=options.seed)
                proxies[f"{name}_proxy"] = await stack.enter_async_context(proxy)
        warm = Crowd(
            house, calls=round(WARM_UP_LEVEL * options.calls), rate=WARM_UP_RATE, seed=options.seed, **proxies
        )
        warm.mix = {Kind.REFUSED: 0.1, Kind.KILLED: 0.1, Kind.RESUMED: 0.1, Kind.SILENT: 0.02}
        print(f"warming up for {options.warm_up:g} s", flush=True)
        await warm.rush(RUSH_CALLS)
        await warm.run(options.warm_up)
        await asyncio.wait_for(warm.drain(), DRAIN_LIMIT_S)
        before = await settled(house)
        print(f"at rest: {before}; {warm.tally.finished} calls, {warm.tally.failed} failed", flush=True)

        crowd = Crowd(house, calls=options.calls, rate=options.rate, seed=options.seed + 1, **proxies)
        if is_chaos:
            crowd.mix = {Kind.REFUSED: 0.10, Kind.KILLED: 0.05, Kind.RESUMED: 0.05, Kind.OVERLAP: 0.10}
        sampler = Sampler(house, lambda sample: _tell(crowd, sampler, sample))
        helpers = [asyncio.create_task(sampler.run())]
        chaos: Chaos | None = None
        if is_chaos:
            chaos = Chaos(crowd, house, model, seed=options.seed, every_s=options.every, **proxies)
            helpers.append(asyncio.create_task(chaos.run(60 * options.minutes)))
        try:
            await crowd.run(60 * options.minutes)
            if chaos is not None:
                await helpers[1]
            try:
                await asyncio.wait_for(crowd.drain(), DRAIN_LIMIT_S)
            except TimeoutError:
                print("calls that do not end are cut")
                await crowd.stop()
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        for task in helpers:
            if not task.cancelled() and task.exception() is not None:
                raise RuntimeError("a part of the run broke") from task.exception()
        after = await settled(house)
        metrics, said = await house.metrics(), await model.figures()
        log = house.log
    more = {"faults": chaos.figures()} if chaos is not None else {}
    told = {name: getattr(options, name) for name in ("minutes", "calls", "rate", "seed", "every", "warm_up")}
    leak = leaks(sampler.samples, options.seed)
    figures = figures_of(
        options.what,
        told,
        crowd.tally,
        sampler.samples,
        leak,
        before,
        after,
        metrics,
        said,
        log,
        callers_worst_lag_s=round(sampler.worst_lag_s, 3),
        **more,
    )
    return figures, log


def _tell(crowd: Crowd, sampler: Sampler, sample: Sample) -> None:
    if len(sampler.samples) % TELL_EVERY == 0:
        tally = crowd.tally
        print(
            f"{time.strftime('%H:%M:%S')} {sample.at_s:6.0f} s  {sample.calls_open:3} calls, "
            f"{tally.finished:5} over, {tally.failed} failed, {tally.named} named, "
            f"{sample.rss_bytes / 2**20:.1f} MiB, {sample.tasks} tasks, {sample.descriptors} fds, "
            f"{sample.threads} threads, {sample.blocks} blocks",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())

"""The shared tick: serves every queue until it is empty, says so once, sleeps then, survives a fault."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from fastagent._native.listener import Leg
from fastagent._native.pump import Downlink
from fastagent.legs import tick as tick_module
from fastagent.legs.tick import GatherTick, PlayoutTick


class Line:
    """A leg whose queue lasts for so many ticks."""

    def __init__(self, ticks: int, fault: Exception | None = None) -> None:
        self.left = ticks
        self.served = 0
        self.times: list[float] = []
        self.fault = fault

    def send_due(self, downlink: Downlink, now: float) -> bool:
        self.times.append(now)
        self.served += 1
        if self.fault is not None:
            raise self.fault
        self.left -= 1
        return self.left > 0


class Scene:
    def __init__(self) -> None:
        self.tick = PlayoutTick()
        self.drained: list[str] = []
        self.is_over = asyncio.Event()

    def watch(
        self, name: str, line: Line, *, ends: bool = False, then: Callable[[], None] | None = None
    ) -> object:
        downlink = object()

        def on_drained() -> None:
            self.drained.append(name)
            if then is not None:
                then()
            if ends:
                self.is_over.set()

        self.tick.watch(cast(Any, downlink), cast(Leg, line), on_drained)
        return downlink

    async def until_over(self) -> None:
        async with asyncio.timeout(10):
            await self.is_over.wait()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick_module, "TICK_S", 0.001)


def test_each_queue_is_served_until_it_is_empty_and_told_once():
    async def main() -> None:
        scene = Scene()
        short, long = Line(1), Line(4)
        scene.watch("short", short)
        scene.watch("long", long, ends=True)
        await scene.until_over()
        assert scene.drained == ["short", "long"]
        assert (short.served, long.served) == (1, 4)
        assert long.times == sorted(long.times)
        assert scene.tick._timer is None

    asyncio.run(main())


def test_watching_twice_serves_once_per_tick():
    async def main() -> None:
        scene = Scene()
        line = Line(3)
        downlink = object()
        for _ in range(5):
            scene.tick.watch(cast(Any, downlink), cast(Leg, line), scene.is_over.set)
        await scene.until_over()
        assert line.served == 3

    asyncio.run(main())


def test_forgotten_queue_is_not_served():
    async def main() -> None:
        scene = Scene()
        forgotten = Line(100)
        downlink = scene.watch("forgotten", forgotten)
        scene.watch("last", Line(5), ends=True)
        scene.tick.forget(cast(Any, downlink))
        scene.tick.forget(cast(Any, downlink))
        await scene.until_over()
        assert forgotten.served == 0
        assert scene.drained == ["last"]

    asyncio.run(main())


def test_queue_forgotten_by_another_in_the_same_tick_is_not_told():
    async def main() -> None:
        scene = Scene()
        second: list[object] = []
        scene.watch("first", Line(1), then=lambda: scene.tick.forget(cast(Any, second[0])))
        second.append(scene.watch("second", Line(1)))
        scene.watch("last", Line(3), ends=True)
        await scene.until_over()
        assert scene.drained == ["first", "last"]

    asyncio.run(main())


def test_audio_queued_while_a_queue_is_told_empty_is_served():
    async def main() -> None:
        scene = Scene()
        again = Line(2)
        scene.watch("first", Line(1), then=lambda: scene.watch("again", again, ends=True) and None)
        await scene.until_over()
        assert scene.drained == ["first", "again"]
        assert again.served == 2

    asyncio.run(main())


@pytest.mark.parametrize("where", ["sending", "telling"])
def test_fault_of_one_call_does_not_stop_the_others(where, caplog):
    def fail() -> None:
        raise RuntimeError("on purpose")

    async def main() -> None:
        scene = Scene()
        broken = Line(1, RuntimeError("on purpose") if where == "sending" else None)
        scene.watch("broken", broken, then=fail)
        other = Line(4)
        scene.watch("other", other, ends=True)
        await scene.until_over()
        assert other.served == 4
        assert broken.served == 1
        assert "other" in scene.drained

    with caplog.at_level(logging.ERROR, logger="fastagent.legs"):
        asyncio.run(main())
    assert len(caplog.records) == 1


def test_closed_tick_serves_nobody():
    async def main() -> None:
        scene = Scene()
        line = Line(100)
        scene.watch("line", line)
        scene.tick.close()
        scene.tick.close()
        asyncio.get_running_loop().call_later(0.01, scene.is_over.set)
        await scene.until_over()
        assert line.served == 0

    asyncio.run(main())


class Gathering:
    """An uplink that gathers since so many seconds ago."""

    def __init__(self, age_s: float | None) -> None:
        self.is_gathering = age_s is not None
        self.gathering_since = time.monotonic() - (age_s or 0.0)


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_gathered_too_long_ago_is_let_out_and_nothing_else(fails, caplog):
    async def main() -> None:
        tick = GatherTick(append_ms=1)
        flushed: list[str] = []
        is_over = asyncio.Event()

        def flush(name: str) -> None:
            flushed.append(name)
            if name == "broken":
                raise RuntimeError("on purpose")
            if flushed.count("old") == 2:
                is_over.set()

        ages = {
            "fresh": -100.0,
            "nothing": None,
            "forgotten": 9.0,
            "broken": 9.0 if fails else None,
            "old": 9.0,
        }
        uplinks = {name: Gathering(age) for name, age in ages.items()}
        for name, uplink in uplinks.items():
            tick.watch(cast(Any, uplink), partial(flush, name))
        tick.forget(cast(Any, uplinks["forgotten"]))
        async with asyncio.timeout(10):
            await is_over.wait()
        tick.close()
        tick.close()
        assert flushed == ["broken"] * fails + ["old", "old"]

    with caplog.at_level(logging.ERROR, logger="fastagent.legs"):
        asyncio.run(main())
    assert len(caplog.records) == fails

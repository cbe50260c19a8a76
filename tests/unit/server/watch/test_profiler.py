"""``POST /profile``: an admin's alone, one at a time, and everything is off again afterwards."""

import asyncio
import base64
import gc
import json
from typing import Any

import pytest
from starlette.applications import Starlette

from fastagent import FastAgent
from fastagent._native import stages
from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Uplink
from fastagent.profile.reading import Begun, ProfileReading
from fastagent.server.app import Service, build_app
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.watch.profile_route import profile_routes
from fastagent.server.watch.profiler import Profiler
from fastagent.settings import Settings
from fastagent.stats import Counters
from tests.asgi import Answer, ask

ADMIN = "an-admin-token-of-tests"
METRICS = "a-metrics-token-of-tests"
FRAMES = 64
CHUNK = json.dumps({"type": "userStream.chunk", "audioChunk": base64.b64encode(bytes(160)).decode()}).encode()


def house(**settings: Any) -> Any:
    return build_app(Service([FastAgent("bot")], Settings(**settings), realtime_url="ws://127.0.0.1:1/"))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def asked(app: Any, target: str = "/profile?duration_ms=1", headers: dict[str, str] | None = None) -> Answer:
    return asyncio.run(ask(app, "POST", target, headers=headers))


def talk() -> None:
    pump = Uplink(
        EnvelopeSpec(("type",), ("userStream.chunk",), ("audioChunk",), ()),
        "mulaw", 8000, "pcm16", 24_000, b'{"audio":"', b'"}',
    )  # fmt: skip
    for _ in range(FRAMES):
        pump.feed(CHUNK)


def is_off() -> bool:
    before = stages.allocations()
    kept = [object() for _ in range(10)]
    return stages.every() == 0 and stages.allocations() == before and bool(kept)


class Watched(Profiler):
    """Tells when it has begun."""

    def __init__(self) -> None:
        super().__init__(self._look)
        self.begun = asyncio.Event()

    def _look(self) -> int:
        self.begun.set()
        return 3


async def driven(profiler: Watched, every: int) -> ProfileReading:
    measuring = asyncio.create_task(profiler.measure(0.05, every))
    await profiler.begun.wait()
    talk()
    gc.collect()
    return await measuring


def test_reading_tells_what_happened_meanwhile():
    reading = asyncio.run(driven(Watched(), 1))
    uplink = reading.stages.ways["uplink"]
    assert (uplink.frames, uplink.timed) == (FRAMES, FRAMES)
    assert set(uplink.stages) == {"scan", "check", "unbase64", "decode", "resample", "encode", "base64"}
    assert uplink.allocations_per_frame == 0
    sum_ns = sum(one.frames * one.mean_ns for one in uplink.stages.values())
    assert sum_ns / uplink.timed == pytest.approx(uplink.whole.mean_ns, rel=0.2)
    assert 0 < uplink.whole.p50_ns <= uplink.whole.p99_ns
    assert reading.stages.audio_frames == FRAMES
    assert (reading.calls_begin, reading.calls_end) == (3, 3)
    assert reading.gc.collections[2] >= 1
    assert reading.gc.pause_total_ms >= reading.gc.pause_max_ms > 0
    assert reading.loop.beats == sum(reading.loop.counts) > 0
    assert reading.loop.lag_p50_ms <= reading.loop.lag_p99_ms <= reading.loop.lag_max_ms
    assert reading.memory.allocations > 0
    assert reading.memory.rss_bytes > 1_000_000
    assert reading.process.user_s + reading.process.system_s > 0
    assert reading.seconds >= 0.05
    assert reading.per_frame(2 * FRAMES) == 2
    assert ProfileReading.model_validate_json(reading.model_dump_json()) == reading


def test_frames_are_counted_without_timing():
    reading = asyncio.run(driven(Watched(), 0))
    uplink = reading.stages.ways["uplink"]
    assert (uplink.frames, uplink.timed, uplink.stages) == (FRAMES, 0, {})
    assert reading.memory.allocations == 0


def test_everything_is_off_afterwards():
    callbacks = list(gc.callbacks)
    profiler = Watched()
    asyncio.run(driven(profiler, 1))
    assert is_off()
    assert gc.callbacks == callbacks
    assert not profiler.is_running


def test_everything_is_off_when_nobody_waits_any_more():
    callbacks = list(gc.callbacks)
    profiler = Watched()

    async def give_up() -> None:
        measuring = asyncio.create_task(profiler.measure(60.0, 1))
        await profiler.begun.wait()
        assert stages.every() == 1
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)

    asyncio.run(give_up())
    assert is_off()
    assert gc.callbacks == callbacks
    assert not profiler.is_running


def test_answer_is_two_lines():
    answer = asked(house(), "/profile?duration_ms=10&every=4")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, second = answer.body.decode().splitlines()
    begun, reading = Begun.model_validate_json(first), ProfileReading.model_validate_json(second)
    assert begun.pid == reading.pid
    assert begun.seconds == 0.01
    assert reading.stages.every == 4


@pytest.mark.parametrize(
    ("headers", "status"), [(None, 401), (bearer("not-the-token-of-anybody"), 401), (bearer(METRICS), 403)]
)
def test_door_is_closed_without_the_scope(headers, status):
    app = house(admin_tokens=(ADMIN,), metrics_tokens=(METRICS,))
    assert asked(app, headers=headers).status == status
    assert asked(app, headers=bearer(ADMIN)).status == 200


def test_a_page_of_another_site_is_refused():
    assert asked(house(), headers={"origin": "https://elsewhere.example"}).status == 403


def test_a_get_measures_nothing():
    assert asyncio.run(ask(house(), "GET", "/profile")).status == 405


@pytest.mark.parametrize(
    "query", ["duration_ms=0", "duration_ms=120001", "duration_ms=x", "every=-1", "every=1000001", "what=1"]
)
def test_what_does_not_fit_is_refused(query):
    assert asked(house(), f"/profile?{query}").is_problem(422, "invalid-query")


def test_one_measurement_at_a_time():
    profiler = Watched()
    app = Starlette(routes=profile_routes(profiler, Doorkeeper(Settings(), Counters())))

    async def twice() -> list[int]:
        first = asyncio.create_task(ask(app, "POST", "/profile?duration_ms=50"))
        await profiler.begun.wait()
        second = await ask(app, "POST", "/profile?duration_ms=1")
        return [(await first).status, second.status]

    assert asyncio.run(twice()) == [200, 409]

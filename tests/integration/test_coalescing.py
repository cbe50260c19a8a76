"""A loop that takes turns: calls beside it are heard whole, and `serve` has it from 50 calls on."""

import asyncio
import signal

from fastagent.server.coalesce import BUSY_CALLS, Coalescer
from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.processes import House, dial
from tests.integration.scene import Scene, chirp, heard
from tests.integration.scene import run as run_scene
from tests.integration.test_drain import run as run_house

PAUSE_US = 1000
"""The most that may be set."""


def test_audio_of_both_sides_is_whole() -> None:
    async def scenario(scene: Scene) -> None:
        coalescer = Coalescer(PAUSE_US, lambda: BUSY_CALLS)
        try:
            phone, session, tap = await scene.call("raw/lpcm16_24")
            word = chirp(400, 24_000)
            session.speak(session.tone(1500))
            phone.start_saying(word, 24_000)
            await phone.wait_until(heard(100), "the beginning of the words")
            await session.wait_until(lambda one: word in bytes(one.audio), "the caller's words")
            await phone.wait_until(lambda line: line.streams[-1].is_done, "the end of the words")
            assert len(tap.all_audio) == 1500 * 48
            assert coalescer.is_busy
            await phone.hang_up()
        finally:
            coalescer.close()

    run_scene(scenario, barge_in="off")


def test_serve_takes_turns_from_fifty_calls_on(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += ["log_level=DEBUG", "coalesce_us=700"]
        async with here.process() as process:
            await process.listening()
            phones = [await dial(here.url) for _ in range(BUSY_CALLS)]
            await process.logged(f"{BUSY_CALLS} calls: the loop wakes at most each 700 us")
            await asyncio.gather(*(phone.hang_up() for phone in phones))
            assert [phone.line.violations for phone in phones] == [[]] * BUSY_CALLS
            process.signal(signal.SIGTERM)
            assert await process.ended(20) == 0
            assert "Traceback" not in process.log

    run_house(tmp_path, scenario)

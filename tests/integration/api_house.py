"""A house with running calls behind a real port, for those who ask it from another thread or process."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastagent import FastAgent
from fastagent.errors import FastAgentError
from fastagent.server.process import RunningServer, run_server
from fastagent.settings import Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.scene import UNLIMITED, Witness

TOKEN = "a-token-for-administrators"
START_TIMEOUT_S = 20.0
ENDED_ID = "ended-1"
LIVE_IDS = ("call-1", "call-2")
OPTIONS = LineOptions(formats=("raw/lpcm16",), comfort_noise_peak=0)

ORDER: dict[str, Any] = {
    "states": [
        {
            "name": "ask",
            "description": "Find out the size.",
            "allowed_transitions": ["order"],
            "initial_state": True,
            "slots": [
                {"name": "size", "type": "choice", "choices": ["small", "large"], "prompt": "Which size?"}
            ],
        },
        {
            "name": "order",
            "allowed_transitions": ["done"],
            "effects": [{"name": "order_pizza", "key": "size"}],
            "handles": {"tool_failed": "sorry"},
        },
        {"name": "sorry", "prompt_template": "That did not work."},
        {"name": "done", "prompt_template": "A {size} one is ordered."},
    ],
    "task_name": "pizza",
}
"""A configuration that a house of `front_desk` takes."""


def order_pizza(size: str) -> str:
    """An effect that posted states may name."""
    return f"receipt for {size}"


def opening_hours(day: str) -> str:
    """Tell when the shop is open."""
    return f"On {day} from nine to five."


def front_desk() -> FastAgent:
    """The agent in code."""
    return FastAgent(
        "front-desk",
        ORDER["states"],
        effects={"order_pizza": order_pizza},
        functions=[opening_hours],
        task_name="pizza",
        instructions="You sell pizza.",
    )


@dataclass
class House:
    """A running server, and its loop in a thread of its own."""

    server: RunningServer
    loop: asyncio.AbstractEventLoop
    folder: Path

    @property
    def url(self) -> str:
        return f"http://{self.server.host}:{self.server.port}"


@contextlib.contextmanager
def open_house(
    folder: Path, *, agents: Sequence[FastAgent] = (), live_ids: Sequence[str] = LIVE_IDS, **settings: Any
) -> Iterator[House]:
    """Serve while the context is open; calls of ``live_ids`` are dialled again whenever they ended."""
    opened: list[House] = []
    failed: list[BaseException] = []
    ready, leave = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with RealtimeModel() as model:
            values: dict[str, Any] = {
                "port": 0,
                "realtime_url": model.url,
                "barge_in": "model",
                "drain_timeout_s": 0.5,
                "recordings_dir": str(folder / "recordings"),
                "journals_dir": str(folder / "journals"),
                "agents_dir": str(folder / "agents"),
            }
            witness = Witness()
            house = run_server(
                agents or [front_desk()], Settings(**(UNLIMITED | values | settings)), observers=[witness]
            )
            async with house as server:
                if live_ids:
                    await call_once(server, ENDED_ID)
                    await witness.wait_until(lambda heard: heard.summaries)
                calling = [asyncio.Event() for _ in live_ids]
                callers = [
                    asyncio.create_task(keep_calling(server, one, begun))
                    for one, begun in zip(live_ids, calling, strict=True)
                ]
                for begun in calling:
                    await begun.wait()
                opened.append(House(server, asyncio.get_running_loop(), folder))
                ready.set()
                await leave.wait()
                for caller in callers:
                    caller.cancel()
                await asyncio.gather(*callers, return_exceptions=True)

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="house")
    thread.start()
    try:
        assert ready.wait(START_TIMEOUT_S)
        if failed:
            raise failed[0]
        yield opened[0]
    finally:
        if opened:
            opened[0].loop.call_soon_threadsafe(leave.set)
        thread.join(START_TIMEOUT_S)
    assert not failed


async def call_once(server: RunningServer, conversation_id: str) -> None:
    """A call that ends at once, and leaves a journal and a recording."""
    async with AudioCodesPhone(OPTIONS, conversation_id=conversation_id) as phone:
        await dial(phone, server)
        await phone.say(bytes(3_200), 8_000)
        await phone.hang_up()


async def keep_calling(server: RunningServer, conversation_id: str, begun: asyncio.Event) -> None:
    """Call, and call again when the house hangs up."""
    while True:
        async with AudioCodesPhone(OPTIONS, conversation_id=conversation_id) as phone:
            try:
                await dial(phone, server)
                begun.set()
                await phone.wait_ended(timeout_s=3600)
            except FastAgentError:
                await asyncio.sleep(0.02)  # the last call of this id is still being put away


async def dial(phone: AudioCodesPhone, server: RunningServer) -> None:
    tokens = server.service.settings.audiocodes_tokens
    await phone.connect(server.audiocodes_url, tokens[0] if tokens else None)
    await phone.initiate()

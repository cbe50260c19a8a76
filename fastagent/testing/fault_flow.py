"""One way of one connection through the fault proxy: what becomes of each message on it."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from fastagent.testing.websocket_frames import RawFrame, head_size, payload_size

__all__ = ["Flow", "Shape", "Way"]

REORDER_LIMIT_S = 0.1
"""A message held back to come behind the next one goes out after this all the same."""
QUEUE_MESSAGES = 1024
"""Messages under way; then the sender is read no further."""


class Way(Enum):
    """Which way a message goes."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(frozen=True, slots=True)
class Shape:
    """What becomes of messages. Chances are from 0 to 1; control frames and fragments are only delayed."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """At most this is added to the delay, at random; the order stays."""
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """The chance that a message comes behind the next one."""
    corrupt: float = 0.0
    """The chance that some bits of one byte are turned."""
    bytes_per_s: float | None = None
    matches: Callable[[bytes], bool] | None = None
    """Messages, by their payload, that `drop` to `corrupt` are for; None for all."""

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "reorder", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a chance from 0 to 1, got {getattr(self, name)}")
        if self.bytes_per_s is not None and self.bytes_per_s <= 0:
            raise ValueError(f"bytes_per_s: expected more than 0, got {self.bytes_per_s}")


class Flow:
    """Reads frames of one side and writes them to the other."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        shape: Shape,
        chance: random.Random,
        on_message: Callable[[], None],
    ) -> None:
        self.shape = shape
        """May be changed at any time; what is under way keeps its delay."""
        self.messages = 0
        """Whole messages that came in."""
        self.dropped = 0
        self.duplicated = 0
        self.reordered = 0
        self.corrupted = 0
        self._reader = reader
        self._writer = writer
        self._chance = chance
        self._on_message = on_message
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(QUEUE_MESSAGES)
        self._held: bytes | None = None
        self._held_until: asyncio.TimerHandle | None = None
        self._last_due_s = 0.0

    @property
    def is_frozen(self) -> bool:
        """Nothing moves."""
        return not self._thawed.is_set()

    def freeze(self) -> None:
        """Neither read nor write: what is sent stays in the sender's buffers."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on; nothing was lost."""
        self._thawed.set()

    def change(self, **values: object) -> None:
        """Replace some values of the shape."""
        self.shape = replace(self.shape, **values)  # type: ignore[arg-type]

    async def run(self) -> None:
        """Carry frames until the sender's stream ends.

        Raises:
            ConnectionError: either side was reset.
        """
        sender = asyncio.create_task(self._send())
        try:
            while (frame := await self._next()) is not None:
                await self._take(frame)
            await self._let_go()
            await self._queue.put(None)
            await sender
        finally:
            if self._held_until is not None:
                self._held_until.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _next(self) -> RawFrame | None:
        await self._thawed.wait()
        try:
            begin = await self._reader.readexactly(2)
            head = begin + await self._reader.readexactly(head_size(begin) - 2)
            body = await self._reader.readexactly(payload_size(head))
        except asyncio.IncompleteReadError:
            return None
        await self._thawed.wait()
        return RawFrame(head, body)

    async def _take(self, frame: RawFrame) -> None:
        if not frame.is_message:
            await self._put(frame.data)
            return
        self.messages += 1
        self._on_message()
        # A fault may have frozen this way just now: the message that set it off is not passed on.
        await self._thawed.wait()
        shape = self.shape
        if shape.matches is not None and not shape.matches(frame.payload):
            await self._put(frame.data)
            return
        if self._happens(shape.drop):
            self.dropped += 1
            return
        if frame.body and self._happens(shape.corrupt):
            self.corrupted += 1
            frame = frame.flipped(self._chance.randrange(len(frame.body)), self._chance.randrange(1, 128))
        if self._held is None and self._happens(shape.reorder):
            self.reordered += 1
            self._held = frame.data
            self._hold_on()
            return
        await self._put(frame.data)
        if self._happens(shape.duplicate):
            self.duplicated += 1
            await self._put(frame.data)
        await self._let_go()

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._chance.random() < chance

    def _hold_on(self) -> None:
        """Wait for the message that the held one is to come behind, but not for long."""
        self._held_until = asyncio.get_running_loop().call_later(REORDER_LIMIT_S, self._let_go_late)

    def _let_go_late(self) -> None:
        if self._queue.full():
            self._hold_on()
        elif self._held is not None:
            held, self._held = self._held, None
            self._queue.put_nowait((self._due_s(), held))

    async def _let_go(self) -> None:
        if self._held_until is not None:
            self._held_until.cancel()
            self._held_until = None
        if self._held is not None:
            held, self._held = self._held, None
            await self._put(held)

    async def _put(self, data: bytes) -> None:
        await self._queue.put((self._due_s(), data))

    def _due_s(self) -> float:
        due_s = asyncio.get_running_loop().time() + self.shape.delay_s
        if self.shape.jitter_s:
            due_s += self._chance.uniform(0.0, self.shape.jitter_s)
        self._last_due_s = max(due_s, self._last_due_s)
        return self._last_due_s

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while (waiting := await self._queue.get()) is not None:
            due_s, data = waiting
            if (left_s := due_s - loop.time()) > 0:
                await asyncio.sleep(left_s)
            await self._thawed.wait()
            self._writer.write(data)
            await self._writer.drain()
            if self.shape.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self.shape.bytes_per_s)

"""A server with witnesses: calls that nothing is done to, and that must not notice what befalls another."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from fastagent import FastAgent
from fastagent.call import Call
from fastagent.server.process import RunningServer, run_server
from fastagent.settings import Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions, PhoneLine
from fastagent.testing.fault_proxy import FaultProxy, ProxiedConnection
from fastagent.testing.realtime_model import ModelSession, RealtimeModel

__all__ = ["Outcome", "Stage", "Victim", "Witness", "open_stage", "until"]

MEDIA = "raw/lpcm16_24"
LATE_MS = 20
"""A frame that comes this long after its time left a gap in what the caller heard."""
PIECE_MS = 1000
LIMIT_S = 20.0
SETTLE_LIMIT_S = 10.0
POLL_S = 0.002
TICK_S = 0.01


async def until(claim: Callable[[], object], what: str, *, limit_s: float = LIMIT_S) -> None:
    """Wait for a claim to come true; the finest step is `POLL_S`.

    Raises:
        TimeoutError: it did not.
    """
    deadline = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit_s:g} s for {what}")
        await asyncio.sleep(POLL_S)


@dataclass(slots=True)
class Outcome:
    """What became of one fault."""

    detected_ms: float | None = None
    """From the fault to the server's first act on it; None where there is nothing to notice."""
    recovered_ms: float | None = None
    """From the fault to a call that works again, or a polite end where nothing else is right."""
    is_recovered: bool = True
    notes: dict[str, float] = field(default_factory=dict)


class Lateness:
    """Counts the frames that came to one phone after their time."""

    def __init__(self, line: PhoneLine) -> None:
        self.late_frames = 0
        self._line = line
        self._receive = line.receive
        setattr(line, "receive", self.receive)  # noqa: B010 - a method is replaced on purpose

    def receive(self, message: bytes, now: float) -> None:
        """Look at the playback before the phone does."""
        stream = self._line.open_stream
        if stream is not None and stream.starts_at_s is not None and b'"playStream.chunk"' in message[:200]:
            gap_ms = 1000 * (now - stream.ends_at_s)
            if gap_ms > LATE_MS:
                self.late_frames += int(gap_ms / 20)
        self._receive(message, now)


class LoopClock:
    """Knows the longest time that the loop stood still."""

    def __init__(self) -> None:
        self.worst_stall_s = 0.0
        self.worst_own_s = 0.0
        """How much of that this process was computing."""
        self._due_s = time.monotonic()
        self._spent_s = time.process_time()
        self._tick()

    def _tick(self) -> None:
        now, spent_s = time.monotonic(), time.process_time()
        stall_s = now - self._due_s
        if stall_s > self.worst_stall_s:
            self.worst_stall_s, self.worst_own_s = stall_s, spent_s - self._spent_s
        self._due_s, self._spent_s = now + TICK_S, spent_s
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def take(self) -> tuple[float, float]:
        """The worst stall since the last look, and how much of it was our own work, in seconds."""
        worst = (self.worst_stall_s, self.worst_own_s)
        self.worst_stall_s = self.worst_own_s = 0.0
        return worst

    def stop(self) -> None:
        """Tick no more."""
        self._timer.cancel()


class Witness:
    """A call whose bot speaks without a pause."""

    def __init__(self, phone: AudioCodesPhone, session: ModelSession) -> None:
        self.phone = phone
        self.session = session
        self.lateness = Lateness(phone.line)
        self._task = asyncio.create_task(self._speak())

    @property
    def is_alive(self) -> bool:
        """It is the same call on the same sockets as in the beginning."""
        return self.phone.is_connected and self.session.is_open

    async def _speak(self) -> None:
        piece = self.session.tone(PIECE_MS)
        self.session.speak(piece, "", is_last=False)
        due_s = time.monotonic()
        while self.session.is_open:
            self.session.speak(piece, "", is_last=False)
            due_s += PIECE_MS / 1000
            await asyncio.sleep(due_s - time.monotonic())

    async def leave(self) -> None:
        """Hang up."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.phone.is_connected and not self.phone.line.is_over:
            await self.phone.hang_up()
        await self.phone.close()


@dataclass(slots=True)
class Victim:
    """The call that the fault befalls."""

    phone: AudioCodesPhone
    session: ModelSession
    carrier: ProxiedConnection
    """Between it and the server."""
    model: ProxiedConnection
    """Between the server and the model."""
    call: Call


class Stage:
    """One server between two fault proxies. Rows run on it one after the other."""

    def __init__(
        self,
        server: RunningServer,
        model: RealtimeModel,
        model_proxy: FaultProxy,
        carrier_proxy: FaultProxy,
        chance: random.Random,
    ) -> None:
        self.server = server
        self.model = model
        self.model_proxy = model_proxy
        self.carrier_proxy = carrier_proxy
        self.chance = chance
        self.witnesses: list[Witness] = []
        self._phones: list[AudioCodesPhone] = []
        self._victims: list[Victim] = []
        self.loop_clock = LoopClock()

    # Calls

    async def summon(self, number: int) -> None:
        """Have so many witnesses talking."""
        for _ in range(number):
            phone = AudioCodesPhone(LineOptions(formats=(MEDIA,), comfort_noise_peak=0))
            session = await self._dial(phone, self.server.audiocodes_url)
            self.witnesses.append(Witness(phone, session))

    async def _dial(self, phone: AudioCodesPhone, url: str) -> ModelSession:
        number = len(self.model.sessions)
        await phone.connect(url)
        await phone.initiate()
        return await self.model.session(number)

    def phone(self, **options: Any) -> AudioCodesPhone:
        """A phone that is hung up with the row."""
        phone = AudioCodesPhone(LineOptions(formats=(MEDIA,), comfort_noise_peak=0, **options))
        self._phones.append(phone)
        return phone

    async def victim(self, **options: Any) -> Victim:
        """A call through both proxies."""
        phone = self.phone(**options)
        session = await self._dial(phone, self.carrier_proxy.url)
        call = self.server.service.switchboard.find(phone.line.conversation_id)
        assert call is not None
        carrier, model = self.carrier_proxy.connections[-1], self.model_proxy.open_connections[-1]
        self._victims.append(Victim(phone, session, carrier, model, call))
        return self._victims[-1]

    async def talk(self, phone: AudioCodesPhone, session: ModelSession) -> None:
        """One turn of the caller, answered and heard to its end.

        Raises:
            LegTimeoutError, LegClosedError: it was not.
        """
        streams = len(phone.line.streams)
        session.speech_started()
        session.speech_stopped("hello?")
        await phone.wait_until(
            lambda line: len(line.streams) > streams and line.streams[-1].is_done, "an answer"
        )

    async def newest_session(self, number: int) -> ModelSession:
        """The last session of all, once there are more than ``number`` and it is configured."""
        await until(
            lambda: len(self.model.sessions) > number and self.model.sessions[-1].is_configured,
            "a new session",
        )
        return self.model.sessions[-1]

    def some_s(self, least: float, most: float) -> float:
        """A random time."""
        return self.chance.uniform(least, most)

    # What must hold

    def late_frames(self) -> int:
        """Of all witnesses so far."""
        return sum(one.lateness.late_frames for one in self.witnesses)

    def lost_witnesses(self) -> int:
        """Witnesses that did not stay as they were."""
        return sum(not one.is_alive for one in self.witnesses)

    async def clear(self) -> None:
        """End the row's calls."""
        for phone in self._phones:
            if phone.is_connected and not phone.line.is_over:
                with contextlib.suppress(Exception):
                    await phone.hang_up(timeout_s=2.0)
            await phone.close()
        self._phones.clear()
        for victim in self._victims:
            for connection in (victim.carrier, victim.model):
                if connection.to_server.is_frozen:  # nobody would ever see its end
                    connection.reset()
        self._victims.clear()
        for call in list(self.server.service.switchboard._calls.values()):
            if call.call_id not in {one.phone.line.conversation_id for one in self.witnesses}:
                call.end("cleared")

    async def left_over(self, fds: int, tasks: int) -> tuple[int, int]:
        """Descriptors and tasks beyond these, once they are gone or the time is up."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while open_fds() > fds or count_tasks() > tasks:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        return max(0, open_fds() - fds), max(0, count_tasks() - tasks)


def open_fds() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def count_tasks() -> int:
    """Tasks of this loop."""
    return len(asyncio.all_tasks())


@contextlib.asynccontextmanager
async def open_stage(*, witnesses: int = 20, seed: int = 1, **changes: Any) -> AsyncIterator[Stage]:
    """A server, a scripted model, a proxy before either, and witnesses that talk."""
    async with RealtimeModel() as model, FaultProxy(model.url, seed=seed) as model_proxy:
        values: dict[str, Any] = {
            "port": 0,
            "realtime_url": model_proxy.url,
            "barge_in": "model",
            "drain_timeout_s": 1.0,
            # What a carrier's half-open socket needs to be seen as early as a model's.
            "ping_interval_s": 2.5,
            "ping_timeout_s": 2.0,
            # Phones, model and server share a loop, and all phones have one number.
            "admission_lag_ms": 0.0,
            "admission_cpu_percent": 0.0,
            "calls_per_number": 0,
            "calls_per_number_hour": 0,
            "call_burst": 100_000,
        }
        settings = Settings(**(values | changes))
        async with (
            run_server(FastAgent("bot"), settings) as server,
            FaultProxy(server.audiocodes_url, seed=seed + 1) as carrier_proxy,
        ):
            stage = Stage(server, model, model_proxy, carrier_proxy, random.Random(seed))
            try:
                await stage.summon(witnesses)
                yield stage
            finally:
                stage.loop_clock.stop()
                await stage.clear()
                for one in stage.witnesses:
                    await one.leave()

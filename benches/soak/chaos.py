"""One fault after another into a crowd of calls; each names the calls that it befalls, and spares the others.

Numbers are those of the table in `benches/README.md`.
"""

import asyncio
import base64
import contextlib
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benches.soak.crowd import Conversation, Crowd, Kind
from benches.soak.house import TOKEN, House, ModelProcess
from fastagent.testing.fault_proxy import FaultProxy, ProxiedConnection, Way

__all__ = ["Chaos", "FaultCount"]

RECOVER_LIMIT_S = 25.0
"""By then a call that a fault befell was answered again, or is over."""
CALM_S = 1.0
LEFT_S = 20.0
"""A call that a fault befalls goes on for at least so long, or nobody would know what became of it."""
SPELL_S = 1.0
"""How long messages are lost, garbled or late."""
HALF_OPEN_S = 7.0
BURST_S = 2.0
STALL_S = 1.5
BUSY_S = 1.0
LOCK_S = 2.0
STRANGERS = 50
POLL_S = 0.02


@dataclass(slots=True)
class FaultCount:
    """How often a fault was injected, and what became of the calls that it was meant for."""

    times: int = 0
    skipped: int = 0
    """There was no call to befall."""
    named: int = 0
    resumed: int = 0
    ended: int = 0
    failed: int = 0


class Chaos:
    """Injects faults in a seeded order.

    Args:
        every_s: from one fault to the next, if the first is over by then.
    """

    def __init__(
        self,
        crowd: Crowd,
        house: House,
        model: ModelProcess,
        *,
        model_proxy: FaultProxy,
        carrier_proxy: FaultProxy,
        agent_proxy: FaultProxy,
        seed: int,
        every_s: float,
    ) -> None:
        self._crowd = crowd
        self._house = house
        self._model = model
        self._model_proxy = model_proxy
        self._every_s = every_s
        self._chance = random.Random(seed)
        self._counts: dict[str, FaultCount] = {}
        self._named: list[tuple[str, Conversation]] = []
        self.faults = self._list()

    def _list(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        proxy = self._model_proxy
        carrier = partial(self._carrier_spell, matches=_is_audio)
        return {
            **{
                f"1-{code} model closes": partial(
                    self._model_breaks, partial(ProxiedConnection.close, code=code)
                )
                for code in (1001, 1011, 1012, 1013)
            },
            "1-rst model resets": partial(self._model_breaks, ProxiedConnection.reset),
            "1-fin model vanishes": partial(self._model_breaks, ProxiedConnection.cut),
            "2-503 upgrade refused twice": partial(self._upgrade, lambda: proxy.refuse(503, times=2)),
            "2-429 upgrade put off": partial(self._upgrade, lambda: proxy.refuse(429, retry_after="1")),
            "2-401 key refused": partial(self._upgrade, lambda: proxy.refuse(401, times=5)),
            "2-rst upgrade reset": partial(self._upgrade, proxy.reset_upgrades),
            "3-0.5 upgrade late": partial(self._upgrade, lambda: proxy.accept_late(0.5)),
            "3-30 upgrade never answered": partial(self._upgrade, lambda: proxy.accept_late(30.0)),
            "4-silent model half-open": partial(self._model_breaks, ProxiedConnection.half_open),
            "4-owes model owes an answer": self._model_owes,
            "4-stop model's side stands still": self._model_stands_still,
            "6 carrier resets": self._carrier_resets,
            "7-carrier carrier half-open": self._carrier_half_open,
            "7-poor poor way to the model": self._poor_way,
            "8-drop carrier loses audio": partial(carrier, drop=0.33),
            "8-twice carrier repeats audio": partial(carrier, duplicate=0.33),
            "8-order carrier swaps audio": partial(carrier, reorder=0.33),
            "9 audio in a burst": self._burst,
            "11 frame of a terabyte": self._oversize,
            "12 carrier garbles audio": partial(carrier, corrupt=0.2),
            "13 model garbles audio": self._model_garbles,
            "17 half heads": partial(self._strangers, is_whole=False),
            "18 idle sockets": partial(self._strangers, is_whole=True),
            "19 server stands still": self._server_stands_still,
            "20 processors busy": self._processors_busy,
            "22 store locked": self._store_locked,
        }

    async def run(self, seconds: float) -> None:
        """Inject until the time is up; every fault once in each round, in a new order."""
        end_s = due_s = time.monotonic()
        end_s += seconds
        order: list[str] = []
        while True:
            due_s = max(due_s + self._every_s, time.monotonic())
            # The last one must be over while there are calls.
            if due_s > end_s - min(self._every_s, seconds / 10):
                return
            await asyncio.sleep(due_s - time.monotonic())
            if not order:
                order = sorted(self.faults)
                self._chance.shuffle(order)
            name = order.pop()
            count = self._counts.setdefault(name, FaultCount())
            self._name = name
            try:
                is_done = await self.faults[name]()
            finally:
                self._model_proxy._openings.clear()
            count.times += is_done
            count.skipped += not is_done

    def figures(self) -> dict[str, Any]:
        """What became of it, by fault."""
        for name, one in self._named:
            count = self._counts[name]
            count.named += 1
            count.resumed += one.verdict == "resumed"
            count.ended += one.verdict == "ended"
            count.failed += one.verdict == "failed"
        self._named.clear()
        return {name: asdict(count) for name, count in self._counts.items()}

    # Whom it befalls

    def _victim(self, lines: Sequence[str] = (), *, needs_carrier: bool = False) -> Conversation | None:
        found = [
            one
            for one in self._crowd.open
            if one.is_talking
            and not one.fault
            and one.kind in (Kind.PLAIN, Kind.OVERLAP)
            and one.caller.is_connected
            and one.answered_s > 0
            and one.model is not None
            and one.model.is_open
            and (not lines or one.caller.line in lines)
            and (not needs_carrier or (one.carrier is not None and one.carrier.is_open))
        ]
        if not found:
            return None
        one = self._chance.choice(sorted(found, key=lambda one: one.until_s))
        one.fault = self._name
        one.until_s = max(one.until_s, time.monotonic() + LEFT_S)
        self._named.append((self._name, one))
        return one

    async def _outcome(self, one: Conversation) -> bool:
        """Wait for what becomes of it; the fault is over."""
        one.fault_done_s = time.monotonic()
        while one in self._crowd.open and not one.is_back:
            if time.monotonic() - one.fault_done_s > RECOVER_LIMIT_S:
                break
            await asyncio.sleep(POLL_S)
        return True

    async def _moment(self, most_s: float = 1.0) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, most_s))

    # The model's side

    async def _model_breaks(self, break_off: Callable[[ProxiedConnection], None]) -> bool:
        await self._moment()
        # New calls wait: the next upgrade shall be the victim's.
        async with self._crowd.gate:
            one = self._victim()
            if one is None or one.model is None:
                return False
            break_off(one.model)
            await self._outcome(one)
            if one.model.is_open:  # frozen; nobody else ends it
                one.model.reset()
        return True

    async def _upgrade(self, refuse: Callable[[], None]) -> bool:
        async with self._crowd.gate:
            one = self._victim()
            if one is None or one.model is None:
                return False
            refuse()
            one.model.reset()
            return await self._outcome(one)

    async def _model_owes(self) -> bool:
        one = self._victim()
        if one is None or one.model is None:
            return False
        one.model.to_client.change(drop=1.0, matches=lambda text: b"response." in text or b"rate_l" in text)
        return await self._outcome(one)

    async def _model_garbles(self) -> bool:
        one = self._victim()
        if one is None or one.model is None:
            return False
        flow = one.model.to_client
        flow.change(corrupt=0.5, matches=lambda text: b"output_audio.delta" in text[:200])
        await asyncio.sleep(2 * SPELL_S)
        flow.change(corrupt=0.0)
        return await self._outcome(one)

    async def _poor_way(self) -> bool:
        one = self._victim()
        if one is None or one.model is None:
            return False
        for way in Way:
            one.model.flow(way).change(delay_s=0.15, jitter_s=0.15)
        return await self._outcome(one)

    async def _model_stands_still(self) -> bool:
        self._model.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(STALL_S)
        finally:
            self._model.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(CALM_S)
        return True

    # The carriers

    async def _carrier_resets(self) -> bool:
        await self._moment()
        one = self._victim(needs_carrier=True)
        if one is None or one.carrier is None:
            return False
        one.carrier.reset()
        return await self._outcome(one)

    async def _carrier_half_open(self) -> bool:
        one = self._victim(("audiocodes",), needs_carrier=True)
        if one is None or one.carrier is None:
            return False
        one.carrier.half_open()
        await asyncio.sleep(HALF_OPEN_S)
        await one.caller.drop()
        one.carrier.reset()
        return await self._outcome(one)

    async def _carrier_spell(self, **faults: Any) -> bool:
        one = self._victim(needs_carrier=True)
        if one is None or one.carrier is None:
            return False
        flow = one.carrier.to_server
        flow.change(**faults)
        await asyncio.sleep(SPELL_S)
        flow.change(drop=0.0, duplicate=0.0, reorder=0.0, corrupt=0.0)
        return await self._outcome(one)

    async def _burst(self) -> bool:
        one = self._victim(needs_carrier=True)
        if one is None or one.carrier is None:
            return False
        one.carrier.to_server.freeze()
        await asyncio.sleep(BURST_S)
        one.carrier.to_server.thaw()
        return await self._outcome(one)

    # Strangers

    def _head(self) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET /audiocodes/webhook HTTP/1.1\r\nHost: {self._house.base}\r\nUpgrade: websocket\r\n"
            f"Authorization: Bearer {TOKEN}\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()

    async def _strangers(self, *, is_whole: bool) -> bool:
        held = []
        try:
            for _ in range(STRANGERS):
                _, writer = await asyncio.open_connection("127.0.0.1", self._house.port)
                held.append(writer)
                writer.write(self._head() if is_whole else self._head()[:60])
                await asyncio.sleep(POLL_S / 4)
            await asyncio.sleep(CALM_S)
        finally:
            for writer in held:
                writer.close()
        return True

    async def _oversize(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._house.port)
        try:
            async with asyncio.timeout(RECOVER_LIMIT_S):
                writer.write(self._head())
                await reader.readuntil(b"\r\n\r\n")
                writer.write(bytes([0x81, 0xFF]) + (1 << 40).to_bytes(8, "big") + bytes(4))
                with contextlib.suppress(ConnectionError):
                    await reader.read()
        finally:
            writer.close()
        return True

    # The machine

    async def _server_stands_still(self) -> bool:
        self._house.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(STALL_S)
        finally:
            self._house.signal(signal.SIGCONT)
        await asyncio.sleep(CALM_S)
        return True

    async def _processors_busy(self) -> bool:
        busy = f"import time; end = time.monotonic() + {BUSY_S:g}\nwhile time.monotonic() < end: pass"
        spinners = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", busy)
            for _ in range(os.cpu_count() or 1)
        ]
        await asyncio.gather(*(one.wait() for one in spinners))
        return True

    async def _store_locked(self) -> bool:
        with contextlib.closing(
            sqlite3.connect(self._house.store_path, isolation_level=None, timeout=0.1)
        ) as store:
            try:
                store.execute("begin immediate")
            except sqlite3.OperationalError:  # it writes just now
                return False
            await asyncio.sleep(LOCK_S)
            store.execute("rollback")
        return True


def _is_audio(text: bytes) -> bool:
    return b'"userStream.chunk"' in text or b'"audio_data"' in text

"""A steady level of calls: they begin one after another and talk, and each does what its kind does."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from benches.soak.callers import AgentCaller, AudioCodesCaller, Caller, TwilioCaller
from benches.soak.house import House
from fastagent.errors import FastAgentError, LegConnectError
from fastagent.testing.fault_proxy import FaultProxy, ProxiedConnection

__all__ = ["Conversation", "Crowd", "Kind", "Tally"]

LINES = ("audiocodes", "audiocodes", "twilio", "agent_ws")
"""Taken in turn: half of the calls are AudioCodes', which has most of the edges."""
ANSWER_LIMIT_S = 8.0
"""A caller who hears nothing for so long asks again."""
ASKS_MAX = 3
OVERLAP_S = 1.0
"""How far behind a question over the bot's words an answer is told from the rest of those words."""
PAUSE_S = (0.5, 2.0)
"""Between an answer and the next question."""
QUIET_S = 0.5
"""Without audio for so long the bot has finished what it sends."""
POLL_S = 0.02
NEVER_MS = 600_000
"""A chunk so long that the first one is never due."""
SILENCE_LIMIT_S = 25.0
"""By then a peer that says nothing has been let go."""
DIAL_LIMIT_S = 20.0
RESUME_WITHIN_S = (0.1, 2.0)
MAP_LIMIT_S = 2.0
REASONS_MAX = 50
ANSWER_TIMES_MAX = 200_000


class Kind(Enum):
    """What becomes of a call."""

    PLAIN = "talks and hangs up"
    OVERLAP = "talks over the bot"
    REFUSED = "refused at the gate"
    KILLED = "killed at a random moment"
    SILENT = "silent peer"
    RESUMED = "socket lost, resumed"


MIX = {
    Kind.REFUSED: 0.10,
    Kind.KILLED: 0.10,
    Kind.SILENT: 0.05,
    Kind.RESUMED: 0.05,
    Kind.OVERLAP: 0.10,
}
"""Chances; the others are plain. The model's side adds losses and functions that take too long."""


@dataclass(slots=True)
class Tally:
    """What became of all calls."""

    started: int = 0
    finished: int = 0
    as_meant: int = 0
    """Ended as their kind has it."""
    kinds: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    """By us: refused, cut, or without an answer, though nothing was done to them."""
    reasons: list[str] = field(default_factory=list)
    named: int = 0
    """Calls that a fault was meant for."""
    named_resumed: int = 0
    named_ended: int = 0
    """By the bot, in the carrier's words."""
    named_failed: int = 0
    asked: int = 0
    asked_again: int = 0
    answered: int = 0
    answer_s: list[float] = field(default_factory=list)
    """From the end of a question to the first audio of its answer; `PAUSE_S` of the model is in it."""
    violations: Counter[str] = field(default_factory=Counter)
    peak: int = 0


class Conversation:
    """One call of the crowd."""

    def __init__(self, caller: Caller, kind: Kind, until_s: float) -> None:
        self.caller = caller
        self.kind = kind
        self.until_s = until_s
        self.fault = ""
        """What befell it; empty for nothing."""
        self.fault_done_s = 0.0
        """When the fault was over; an answer after it shows that the call goes on."""
        self.verdict = ""
        """What became of a call that a fault befell: ``resumed``, ``ended`` or ``failed``."""
        self.answered_s = 0.0
        """When the last question that was answered was asked."""
        self.is_talking = False
        self.is_killed = False
        """Its caller is gone for good, by the call's kind."""
        self.model: ProxiedConnection | None = None
        self.carrier: ProxiedConnection | None = None

    @property
    def is_back(self) -> bool:
        """It was answered since the fault."""
        return self.answered_s > self.fault_done_s > 0


class Crowd:
    """Calls begin here and are counted.

    Args:
        calls: how many there shall be at once.
        rate: how many begin a second; a call lasts ``calls / rate`` seconds on average.
        model_proxy, carrier_proxy: between which the server stands; None for no faults.
    """

    def __init__(
        self,
        house: House,
        *,
        calls: int,
        rate: float,
        seed: int,
        model_proxy: FaultProxy | None = None,
        carrier_proxy: FaultProxy | None = None,
        agent_proxy: FaultProxy | None = None,
    ) -> None:
        self.house = house
        self.calls = calls
        self.rate = rate
        self.tally = Tally()
        self.open: set[Conversation] = set()
        self.gate = asyncio.Lock()
        """Held while a call begins, so that its connections are known; whoever holds it keeps calls out."""
        self._chance = random.Random(seed)
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._model_proxy = model_proxy
        self._carrier_proxies = {"audiocodes": carrier_proxy, "agent_ws": agent_proxy}
        self.mix = MIX
        self._is_rush = False

    # The level

    async def run(self, seconds: float) -> None:
        """Have calls begin for so long."""
        end_s = due_s = time.monotonic()
        end_s += seconds
        while due_s < end_s:
            task = asyncio.create_task(self._one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            due_s += self._chance.uniform(0.5, 1.5) / self.rate
            await asyncio.sleep(due_s - time.monotonic())

    async def rush(self, calls: int) -> None:
        """Have so many calls begin at once, so that every pool of threads is as large as it gets."""
        self._is_rush = True
        try:
            await asyncio.gather(*(self._one() for _ in range(calls)))
        finally:
            self._is_rush = False

    async def drain(self) -> None:
        """Wait for the last calls to end."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """End all calls at once."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _kind(self) -> Kind:
        drawn = self._chance.random()
        for kind, share in self.mix.items():
            if drawn < share:
                return kind
            drawn -= share
        return Kind.PLAIN

    def _caller(self, kind: Kind) -> Caller:
        self._number += 1
        line = LINES[self._number % len(LINES)]
        is_refused = kind is Kind.REFUSED
        if kind is Kind.SILENT:
            line = "audiocodes"
        if kind is Kind.RESUMED and line == "twilio":
            line = "agent_ws"
        proxy = self._carrier_proxies.get(line)
        wrong = {"token": "wrong-token-of-nobody-at-all-here"} if is_refused else {}
        match line:
            case "audiocodes":
                url = self.house.audiocodes_url if proxy is None else proxy.url
                if kind is Kind.SILENT:
                    return AudioCodesCaller(url, self._number, chunk_ms=NEVER_MS)
                return AudioCodesCaller(url, self._number, **wrong)
            case "twilio":
                return TwilioCaller(self.house.twilio_url, **wrong)
            case _:
                return AgentCaller(self.house.agent_url if proxy is None else proxy.url, **wrong)

    async def _one(self) -> None:
        kind, tally = self._kind(), self.tally
        caller = self._caller(kind)
        length_s = self.calls / self.rate * self._chance.uniform(0.5, 1.5)
        one = Conversation(caller, kind, time.monotonic() + length_s)
        tally.started += 1
        tally.kinds[kind.value] += 1
        tally.lines[caller.line] += 1
        self.open.add(one)
        tally.peak = max(tally.peak, len(self.open))
        reason = ""
        try:
            await self._live(one)
        except (FastAgentError, TimeoutError, OSError) as error:
            reason = "" if one.is_killed else f"{type(error).__name__}: {error}"
        finally:
            self.open.discard(one)
            await caller.leave()
        tally.finished += 1
        tally.violations.update(caller.violations)
        self._judge(one, reason)

    def _judge(self, one: Conversation, reason: str) -> None:
        tally = self.tally
        if one.fault:
            tally.named += 1
            if one.is_back and not reason:
                tally.named_resumed += 1
                one.verdict = "resumed"
                return
            if one.caller.was_ended_by_bot:
                tally.named_ended += 1
                one.verdict = "ended"
                return
            tally.named_failed += 1
            one.verdict = "failed"
            reason = f"after {one.fault}: {reason or 'no answer any more'}"
        elif not reason:
            tally.as_meant += 1
            return
        else:
            tally.failed += 1
        if len(tally.reasons) < REASONS_MAX:
            tally.reasons.append(f"{one.caller.line}, {one.kind.value}: {reason}")

    # One call

    async def _live(self, one: Conversation) -> None:
        if one.kind is Kind.REFUSED:
            await self._be_refused(one)
            return
        if one.kind is Kind.SILENT and self._chance.random() < 0.5:
            await one.caller.connect()
            await _until(lambda: not one.caller.is_connected, "the end of a silent socket", SILENCE_LIMIT_S)
            return
        await self._dial(one)
        if one.kind is Kind.SILENT:
            await _until(lambda: not one.caller.is_connected, "the end of a silent call", SILENCE_LIMIT_S)
            return
        one.is_talking = True
        loss: asyncio.Task[None] | None = None
        if one.kind in (Kind.KILLED, Kind.RESUMED):
            loss = asyncio.create_task(self._lose(one))
        try:
            while time.monotonic() < one.until_s:
                await self._turn(one)
                await asyncio.sleep(self._chance.uniform(*PAUSE_S))
            one.is_talking = False
        finally:
            if loss is not None:
                loss.cancel()
                await asyncio.gather(loss, return_exceptions=True)
        if not one.caller.is_connected:
            await self._come_back(one)
        await one.caller.hang_up()

    async def _lose(self, one: Conversation) -> None:
        """Lose the socket at a random moment."""
        await asyncio.sleep(self._chance.uniform(0.0, max(0.1, one.until_s - time.monotonic())))
        one.is_killed = one.kind is Kind.KILLED
        await one.caller.drop()

    async def _be_refused(self, one: Conversation) -> None:
        try:
            await one.caller.dial()
        except LegConnectError as error:
            if error.status not in (401, 403, 429):
                raise
        else:
            raise FastAgentError("let in with a wrong token")

    async def _dial(self, one: Conversation) -> None:
        if self._is_rush:
            async with asyncio.timeout(DIAL_LIMIT_S):
                await one.caller.dial()
            return
        async with self.gate:
            proxies = {"model": self._model_proxy, "carrier": self._carrier_proxies.get(one.caller.line)}
            before = {}
            for name, proxy in proxies.items():
                if proxy is not None:
                    proxy.connections[:] = proxy.open_connections
                    before[name] = {id(connection) for connection in proxy.connections}
            async with asyncio.timeout(DIAL_LIMIT_S):
                await one.caller.dial()
            for name, proxy in proxies.items():
                if proxy is None:
                    continue
                deadline_s = time.monotonic() + MAP_LIMIT_S
                while time.monotonic() < deadline_s:
                    new = [found for found in proxy.connections if id(found) not in before[name]]
                    if new:
                        # Two were opened when another call came back meanwhile: then nobody knows.
                        setattr(one, name, new[0] if len(new) == 1 else None)
                        break
                    await asyncio.sleep(POLL_S)

    async def _turn(self, one: Conversation) -> None:
        """Ask until there is an answer.

        Raises:
            TimeoutError: there is none.
        """
        tally = self.tally
        for attempt in range(ASKS_MAX):
            begun_s = time.monotonic()
            if one.kind is not Kind.OVERLAP:
                await self._quiet(one)
            tally.asked += 1
            tally.asked_again += attempt > 0
            try:
                await one.caller.ask()
                asked_s = time.monotonic()
                least_s = asked_s + (OVERLAP_S if one.kind is Kind.OVERLAP else 0.05)
                while one.caller.heard_at_s < least_s:
                    if time.monotonic() - asked_s > ANSWER_LIMIT_S:
                        break
                    if not one.caller.is_connected:
                        await self._come_back(one)
                    await asyncio.sleep(POLL_S)
                else:
                    tally.answered += 1
                    if one.kind is not Kind.OVERLAP and len(tally.answer_s) < ANSWER_TIMES_MAX:
                        tally.answer_s.append(one.caller.heard_at_s - asked_s)
                    one.answered_s = begun_s
                    return
            except FastAgentError:
                if one.caller.is_connected:
                    raise
                await self._come_back(one)
        raise TimeoutError(f"no answer to {ASKS_MAX} questions of {ANSWER_LIMIT_S:g} s")

    async def _quiet(self, one: Conversation) -> None:
        """The bot has said all."""
        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        while time.monotonic() - one.caller.heard_at_s < QUIET_S:
            if time.monotonic() > deadline_s:
                return
            await asyncio.sleep(POLL_S)

    async def _come_back(self, one: Conversation) -> None:
        """What a carrier does that lost its socket."""
        if one.is_killed:
            raise FastAgentError("killed")
        if not one.caller.can_resume or one.caller.was_ended_by_bot:
            raise FastAgentError("the call was ended by the bot")
        await asyncio.sleep(self._chance.uniform(*RESUME_WITHIN_S))
        await one.caller.resume()


async def _until(claim: Callable[[], bool], what: str, limit_s: float) -> None:
    deadline_s = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {limit_s:g} s for {what}")
        await asyncio.sleep(POLL_S)

"""The faults: each row does one thing to one call and says what became of it.

Numbers are those of the table in `benches/README.md`; what follows the hyphen tells variants apart.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from benches.faults.carrier_rows import (
    audio_in_a_burst,
    carrier_is_half_open,
    carrier_resets,
    chunks_meet,
    half_heads_are_held,
    idle_sockets_crowd_in,
    oversize_is_declared,
)
from benches.faults.stage import Outcome, Stage, Victim, until
from benches.faults.upheavals import clock_jumps, loop_stalls, processors_are_busy
from fastagent.testing.fault_proxy import ProxiedConnection, Way

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    number: str
    title: str
    run: Callable[[Stage], Awaitable[Outcome]]
    detected_limit_ms: float | None = None
    recovered_limit_ms: float = 3000.0
    spares_witnesses: bool = True
    """What befalls the whole process befalls the witnesses, too."""

    @property
    def name(self) -> str:
        """Number and title."""
        return f"{self.number} {self.title}"


def _since_ms(begun: float) -> float:
    return 1000 * (time.monotonic() - begun)


async def _goes_on(stage: Stage, victim: Victim, begun: float, sessions: int, upgrades: int) -> Outcome:
    """The session is noticed to be gone, and another one has taken its place, and talks."""
    await until(lambda: stage.model_proxy.upgrades > upgrades, "another upgrade")
    outcome = Outcome(detected_ms=_since_ms(begun))
    session = await stage.newest_session(sessions)
    outcome.recovered_ms = _since_ms(begun)
    await _settled(victim)
    await stage.talk(victim.phone, session)
    return outcome


async def _settled(victim: Victim) -> None:
    """The bot has said what it had to say."""
    await victim.phone.wait_until(
        lambda line: not line.streams or line.streams[-1].is_done, "the end of the bot's words"
    )


async def model_breaks(stage: Stage, break_off: Callable[[ProxiedConnection], None]) -> Outcome:
    """1: the model's socket goes, at a random moment of an utterance."""
    victim = await stage.victim()
    victim.session.speak(victim.session.tone(600), "Your booking is", is_last=False)
    await asyncio.sleep(stage.some_s(0.0, 0.5))
    sessions, upgrades, begun = len(stage.model.sessions), stage.model_proxy.upgrades, time.monotonic()
    break_off(victim.model)
    return await _goes_on(stage, victim, begun, sessions, upgrades)


async def upgrade_is_refused(stage: Stage, refuse: Callable[[Stage], None], upgrades: int) -> Outcome:
    """2, 3: the socket goes, and another cannot be had at once."""
    victim = await stage.victim()
    await asyncio.sleep(stage.some_s(0.0, 0.2))
    refuse(stage)
    sessions, before, begun = len(stage.model.sessions), stage.model_proxy.upgrades, time.monotonic()
    victim.model.reset()
    outcome = await _goes_on(stage, victim, begun, sessions, before)
    outcome.notes["upgrades"] = stage.model_proxy.upgrades - before
    outcome.is_recovered = outcome.notes["upgrades"] == upgrades
    stage.model_proxy._openings.clear()
    return outcome


async def key_is_refused(stage: Stage) -> Outcome:
    """2: refused for good: one try, and the caller is let go."""
    victim = await stage.victim()
    stage.model_proxy.refuse(401, times=5)
    before, begun = stage.model_proxy.upgrades, time.monotonic()
    victim.model.reset()
    await victim.phone.wait_ended()
    stage.model_proxy._openings.clear()
    tries = stage.model_proxy.upgrades - before
    return Outcome(None, _since_ms(begun), tries == 1, {"upgrades": tries})


async def model_stalls(stage: Stage) -> Outcome:
    """4: nothing is read or written any more, and nothing is closed."""
    victim = await stage.victim()
    await asyncio.sleep(stage.some_s(0.0, 0.3))
    sessions, upgrades, begun = len(stage.model.sessions), stage.model_proxy.upgrades, time.monotonic()
    victim.model.half_open()
    return await _goes_on(stage, victim, begun, sessions, upgrades)


async def model_owes_an_answer(stage: Stage) -> Outcome:
    """4: the socket answers pings, and the answer to the caller never comes."""
    victim = await stage.victim()
    await asyncio.sleep(stage.some_s(0.0, 0.3))
    sessions, upgrades = len(stage.model.sessions), stage.model_proxy.upgrades
    victim.session.speech_started()
    victim.model.to_client.change(drop=1.0, matches=lambda text: b"response." in text or b"rate_l" in text)
    victim.session.speech_stopped("hello?")
    begun = time.monotonic()
    return await _goes_on(stage, victim, begun, sessions, upgrades)


async def session_expires(stage: Stage) -> Outcome:
    """5: the server ends the session at its limit."""
    victim = await stage.victim()
    await asyncio.sleep(stage.some_s(0.0, 0.3))
    sessions, upgrades, begun = len(stage.model.sessions), stage.model_proxy.upgrades, time.monotonic()
    victim.session.expire()
    return await _goes_on(stage, victim, begun, sessions, upgrades)


async def model_garbles_audio(stage: Stage) -> Outcome:
    """13: bits of the model's audio messages are turned."""
    victim = await stage.victim()
    flow = victim.model.to_client
    flow.change(corrupt=0.5, matches=lambda text: b"output_audio.delta" in text[:200])
    victim.session.speak(victim.session.tone(1000), "garbled")
    await until(lambda: flow.corrupted, "a garbled message")
    await _settled(victim)
    flow.change(corrupt=0.0)
    await stage.talk(victim.phone, victim.session)
    return Outcome(None, None, victim.session.is_open, {"corrupted": flow.corrupted})


async def link_is_poor(stage: Stage) -> Outcome:
    """7: the way to the model is slow and uneven; nothing is lost, and nothing is given up."""
    victim = await stage.victim()
    sessions = len(stage.model.sessions)
    for way in Way:
        victim.model.flow(way).change(delay_s=0.15, jitter_s=0.15)
    await stage.talk(victim.phone, victim.session)
    await _settled(victim)
    return Outcome(None, None, len(stage.model.sessions) == sessions)


def _code(code: int) -> Callable[[ProxiedConnection], None]:
    return lambda connection: connection.close(code)


ROWS: tuple[Row, ...] = (
    *(
        Row(f"1-{code}", f"model closes with {code}", partial(model_breaks, break_off=_code(code)), 100.0)
        for code in (1001, 1011, 1012, 1013)
    ),
    Row("1-rst", "model resets", partial(model_breaks, break_off=lambda one: one.reset()), 100.0),
    Row("1-fin", "model vanishes with FIN", partial(model_breaks, break_off=lambda one: one.cut()), 100.0),
    Row(
        "2-503",
        "upgrade answered 503 twice",
        partial(upgrade_is_refused, refuse=lambda on: on.model_proxy.refuse(503, times=2), upgrades=3),
        100.0,
    ),
    Row(
        "2-429",
        "upgrade answered 429, Retry-After 1",
        partial(
            upgrade_is_refused, refuse=lambda on: on.model_proxy.refuse(429, retry_after="1"), upgrades=2
        ),
        100.0,
    ),
    Row("2-401", "upgrade answered 401", key_is_refused),
    Row(
        "2-rst",
        "upgrade reset",
        partial(upgrade_is_refused, refuse=lambda on: on.model_proxy.reset_upgrades(), upgrades=2),
        100.0,
    ),
    Row(
        "3-0.5",
        "upgrade answered after 0.5 s",
        partial(upgrade_is_refused, refuse=lambda on: on.model_proxy.accept_late(0.5), upgrades=1),
        100.0,
    ),
    Row(
        "3-30",
        "upgrade answered after 30 s",
        partial(upgrade_is_refused, refuse=lambda on: on.model_proxy.accept_late(30.0), upgrades=2),
        100.0,
    ),
    Row("4-silent", "model stalls, half-open", model_stalls, 5000.0, 8000.0),
    Row("4-owes", "model owes an answer, pongs come", model_owes_an_answer, 5000.0, 8000.0),
    Row("5", "session expires", session_expires, 100.0),
    Row("6", "carrier resets", carrier_resets, 100.0),
    Row("7-carrier", "carrier half-open", carrier_is_half_open, 6000.0, 9000.0),
    Row("7-poor", "150-300 ms each way to the model", link_is_poor),
    Row("8-drop", "carrier loses a third of its chunks", partial(chunks_meet, drop=0.33)),
    Row("8-twice", "carrier sends a third twice", partial(chunks_meet, duplicate=0.33)),
    Row("8-order", "carrier swaps a third", partial(chunks_meet, reorder=0.33)),
    Row("9", "2 s of audio in a burst", audio_in_a_burst),
    Row("10", "wall clock jumps by an hour", clock_jumps),
    Row("11", "frame of a terabyte declared", oversize_is_declared, 100.0),
    Row("12", "carrier garbles 20 % of chunks", partial(chunks_meet, corrupt=0.2)),
    Row("13", "model garbles half of its audio", model_garbles_audio),
    Row("17", "200 half heads held open", half_heads_are_held, 6000.0, 6000.0),
    Row("18", "500 idle sockets", idle_sockets_crowd_in, None, 6000.0),
    Row("19", "loop stands still for 1.5 s", loop_stalls, spares_witnesses=False),
    Row("20", "processors busy", processors_are_busy, spares_witnesses=False),
)

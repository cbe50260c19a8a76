"""Faults that befall the whole process: its clock, its loop, its processors."""

import asyncio
import os
import sys
import time
from unittest import mock

from benches.faults.stage import Outcome, Stage

__all__ = ["clock_jumps", "loop_stalls", "processors_are_busy"]

STALL_S = 1.5
BUSY_S = 2.0
HOUR_S = 3600.0


async def clock_jumps(stage: Stage) -> Outcome:
    """10: the wall clock goes an hour forth, then two back; no timer fires early or late."""
    victim = await stage.victim()
    sessions = len(stage.model.sessions)
    real = time.time
    try:
        for offset_s in (HOUR_S, -HOUR_S):
            with mock.patch("time.time", lambda offset_s=offset_s: real() + offset_s):
                await stage.talk(victim.phone, victim.session)
                # A session that begins while the clock is wrong is not replaced for it.
                other = await stage.victim()
                await stage.talk(other.phone, other.session)
    finally:
        assert time.time is real
    await stage.talk(victim.phone, victim.session)
    return Outcome(None, None, len(stage.model.sessions) == sessions + 2 and victim.session.is_open)


async def loop_stalls(stage: Stage) -> Outcome:
    """19: the loop stands still; nobody is cut for what was not read meanwhile."""
    victim = await stage.victim()
    sessions = len(stage.model.sessions)
    time.sleep(STALL_S)  # noqa: ASYNC251 - the stall is the point
    await stage.talk(victim.phone, victim.session)
    is_kept = len(stage.model.sessions) == sessions and victim.carrier.is_open
    return Outcome(None, None, is_kept and not stage.lost_witnesses())


async def processors_are_busy(stage: Stage) -> Outcome:
    """20: as many busy processes as processors; a call is still answered."""
    deadline_s = time.monotonic() + BUSY_S
    spinners = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        victim = await stage.victim()
        while time.monotonic() < deadline_s:
            await stage.talk(victim.phone, victim.session)
    finally:
        for one in spinners:
            one.kill()
            await one.wait()
    return Outcome(None, None, victim.session.is_open)

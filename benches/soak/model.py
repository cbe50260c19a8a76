"""The model's side of a soak, a process of its own: it hears callers by their loudness, answers with a tone.

``python -m benches.soak.model --drops 0.05 --tools 0.05`` prints its URL, and its figures for each line on
its standard input; it ends with it. Some of its sessions break off, some call a function that takes too long,
some have the agent's task make a step: all by chance, so nobody tells it which call is which.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
from collections import Counter
from functools import partial

import numpy as np
import uvloop

from fastagent._native import g711
from fastagent.audio.formats import Encoding
from fastagent.testing.realtime_model import ModelSession, RealtimeModel

__all__ = ["ANSWER_MS", "CHANCE_OF_STEP", "PAUSE_S"]

TICK_S = 0.1
LOUD = 1000
"""A sample of speech; callers' comfort noise stays far below."""
PAUSE_S = 0.3
"""Quiet that ends a turn."""
ANSWER_MS = 1200
DROP_WITHIN_S = 8.0
CHANCE_OF_STEP = 0.1


class Mind:
    """What one session hears, and what it does about it."""

    def __init__(self, session: ModelSession, chance: random.Random, drops: float, tools: float) -> None:
        self.session = session
        self.calls: list[tuple[str, dict[str, str]]] = []
        if chance.random() < tools:
            self.calls.append(("slow_lookup", {}))
        if chance.random() < CHANCE_OF_STEP:
            self.calls += [("walk", {}), ("task_reply", {"task": "walk", "answer": "on"})]
        self.drop_s = chance.uniform(1.0, DROP_WITHIN_S) if chance.random() < drops else None
        self.way = chance.choice(("close", "reset", "expire"))
        self._at = 0
        self._is_speech = False
        self._quiet_s = 0.0

    def listen(self) -> None:
        """Take what was appended since the last time."""
        session = self.session
        end = len(session.audio) & ~1
        new, self._at = bytes(session.audio[self._at : end]), end
        if not new or not session.is_configured:
            return
        encoding = session.input_format.encoding
        if encoding is Encoding.MULAW:
            new = g711.ulaw_decode(new)
        elif encoding is Encoding.ALAW:
            new = g711.alaw_decode(new)
        is_loud = bool(np.abs(np.frombuffer(new, "<i2").astype(np.int32)).max() > LOUD)
        if is_loud:
            self._quiet_s = 0.0
            if not self._is_speech:
                self._is_speech = True
                session.speech_started()
        elif self._is_speech:
            self._quiet_s += TICK_S
            if self._quiet_s >= PAUSE_S:
                self._is_speech = False
                session.speech_stopped("hello")


class Model:
    """All sessions, and what was done to them."""

    def __init__(self, drops: float, tools: float, seed: int) -> None:
        self.server = RealtimeModel()
        self.server.on_open = self._open
        self.server.on_response = self._answer
        self.done: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        """What the strict server had to refuse, by code."""
        self._minds: dict[str, Mind] = {}
        self._new_mind = partial(Mind, chance=random.Random(seed), drops=drops, tools=tools)

    def _open(self, session: ModelSession) -> None:
        mind = self._minds[session.session_id] = self._new_mind(session)
        self.done["sessions"] += 1
        if mind.drop_s is not None:
            asyncio.get_running_loop().call_later(mind.drop_s, self._drop, mind)

    def _drop(self, mind: Mind) -> None:
        if not mind.session.is_open:
            return
        self.done["dropped"] += 1
        match mind.way:
            case "close":
                mind.session.drop(1011)
            case "reset":
                mind.session.reset()
            case _:
                mind.session.expire()

    def _answer(self, session: ModelSession) -> None:
        mind = self._minds[session.session_id]
        if mind.calls:
            name, arguments = mind.calls.pop(0)
            self.done[name] += 1
            session.call_function(name, arguments)
            return
        self.done["answers"] += 1
        session.speak(session.tone(ANSWER_MS))

    async def run(self) -> None:
        """Listen to all callers, for ever."""
        server = self.server
        while True:
            for mind in list(self._minds.values()):
                if mind.session.is_open:
                    mind.listen()
            # What the scripted server remembers would grow here.
            for session in server.sessions:
                if not session.is_open:
                    codes = {refusal.partition(":")[0] for refusal in session.refusals}
                    self.refusals.update(codes)
                    self._minds.pop(session.session_id, None)
            server.sessions[:] = [one for one in server.sessions if one.is_open]
            server.upgrades.clear()
            await asyncio.sleep(TICK_S)


async def _serve(drops: float, tools: float, seed: int) -> None:
    model = Model(drops, tools, seed)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with model.server:
        print(model.server.url, flush=True)
        listening = asyncio.create_task(model.run())
        while await reader.readline():
            if listening.done():
                break
            figures = {"open": model.server.open_sessions, **model.done, "refusals": dict(model.refusals)}
            print(json.dumps(figures), flush=True)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=False)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=float, default=0.0, help="chance that a session breaks off")
    parser.add_argument("--tools", type=float, default=0.0, help="chance of a function that takes too long")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # a full buffer of a socket is no news here
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(options.drops, options.tools, options.seed))
        except asyncio.CancelledError:
            pass


if __name__ == "__main__":
    main()

"""Packets' ways through networks, and what buffers make of them.

A `Trace` is the arrivals of one direction of a call, 20 ms packets. The committed ones (`recorded`) come from
the G.1050 network model and from simple statements such as "one stall of a second"; `fresh` ones are made
from a seed and were not looked at when the buffer was designed. `play` runs the native buffer over a trace,
`follow` a rule that says where playing should stand, `attempt` the buffer through one of the conditions of
tests/data/jitter_scenarios.json.
"""

import json
import lzma
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from benches.hearing import emodel
from fastagent._native.jitter import Arrival, JitterBuffer, Turn

__all__ = [
    "Outcome",
    "Scenario",
    "Trace",
    "Verdict",
    "attempt",
    "follow",
    "fresh",
    "play",
    "recorded",
    "scenarios",
]

DATA = Path(__file__).parents[2] / "tests" / "data"
FRAME_MS = 20
FRAME_UNITS = 160
CLOCK_HZ = 8000
PHASE_MS = 15.0
"""Of the playing clock against the sender's."""
SATELLITE = ("g1050_F61", "g1050_G1")
"""Left out of the mean: their network delay alone costs more than any buffer can."""
FIRST_NUMBER, FIRST_TIMESTAMP = 65_000, 2**32 - 200_000
"""Both wrap early in each trace."""


@dataclass(frozen=True)
class Trace:
    name: str
    note: str
    arrivals: tuple[tuple[int, float], ...]
    """Packet number from 0, ms; packet n was sent at 20 n ms. In order of arrival."""

    @property
    def sent(self) -> int:
        return max(number for number, _ in self.arrivals) + 1

    @property
    def fastest_ms(self) -> float:
        return min(at - FRAME_MS * number for number, at in self.arrivals)


@dataclass(frozen=True)
class Outcome:
    rating: float
    rating_heard: float
    """Counts concealed frames by which the delay grew like lost ones."""
    added_delay_ms: float
    """Mean wait of what was played beyond the fastest packet."""
    unplayed_percent: float
    """Of the packets that arrived."""
    order_errors: int


def judged(trace: Trace, played: list[tuple[int, float]], concealed: int) -> Outcome:
    """`played`: number and time of each packet played; `concealed`: frames between them that were not."""
    numbers = {number for number, _ in played}
    missing = [number not in numbers for number in range(trace.sent)]
    delays = [at - FRAME_MS * number for number, at in played]
    arrived = {number for number, _ in trace.arrivals}
    return Outcome(
        rating=emodel.rating(delays, missing),
        rating_heard=emodel.rating(delays, missing, max(0, concealed - sum(missing))),
        added_delay_ms=sum(delays) / max(1, len(delays)) - trace.fastest_ms,
        unplayed_percent=100 * len(arrived - numbers) / len(arrived),
        order_errors=sum(b <= a for (a, _), (b, _) in pairwise(played)),
    )


def play(trace: Trace, phase_ms: float = PHASE_MS, **settings: int) -> Outcome:
    """The native buffer over a trace."""
    buffer = JitterBuffer(slot_bytes=8, **settings)
    played: list[tuple[int, float]] = []
    pending = 0
    spoken = concealed = 0
    tick = phase_ms
    end = trace.arrivals[-1][1] + 1500
    while tick < end:
        while pending < len(trace.arrivals) and trace.arrivals[pending][1] <= tick:
            number, at = trace.arrivals[pending]
            seq, timestamp = FIRST_NUMBER + number, FIRST_TIMESTAMP + FRAME_UNITS * number
            buffer.put(seq & 0xFFFF, timestamp & 0xFFFFFFFF, number.to_bytes(8, "little"), at / 1000)
            pending += 1
        turn, payload = buffer.get(tick / 1000)
        if turn is Turn.FRAME:
            played.append((int.from_bytes(payload, "little"), tick))
            concealed += spoken
            spoken = 0
        elif played:
            spoken += 1
        tick += FRAME_MS
    return judged(trace, played, concealed)


Rule = Callable[[float, float], float]
"""Takes an arrival (ms, relative delay in ms), gives where playing should stand: a relative delay in ms."""


def follow(trace: Trace, rule: Rule, moves: bool, phase_ms: float = PHASE_MS) -> Outcome:
    """A buffer that plays where `rule` says; frames are skipped and doubled to get there if it `moves`."""
    held: set[int] = set()
    played: list[tuple[int, float]] = []
    pending = due = concealed = spoken = since_move = 0
    want: float | None = None
    started = False
    tick = phase_ms
    sent = trace.sent
    while due < sent:
        while pending < len(trace.arrivals) and trace.arrivals[pending][1] <= tick:
            number, at = trace.arrivals[pending]
            want = rule(at, at - FRAME_MS * number)
            held.add(number)
            pending += 1
        if not started and want is not None and tick >= want + FRAME_MS * trace.arrivals[0][0]:
            started, due = True, trace.arrivals[0][0]
        if started and want is not None:
            since_move += 1
            stands = tick - FRAME_MS * due
            if moves and stands + FRAME_MS / 2 < want:
                spoken += 1
                tick += FRAME_MS
                continue
            if moves and stands - FRAME_MS > want and since_move >= 5:
                due += 1
                since_move = 0
            if due in held:
                played.append((due, tick))
                concealed += spoken
                spoken = 0
            elif played:
                spoken += 1
            due += 1
        tick += FRAME_MS
    return judged(trace, played, concealed)


@cache
def recorded() -> tuple[Trace, ...]:
    """The committed traces; arrivals to 10 us."""
    stored = json.loads(lzma.decompress((DATA / "jitter_traces.json.xz").read_bytes()))
    traces = []
    for name, trace in stored.items():
        number, arrivals = -1, []
        for step, delay in zip(trace["number_steps"], trace["delays"], strict=True):
            number += step
            arrivals.append((number, (delay + 2000 * number) / 100))
        traces.append(Trace(name, trace["note"], tuple(arrivals)))
    return tuple(traces)


def fresh(seed: int, seconds: int = 60) -> Iterator[Trace]:
    """Traces of kinds a network brings, from a seed."""
    count = seconds * 1000 // FRAME_MS

    def trace(name: str, note: str, delay_ms: Callable[[random.Random, int], float | None]) -> Trace:
        chance = random.Random(f"{seed} {name}")
        arrivals = []
        for number in range(count):
            delay = delay_ms(chance, number)
            if delay is not None:
                arrivals.append((number, round(FRAME_MS * number + max(5.0, delay), 2)))
        return Trace(name, note, tuple(sorted(arrivals, key=lambda packet: packet[1])))

    def after(start_s: float) -> int:
        return int(start_s * 1000 / FRAME_MS)

    yield trace("gaussian 10", "normal jitter, sigma 10 ms", lambda r, n: 50 + r.gauss(0, 10))
    yield trace("gamma 15", "skewed jitter, mean 15 ms", lambda r, n: 30 + r.gammavariate(1.0, 15))
    yield trace(
        "gamma 5, 2 % lost", "", lambda r, n: None if r.random() < 0.02 else 30 + r.gammavariate(2, 2.5)
    )
    yield trace(
        "slow +1000 ppm", "the sender's clock is slow", lambda r, n: 30 + 0.02 * n + r.gammavariate(1, 3)
    )
    yield trace("fast -1000 ppm", "and fast", lambda r, n: 100 - 0.02 * n + r.gammavariate(1, 3))
    yield trace("route +120 at 20 s", "", lambda r, n: 40 + 120 * (n >= after(20)) + r.gammavariate(1, 4))
    yield trace("route -120 at 20 s", "", lambda r, n: 40 + 120 * (n < after(20)) + r.gammavariate(1, 4))
    yield trace(
        "wifi 60 ms, each 1 s", "a sawtooth: scans hold packets",
        lambda r, n: 30 + r.gammavariate(1, 2) + max(0.0, 60 - 20 * (n % 50)),
    )  # fmt: skip
    yield trace(
        "stall 300 ms, each 10 s", "then all at once",
        lambda r, n: 30 + r.gammavariate(1, 2) + max(0.0, 300 - 20 * (n % 500)) * (n >= 500),
    )  # fmt: skip
    yield trace(
        "one packet 250 late", "each 4 s", lambda r, n: 30 + r.gammavariate(1, 2) + 250 * (n % 200 == 199)
    )
    yield trace(
        "calm, then gamma 20", "at 30 s", lambda r, n: 30 + r.gammavariate(1, 20 if n >= after(30) else 2)
    )
    yield trace(
        "gamma 20, then calm", "at 30 s", lambda r, n: 30 + r.gammavariate(1, 20 if n < after(30) else 2)
    )


@dataclass(frozen=True)
class Scenario:
    name: str
    initial_frames: int
    min_frames: int
    max_frames: int
    limits: dict[str, int]
    events: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    figures: dict[str, float]
    missed: tuple[str, ...]
    """Names of the limits that were passed."""


@cache
def scenarios() -> tuple[Scenario, ...]:
    """The fifteen conditions, their events spelled out."""
    stored: dict[str, Any] = json.loads((DATA / "jitter_scenarios.json").read_text())
    found = []
    for entry in stored["scenarios"]:
        events = [
            event[0]
            for step in entry["steps"]
            for _ in range(step["times"])
            for event in step["events"].split()
            for _ in range(int(event[1:] or 1))
        ]
        sizes = (entry["initial_frames"], entry["min_frames"], entry["max_frames"])
        found.append(Scenario(entry["name"], *sizes, entry["limits"], tuple(events)))
    return tuple(found)


def attempt(scenario: Scenario, **settings: int) -> Verdict:
    """The native buffer through a scenario; a limit is kept if the figure's whole part is not above it."""
    buffer = JitterBuffer(
        slot_bytes=8,
        initial_ms=FRAME_MS * scenario.initial_frames,
        min_ms=FRAME_MS * scenario.min_frames,
        max_ms=FRAME_MS * scenario.max_frames,
        **settings,
    )
    chance = random.Random(1)
    seq, timestamp, gets, concealed, held = 1, FRAME_UNITS, 0, 0, 0

    def put(back: int) -> Arrival:
        earlier = timestamp - FRAME_UNITS * back
        return buffer.put((seq - back) & 0xFFFF, earlier & 0xFFFFFFFF, b"", gets * FRAME_MS / 1000)

    for event in scenario.events:
        match event:
            case "p":
                put(0)
                seq, timestamp = seq + 1, timestamp + FRAME_UNITS
            case "g" | "s":
                held += buffer.waiting
                turn, _ = buffer.get(gets * FRAME_MS / 1000)
                gets += 1
                concealed += turn not in (Turn.FRAME, Turn.LOST)
                timestamp += FRAME_UNITS * (event == "s")
            case "x":
                seq, timestamp = seq + 1, timestamp + FRAME_UNITS
            case "d":
                put(1)
            case "o":
                put(chance.randint(10, 49))
            case "r":
                seq, timestamp = 1, FRAME_UNITS
    counted = buffer.counters()
    figures = {
        "discarded": counted["discarded"] + counted["late"] + counted["duplicates"],
        "lost": counted["lost"],
        "concealed": concealed,
        "delay": held / gets,
    }
    return Verdict(
        figures, tuple(name for name, limit in scenario.limits.items() if figures[name] >= limit + 1)
    )

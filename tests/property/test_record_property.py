"""The recorder against its slow reference: any order of frames, stalls, bursts and pauses."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.g711 import ulaw_encode
from fastagent._native.record import Recorder
from tests.reference.record_reference import Timeline

START = 50.0

SPANS = st.one_of(st.just(160), st.integers(0, 400), st.integers(0, 6000), st.integers(6000, 30_000))
LENGTHS = st.one_of(st.just(160), st.integers(0, 500))

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("paced"), st.integers(1, 120), st.just(0)),
        st.tuples(st.just("burst"), st.integers(1, 120), st.just(0)),
        st.tuples(st.just("caller"), SPANS, LENGTHS),
        st.tuples(st.just("bot"), st.integers(-700, 700), LENGTHS),
        st.tuples(st.just("far_bot"), st.integers(-6000, 6000), st.integers(0, 4000)),
        st.tuples(st.just("advance"), SPANS, st.just(0)),
        st.tuples(st.just("stall"), st.integers(1, 80), st.just(0)),
        st.tuples(st.just("pause"), st.integers(0, 800), st.just(0)),
        st.tuples(st.just("resume"), st.integers(0, 800), st.just(0)),
    ),
    max_size=40,
)


class Both:
    """Feeds the kernel and the reference with the same audio; every sample is another one."""

    def __init__(self) -> None:
        self.kernel = Recorder("pcm16", START)
        self.slow = Timeline()
        self.out: list[bytes] = []
        self.wall = 0
        self.count = 0

    def samples(self, n: int) -> list[int]:
        self.count += n
        return [1 + at % 32_767 for at in range(self.count - n, self.count)]

    def now(self) -> float:
        return START + self.wall / 8000

    def caller(self, n: int) -> None:
        samples = self.samples(n)
        self.out.append(self.kernel.caller(struct.pack(f"<{n}h", *samples), self.now()))
        self.slow.feed_caller(samples, self.wall)

    def bot(self, position: int, n: int) -> None:
        samples = self.samples(n)
        self.kernel.bot(struct.pack(f"<{n}h", *samples), position)
        self.slow.feed_bot(samples, position)

    def advance(self) -> None:
        self.out.append(self.kernel.advance(self.now()))
        self.slow.advance(self.wall)

    def step(self, kind: str, value: int, n: int) -> None:
        match kind:
            case "paced":
                for _ in range(value):
                    self.wall += 160
                    self.caller(160)
            case "burst":
                for _ in range(value):
                    self.caller(160)
            case "stall":
                for _ in range(value):
                    self.wall += 160
                    self.advance()
                    self.bot(self.wall - 160, 160)
            case "caller":
                self.wall += value
                self.caller(n)
            case "bot" | "far_bot":
                self.bot(self.wall + value, n)
            case "advance":
                self.wall += value
                self.advance()
            case "pause":
                self.wall += value
                self.kernel.pause(self.now())
                self.slow.pause(self.wall)
            case "resume":
                self.wall += value
                self.kernel.resume(self.now())
                self.slow.resume(self.wall)

    def check_end(self) -> None:
        self.out.append(self.kernel.flush(self.now()))
        self.slow.flush(self.wall)
        stereo = struct.unpack(f"<{2 * len(self.slow.out)}h", b"".join(self.out))
        wrong = [i for i, pair in enumerate(self.slow.out) if pair != stereo[2 * i : 2 * i + 2]]
        assert wrong == []


@settings(deadline=None, max_examples=100)
@given(STEPS)
def test_every_sample_is_where_the_reference_has_it(steps):
    both = Both()
    for kind, value, n in steps:
        both.step(kind, value, n)
        assert sum(map(len, both.out)) == 4 * len(both.slow.out)
        counts = (both.kernel.padded_samples, both.kernel.dropped_samples, both.kernel.misplaced_samples)
        assert counts == (both.slow.padded, both.slow.dropped, both.slow.misplaced)
    both.check_end()


@pytest.mark.parametrize("seed", range(12))
def test_calls_full_of_trouble_are_as_the_reference_has_them(seed):
    chance = random.Random(seed)
    both = Both()
    for _ in range(60):
        match chance.choice(["talk", "talk", "stall", "fast", "slow", "blink", "pause", "resume", "bot"]):
            case "talk":
                both.step("paced", chance.randint(1, 60), 0)
            case "stall":
                stalled = chance.choice([5, 12, 20, 24, 26, 30, 60, 200])
                both.step("stall", stalled, 0)
                late = chance.choice([0, stalled, stalled // 2, 1, stalled + 12])
                for _ in range(late):
                    both.caller(160)
                    both.wall += chance.choice([0, 0, 0, 40, 100])
            case "fast" | "slow" as pace:
                for _ in range(chance.randint(20, 200)):
                    both.wall += 150 if pace == "fast" else 170
                    both.caller(160)
            case "blink":
                for kind in ("pause", "resume", "pause", "resume"):
                    both.step(kind, chance.randint(0, 300), 0)
                    both.bot(both.wall - chance.randint(0, 3000), 160)
            case "bot":
                both.bot(both.wall - chance.randint(-400, 4200), chance.randint(0, 2000))
            case kind:
                both.step(kind, chance.randint(0, 400), 0)
    both.check_end()


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_both_encodings_place_the_same(steps):
    """Mu-law of what the PCM16 recorder gives is what the mu-law recorder gives."""
    linear, law = Recorder("pcm16", START), Recorder("mulaw", START)
    wall = 0
    out = [b"", b""]
    pcm = struct.pack("<4000h", *[(7919 * i) % 65_536 - 32_768 for i in range(4000)])
    for kind, value, n in steps:
        if kind in ("bot", "far_bot"):
            for recorder in (linear, law):
                recorder.bot(pcm[: 2 * n], wall + value)
            continue
        wall += value
        for i, recorder in enumerate((linear, law)):
            now = START + wall / 8000
            if kind == "pause":
                recorder.pause(now)
            elif kind == "resume":
                recorder.resume(now)
            else:
                out[i] += recorder.caller(pcm[: 2 * n], now)
    for i, recorder in enumerate((linear, law)):
        out[i] += recorder.flush(START + wall / 8000)
    assert out[1] == ulaw_encode(out[0])

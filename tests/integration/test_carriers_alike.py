"""The same spoken lines over either carrier: the same transcript, states and effects, word for word.

The caller's lines are real speech on a real line, each with a tone at its end. Only the recogniser is
replaced, by ears that know the tones: a real one misses a short word in one call and not in the other.
"""

import asyncio
import io
import re
from collections.abc import Callable, Sequence

import numpy as np
import uvloop

from fastagent.cli.call import Narrator, caller_voice
from fastagent.cli.demo import EXAMPLES, Example, PlayedCall, play_example
from fastagent.local import serve

CARRIERS = ("audiocodes", "twilio")
LIMIT_S = 120.0
TONE_MIN_HZ = 500
TONE_MAX_HZ = 3_300
TONE_STEP_HZ = 50
TONE_MS = 240
TONE_PEAK = 8_000
WINDOW_MS = 80
PURITY_MIN = 0.95
"""Share of the power of a window that is one tone; that of vowels is less."""
SILENCE_POWER = 1e9

Render = Callable[[str], tuple[bytes, int]]


class KnowingEars:
    """Recognises what was rendered through it by the tone at its end, one for each line."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._lines: list[str] = []
        self.misheard = 0

    def render(self, text: str) -> tuple[bytes, int]:
        """Speech of a line, and its tone."""
        pcm, rate = self._render(text)
        if text not in self._lines:
            self._lines.append(text)
        hz = TONE_MIN_HZ + TONE_STEP_HZ * self._lines.index(text)
        assert hz <= TONE_MAX_HZ
        time_s = np.arange(rate * TONE_MS // 1000) / rate
        tone = TONE_PEAK * np.sin(2 * np.pi * hz * time_s)
        return pcm + tone.astype("<i2").tobytes(), rate

    def hear(self, pcm: bytes, sample_rate: int, phrases: Sequence[str] = ()) -> str:
        """The line whose tone is in the utterance; empty when there is none."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float64)
        width = sample_rate * WINDOW_MS // 1000
        purest, peak = 0.0, 0
        for start in range(0, len(samples) - width, width // 2):
            power = np.abs(np.fft.rfft(samples[start : start + width] * np.hanning(width))) ** 2
            at = int(np.argmax(power))
            purity = float(power[max(0, at - 2) : at + 3].sum() / (power.sum() + SILENCE_POWER))
            if purity > purest:
                purest, peak = purity, at
        number = round((peak * 1000 / WINDOW_MS - TONE_MIN_HZ) / TONE_STEP_HZ)
        if purest < PURITY_MIN or not 0 <= number < len(self._lines):
            self.misheard += 1
            return ""
        return self._lines[number]


class ToldCall:
    """A call, and what was told of it."""

    def __init__(self, played: PlayedCall, story: str) -> None:
        self.played = played
        self.story = story

    def lines(self, wanted: str) -> list[str]:
        """What was told of one kind: caller, heard, bot, state."""
        found = re.findall(r"^ *[\d.]+ s  (\w+) +(.*)$", self.story, re.MULTILINE)
        return [text for kind, text in found if kind == wanted]


async def play_all(ears: KnowingEars) -> dict[tuple[str, str], ToldCall]:
    """Each example's demo over each carrier, all at once, on one engine."""
    told: dict[tuple[str, str], ToldCall] = {}
    async with await serve(ears=ears) as engine:

        async def play(name: str, carrier: str) -> None:
            story = io.StringIO()
            played = await play_example(
                Example.agent(name),
                EXAMPLES[name].script,
                Narrator(story),
                ("raw/mulaw",),
                render=ears.render,
                carrier=carrier,
                realtime_url=engine.url,
            )
            told[name, carrier] = ToldCall(played, story.getvalue())

        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            for name in EXAMPLES:
                for carrier in CARRIERS:
                    group.create_task(play(name, carrier))
    return told


def test_the_same_lines_lead_to_the_same_call() -> None:
    ears = KnowingEars(caller_voice())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        told = runner.run(play_all(ears))
    assert ears.misheard == 0
    for name, example in EXAMPLES.items():
        one, other = (told[name, carrier] for carrier in CARRIERS)
        stories = f"{one.story}\n{other.story}"
        for kind in ("caller", "heard", "bot", "state"):
            assert one.lines(kind), stories
            assert one.lines(kind) == other.lines(kind), stories
        assert one.played.outcome(example.outcome), stories
        assert one.played.report.ended_by == other.played.report.ended_by == "bot", stories
        assert one.played.summary is not None
        assert other.played.summary is not None
        assert one.played.summary.results == other.played.summary.results

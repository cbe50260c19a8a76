"""A caller's part in a call, written down as steps, and played on a phone.

A script is text, one step a line; what begins with ``#`` is a comment::

    book an appointment for monday     spoken once the bot has finished talking
    interrupt 1.5: what are your opening hours     spoken 1.5 s after the bot begins to talk
    pause 2                            two seconds of silence
    dtmf 12#                           keys pressed
    hang up                            otherwise the bot is given time to end the call
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fastagent.errors import ConfigurationError, LegClosedError, LegTimeoutError
from fastagent.testing.phone import Phone

__all__ = [
    "AwaitEndStep",
    "CallerScript",
    "HangUpStep",
    "KeysStep",
    "PauseStep",
    "Progress",
    "SayStep",
    "ScriptReport",
    "Step",
]

SETTLE_S = 0.35
"""Silence after the bot's words that means it has finished: pauses between its sentences are shorter."""
BOT_TIMEOUT_S = 20.0
END_TIMEOUT_S = 15.0
KEYS = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class SayStep:
    """Speak once the bot has finished; with ``interrupt_after_s``, that long after it began."""

    text: str = field(repr=False)
    interrupt_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class PauseStep:
    """Say nothing for a while."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class KeysStep:
    """Press keys."""

    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HangUpStep:
    """Hang up."""


@dataclass(frozen=True, slots=True)
class AwaitEndStep:
    """Wait for the bot to end the call: what follows the last step of a script that does not hang up."""


Step = SayStep | PauseStep | KeysStep | HangUpStep
Progress = Step | AwaitEndStep
"""What a script tells of while it is played."""


@dataclass(slots=True)
class ScriptReport:
    """What came of a script."""

    reply_times_s: list[float] = field(default_factory=list)
    """From the caller's last sound to the bot's first, per spoken step."""
    ended_by: str = ""
    """``bot``, ``caller`` or ``lost``."""
    end_code: str = ""
    """The carrier's word for the end."""


class CallerScript:
    """Steps, and how to play them."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = tuple(steps)

    @classmethod
    def parse(cls, text: str) -> "CallerScript":
        """Read a script.

        Raises:
            ConfigurationError: a step that cannot be read; the message names its line.
        """
        steps: list[Step] = []
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            try:
                steps.append(_parse_step(line))
            except ValueError as error:
                raise ConfigurationError(f"script line {number}: {error}") from None
        if not steps:
            raise ConfigurationError("the script holds no step")
        return cls(steps)

    async def play(
        self,
        phone: Phone[Any],
        render: Callable[[str], tuple[bytes, int]],
        *,
        on_step: Callable[[Progress], None] = lambda step: None,
    ) -> ScriptReport:
        """Play the caller's part on a phone whose call has begun, to the end of the call.

        Args:
            render: speech for a text: PCM16 and its sample rate in Hz.
            on_step: told of each step as it begins.
        """
        report = ScriptReport()
        try:
            for step in self.steps:
                await self._play_step(phone, step, render, on_step, report)
                if isinstance(step, HangUpStep):
                    report.ended_by = "caller"
                    break
            else:
                if not phone.line.is_over:
                    on_step(AwaitEndStep())
                await self._await_end(phone, report)
        except LegClosedError:
            report.ended_by = "bot" if phone.line.end_code else "lost"
        report.end_code = phone.line.end_code or ""
        return report

    async def _play_step(
        self,
        phone: Phone[Any],
        step: Step,
        render: Callable[[str], tuple[bytes, int]],
        on_step: Callable[[Progress], None],
        report: ScriptReport,
    ) -> None:
        match step:
            case PauseStep():
                on_step(step)
                await asyncio.sleep(step.duration_s)
            case KeysStep():
                await _bot_finished(phone)
                on_step(step)
                phone.dtmf(step.digits)
            case HangUpStep():
                await _bot_finished(phone)
                on_step(step)
                await phone.hang_up()
            case SayStep():
                pcm, sample_rate = await asyncio.to_thread(render, step.text)
                if step.interrupt_after_s is None:
                    await _bot_finished(phone)
                else:
                    await phone.wait_until(
                        lambda line: line.is_playing(_now()), "the bot to begin", timeout_s=BOT_TIMEOUT_S
                    )
                    await asyncio.sleep(step.interrupt_after_s)
                on_step(step)
                heard = len(phone.line.streams)
                await phone.say(pcm, sample_rate)
                said_at = _now()
                await phone.wait_until(
                    lambda line: len(line.streams) > heard and line.streams[-1].first_chunk_at_s is not None,
                    "the bot's answer",
                    timeout_s=BOT_TIMEOUT_S,
                )
                first = phone.line.streams[-1].first_chunk_at_s
                if first is not None:
                    report.reply_times_s.append(first - said_at)

    async def _await_end(self, phone: Phone[Any], report: ScriptReport) -> None:
        try:
            await phone.wait_ended(timeout_s=END_TIMEOUT_S)
            report.ended_by = "bot"
        except LegTimeoutError:
            await phone.hang_up()
            report.ended_by = "caller"


def _parse_step(line: str) -> Step:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    match word:
        case "pause":
            return PauseStep(_seconds(rest, word))
        case "dtmf":
            # The keys themselves stay out of the message: they may be somebody's PIN.
            if not rest or not KEYS.issuperset(rest):
                raise ValueError("expected keys (0-9, *, #, A-D) after 'dtmf'")
            return KeysStep(rest)
        case "interrupt":
            after, colon, words = rest.partition(":")
            after_s = _seconds(after, word)
            if not colon or not words.strip():
                raise ValueError("expected a colon and words after 'interrupt SECONDS'")
            return SayStep(words.strip(), after_s)
        case _ if line == "hang up":
            return HangUpStep()
        case _:
            return SayStep(line)


def _seconds(text: str, word: str) -> float:
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = math.nan
    if not (math.isfinite(duration_s) and duration_s >= 0):
        raise ValueError(f"expected a number of seconds after {word!r}")
    return duration_s


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _bot_finished(phone: Phone[Any]) -> None:
    """Wait until the bot has said something since the caller's last words, and is silent."""
    quiet_since: float | None = None

    def is_finished(line: object) -> bool:
        nonlocal quiet_since
        now = time.monotonic()
        streams = phone.line.streams
        if not streams or streams[-1].first_chunk_at_s is None or phone.line.is_playing(_now()):
            quiet_since = None
            return False
        if quiet_since is None:
            quiet_since = now
        return now - quiet_since >= SETTLE_S

    await phone.wait_until(is_finished, "the bot to finish", timeout_s=BOT_TIMEOUT_S)

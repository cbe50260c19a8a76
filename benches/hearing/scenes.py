"""Scenes of a caller and a bot talking over each other, with every onset known to the sample.

A scene is two channels of int16 at 8 kHz on one clock: what the bot's side plays, and what arrives from the
caller: the caller's own sounds, the bot's echo (a lag and a decaying random tail) and line noise, each
direction through mu-law. Speech comes in as clips; where it comes from is the caller's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastagent._native import g711

__all__ = [
    "FRAME",
    "RATE",
    "Clip",
    "Event",
    "Kind",
    "Line",
    "Scene",
    "Stage",
    "first_sound",
    "level_dbfs",
    "scaled",
]

RATE = 8000
"""Hz."""

FRAME = 160
"""Samples in 20 ms."""

FULL_SCALE = 32768.0
FIRST_SOUND_DB = -25.0
"""A clip begins where 5 ms of it first come this near to its active level; it ends likewise."""

Clip = NDArray[np.float64]
Kind = Literal["interruption", "backchannel", "dtmf", "cough", "click", "music"]


def active_power(clip: Clip) -> float:
    """Mean square over the 20 ms pieces that are within 20 dB of the loudest."""
    count = len(clip) // FRAME
    if count == 0:
        return float(np.mean(clip**2)) if len(clip) else 0.0
    pieces = np.mean(clip[: count * FRAME].reshape(count, FRAME) ** 2, axis=1)
    return float(np.mean(pieces[pieces >= pieces.max() / 100])) if pieces.max() > 0 else 0.0


def level_dbfs(clip: Clip) -> float:
    """Active level in dB below a full-scale square wave."""
    return float(10 * np.log10(max(active_power(clip), 1e-9) / FULL_SCALE**2))


def scaled(clip: Clip, level: float) -> Clip:
    """The clip at an active level in dBFS."""
    return np.asarray(clip * 10 ** ((level - level_dbfs(clip)) / 20))


def first_sound(clip: Clip) -> tuple[int, int]:
    """Samples before the first and up to the last sound of a clip."""
    piece = 40
    count = len(clip) // piece
    if count == 0:
        return 0, len(clip)
    power = np.mean(clip[: count * piece].reshape(count, piece) ** 2, axis=1)
    loud = np.flatnonzero(power >= active_power(clip) * 10 ** (FIRST_SOUND_DB / 10))
    if len(loud) == 0:
        return 0, len(clip)
    return int(loud[0]) * piece, int(loud[-1] + 1) * piece


@dataclass(frozen=True, slots=True)
class Line:
    """What lies between the bot's sound and what comes back."""

    echo_db: float | None
    """Power of the echo beside what was played; None for no echo at all."""

    lag_ms: float = 180.0
    tail_ms: float = 40.0
    noise_dbfs: float | None = -60.0
    """Steady noise of the caller's line; None for digital silence."""

    lag_jumps: tuple[tuple[float, float], ...] = ()
    """(second, lag in ms from then on)."""

    echo_steps: tuple[tuple[float, float], ...] = ()
    """(second, dB added to the echo from then on)."""


@dataclass(frozen=True, slots=True)
class Event:
    """A sound of the caller's: its first and the end of its last sound, in samples of the scene."""

    kind: Kind
    start: int
    end: int
    level_dbfs: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Both channels, frame-aligned, and what the caller did when."""

    caller: NDArray[np.int16]
    bot: NDArray[np.int16]
    events: tuple[Event, ...]
    line: Line

    @property
    def seconds(self) -> float:
        return len(self.bot) / RATE

    def frames(self) -> list[tuple[bytes, bytes]]:
        """(caller, bot) of each 20 ms, as bytes of PCM16."""
        caller, bot = self.caller.astype("<i2").tobytes(), self.bot.astype("<i2").tobytes()
        return [(caller[i : i + 2 * FRAME], bot[i : i + 2 * FRAME]) for i in range(0, len(bot), 2 * FRAME)]


def cough(seed: int) -> Clip:
    """Two or three bursts of breath, each with a hard start and some throat in it."""
    chance = np.random.default_rng(seed)
    pieces = []
    for _ in range(int(chance.integers(2, 4))):
        count = int(chance.uniform(0.1, 0.22) * RATE)
        burst = np.convolve(chance.standard_normal(count), chance.standard_normal(12), mode="same")
        throat = np.sign(np.sin(2 * np.pi * chance.uniform(90, 160) * np.arange(count) / RATE))
        pieces += [(burst + throat) * np.exp(-np.arange(count) / (0.04 * RATE)), np.zeros(count // 2)]
    return np.concatenate(pieces)


def clipped(samples: Clip) -> NDArray[np.int16]:
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2")


def through_mu_law(samples: Clip) -> Clip:
    codes = g711.ulaw_encode(clipped(samples).tobytes())
    return np.frombuffer(g711.ulaw_decode(codes), dtype="<i2").astype(np.float64)


@dataclass(slots=True)
class Stage:
    """Puts a scene together; everything random in it follows from the seed."""

    seed: int
    bot: Clip = field(default_factory=lambda: np.zeros(0))
    inserts: list[tuple[Kind, int, Clip, float]] = field(default_factory=list)

    def play(self, clips: Sequence[Clip], seconds: float, level: float, *, lead_s: float = 0.6) -> None:
        """Let the bot say clips, with pauses of 0.15 to 0.6 s between, until so many seconds have passed."""
        chance = np.random.default_rng(self.seed)
        total = round(seconds * RATE) // FRAME * FRAME
        channel = np.zeros(total)
        at = round(lead_s * RATE)
        while at < total:
            clip = scaled(clips[int(chance.integers(len(clips)))], level)[: total - at]
            channel[at : at + len(clip)] += clip
            at += len(clip) + int(chance.uniform(0.15, 0.6) * RATE)
        self.bot = channel

    def insert(self, kind: Kind, at_s: float, clip: Clip, level: float) -> None:
        """Let the caller make a sound whose first sound is heard at this second."""
        self.inserts.append((kind, round(at_s * RATE), clip, level))

    def hold(self, at_s: float) -> None:
        """Let the bot say nothing from this second on."""
        self.bot[round(at_s * RATE) :] = 0

    def scene(self, line: Line) -> Scene:
        """The two channels as the bridge sees them."""
        chance = np.random.default_rng(self.seed + 1)
        played = through_mu_law(self.bot)
        caller = self.echo(played, line, chance)
        events = []
        for kind, at, clip, level in self.inserts:
            head, tail = first_sound(clip)
            begin = max(0, at - head)
            voice = scaled(clip, level)[: max(0, len(self.bot) - begin)]
            caller[begin : begin + len(voice)] += voice
            events.append(Event(kind, at, min(at + tail - head, len(self.bot)), level))
        if line.noise_dbfs is not None:
            caller += chance.standard_normal(len(self.bot)) * FULL_SCALE * 10 ** (line.noise_dbfs / 20)
        heard = through_mu_law(caller) if line.noise_dbfs is not None or line.echo_db is not None else caller
        return Scene(clipped(heard), clipped(played), tuple(events), line)

    def echo(self, played: Clip, line: Line, chance: np.random.Generator) -> Clip:
        if line.echo_db is None:
            return np.zeros(len(self.bot))
        taps = max(1, round(line.tail_ms * RATE / 1000))
        tail = chance.standard_normal(taps) * 10 ** (-1.5 * np.arange(taps) / taps)
        spread = np.convolve(played, tail)[: len(self.bot)]
        power = float(np.mean(spread**2))
        wanted = float(np.mean(played**2)) * 10 ** (line.echo_db / 10)
        spread *= np.sqrt(wanted / power) if power > 0 else 0.0
        out = np.zeros(len(self.bot))
        switches = [(0.0, line.lag_ms), *line.lag_jumps]
        for i, (second, lag_ms) in enumerate(switches):
            begin = round(second * RATE)
            end = round(switches[i + 1][0] * RATE) if i + 1 < len(switches) else len(self.bot)
            lag = round(lag_ms * RATE / 1000)
            source = np.concatenate([np.zeros(lag), spread])[begin:end]
            out[begin : begin + len(source)] = source
        for second, extra_db in line.echo_steps:
            out[round(second * RATE) :] *= 10 ** (extra_db / 20)
        return out

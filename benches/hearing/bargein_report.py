"""How well the bot is stopped by its caller, and by nothing else: a table of the barge-in gate.

    python -m benches.hearing.bargein_report [--human DIR] [--quick]

Scenes are made by `benches.hearing.scenes` from espeak-ng voices, or from recorded prompts below DIR (WAV
files, 8 kHz mono PCM16, a folder for each speaker; two at least). A stop is due within an interruption and
100 ms after it; every other one is false. Times are from the caller's first sound to the end of the frame
that brought the decision. A detector that has long been confirmed when the caller begins has not found them.
"""

import argparse
import sys
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import webrtcvad

from benches.hearing import sounds
from benches.hearing.scenes import (
    FRAME,
    RATE,
    Clip,
    Line,
    Scene,
    Stage,
    cough,
    first_sound,
    level_dbfs,
)
from benches.hearing.voices import SENTENCES, say
from fastagent._native.bargein import CONFIRM_MS, BargeInGate

WARM_S = 5.0
"""The lag and the leak are learnt before; stops before it are counted apart."""

SCENE_S = 40.0
BOT_DBFS = -20.0
GRACE = round(0.1 * RATE)
ECHOES: tuple[float | None, ...] = (-10.0, -20.0, -30.0, -40.0, None)
CALLER_DBFS = (-15.0, -20.0, -25.0, -30.0, -35.0)
LINES = ((1, 40.0, 20.0, -60.0), (2, 180.0, 40.0, -55.0), (3, 400.0, 60.0, -50.0), (4, 180.0, 60.0, -45.0))
"""(seed, lag in ms, tail in ms, noise in dBFS)"""

BOT_VOICES = ("en-us", "en-us+f2")
CALLER_VOICES = ("en-us+m3", "en+f3", "en-us+f5", "en+m5", "en-us+Mike", "en+steph2")
BACKCHANNELS = ("uh-huh", "mm-hm", "okay", "yeah", "right")
INTERRUPTIONS = (
    "wait a moment, I have a question",
    "no, that is not what I asked for",
    "can you please repeat that number",
    "stop, I want to speak to someone",
    "actually I need to change my address",
    "sorry, that is the wrong account",
    "hold on",
    "one second please",
)
SPEEDS = (0.85, 1.0, 1.2)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who speaks."""

    name: str
    bots: tuple[tuple[Clip, ...], ...]
    callers: tuple[tuple[Clip, ...], ...]


def espeak() -> Cast:
    bots = tuple(tuple(say(text, voice).samples for text in SENTENCES["en"][:14]) for voice in BOT_VOICES)
    texts = [text for text in INTERRUPTIONS if text != "hold on"]
    callers = tuple(
        tuple(say(text, voice, SPEEDS[i % len(SPEEDS)]).samples for text in texts)
        for i, voice in enumerate(CALLER_VOICES)
    )
    return Cast("espeak", bots, callers)


def recorded(folder: Path) -> Cast:
    speakers: dict[Path, list[Clip]] = {}
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
                continue
            clip = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float64)
        if not 1.0 * RATE < len(clip) < 6.0 * RATE or level_dbfs(clip) < -50:
            continue
        begin, end = first_sound(clip)
        if end - begin >= 0.8 * RATE:
            speakers.setdefault(path.parent, []).append(clip[max(0, begin - 400) : end + 400])
    if len(speakers) < 2:
        raise SystemExit(f"two folders of 8 kHz mono PCM16 WAV files expected below {folder}")
    first, *others = (tuple(clips[:80]) for clips in speakers.values())
    return Cast("human", (first,), tuple(others))


def conversation(
    cast: Cast, seed: int, line: Line, caller_dbfs: float | None, *, first_s: float, seconds: float = SCENE_S
) -> Scene:
    """The bot speaks all the time; the caller, if at all, every four seconds or so."""
    chance = np.random.default_rng(seed * 7 + 1)
    stage = Stage(seed)
    stage.play(cast.bots[seed % len(cast.bots)], seconds, BOT_DBFS)
    clips = cast.callers[seed % len(cast.callers)]
    at_s = first_s
    while caller_dbfs is not None and at_s < seconds - 3.0:
        stage.insert("interruption", at_s, clips[int(chance.integers(len(clips)))][: 2 * RATE], caller_dbfs)
        at_s += 4.0 + chance.uniform(0, 0.5)
    return stage.scene(line)


# Detectors: a scene in, for every frame whether the bot is told to stop


def by_gate(scene: Scene, confirm_ms: int = CONFIRM_MS) -> list[bool]:
    gate = BargeInGate(confirm_ms=confirm_ms)
    return [gate.process(caller, bot) == "confirmed" for caller, bot in scene.frames()]


def by_vad(scene: Scene) -> list[bool]:
    """The same voice detector and confirmation, never told of the bot."""
    gate = BargeInGate()
    return [gate.process(caller) == "confirmed" for caller, _ in scene.frames()]


def by_webrtcvad(scene: Scene) -> list[bool]:
    gate, vad = BargeInGate(), webrtcvad.Vad(3)
    return [
        gate.process(caller, speech_probability=float(vad.is_speech(caller, RATE))) == "confirmed"
        for caller, _ in scene.frames()
    ]


Detector = Callable[[Scene], list[bool]]


@dataclass(slots=True)
class Tally:
    """What a detector did in many scenes."""

    false_warm: int = 0
    false_cold: int = 0
    minutes: float = 0.0
    late_ms: list[float] = field(default_factory=list)
    missed: int = 0

    def add(self, scene: Scene, confirmed: list[bool]) -> None:
        stops = [i for i, now in enumerate(confirmed) if now and not (i and confirmed[i - 1])]
        ends = [(i + 1) * FRAME for i in stops]
        due: set[int] = set()
        for event in scene.events:
            hits = [end for end in ends if event.start < end <= event.end + GRACE]
            due.update(hits)
            if hits:
                self.late_ms.append((hits[0] - event.start) * 1000 / RATE)
            else:
                self.missed += 1
        false = [end for end in ends if end not in due]
        self.false_cold += sum(end < WARM_S * RATE for end in false)
        self.false_warm += sum(end >= WARM_S * RATE for end in false)
        self.minutes += scene.seconds / 60

    def percentile(self, share: float) -> float:
        """Of all interruptions, the missed ones taken as endless."""
        late = sorted([*self.late_ms, *[float("inf")] * self.missed])
        return late[min(len(late) - 1, int(share * len(late)))] if late else float("nan")

    def row(self) -> str:
        found = f"{len(self.late_ms)}/{len(self.late_ms) + self.missed}"
        return (
            f"{self.false_warm / self.minutes:9.2f} {self.false_cold:6d} {found:>9} "
            f"{self.percentile(0.5):7.0f} {self.percentile(0.9):6.0f}"
        )


HEAD = f"{'':34} {'false/min':>9} {'cold':>6} {'found':>9} {'median':>7} {'p90':>6} ms"


def main_table(cast: Cast, lines: Sequence[tuple[int, float, float, float]]) -> None:
    detectors: dict[str, Detector] = {
        "gate": by_gate,
        "gate, confirm 80 ms": partial(by_gate, confirm_ms=80),
        "voice detector alone": by_vad,
        "webrtcvad 3": by_webrtcvad,
    }
    print(f"\n{cast.name}: caller -15..-35 dBFS over a bot at {BOT_DBFS:.0f} dBFS, warm\n{HEAD}")
    by_level: dict[tuple[float | None, float], Tally] = {}
    for echo_db in ECHOES:
        tallies = {name: Tally() for name in detectors}
        for seed, lag_ms, tail_ms, noise_dbfs in lines:
            line = Line(echo_db, lag_ms, tail_ms, noise_dbfs)
            for caller_dbfs in (None, *CALLER_DBFS):
                if caller_dbfs is not None and caller_dbfs < noise_dbfs + 20:
                    continue
                scene = conversation(cast, seed, line, caller_dbfs, first_s=WARM_S + 1)
                for name, detector in detectors.items():
                    confirmed = detector(scene)
                    tallies[name].add(scene, confirmed)
                    if name == "gate" and caller_dbfs is not None:
                        by_level.setdefault((echo_db, caller_dbfs), Tally()).add(scene, confirmed)
        for name, tally in tallies.items():
            print(f"echo {decibels(echo_db):>8}  {name:20} {tally.row()}")
    print("\ngate by the caller's level: found, median / p90 ms")
    print(" " * 14 + "".join(f"{level:>20.0f} dBFS" for level in CALLER_DBFS))
    for echo_db in ECHOES:
        cells = [by_level.get((echo_db, level)) for level in CALLER_DBFS]
        print(f"echo {decibels(echo_db):>8} " + "".join(f"{cell(tally):>25}" for tally in cells))


def decibels(echo_db: float | None) -> str:
    return "none" if echo_db is None else f"{echo_db:.0f} dB"


def cell(tally: Tally | None) -> str:
    if tally is None:
        return "-"
    total = len(tally.late_ms) + tally.missed
    return f"{len(tally.late_ms)}/{total} {tally.percentile(0.5):.0f}/{tally.percentile(0.9):.0f}"


def cold_table(cast: Cast, lines: Sequence[tuple[int, float, float, float]]) -> None:
    """The caller speaks 0.8 to 4 s after the bot's first word."""
    print(f"\n{cast.name}: cold start, caller -15..-25 dBFS, gate\n{HEAD}")
    for echo_db in ECHOES:
        for after_s in (0.8, 2.0, 3.5):
            tally = Tally()
            for seed, lag_ms, tail_ms, noise_dbfs in lines:
                for i, caller_dbfs in enumerate((-15.0, -20.0, -25.0)):
                    line = Line(echo_db, lag_ms, tail_ms, noise_dbfs)
                    scene = conversation(
                        cast, seed + 10 * i, line, caller_dbfs, first_s=0.6 + after_s, seconds=after_s + 3.7
                    )
                    tally.add(scene, by_gate(scene))
            print(f"echo {decibels(echo_db):>8}  after {after_s:3.1f} s {'':9} {tally.row()}")


def change_table(cast: Cast) -> None:
    """The echo path changes in the middle of a call."""
    changes: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
        "lag 180 -> 300 -> 100 ms": {"lag_jumps": ((12.0, 300.0), (25.0, 100.0))},
        "lag 180 -> 120 ms": {"lag_jumps": ((15.0, 120.0),)},
        "10 dB up, 10 up, 20 down": {"echo_steps": ((10.0, 10.0), (20.0, 10.0), (30.0, -20.0))},
        "25 dB up": {"echo_steps": ((20.0, 25.0),)},
    }
    print(f"\n{cast.name}: the echo path changes, gate: false stops in {SCENE_S:.0f} s by echo level")
    for name, change in changes.items():
        counts = []
        for echo_db in (-20.0, -30.0, -40.0):
            tally = Tally()
            for seed in (2, 5, 6):
                line = Line(echo_db, 180.0, 40.0, -60.0, **change)
                scene = conversation(cast, seed, line, None, first_s=0)
                tally.add(scene, by_gate(scene))
            counts.append(f"{decibels(echo_db)}: {tally.false_warm + tally.false_cold} in 3")
        print(f"  {name:26} {'   '.join(counts)}")


def other_sounds(cast: Cast) -> None:
    """What is not speech, made by the caller while the bot speaks: stops per sound."""
    makers: dict[str, Callable[[int], Clip]] = {
        "keys pressed (DTMF)": lambda seed: np.asarray(sounds.dtmf("1234567890*#"[seed % 12], on_s=0.15)),
        "cough": cough,
        "clicks, 1 s": lambda seed: np.asarray(sounds.clicks(1.0, seed)),
        "hold music, 2 s": lambda seed: np.asarray(sounds.hold_music(2.0, seed)),
        "street, 2 s": lambda seed: np.asarray(sounds.noise("street", 2.0, seed)),
    }
    print(f"\n{cast.name}: other sounds at -20 dBFS over the bot, echo -20 dB: share that stops it")
    for name, make in makers.items():
        stage = Stage(3)
        stage.play(cast.bots[0], 90, BOT_DBFS)
        for i in range(20):
            stage.insert("click", 6.0 + 4.0 * i, make(i), -20.0)
        scene = stage.scene(Line(-20.0, 180.0, 40.0, -60.0))
        shares = []
        for detector in (by_gate, by_vad, by_webrtcvad):
            confirmed = np.array(detector(scene))
            stopped = [confirmed[e.start // FRAME : (e.end + GRACE) // FRAME].any() for e in scene.events]
            shares.append(f"{np.mean(stopped):4.0%}")
        print(f"  {name:22} gate {shares[0]}   voice detector alone {shares[1]}   webrtcvad {shares[2]}")


# The second stage


@dataclass(frozen=True, slots=True)
class Course:
    """How one utterance of the caller's went on after the bot was held."""

    is_real: bool
    steps: tuple[tuple[int, int, int], ...]
    """(onset_ms, speech_ms, pause_ms) after each frame, from the confirmation on."""


def course(stage: Stage, line: Line, is_real: bool) -> Course | None:
    """Plays the scene twice: to find the confirmation, and with the bot silent from there on."""
    scene = stage.scene(line)
    confirmed = by_gate(scene)
    event = scene.events[0]
    at = next((i for i, now in enumerate(confirmed) if now and (i + 1) * FRAME > event.start), None)
    if at is None or at * FRAME > event.end + GRACE:
        return None
    stage.hold((at + 1) * FRAME / RATE)
    gate, steps = BargeInGate(), []
    for i, (caller, bot) in enumerate(stage.scene(line).frames()):
        gate.process(caller, bot)
        if i >= at:
            steps.append((gate.onset_ms, gate.speech_ms, gate.pause_ms))
    return Course(is_real, tuple(steps))


def spoken(is_real: bool, voice: str, speed: float) -> Iterator[Clip]:
    for text in INTERRUPTIONS if is_real else BACKCHANNELS:
        clip = say(text, voice, speed).samples if is_real else sounds.backchannel(text, voice, speed).samples
        begin, end = first_sound(clip)
        if not is_real or end - begin >= 0.8 * RATE:
            yield clip


def courses(cast: Cast, echo_db: float | None) -> list[Course]:
    out = []
    for is_real in (True, False):
        seed = 0
        for voice in CALLER_VOICES:
            for speed in SPEEDS:
                for clip in spoken(is_real, voice, speed):
                    seed += 1
                    stage = Stage(seed)
                    stage.play(cast.bots[seed % len(cast.bots)], 9.0, BOT_DBFS)
                    stage.insert("interruption" if is_real else "backchannel", 6.0, clip, -22.0)
                    found = course(stage, Line(echo_db, 180.0, 40.0, -58.0), is_real)
                    if found is not None:
                        out.append(found)
    return out


def ends_the_turn(one: Course, speech_ms: int, *, first_only: bool) -> float | None:
    """Ms from the first sound until the utterance has lasted ``speech_ms``; None if it never does.

    An interruption whose first word is followed by a pause is a new utterance: the bot, resumed meanwhile, is
    held again. ``first_only`` does not count that.
    """
    for i, (onset, speech, _pause) in enumerate(one.steps):
        if onset == 0 and first_only:
            return None
        if speech >= speech_ms:
            return float(one.steps[0][0] + 20 * i)
    return None


def second_stage(cast: Cast) -> None:
    found = [one for echo_db in (-20.0, None) for one in courses(cast, echo_db)]
    real, short = [one for one in found if one.is_real], [one for one in found if not one.is_real]
    print(f"\nsecond stage: {len(real)} interruptions of 0.8 s and more, {len(short)} backchannels, held")
    print(
        "speech needed   interruptions kept: at first, in all   decided after   backchannels ending the turn"
    )
    for speech_ms in range(300, 721, 40):
        first = [ends_the_turn(one, speech_ms, first_only=True) for one in real]
        kept = [ends_the_turn(one, speech_ms, first_only=False) for one in real]
        ended = [ends_the_turn(one, speech_ms, first_only=True) for one in short]
        decided = np.median([late for late in kept if late is not None])
        print(
            f"{speech_ms:10d} ms {share(first):31.1%} {share(kept):7.1%} {decided:13.0f} ms"
            f" {share(ended):22.1%}"
        )


def share(decisions: Sequence[float | None]) -> float:
    return sum(one is not None for one in decisions) / max(1, len(decisions))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--human", type=Path, help="folder of recorded prompts to measure on as well")
    parser.add_argument("--quick", action="store_true", help="half of the lines only")
    options = parser.parse_args(arguments)
    lines = LINES[1:3] if options.quick else LINES
    casts = [espeak()]
    if options.human is not None:
        casts.insert(0, recorded(options.human))
    for cast in casts:
        main_table(cast, lines)
        cold_table(cast, lines)
        change_table(cast)
        other_sounds(cast)
    second_stage(casts[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Prints what the DTMF detector takes and refuses, how late it reports, what it costs, and talk-off.

``python -m benches.hearing.dtmf_report [--rounds N] [--minutes N] [--recordings FOLDER]``. Limits are those
of ITU-T Q.24, "AT&T" column, as listed in `tests.reference.dtmf_reference`. Talk-off is counted on synthetic
speech, and on the WAV files of a folder when one is given (any rate, mono, 16 bits). The status is 1 if a
check failed.
"""

import argparse
import sys
import time
import wave
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
import soxr

from benches.hearing.voices import SENTENCES, TEST_VOICES, TRAIN_VOICES, say
from benches.workloads import voice
from fastagent._native import dtmf
from tests.reference.dtmf_reference import CHECKS, DIGITS, RATE, Burst, Check, pcm, phased, silence

FRAME_BYTES = 320
FRAMES_TIMED = 5000


def heard(audio: bytes) -> str:
    """The digits that start."""
    detector = dtmf.Detector()
    found = [
        e for at in range(0, len(audio), FRAME_BYTES) for e in detector.process(audio[at : at + FRAME_BYTES])
    ]
    return "".join(event.digit for event in found if not event.is_end)


def errors(check: Check, value: float, rounds: int) -> int:
    return sum(heard(audio) != expected for audio, expected in check.cases(value, rounds))


def check_table(rounds: int) -> int:
    """Print a line per check; give how many failed."""
    failed = 0
    print(f"{'check':34} {'limit':>15}  {'cases':>5}  {'wrong':>5}  result  holds to")
    for check in CHECKS:
        wrong = errors(check, check.limit, rounds)
        failed += wrong > 0
        margin = check.limit
        if not wrong:
            for value in check.beyond:
                if errors(check, value, rounds):
                    break
                margin = value
        print(
            f"{check.name:34} {f'{check.limit:g} {check.unit}':>15}  {rounds * len(DIGITS):5}  {wrong:5}  "
            f"{'FAIL' if wrong else 'pass':6}  {f'{margin:g} {check.unit}' if not wrong else '-'}"
        )
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return failed


def latency(rounds: int) -> None:
    """From the tone's first sample to the end of the 20 ms frame that brings the start event."""
    chance = np.random.default_rng(2)
    delays = []
    for digit in DIGITS * rounds:
        lead = 800 + int(chance.integers(0, 160))
        audio = pcm(np.zeros(lead), phased(chance, Burst(digit, 60)), silence(100))
        detector = dtmf.Detector()
        frames = (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))
        reported = next(place for place, frame in enumerate(frames) if detector.process(frame))
        delays.append(((reported + 1) * 160 - lead) * 1000 / RATE)
    print(f"latency with 20 ms frames: median {median(delays):.1f} ms, max {max(delays):.1f} ms")


def cost() -> None:
    """Per frame, called from Python: the binding's 50 ns or so are in it."""
    digits = pcm(*(part for digit in DIGITS for part in (Burst(digit, 100).samples(), silence(100))))
    for name, audio in (("silence", bytes(FRAME_BYTES)), ("voice", voice(RATE, 2000)), ("digits", digits)):
        frames = [audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES)]
        best = float("inf")
        for _ in range(5):
            process, source = dtmf.Detector().process, cycle(frames)
            began = time.perf_counter_ns()
            for _ in range(FRAMES_TIMED):
                process(next(source))
            best = min(best, (time.perf_counter_ns() - began) / FRAMES_TIMED)
        print(f"cost per 20 ms frame of {name}: {best:.0f} ns")


def synthetic_speech(minutes: float) -> Iterator[bytes]:
    """Sentences by all voices in turn."""
    spoken = 0.0
    for place, (language, speaker) in enumerate(cycle([*TEST_VOICES, *TRAIN_VOICES])):
        sentences = SENTENCES[language]
        samples = say(sentences[place % len(sentences)], speaker, speed=1.0 + 0.05 * (place % 7 - 3)).samples
        yield pcm(samples)
        spoken += len(samples) / RATE / 60
        if spoken >= minutes:
            return


def recorded(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                continue
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            rate = file.getframerate()
        yield (samples if rate == RATE else soxr.resample(samples, rate, RATE)).astype("<i2").tobytes()


def talk_off(name: str, pieces: Iterator[bytes]) -> None:
    hits = 0
    seconds = 0.0
    for piece in pieces:
        hits += len(heard(piece))
        seconds += len(piece) / 2 / RATE
    hours = max(seconds, 1.0) / 3600
    print(f"talk-off on {name}: {hits} hits in {60 * hours:.1f} min, {hits / hours:.1f} an hour")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8, help="cases per digit and check")
    parser.add_argument("--minutes", type=float, default=10.0, help="synthetic speech for talk-off")
    parser.add_argument("--recordings", type=Path, help="a folder of WAV files for talk-off")
    options = parser.parse_args(arguments)
    failed = check_table(options.rounds)
    latency(options.rounds)
    cost()
    talk_off("synthetic speech", synthetic_speech(options.minutes))
    if options.recordings is not None:
        talk_off("recordings", recorded(options.recordings))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

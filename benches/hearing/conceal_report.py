"""How concealed losses sound: a table of loss patterns by methods, printed by one command.

    python -m benches.hearing.conceal_report [--clips DIR]

Without clips, espeak-ng speaks. ``--clips`` takes a folder of 8 kHz mono WAV files, searched recursively; up
to 30 of 5 to 8.5 s are used. The prompts of Debian's asterisk-core-sounds-*-wav packages serve.

The figure is PESQ (ITU-T P.862 narrow-band, MOS-LQO by P.862.1) when the `pesq` package is installed, which
is otherwise no dependency: ``pip install pesq``. Without it, it is the segmental SNR of the frames touched.
"""

import argparse
import importlib
import random
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastagent._native.conceal import Concealer
from tests.reference import conceal_reference
from tests.reference.conceal_reference import Fill, Lost, Samples

SAMPLE_RATE = 8000
FRAME_SAMPLES = 160
CLIPS_MAX = 30
SEEDS = 2

PATTERNS = {
    "random 1 %": (0.01, 1),
    "random 3 %": (0.03, 1),
    "random 5 %": (0.05, 1),
    "random 10 %": (0.10, 1),
    "bursts of 3, 5 %": (0.05, 3),
    "bursts of 3, 10 %": (0.10, 3),
}
"""Share of frames lost, frames lost in a row."""

SPOKEN = (
    "I would like to move my appointment from Tuesday morning to Thursday afternoon, if that is possible.",
    "The invoice was paid last week, but your office says that nothing has arrived on the account so far.",
    "Could you please tell me how long the delivery takes, and whether somebody has to be at home for it?",
)
VOICES = ("en-us+m3", "en-us+f3", "en-gb+m7", "en-gb+f2")

Score = Callable[[Samples, Samples], float]


def kernel(pcm: Samples, lost: Lost) -> Samples:
    concealer = Concealer(SAMPLE_RATE)
    frames = pcm.reshape(len(lost), -1)
    heard = [
        concealer.lost(FRAME_SAMPLES) if is_lost else concealer.good(frame.tobytes())
        for frame, is_lost in zip(frames, lost, strict=True)
    ]
    return np.frombuffer(b"".join(heard), dtype="<i2")


METHODS: dict[str, Fill] = {
    "zero fill": conceal_reference.zero_fill,
    "repeat x0.7": conceal_reference.repeat,
    "pitch cycle": conceal_reference.pitch_cycle,
    "fastagent": kernel,
}


def segmental_snr_db(clean: Samples, heard: Samples) -> float:
    """Mean over the frames that differ, each held to -10..35 dB."""
    reference = clean.reshape(-1, FRAME_SAMPLES).astype(float)
    error = heard.reshape(-1, FRAME_SAMPLES) - reference
    differs = np.any(error != 0, axis=1) & (np.mean(reference**2, axis=1) > 1000)
    if not differs.any():
        return 35.0
    ratio = np.sum(reference[differs] ** 2, axis=1) / np.sum(error[differs] ** 2, axis=1)
    return float(np.mean(np.clip(10 * np.log10(ratio), -10, 35)))


def scoring() -> tuple[str, Score]:
    try:
        pesq = importlib.import_module("pesq").pesq
    except ImportError:
        print("PESQ is not installed (pip install pesq): segmental SNR instead\n", file=sys.stderr)
        return "segmental SNR of the frames touched, dB", segmental_snr_db
    return "PESQ narrow-band, MOS-LQO", lambda clean, heard: float(pesq(SAMPLE_RATE, clean, heard, "nb"))


def whole_frames(pcm: Samples) -> Samples:
    return pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES]


def recorded(folder: Path) -> list[Samples]:
    paths = sorted(folder.rglob("*.wav"))
    random.Random(7).shuffle(paths)
    clips: list[Samples] = []
    for path in paths:
        with wave.open(str(path)) as reader:
            params = reader.getparams()
            if params[:3] != (1, 2, SAMPLE_RATE) or not 5 <= params.nframes / SAMPLE_RATE <= 8.5:
                continue
            clips.append(whole_frames(np.frombuffer(reader.readframes(params.nframes), dtype="<i2")))
        if len(clips) == CLIPS_MAX:
            break
    return clips


def spoken() -> list[Samples]:
    from benches.hearing.voices import on_the_line, say

    clips = []
    for voice in VOICES:
        for text in SPOKEN:
            clips.append(whole_frames(np.asarray(on_the_line(say(text, voice).samples), dtype="<i2")))
    return clips


def table(clips: list[Samples], score: Score) -> dict[str, dict[str, float]]:
    """Mean score by pattern and method; every method meets the same losses."""
    rows: dict[str, dict[str, float]] = {}
    for row, (name, (share, burst)) in enumerate(PATTERNS.items()):
        scores: dict[str, list[float]] = {method: [] for method in METHODS}
        for number, clip in enumerate(clips):
            for seed in range(SEEDS):
                frames = len(clip) // FRAME_SAMPLES
                lost = conceal_reference.losses(frames, share, burst, 1000 * number + 10 * row + seed)
                if lost.any():
                    for method, fill in METHODS.items():
                        scores[method].append(score(clip, fill(clip, lost)))
        rows[name] = {method: float(np.mean(values)) for method, values in scores.items()}
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Print how concealed losses sound.")
    parser.add_argument("--clips", type=Path, help="folder of 8 kHz mono WAV files")
    arguments = parser.parse_args()
    unit, score = scoring()
    clips = recorded(arguments.clips) if arguments.clips else spoken()
    if not clips:
        print(f"no 8 kHz mono WAV of 5 to 8.5 s under {arguments.clips}", file=sys.stderr)
        return 1
    seconds = sum(map(len, clips)) / SAMPLE_RATE
    print(f"{unit}; {len(clips)} clips, {seconds:.0f} s, {SEEDS} loss patterns each\n")
    print("| loss | " + " | ".join(METHODS) + " | gain over zero fill |")
    print("|---" * (len(METHODS) + 2) + "|")
    for name, row in table(clips, score).items():
        gain = row["fastagent"] - row["zero fill"]
        print(f"| {name} | " + " | ".join(f"{row[method]:.2f}" for method in METHODS) + f" | {gain:+.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

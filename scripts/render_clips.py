"""Renders the built-in clips: music on hold and announcements; needs the ``local`` extra (espeak-ng)."""

import math
from pathlib import Path

import numpy as np
from render_prompts import trim

from fastagent.audio import wav
from fastagent.audio.clips import Clip
from fastagent.audio.formats import MULAW_8K
from fastagent.local.voice import Voice

FOLDER = Path(__file__).parent.parent / "fastagent" / "audio" / "sounds"
LEVEL_DBFS = -22.0
ANNOUNCEMENTS = {
    "one-moment": "One moment, please.",
    "please-hold": "Please hold the line. We will be with you shortly.",
}
VOICE = "en-us+f3"

RATE = 48_000
"""Music is made at this rate and converted with the rest."""
BEAT_S = 0.625
BEATS_PER_BAR = 4
CHORDS = (
    (48, 60, 64, 67, 71), (45, 57, 64, 67, 72), (41, 60, 65, 69, 72), (43, 59, 62, 67, 69),
    (48, 60, 64, 67, 74), (40, 59, 64, 67, 71), (41, 57, 65, 69, 76), (43, 59, 65, 67, 74),
)  # fmt: skip
"""MIDI notes, a chord a bar: bass, then four of the arpeggio (C, Am7, F, G, and around again, brighter)."""
TRANSPOSED = 7
"""Semitones up from there: a telephone carries little below 300 Hz."""
FIGURE = (1, 2, 3, 4, 3, 2, 3, 2)
"""Which note of its chord each quaver plays."""
PARTIALS = ((1, 1.0, 1.0), (2, 0.35, 1.7), (3, 0.12, 2.6), (4, 0.05, 3.5))
"""Of a note: number, amplitude, and how much faster than the first it dies away."""
REVERB_S = 0.5
REVERB_GAIN = 0.3
SEAM_MS = 60
"""How long before the first beat the loop may be cut."""


def note(pitch: int, decay_s: float) -> np.ndarray:
    """A soft mallet on a bar tuned to a MIDI pitch."""
    frequency_hz = 440.0 * 2 ** ((pitch + TRANSPOSED - 69) / 12)
    seconds = np.arange(int(RATE * decay_s * 5)) / RATE
    tone = sum(
        amplitude * np.exp(-seconds * speed / decay_s) * np.sin(2 * np.pi * k * frequency_hz * seconds)
        for k, amplitude, speed in PARTIALS
    )
    return tone * np.minimum(1.0, seconds / 0.008)


def music() -> Clip:
    """An arpeggio over eight bars that goes on into itself: whatever still sounds at its end begins it."""
    loop = np.zeros(int(RATE * BEAT_S * BEATS_PER_BAR * len(CHORDS)))
    spread = np.random.default_rng(8)

    def strike(at_s: float, pitch: int, gain: float, decay_s: float) -> None:
        sound = gain * note(pitch, decay_s)
        np.add.at(loop, (int(at_s * RATE) + np.arange(len(sound))) % len(loop), sound)

    for bar, chord in enumerate(CHORDS):
        begun_s = bar * BEAT_S * BEATS_PER_BAR
        strike(begun_s, chord[0] + 12, 0.8, 0.9)
        strike(begun_s + 2 * BEAT_S, chord[0] + 19, 0.4, 0.6)
        for k, which in enumerate(FIGURE):
            strike(begun_s + k * BEAT_S / 2, chord[which], 0.55 + 0.1 * spread.random() - 0.1 * (k % 2), 0.45)
    seconds = np.arange(len(loop)) / RATE
    room = spread.standard_normal(len(loop)) * np.exp(-seconds / REVERB_S * math.log(1000)) * (seconds > 0.01)
    room /= np.sqrt(np.sum(room**2))
    # Circular on purpose, as the loop is.
    echo = np.fft.irfft(np.fft.rfft(loop) * np.fft.rfft(room), len(loop))
    sound = loop + REVERB_GAIN * echo
    # A file is converted as if silence were around it: it had best be cut where next to nothing sounds.
    window = np.hanning(RATE // 500)
    loudness = np.convolve(sound[-RATE * SEAM_MS // 1000 :] ** 2, window, "same")
    margin = len(window) // 2
    sound = np.roll(sound, RATE * SEAM_MS // 1000 - margin - int(np.argmin(loudness[margin:-margin])))
    return Clip((0.5 * sound / np.abs(sound).max()).astype(np.float32), RATE)


def announcement(text: str) -> Clip:
    """The text, spoken, without the silence around it."""
    pcm = trim(Voice("espeak").speak(text, voice=VOICE, sample_rate=RATE))
    return Clip(np.frombuffer(pcm, "<i2").astype(np.float32) / 2.0**15, RATE)


def main() -> None:
    """Replace every file by a fresh rendering."""
    FOLDER.mkdir(exist_ok=True)
    clips = {"hold-music": music(), **{name: announcement(text) for name, text in ANNOUNCEMENTS.items()}}
    for name, clip in clips.items():
        data = clip.at_level(LEVEL_DBFS).encoded(MULAW_8K)
        (FOLDER / f"{name}.wav").write_bytes(
            wav.header(MULAW_8K, 1, len(data)) + data + b"\0" * (len(data) % 2)
        )
        print(f"{name}: {clip.duration_s:.1f} s, {len(data) // 1024} KiB")


if __name__ == "__main__":
    main()

"""Speech without a synthesiser: sentences and parts of sentences rendered beforehand.

A text is put together from the longest known pieces, so "That is Monday the 23rd at 3 PM." needs no file of
its own. A sentence with an unknown word becomes a soft tone that lasts as long as speaking it would: timing,
barge-in and truncation still behave as in a call.
"""

import json
import re
from importlib import resources
from typing import Any

import numpy as np

from fastagent._native.g711 import ulaw_decode
from fastagent.local.words import normalise

__all__ = ["SAMPLE_RATE", "Prompts"]

Samples = np.ndarray[Any, np.dtype[np.int16]]

SAMPLE_RATE = 8_000
TONE_HZ = 220.0
TONE_AMPLITUDE = 1_500.0
SYLLABLES_PER_S = 4.0
MS_PER_CHARACTER = 65
GAP_MS = 150
"""Silence between sentences."""
PIECE_WORDS_MAX = 24


class Prompts:
    """The files of ``prompts/``: mu-law at 8 kHz, found by their words in ``index.json``."""

    def __init__(self) -> None:
        self._folder = resources.files("fastagent.local") / "prompts"
        index = json.loads((self._folder / "index.json").read_text(encoding="utf-8"))
        self._files: dict[str, str] = index["files"]

    def render(self, text: str, voice: str, speed: float) -> tuple[Samples, int]:
        """Samples of ``text`` and their rate; ``voice`` and ``speed`` are what they were rendered with."""
        gap = np.zeros(SAMPLE_RATE * GAP_MS // 1000, np.int16)
        pieces: list[Samples] = []
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            if normalise(sentence):
                pieces += [*([gap] if pieces else []), *self._sentence(sentence)]
        return np.concatenate(pieces or [np.zeros(0, np.int16)]), SAMPLE_RATE

    def _sentence(self, sentence: str) -> list[Samples]:
        words = normalise(sentence).split()
        names = []
        while words:
            for count in range(min(len(words), PIECE_WORDS_MAX), 0, -1):
                name = self._files.get(" ".join(words[:count]))
                if name is not None:
                    names.append(name)
                    words = words[count:]
                    break
            else:
                return [_tone(sentence)]
        return [self._read(name) for name in names]

    def _read(self, name: str) -> Samples:
        return np.frombuffer(ulaw_decode((self._folder / name).read_bytes()), dtype="<i2")


def _tone(text: str) -> Samples:
    """A hum that swells at the pace of speech and lasts as long as the text would."""
    seconds = np.arange(SAMPLE_RATE * MS_PER_CHARACTER * len(text) // 1000) / SAMPLE_RATE
    syllables = np.sin(np.pi * SYLLABLES_PER_S * seconds) ** 2
    tone = TONE_AMPLITUDE * syllables * np.sin(2 * np.pi * TONE_HZ * seconds)
    samples: Samples = tone.astype(np.int16)
    return samples

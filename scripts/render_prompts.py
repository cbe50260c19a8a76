"""Renders the texts of fastagent/local/prompts/sentences.txt to files; needs the ``local`` extra."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastagent._native.g711 import ulaw_encode
from fastagent.local.prerendered import SAMPLE_RATE
from fastagent.local.voice import Voice
from fastagent.local.words import normalise

FOLDER = Path(__file__).parent.parent / "fastagent" / "local" / "prompts"
LEVEL_MIN = 150
"""What is quieter than this at either end, in int16 steps, is cut off: pieces are joined."""
MARGIN = SAMPLE_RATE // 50


def sentences(text: str) -> Iterator[tuple[str, str]]:
    """Each voice and text of the list, alternatives spelt out."""
    voice = ""
    for line in text.splitlines():
        section = re.fullmatch(r"\[\w+ (\S+)\]", line)
        if section:
            voice = section[1]
        elif line.strip() and not line.startswith("#"):
            before, alternatives, after = re.fullmatch(r"([^{]*)(?:\{(.*)\})?(.*)", line).groups()  # type: ignore[union-attr]
            for alternative in (alternatives or "").split("|"):
                yield voice, f"{before}{alternative}{after}"


def trim(pcm: bytes) -> bytes:
    """The samples without the silence around them."""
    samples = np.frombuffer(pcm, dtype="<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > LEVEL_MIN)
    kept = samples[max(0, int(loud[0]) - MARGIN) : int(loud[-1]) + MARGIN]
    return kept.tobytes()


def main() -> None:
    """Replace every file by a fresh rendering."""
    voice = Voice("espeak")
    files: dict[str, str] = {}
    for old in FOLDER.glob("*.ulaw"):
        old.unlink()
    for name, text in sentences((FOLDER / "sentences.txt").read_text(encoding="utf-8")):
        key = normalise(text)
        if key in files:
            continue
        files[key] = f"{hashlib.sha256(key.encode()).hexdigest()[:12]}.ulaw"
        pcm = voice.speak(text, voice=name, sample_rate=SAMPLE_RATE)
        (FOLDER / files[key]).write_bytes(ulaw_encode(trim(pcm)))
    index = {"encoding": "mulaw", "sample_rate": SAMPLE_RATE, "files": dict(sorted(files.items()))}
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in FOLDER.glob("*.ulaw"))
    print(f"{len(files)} prompts, {size // 1024} KiB")


if __name__ == "__main__":
    main()

"""The table of how well speech detectors hear telephone speech: ``python -m benches.hearing.vad_report``.

Every detector judges the same streams in 20 ms frames. Speakers, languages and three kinds of noise are ones
that the native detector's training never met. AUC is the area under the ROC curve over all frames, TPR the
share of speech frames found when 5 % of the others are called speech. Onset is the time from an utterance's
first sound to the end of the first frame at or above the threshold (0.5), for utterances after at least
300 ms of pause; one that was not heard within 500 ms is missed. The last columns are the shares of frames
of other sounds that are called speech; the instruments of "bands" are ones that training never met either.

``--human FOLDER`` adds recorded prompts: WAV files of clean speech, 8 kHz mono PCM16, in any folders below,
for example Debian's asterisk-core-sounds-en-wav unpacked. ``--music FOLDER`` adds a column for recordings of
music in which nobody sings, for example asterisk-moh-opsound-wav: of each, the first minute.
"""

import argparse
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benches.hearing import music, sounds, voices
from fastagent.errors import ConfigurationError
from fastagent.media.detectors import DETECTORS, DetectorName, SpeechDetector, build_detector

__all__ = [
    "Onsets",
    "Stream",
    "auc",
    "human_set",
    "judge",
    "onsets",
    "other_sounds",
    "telephone_set",
    "tpr_at",
]

SNR_DB = (0, 5, 10, 20, 40)
NOISES = ("street", "office", "fan", "white", "pink", "car", "babble")
"""The first three are kept out of training."""

STREAM_S = 12.0
THRESHOLD = 0.5
ONSET_LIMIT_MS = 500
PAUSE_FRAMES = 15
FRAME_MS = 20


@dataclass(frozen=True)
class Stream:
    """What a detector hears, and the truth."""

    pcm: NDArray[np.int16]
    is_speech: NDArray[np.bool_]
    """One per sample."""
    snr_db: int


@dataclass(frozen=True)
class Onsets:
    heard_ms: list[float]
    missed: int

    def quantile_ms(self, share: float) -> float:
        """Missed onsets count as later than all others."""
        ordered = [*sorted(self.heard_ms), *[float("inf")] * self.missed]
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """How often a frame of speech scores above one that is not, ties counting half."""
    values, inverse = np.unique(scores, return_inverse=True)
    positives = np.bincount(inverse[labels], minlength=len(values)).astype(float)
    negatives = np.bincount(inverse[~labels], minlength=len(values)).astype(float)
    below = np.cumsum(negatives) - negatives
    wins = np.sum(positives * (below + negatives / 2))
    return float(wins / (positives.sum() * negatives.sum()))


def tpr_at(scores: NDArray[np.float64], labels: NDArray[np.bool_], fpr: float = 0.05) -> float:
    """The share of speech found at the threshold where ``fpr`` of the rest is called speech."""
    threshold = np.quantile(scores[~labels], 1 - fpr)
    return float(np.mean(scores[labels] > threshold))


def mixed(
    spoken: voices.Utterance, kind: str, snr_db: int, level_dbfs: float, seed: int, law: voices.Law
) -> Stream:
    seconds = len(spoken.samples) / voices.SAMPLE_RATE
    if kind == "babble":
        noise = sounds.babble(seconds, seed, speakers=voices.TEST_VOICES)
    else:
        noise = sounds.noise(kind, seconds, seed)
    speech = voices.telephone_band(spoken.samples)
    speech = voices.at_level(speech, level_dbfs, spoken.is_speech)
    noise = voices.at_level(voices.telephone_band(noise), level_dbfs - snr_db)
    return Stream(voices.on_the_line(speech + noise, law), spoken.is_speech, snr_db)


def telephone_set(*, per_condition: int = 1, noises: Sequence[str] = NOISES) -> list[Stream]:
    """Held-out voices over each kind of noise at each ratio, levels -40 to -15 dBFS."""
    streams = []
    rng = np.random.default_rng(7)
    for kind in noises:
        for snr_db in SNR_DB:
            for _ in range(per_condition):
                seed = int(rng.integers(1 << 20))
                spoken = voices.conversation(voices.TEST_VOICES, STREAM_S, seed)
                law: voices.Law = "mulaw" if seed % 2 else "alaw"
                streams.append(mixed(spoken, kind, snr_db, rng.uniform(-40, -15), seed, law))
    return streams


def recordings(folder: Path) -> Iterator[NDArray[np.float64]]:
    """The WAV files below a folder that are 8 kHz mono PCM16."""
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as reader:
            if (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) != (8000, 1, 2):
                continue
            yield np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2").astype(np.float64)


def prompts(folder: Path) -> Iterator[voices.Utterance]:
    """The recordings below a folder that hold at least half a second of speech."""
    for samples in recordings(folder):
        mask = voices.activity(samples)
        if mask.sum() >= voices.SAMPLE_RATE // 2:
            yield voices.Utterance(voices.at_level(samples, -26.0, mask), mask)


def human_set(folder: Path, *, streams: int = 70, noises: Sequence[str] = NOISES) -> list[Stream]:
    """Recorded people instead of a synthesiser: prompts between pauses, over the same noises and ratios."""
    everything = list(prompts(folder))
    if not everything:
        raise FileNotFoundError(f"no recorded prompts (WAV, 8 kHz, mono, PCM16) below {folder}")
    rng = np.random.default_rng(11)
    length = round(STREAM_S * voices.SAMPLE_RATE)
    out = []
    for number in range(streams):
        samples, mask = np.zeros(length), np.zeros(length, dtype=bool)
        at = round(rng.uniform(0.2, 2.0) * voices.SAMPLE_RATE)
        while at < length:
            prompt = everything[rng.integers(len(everything))]
            end = min(length, at + len(prompt.samples))
            samples[at:end] = prompt.samples[: end - at]
            mask[at:end] = prompt.is_speech[: end - at]
            at = end + round(rng.uniform(0.3, 2.0) * voices.SAMPLE_RATE)
        kind, snr_db = noises[number % len(noises)], SNR_DB[number // len(noises) % len(SNR_DB)]
        law: voices.Law = "mulaw" if number % 2 else "alaw"
        spoken = voices.Utterance(samples, mask)
        out.append(mixed(spoken, kind, snr_db, rng.uniform(-40, -15), number, law))
    return out


def _on_line(samples: NDArray[np.float64], dbfs: float) -> NDArray[np.int16]:
    hiss = sounds.noise("white", len(samples) / voices.SAMPLE_RATE, 5)
    level = voices.at_level(samples, dbfs, np.abs(samples) > 0)
    return voices.on_the_line(level + voices.at_level(hiss, -65.0))


def other_sounds() -> dict[str, list[NDArray[np.int16]]]:
    """Streams in which nobody speaks, by column of the table; tones are there at several levels."""
    levels = (-35.0, -25.0, -15.0)
    keypad = sounds.dtmf("0123456789*#ABCD", on_s=0.1, off_s=0.1)
    long_keys = sounds.dtmf("159D", on_s=0.8, off_s=0.3)
    short_keys = sounds.dtmf("2580#", on_s=0.05, off_s=0.05)
    lead_in = np.zeros(voices.SAMPLE_RATE // 2)

    def tone(*kinds: str) -> list[NDArray[np.int16]]:
        return [_on_line(sounds.tone(kind, 8.0, begin_s=0.5), dbfs) for kind in kinds for dbfs in levels]

    keys = [np.concatenate([lead_in, part]) for part in (keypad, long_keys, short_keys)]
    return {
        "dtmf": [_on_line(part, dbfs) for part in keys for dbfs in levels],
        "dial": tone("dial-us", "dial-eu", "dial-uk"),
        "ringback": tone("ringback-us", "ringback-eu", "ringback-uk"),
        "busy, fax": tone("busy-us", "busy-eu", "reorder-us", "fax-calling", "fax-answer", "milliwatt"),
        "clicks": [voices.on_the_line(sounds.clicks(10.0, seed)) for seed in range(900, 906)],
        "chords": [_on_line(sounds.chords(10.0, seed), -22.0) for seed in range(900, 906)],
        "hold": [
            _on_line(part, -22.0)
            for seed in range(900, 904)
            for part in (sounds.hold_music(10.0, seed), sounds.melody(10.0, seed))
        ],
        "bands": [
            _on_line(kind(8.0, seed), -22.0)
            for kind in music.HELD_OUT_BANDS.values()
            for seed in range(900, 904)
        ],
        "noise": [_on_line(sounds.noise(kind, 10.0, 77), -25.0) for kind in sounds.NOISES],
    }


def judge(detector: SpeechDetector, pcm: NDArray[np.int16]) -> NDArray[np.float64]:
    """A fresh stream's probabilities, one per whole frame."""
    detector.reset()
    return np.array([detector.process(frame) for frame in voices.frames_of(pcm)])


def onsets(scores: NDArray[np.float64], is_speech: NDArray[np.bool_], threshold: float = THRESHOLD) -> Onsets:
    """How long after each beginning of speech the detector first called it that."""
    heard: list[float] = []
    missed = 0
    starts = np.flatnonzero(np.diff(is_speech.astype(np.int8), prepend=0) == 1)
    for start in starts.tolist():
        pause = is_speech[max(0, start - PAUSE_FRAMES * voices.FRAME_SAMPLES) : start]
        first = start // voices.FRAME_SAMPLES
        last = min(len(scores), first + ONSET_LIMIT_MS // FRAME_MS + 1)
        if first < PAUSE_FRAMES or pause.any() or last - first <= ONSET_LIMIT_MS // FRAME_MS:
            continue
        # Speech that is already "heard" in the pause is a false alarm, not an early onset.
        if scores[first - 1] >= threshold:
            continue
        found = np.flatnonzero(scores[first:last] >= threshold)
        if len(found) == 0:
            missed += 1
            continue
        end = (first + int(found[0]) + 1) * voices.FRAME_SAMPLES
        heard.append((end - start) * 1000 / voices.SAMPLE_RATE)
    return Onsets(heard, missed)


def cost_us(make: Callable[[], SpeechDetector], pcm: NDArray[np.int16]) -> float:
    """The shortest mean time per frame of several passes, Python call included."""
    detector, frames = make(), list(voices.frames_of(pcm))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for frame in frames:
            detector.process(frame)
        best = min(best, (time.perf_counter() - began) / len(frames))
    return best * 1e6


def speech_rows(name: str, detector: SpeechDetector, streams: Sequence[Stream]) -> list[str]:
    judged = [(judge(detector, stream.pcm), stream) for stream in streams]
    heard: list[float] = []
    missed = 0
    for scores, stream in judged:
        found = onsets(scores, stream.is_speech)
        # In 0 dB and 5 dB of noise the first sound itself is inaudible.
        if stream.snr_db >= 10:
            heard, missed = heard + found.heard_ms, missed + found.missed
    all_onsets = Onsets(heard, missed)
    by_snr = []
    for wanted in (None, *SNR_DB):
        chosen = [(s, voices.frame_labels(t.is_speech)) for s, t in judged if wanted in (None, t.snr_db)]
        scores, labels = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
        by_snr.append(auc(scores, labels))
        if wanted is None:
            tpr = tpr_at(scores, labels)
            hits = float(np.mean(scores[labels] >= THRESHOLD))
            alarms = float(np.mean(scores[~labels] >= THRESHOLD))
    cells = [f"{by_snr[0]:8.3f}", *[f"{value:7.3f}" for value in by_snr[1:]], f"{tpr:8.2f}"]
    cells += [f"{hits:5.2f}/{alarms:4.2f}"]
    cells += [f"{all_onsets.quantile_ms(0.5):6.0f}/{all_onsets.quantile_ms(0.9):4.0f}"]
    cells += [f"{missed:4}/{len(heard) + missed}"]
    return [f"{name:8}", *cells]


def available() -> dict[DetectorName, SpeechDetector]:
    found: dict[DetectorName, SpeechDetector] = {}
    for name in DETECTORS:
        try:
            found[name] = build_detector(name)
        except ConfigurationError as error:
            print(f"{name}: left out, {error}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How well speech detectors hear telephone speech.")
    parser.add_argument("--human", type=Path, help="folder of recorded prompts to measure on as well")
    parser.add_argument("--music", type=Path, help="folder of recorded music to measure on as well")
    parser.add_argument("--streams", type=int, default=2, help="streams per noise and ratio (default 2)")
    args = parser.parse_args(arguments)

    detectors = available()
    sets = {"synthetic voices": telephone_set(per_condition=args.streams)}
    if args.human is not None:
        sets["recorded people"] = human_set(args.human)
    for title, streams in sets.items():
        minutes = len(streams) * STREAM_S / 60
        print(f"\n{title}: {len(streams)} streams, {minutes:.0f} minutes")
        ratios = " ".join(f"{snr:>4} dB" for snr in SNR_DB)
        print(f"{'':8} {'AUC':>8} {ratios} {'TPR@5%':>8} {'hit/alarm':>10} {'onset ms':>11} {'missed':>8}")
        for name, detector in detectors.items():
            print(" ".join(speech_rows(name, detector, streams)), flush=True)
    print("\nframes of other sounds called speech, % (and the cost of a frame)")
    other = other_sounds()
    if args.music is not None:
        minute = 60 * voices.SAMPLE_RATE
        other["recorded"] = [voices.on_the_line(samples[:minute]) for samples in recordings(args.music)]
    print(f"{'':8} " + " ".join(f"{column:>9}" for column in other) + f" {'µs/frame':>9}")
    for name, detector in detectors.items():
        shares = []
        for sound in other.values():
            scores = np.concatenate([judge(detector, pcm) for pcm in sound])
            shares.append(100 * float(np.mean(scores >= THRESHOLD)))
        pcm = next(iter(sets.values()))[0].pcm
        cost = cost_us(lambda name=name: build_detector(name), pcm)  # type: ignore[misc]
        print(f"{name:8} " + " ".join(f"{share:9.2f}" for share in shares) + f" {cost:9.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

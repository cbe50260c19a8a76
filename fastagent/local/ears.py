"""Speech becomes text: pocketsphinx on a list of whole phrases.

The acoustic model was trained on 16 kHz speech. Telephone audio leaves the upper half of its band empty,
which takes the features out of the trained range; a little white noise after up-sampling puts them back
(on mu-law speech about 50 of 88 phrases are right without it, over 80 with it).

A phrase list rejects nothing by itself, so sounds of listening ("uh-huh") are in the grammar as phrases of
no meaning, and an utterance much shorter or longer than its phrase is not taken for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import soxr

from fastagent.errors import ConfigurationError
from fastagent.local.phrases import BACKCHANNELS, PHRASES
from fastagent.local.voice import normalise

__all__ = ["DeafEars", "Ears", "Listener"]

SAMPLE_RATE = 16_000
NOISE_SIGMA = 60.0
"""Standard deviation of the white noise, in int16 steps."""
NOISE_SEED = 20_240
PADDING_MS = 120
"""Silence put around an utterance so that its first and last sound have a context."""
UTTERANCE_LIMIT_MS = 15_000
"""Longest stretch decoded; the end of a longer one is dropped."""
SPEECH_MIN_MS = 120
PHONE_MIN_MS = 28
PHONE_MAX_MS = 190
"""Fastest and slowest speech taken for a phrase, per sound of it (espeak-ng at 170 words a minute: 65–90)."""
SLACK_MS = 700
"""Pauses allowed within a phrase."""
LEVEL_FLOOR = 300.0
"""Smallest peak, in int16 steps, that counts as speech when its length is measured."""
GRAMMARS_KEPT = 4
PHRASES_LIMIT = 2_000

_SPOKEN = {"am": "a.m.", "pm": "p.m."}
_WRITTEN = {spoken: written for written, spoken in _SPOKEN.items()}


class Listener(Protocol):
    """What a session needs of ears."""

    def hear(self, pcm: bytes, sample_rate: int, phrases: Sequence[str] = ()) -> str:
        """The words of an utterance, or an empty string."""


class DeafEars:
    """Hears nothing: every utterance is the empty string."""

    def hear(self, pcm: bytes, sample_rate: int, phrases: Sequence[str] = ()) -> str:
        """Always empty."""
        return ""


class Ears:
    """Recognises one utterance at a time with one decoder; safe to call from any thread, in turn.

    Costs about 20 ms per utterance, so callers on an event loop use a worker thread.

    Raises:
        ConfigurationError: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            import pocketsphinx
        except ImportError:
            raise ConfigurationError(
                "speech recognition needs pocketsphinx: pip install 'fastagent[local]'"
            ) from None
        pocketsphinx.set_loglevel("FATAL")
        # Without bestpath the word lattice is not searched again: that second pass leaves the grammar and
        # cuts phrases short. No language model is loaded: it would double the memory.
        self._decoder: Any = pocketsphinx.Decoder(
            lm=None, samprate=SAMPLE_RATE, cmn="batch", bestpath=False, beam=1e-80, wbeam=1e-60, pbeam=1e-80
        )
        self._lock = threading.Lock()
        self._grammars: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._grammar_count = 0
        self._phones: dict[str, int] = {}

    def hear(self, pcm: bytes, sample_rate: int, phrases: Sequence[str] = ()) -> str:
        """The phrase spoken in ``pcm``, or an empty string for a backchannel, noise, or no match.

        Args:
            pcm: one utterance, PCM16 mono.
            sample_rate: of ``pcm``, in Hz.
            phrases: phrases to know beside the built-in ones; one with a word missing from the
                dictionary is ignored.
        """
        samples = np.frombuffer(pcm, dtype="<i2")[: sample_rate * UTTERANCE_LIMIT_MS // 1000]
        speech_ms = _speech_ms(samples, sample_rate)
        if speech_ms < SPEECH_MIN_MS:
            return ""
        utterance = _prepare(samples, sample_rate)
        with self._lock:
            self._use_grammar(tuple(phrases))
            self._decoder.start_utt()
            self._decoder.process_raw(utterance, full_utt=True)
            self._decoder.end_utt()
            hypothesis = self._decoder.hyp()
            words: list[str] = hypothesis.hypstr.split() if hypothesis is not None else []
            phones = sum(self._phones.get(word, 0) for word in words)
        if not words or " ".join(words) in BACKCHANNELS:
            return ""
        if not PHONE_MIN_MS * phones <= speech_ms <= PHONE_MAX_MS * phones + SLACK_MS:
            return ""
        return " ".join(_WRITTEN.get(word, word) for word in words)

    def _use_grammar(self, extra: tuple[str, ...]) -> None:
        name = self._grammars.get(extra)
        if name is None:
            self._grammar_count += 1
            name = f"phrases-{self._grammar_count}"
            pronounceable = list(self._pronounceable((*PHRASES, *extra[:PHRASES_LIMIT], *BACKCHANNELS)))
            transitions, final_state = _graph(pronounceable)
            grammar = self._decoder.create_fsg(name, 0, final_state, transitions)
            self._decoder.add_fsg(name, grammar)
            self._grammars[extra] = name
            if len(self._grammars) > GRAMMARS_KEPT:
                self._decoder.activate_search(name)
                _, oldest = self._grammars.popitem(last=False)
                self._decoder.remove_search(oldest)
        self._grammars.move_to_end(extra)
        self._decoder.activate_search(name)

    def _pronounceable(self, phrases: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """Each distinct phrase as dictionary words; counts their sounds on the way."""
        seen = set()
        for phrase in phrases:
            text = phrase if phrase in BACKCHANNELS else normalise(phrase)
            words = tuple(_SPOKEN.get(word, word) for word in text.split())
            if not words or words in seen:
                continue
            seen.add(words)
            for word in words:
                if word not in self._phones:
                    pronunciation = self._decoder.lookup_word(word)
                    self._phones[word] = len(pronunciation.split()) if pronunciation else 0
            if all(self._phones[word] for word in words):
                yield words


def _graph(phrases: Sequence[tuple[str, ...]]) -> tuple[list[tuple[int, int, float, str]], int]:
    """A finite state grammar with one path per phrase: transitions and the final state.

    Words at the start are shared between phrases: the decoder's work grows with the number of paths.
    """
    arcs: dict[tuple[int, str], int] = {}
    transitions: list[tuple[int, int, float, str]] = []
    endings: list[tuple[int, str]] = []
    next_state = 1
    for words in phrases:
        state = 0
        for word in words[:-1]:
            if (state, word) not in arcs:
                arcs[state, word] = next_state
                transitions.append((state, next_state, 1.0, word))
                next_state += 1
            state = arcs[state, word]
        endings.append((state, words[-1]))
    transitions += [(state, next_state, 1.0, word) for state, word in endings]
    return transitions, next_state


def _prepare(samples: np.ndarray[Any, np.dtype[np.int16]], sample_rate: int) -> bytes:
    """The utterance at 16 kHz, padded, with the noise that the model needs (the same noise every time)."""
    resampled = soxr.resample(samples.astype(np.float32), sample_rate, SAMPLE_RATE, quality="HQ")
    padded = np.pad(resampled, SAMPLE_RATE * PADDING_MS // 1000)
    padded += np.random.default_rng(NOISE_SEED).normal(0.0, NOISE_SIGMA, len(padded))
    clipped: bytes = np.clip(padded, -32768, 32767).astype("<i2").tobytes()
    return clipped


def _speech_ms(samples: np.ndarray[Any, np.dtype[np.int16]], sample_rate: int) -> int:
    """Milliseconds from the first to the last loud 10 ms of an utterance."""
    width = sample_rate // 100
    whole = len(samples) // width * width
    if not whole:
        return 0
    peaks = np.abs(samples[:whole].reshape(-1, width).astype(np.int32)).max(axis=1)
    loud = np.flatnonzero(peaks > max(LEVEL_FLOOR, 0.06 * float(peaks.max())))
    return int(loud[-1] - loud[0] + 1) * 10 if len(loud) else 0

"""Speech becomes text: pocketsphinx on a list of whole phrases.

A phrase list rejects nothing by itself, so sounds of listening ("uh-huh") are in the grammar as phrases of
no meaning, and an utterance much shorter or longer than its phrase is not taken for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from fastagent.errors import ConfigurationError
from fastagent.local.hearing_aid import SAMPLE_RATE, prepare
from fastagent.local.phrases import BACKCHANNELS, PHRASES
from fastagent.local.words import normalise

__all__ = ["DeafEars", "Ears", "Listener"]

UTTERANCE_LIMIT_MS = 15_000
"""Longest stretch decoded; the end of a longer one is dropped."""
SPEECH_MIN_MS = 120
PHONE_MIN_MS = 28
PHONE_MAX_MS = 190
"""Fastest and slowest speech taken for a phrase, per sound of it (espeak-ng at 170 words a minute: 65–90)."""
SLACK_MS = 700
"""Pauses allowed within a phrase."""
PIECE_BYTES = 1_600
"""Decoded at a time, 50 ms. The decoder keeps the interpreter's lock, and other threads wait meanwhile."""
CEPSTRAL_MEAN = "63.0,-4.5,4.1,6.6,-3.4,-11.4,2.9,-14.0,-6.7,0.5,-5.5,4.9,-6.6"
"""Mean features of prepared speech. Every utterance starts from it, so none depends on those before."""
GRAMMARS_KEPT = 4
PHRASES_LIMIT = 2_000

_ACCENTS = {
    "after": ("AA F T ER", "AA F T AH"),
    "afternoon": ("AA F T AH N UW N",),
    "are": ("AA",),
    "four": ("F AO",),
    "half": ("HH AA F",),
    "hello": ("HH EH L OW",),
    "hours": ("AW AH Z",),
    "o'clock": ("AH K L AO K",),
    "past": ("P AA S T",),
    "tomorrow": ("T AH M AO R OW",),
    "where": ("W EH",),
    "your": ("Y AO",),
}
"""British pronunciations that the American dictionary lacks."""

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
            lm=None, samprate=SAMPLE_RATE, cmn="live", bestpath=False, beam=1e-80, wbeam=1e-60, pbeam=1e-80
        )
        for word, pronunciations in _ACCENTS.items():
            for number, phones in enumerate(pronunciations, 9):
                self._decoder.add_word(f"{word}({number})", phones, False)
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
        utterance, speech_ms = prepare(pcm[: 2 * sample_rate * UTTERANCE_LIMIT_MS // 1000], sample_rate)
        if speech_ms < SPEECH_MIN_MS:
            return ""
        with self._lock:
            self._use_grammar(tuple(phrases))
            self._decoder.start_utt()
            self._decoder.set_cmn(CEPSTRAL_MEAN)
            for start in range(0, len(utterance), PIECE_BYTES):
                self._decoder.process_raw(utterance[start : start + PIECE_BYTES])
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

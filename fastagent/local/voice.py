"""Text becomes speech: espeak-ng when it is installed, pre-rendered prompts when it is not.

espeak-ng is GPL-3 and comes with the ``local`` extra only.
"""

import ctypes
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import soxr

from fastagent.errors import ConfigurationError
from fastagent.local.prerendered import Prompts
from fastagent.local.words import normalise

__all__ = ["VOICES", "Voice", "VoiceKind"]

VoiceKind = Literal["auto", "espeak", "prompts"]

WORDS_PER_MINUTE = 170
PITCH = 50
CACHE_BYTES = 8 << 20
TEXT_LIMIT = 4_000
"""Characters spoken at most; the rest of a longer text is dropped."""

VOICES = {
    "alloy": "en-us",
    "ash": "en-us+m3",
    "ballad": "en+m2",
    "coral": "en-us+f2",
    "echo": "en-us+m1",
    "sage": "en+f3",
    "shimmer": "en-us+f4",
    "verse": "en+m3",
    "marin": "en-us+f3",
    "cedar": "en",
}
"""The protocol's voice names and what speaks for them here."""


class Engine(Protocol):
    """Whatever turns one text into int16 samples at its own rate."""

    def render(self, text: str, voice: str, speed: float) -> tuple[np.ndarray[Any, np.dtype[np.int16]], int]:
        """Samples and their rate in Hz."""


class Espeak:
    """espeak-ng through ctypes.

    The library is one global machine per process: every call holds one lock, and it is never terminated. It
    carries phases over from text to text, so two renderings of a text are alike but not the same.
    """

    # From speak_lib.h: synchronous retrieval means the callback runs inside espeak_Synth.
    _OUTPUT_SYNCHRONOUS = 2
    _PARAMETER_RATE = 1
    _PARAMETER_PITCH = 3
    _CHARS_UTF8 = 1
    _DONT_EXIT = 0x8000
    _RATE_RANGE = (80, 450)
    # "en" is British; espeak-ng's own command line resolves en-gb the same way.
    _ALIASES: ClassVar = {"en-gb": "en"}

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise ConfigurationError("speech needs espeak-ng: pip install 'fastagent[local]'") from None
        library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        library.espeak_SetSynthCallback.argtypes = [callback_type]
        library.espeak_SetSynthCallback.restype = None
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._voice = ""
        data_path = espeakng_loader.get_data_path().encode()
        rate = library.espeak_Initialize(self._OUTPUT_SYNCHRONOUS, 0, data_path, self._DONT_EXIT)
        if rate <= 0:
            raise ConfigurationError("espeak-ng could not be started: its data directory is unusable")
        self._sample_rate = int(rate)
        # The library keeps the bare pointer, so the callback object must live as long as we do.
        self._callback = callback_type(self._take)
        library.espeak_SetSynthCallback(self._callback)
        self._library = library

    def _take(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * 2))
        return 0

    def render(self, text: str, voice: str, speed: float) -> tuple[np.ndarray[Any, np.dtype[np.int16]], int]:
        """Speak ``text``. Raises ValueError for a voice that espeak-ng does not have."""
        low, high = self._RATE_RANGE
        words_per_minute = min(max(round(WORDS_PER_MINUTE * speed), low), high)
        encoded = text.encode()
        with self._lock:
            if voice != self._voice:
                name, plus, variant = voice.partition("+")
                name = self._ALIASES.get(name, name)
                if self._library.espeak_SetVoiceByName(f"{name}{plus}{variant}".encode()) != 0:
                    raise ValueError(f"espeak-ng has no voice {voice!r}")
                self._voice = voice
            self._library.espeak_SetParameter(self._PARAMETER_RATE, words_per_minute, 0)
            self._library.espeak_SetParameter(self._PARAMETER_PITCH, PITCH, 0)
            self._pieces = []
            self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, self._CHARS_UTF8, None, None)
            pcm = b"".join(self._pieces)
            self._pieces = []
        return np.frombuffer(pcm, dtype="<i2"), self._sample_rate


@lru_cache(maxsize=1)
def _espeak() -> Espeak:
    return Espeak()


class Voice:
    """Speaks texts at any sample rate and remembers what it spoke; safe to call from any thread.

    Args:
        kind: ``espeak``, ``prompts``, or ``auto``: espeak-ng if it can be started, else prompts.

    Raises:
        ConfigurationError: ``espeak`` was asked for and is not installed.
    """

    def __init__(self, kind: VoiceKind = "auto", *, cache_bytes: int = CACHE_BYTES) -> None:
        self._engine: Engine
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str, int, float], bytes] = OrderedDict()
        self._cached_bytes = 0
        self._cache_limit_bytes = cache_bytes
        if kind == "prompts":
            self.kind: Literal["espeak", "prompts"] = "prompts"
        elif kind == "espeak":
            self.kind = "espeak"
        else:
            try:
                _espeak()
                self.kind = "espeak"
            except (ConfigurationError, OSError):
                self.kind = "prompts"
        self._engine = _espeak() if self.kind == "espeak" else Prompts()

    def speak(
        self, text: str, *, voice: str = "en-us", sample_rate: int = 24_000, speed: float = 1.0
    ) -> bytes:
        """Say ``text`` as PCM16 mono at ``sample_rate``; empty for a text without words.

        Args:
            text: what to say, at most `TEXT_LIMIT` characters of it.
            voice: a name of `VOICES`, or an espeak-ng voice such as ``en-gb+f3``.
            sample_rate: Hz.
            speed: 1.0 is about 170 words a minute.

        Raises:
            ValueError: no such voice.
        """
        text = text[:TEXT_LIMIT].replace("\0", " ").strip()
        if not normalise(text):
            return b""
        key = (text, VOICES.get(voice, voice), sample_rate, round(speed, 2))
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        samples, rate = self._engine.render(text, key[1], speed)
        if rate != sample_rate:
            samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
        pcm: bytes = samples.astype("<i2", copy=False).tobytes()
        with self._lock:
            self._remember(key, pcm)
        return pcm

    def _remember(self, key: tuple[str, str, int, float], pcm: bytes) -> None:
        if key in self._cache:
            return
        self._cache[key] = pcm
        self._cached_bytes += len(pcm)
        while self._cached_bytes > self._cache_limit_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)

"""What a scripted caller's microphone gives, piece by piece: speech, noise between words, the bot's echo."""

import random

import numpy as np

from fastagent.testing.recording import Track, resample_clip

__all__ = ["CallerVoice", "comfort_noise"]


def comfort_noise(sample_rate: int, peak: int) -> bytes:
    """One second of PCM16 noise, always the same: a call must be repeatable."""
    source = random.Random(sample_rate)
    return np.array([source.randint(-peak, peak) for _ in range(sample_rate)], dtype="<i2").tobytes()


class CallerVoice:
    """Speech that waits to be said, cut into pieces as they are due.

    Args:
        sample_rate: of the line.
        noise: PCM16 that is heard between words, over and over.
        echo_db: how loud the bot comes back, below 0; None for a line without echo.
        echo_delay_s: how much later it does.
    """

    def __init__(
        self,
        sample_rate: int,
        noise: bytes,
        *,
        track: Track,
        utterances: list[tuple[float, float]],
        echo_db: float | None = None,
        echo_delay_s: float = 0.0,
    ) -> None:
        self.sample_rate = sample_rate
        self._noise = noise
        self._noise_at = 0
        self._track = track
        self._utterances = utterances
        self._echo_db = echo_db
        self._echo_delay_s = echo_delay_s
        self._speech: list[bytearray] = []
        self._is_speaking = False

    @property
    def has_speech(self) -> bool:
        """Something is not yet said."""
        return bool(self._speech)

    def say(self, pcm: bytes, sample_rate: int) -> None:
        """Queue PCM16 speech."""
        speech = resample_clip(pcm, sample_rate, self.sample_rate)
        if speech:
            self._speech.append(bytearray(speech))

    def fall_silent(self) -> None:
        """Forget what was not said."""
        self._speech.clear()

    def piece(self, samples: int, due_s: float, bot: Track) -> bytes:
        """The next PCM16 of the microphone, which begins at ``due_s``; it is written down."""
        size = 2 * samples
        pcm = self._next_speech(size, due_s)
        pcm += self._next_noise(size - len(pcm))
        if self._echo_db is not None:
            pcm = self._with_echo(pcm, due_s, bot, self._echo_db)
        self._track.append(max(due_s, self._track.end_s), self.sample_rate, pcm)
        return pcm

    def _with_echo(self, pcm: bytes, due_s: float, bot: Track, echo_db: float) -> bytes:
        """The bot as the far end's microphone hears it, under what the caller says."""
        own = np.frombuffer(pcm, dtype="<i2")
        delay_s = self._echo_delay_s + len(own) / self.sample_rate
        mixed = own + bot.read(due_s - delay_s, len(own), self.sample_rate) * 10 ** (echo_db / 20)
        heard: bytes = np.clip(mixed, -32768, 32767).astype("<i2").tobytes()
        return heard

    def _next_speech(self, size: int, due_s: float) -> bytes:
        if not self._speech:
            return b""
        speech = self._speech[0]
        if not self._is_speaking:
            self._is_speaking = True
            self._utterances.append((due_s, due_s))
        pcm = bytes(speech[:size])
        del speech[:size]
        self._utterances[-1] = (self._utterances[-1][0], due_s + len(pcm) / 2 / self.sample_rate)
        if not speech:
            self._speech.pop(0)
            self._is_speaking = False
        return pcm

    def _next_noise(self, size: int) -> bytes:
        noise = bytearray()
        while len(noise) < size:
            piece = self._noise[self._noise_at : self._noise_at + size - len(noise)]
            self._noise_at = (self._noise_at + len(piece)) % len(self._noise)
            noise += piece
        return bytes(noise)

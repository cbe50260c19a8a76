"""The input audio buffer: what the caller said since the last commit, and where in the stream it stands."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastagent.audio.formats import AudioFormat
from fastagent.local.turns import SpeechEnd, SpeechStart, TurnDetector

__all__ = ["InputBuffer", "TurnSettings"]

BUFFER_LIMIT_MS = 60_000
"""Audio kept without a commit; the oldest is dropped."""
QUIET_KEPT_MS = 2_000
"""Audio kept beside the prefix padding while turn detection hears no speech."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How turns are found."""

    threshold: float
    prefix_padding_ms: int
    silence_duration_ms: int


class InputBuffer:
    """Samples not yet committed. Positions are samples appended since the buffer was made.

    Args:
        audio_format: the session's input format.
        turns: how turns are found, or None when the client ends them.
        base_ms: milliseconds of the session's audio before this buffer.
    """

    def __init__(self, audio_format: AudioFormat, turns: TurnSettings | None, *, base_ms: int = 0) -> None:
        self.format = audio_format
        self._base_ms = base_ms
        self._pcm = bytearray()
        self._position = 0
        self._turn_start: int | None = None
        self._turns: TurnSettings | None = None
        self._detector: TurnDetector | None = None
        self.configure(turns)

    @property
    def position_ms(self) -> int:
        """Milliseconds of audio appended in the session."""
        return self._base_ms + self.format.ms(self._position)

    @property
    def turn_start_ms(self) -> int:
        """Where the current turn begins, its padding included; the present position outside a turn."""
        return (
            self.position_ms if self._turn_start is None else self._base_ms + self.format.ms(self._turn_start)
        )

    @property
    def buffered_ms(self) -> int:
        """Milliseconds a commit would take."""
        return self.format.ms(len(self._pcm) // 2)

    @property
    def is_speaking(self) -> bool:
        """Whether turn detection is inside a turn."""
        return self._detector is not None and self._detector.is_speaking

    def configure(self, turns: TurnSettings | None) -> None:
        """Change how turns are found; the buffered audio is kept."""
        if turns == self._turns:
            return
        self._turns = turns
        if turns is None:
            self._detector = None
            self._turn_start = None
        elif self._detector is None:
            self._detector = TurnDetector(
                self.format.sample_rate,
                threshold=turns.threshold,
                silence_duration_ms=turns.silence_duration_ms,
                position=self._position,
            )
        else:
            self._detector.configure(threshold=turns.threshold, silence_duration_ms=turns.silence_duration_ms)

    def reformatted(self, audio_format: AudioFormat) -> "InputBuffer":
        """An empty buffer for another format that goes on counting."""
        return InputBuffer(audio_format, self._turns, base_ms=self.position_ms)

    def append(self, pcm: bytes) -> Iterator[SpeechStart | SpeechEnd]:
        """Add samples; gives each turn's begin and end as the stream reaches the moment of its decision.

        The owner acts on a verdict before taking the next one: at a `SpeechEnd` the buffer holds what was
        said up to it and not yet what follows.
        """
        if self._detector is None:
            self._extend(pcm)
            return
        taken = 0
        for verdict in self._detector.process(np.frombuffer(pcm, dtype="<i2")):
            size = max(0, verdict.decided_position - self._position) * 2
            self._extend(pcm[taken : taken + size])
            taken += size
            if isinstance(verdict, SpeechStart):
                padding = self.format.samples_in_ms(self._turns.prefix_padding_ms) if self._turns else 0
                self._turn_start = max(verdict.position - padding, self._position - len(self._pcm) // 2)
            yield verdict
        self._extend(pcm[taken:])
        if self._turn_start is None and self._turns is not None:
            self._keep(self.format.samples_in_ms(self._turns.prefix_padding_ms + QUIET_KEPT_MS))

    def take_turn(self) -> bytes:
        """The audio of the current turn, or all there is when no turn began; the buffer is empty after it."""
        start = self._turn_start
        begin = self._position - len(self._pcm) // 2
        pcm = bytes(self._pcm) if start is None else bytes(self._pcm[max(0, start - begin) * 2 :])
        self.clear()
        return pcm

    def clear(self) -> None:
        """Forget the buffered audio and the turn it was part of; positions go on counting."""
        self._pcm.clear()
        self._turn_start = None
        if self._detector is not None:
            self._detector.reset()

    def _extend(self, pcm: bytes) -> None:
        self._pcm += pcm
        self._position += len(pcm) // 2
        self._keep(self.format.samples_in_ms(BUFFER_LIMIT_MS))

    def _keep(self, samples: int) -> None:
        excess = len(self._pcm) - samples * 2
        if excess > 0:
            del self._pcm[:excess]

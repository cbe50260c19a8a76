"""What hears a call beside the audio path: levels always, and with open ears utterances, the caller over the bot,
keypad digits, and a recording.

Both directions are given in the carrier's format. The bot's audio is given when it is sent; the tap itself knows
when it is heard, by the playback clock. Findings wait (16 at most) until `take_news`, or until the leg that feeds
the pump tells them to ``on_news`` after the audio was passed on.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from typing_extensions import Buffer

from fastagent._native.level import LevelFigures

class Heard(IntEnum):
    """What the ears found."""

    SPEECH_STARTED = 1
    SPEECH_STOPPED = 2
    OVERLAP_CONFIRMED = 3
    """The caller, not the bot's echo, is heard over the bot. Also while the bot is silent: whoever asks knows."""
    DIGIT = 4

class News(NamedTuple):
    """One thing found."""

    kind: Heard
    age_ms: int
    """How much of the caller's audio came since it began (SPEECH_STOPPED: ended)."""
    digit: str
    """Of DIGIT; else empty."""

class Tap:
    """Hears both directions of a call."""

    on_news: Callable[[list[News]], None] | None
    def __init__(self, encoding: str, sample_rate: int, *, has_wav_header: bool = False) -> None:
        """Prepare for one format in both directions.

        Raises:
            ValueError: an unknown encoding or rate.
            RuntimeError: called again with ears open.
        """

    def caller(self, audio: Buffer, now: float, /) -> None:
        """Hear one message of the caller's audio that arrived at ``now``."""

    def bot(self, audio: Buffer, now: float, /) -> None:
        """Hear bot audio as it leaves."""

    def cut(self, now: float, /) -> None:
        """The far end dropped what it had not played."""

    def reset_caller(self) -> None:
        """The caller's stream begins anew, on another socket."""

    def take_news(self) -> list[News]:
        """What was found since the last call, oldest first."""

    @property
    def news_dropped(self) -> int:
        """Findings that nobody took in time."""

    def open_ears(
        self,
        now: float,
        /,
        *,
        speech: bool = False,
        overlap: bool = False,
        digits: bool = False,
        preset: str = "balanced",
        confirm_ms: int = 60,
        detector: Callable[[bytes], float] | None = None,
    ) -> None:
        """Listen for utterances, for the caller over the bot, for keypad digits.

        Args:
            preset: ``sensitive``, ``balanced`` or ``strict``, for utterances.
            confirm_ms: evidence of the caller asked for before OVERLAP_CONFIRMED.
            detector: gives the speech probability of 160 samples (PCM16, 8 kHz) in place of our own; one that
                raises is counted in ``detector_faults`` and hears nothing.

        Raises:
            ValueError: an unknown preset, a confirmation outside 20 to 1000 ms, or a rate without a way to 8 kHz.
        """

    @property
    def detector_faults(self) -> int: ...
    def spoken_ms(self) -> int:
        """How long the caller speaks over the bot, from the first sound to the last one heard; 0: they do not.

        It holds after the utterance, until `rearm`; what follows before that counts with it.
        """

    def quiet_ms(self) -> int:
        """Time since that last sound; a minute where there is none."""

    def rearm(self) -> None:
        """Forget the utterance over the bot: the next one is told anew."""

    @property
    def echo_lag_ms(self) -> int | None:
        """How much later the bot's echo comes back; None while unknown."""

    def caller_level(self, now: float, /) -> LevelFigures:
        """The caller's level meter.

        While no ears are open, audio that is passed on as it came is measured one message in four; arrivals all.
        """

    def bot_level(self, now: float, /) -> LevelFigures:
        """The bot's level meter, which measures what the caller's does."""

    def record(
        self, sink: Callable[[bytes], Any], encoding: Literal["pcm16", "mulaw"], now: float, /
    ) -> None:
        """Give the interleaved samples of both parties (left the caller) to ``sink``, about twice a second.

        An exception of ``sink`` is counted in ``sink_faults``.

        Raises:
            ValueError: another encoding.
            RuntimeError: a recording runs.
        """

    @property
    def sink_faults(self) -> int: ...
    @property
    def is_recording(self) -> bool: ...
    def pause_recording(self, now: float, /) -> int:
        """Record silence from ``now`` on; gives the position, in samples at 8 kHz."""

    def resume_recording(self, now: float, /) -> int:
        """Record again from ``now`` on; gives the position."""

    def settle_recording(self, now: float, /) -> None:
        """Let time pass, at least every half second: the caller may send nothing."""

    def end_recording(self, now: float, /) -> None:
        """Give the rest, and let go of ``sink``."""

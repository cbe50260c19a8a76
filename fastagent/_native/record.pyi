"""Stereo timeline of a call for a recording: two mono streams at 8 kHz in, interleaved samples of a file out.

Left is the caller, right the bot. Positions count samples since the recording began, by the wall clock that
``now`` (monotonic seconds) reads.

The caller's audio is contiguous as it comes, whatever the jitter. Audio that arrives late, as after a stall of
the connection, still gets its place for about half a second (``RING_SAMPLES``); then silence takes it, what is
left over of a late burst is dropped, oldest first, and everything after stands in its true place. A lag of more
than 200 ms that does not go away within a second is lost audio, and silence of that length goes in. The bot's
audio stands where its position says; gaps are silence.
"""

from typing import Final, Literal, Self, final

from typing_extensions import Buffer

SAMPLE_RATE: Final[int]
"""Hz of both streams."""
BLOCK_SAMPLES: Final[int]
"""Samples per channel that are given at a time while nothing is amiss."""
RING_SAMPLES: Final[int]
"""Samples per channel that a recorder can hold: the latest that audio may come."""
BOT_SLACK_SAMPLES: Final[int]
"""How far behind the clock the bot's audio may be given."""

@final
class Recorder:
    """Puts both parties of a call on one sample clock and gives the interleaved samples of a file.

    Feed int16 samples, little-endian, mono, 8 kHz; frames of 20 ms are best, and chunks that last longer than
    the caller's lead on the clock lose their oldest part. One object for one call; calls from several threads
    are serialised by the GIL. Holds 8 KiB for mu-law, 16 KiB for PCM16.
    """

    def __new__(cls, encoding: Literal["pcm16", "mulaw"], now: float) -> Self:
        """Start the clock at ``now``.

        Raises:
            ValueError: another encoding.
        """

    def caller(self, pcm: Buffer, now: float, /) -> bytes:
        """Feed audio of the caller that arrived at ``now``; gives what is due for the file, mostly ``b""``.

        Raises:
            ValueError: ``pcm`` has an odd number of bytes; nothing has been fed.
        """

    def bot(self, pcm: Buffer, position: int, /) -> None:
        """Feed audio that the far end plays from ``position`` on; what lies outside the ring is dropped.

        Give it while it is played, after `caller` or `advance` with the time; audio that was cut is not given.

        Raises:
            ValueError: ``pcm`` has an odd number of bytes; nothing has been fed.
        """

    def advance(self, now: float, /) -> bytes:
        """Let time pass, about every 100 ms while the caller sends nothing; gives what is due for the file."""

    def pause(self, now: float, /) -> int:
        """Keep nothing from ``now`` on: the clock goes on over silence. Gives the position."""

    def resume(self, now: float, /) -> int:
        """Keep audio again from ``now`` on; gives the position.

        Late audio of the pause is kept out. Where a stall hides which audio is of the pause, the caller's
        channel stays silent until one second of audio has come in without a burst.
        """

    def flush(self, now: float, /) -> bytes:
        """End the recording; gives all that is left. What is fed later is ignored."""

    def position(self, now: float, /) -> int:
        """The position that ``now`` is at, 0 before the start."""

    @property
    def is_paused(self) -> bool:
        """Between `pause` and `resume`."""

    @property
    def padded_samples(self) -> int:
        """Silence put in for the caller's missing audio."""

    @property
    def dropped_samples(self) -> int:
        """The caller's samples that came too late or too early for any place."""

    @property
    def misplaced_samples(self) -> int:
        """The bot's samples whose position had left already or was too far ahead."""

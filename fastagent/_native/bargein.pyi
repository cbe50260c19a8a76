"""Echo-aware barge-in gate: does the caller speak over the bot, or is it the bot's own echo?

Both directions are cut into frames of 20 ms on one clock. What we play is known, so each band's echo is
predicted from the recent output around a learnt lag (up to 620 ms) times a learnt leak. What stands out from
that and from the line's noise, does not look like the output at any lag, and is speech to the voice detector,
is the caller's. Cost: about 1 µs per frame beside band analysis and voice detection.
"""

from typing import Final, Literal, final

from typing_extensions import Buffer

CONFIRM_MS: Final[int]
"""Evidence asked for unless told otherwise."""

BRIDGE_MS: Final[int]
"""Pauses up to this long do not end an utterance."""

FRAME_BYTES: Final[int]
"""20 ms of PCM16 at 8 kHz."""

STATE_BYTES: Final[int]
"""What the gate keeps for a call, band analysis and voice detector apart."""

@final
class BargeInGate:
    """Listens to one call; an object for each. Calls from several threads are serialised by the GIL.

    While nothing is played and no echo can be under way, it is the voice detector with a confirmation time.

    Args:
        confirm_ms: evidence of speech asked for before ``confirmed``, 20 to 1000, rounded up to frames.

    Raises:
        ValueError: ``confirm_ms`` out of range.
    """

    def __new__(cls, *, confirm_ms: int = ...) -> BargeInGate: ...
    @property
    def confirm_ms(self) -> int:
        """Evidence asked for."""

    @property
    def speech_probability(self) -> float:
        """The voice detector's word on the last caller frame, or the one that was given; 0 to 1."""

    @property
    def lag_ms(self) -> int | None:
        """How late our output comes back; None before it is known or where too little comes back to tell."""

    @property
    def leak_db(self) -> tuple[float, ...]:
        """By how many dB each of the ten bands comes back, as an upper bound; near -2 before it is learnt.

        Where no echo rises above the line's noise it is the noise beside the output.
        """

    @property
    def bot_audible(self) -> bool:
        """Whether echo can be under way: something is played, or was within the lag and its tail."""

    @property
    def onset_ms(self) -> int:
        """From the first sound of the caller's utterance to the end of the last frame; 0 outside one."""

    @property
    def speech_ms(self) -> int:
        """Length of the caller's utterance up to its last sound, pauses up to ``BRIDGE_MS`` bridged; 0 outside one."""

    @property
    def pause_ms(self) -> int:
        """How long the caller has paused within the utterance; 0 while speaking and outside one."""

    def process(
        self,
        caller_frame: Buffer,
        bot_frame: Buffer | None = None,
        /,
        *,
        speech_probability: float | None = None,
    ) -> Literal["quiet", "echo", "speech", "confirmed"]:
        """Take the next 20 ms of both directions.

        Args:
            caller_frame: what arrived: 160 samples of PCM16 at 8 kHz.
            bot_frame: what the far end was playing meanwhile; None for nothing.
            speech_probability: another voice detector's word, 0 to 1, instead of the built-in one's.

        Returns:
            ``quiet``, ``echo`` (explained by what we play), ``speech`` (the caller's, not yet confirmed) or
            ``confirmed``, from the frame that completes the evidence until the utterance has ended.

        Raises:
            ValueError: a frame of another size, or a probability out of range; nothing has been taken.
        """

    def rearm(self) -> None:
        """Forget the utterance under way and its confirmation; what was learnt of line and echo stays."""

    def reset(self) -> None:
        """Forget everything but the confirmation time, as if newly made."""

"""How a wire file declares its media messages to the native scanner.

The scanner and the pumps know no vendor: a wire file says, as data, how a media message is recognised,
where its audio stands, which small fields are wanted, and what to write around audio that goes out.
"""

from dataclasses import dataclass, field

__all__ = ["AudioTemplate", "MediaEnvelope", "Path"]

Path = tuple[str, ...]
"""Object keys from the top of the message, at most four."""


@dataclass(frozen=True, slots=True)
class MediaEnvelope:
    """What an incoming media message looks like."""

    discriminator: Path
    """Where the message's name stands, for example ``("type",)``."""
    values: tuple[str, ...]
    """The names that mean media; up to four."""
    audio: Path
    """Where the base64 audio stands."""
    fields: tuple[Path, ...] = field(default=())
    """Small fields wanted beside it, in this order; up to eight."""
    expected: tuple[Path, str] | None = None
    """A field and the text it must hold; a message in which it does not is left to the codec."""
    sequence: Path | None = None
    """A field that counts the messages; gaps and repeats of it are counted."""


@dataclass(frozen=True, slots=True)
class AudioTemplate:
    """What is written around base64 audio to make an outgoing media message."""

    prefix: bytes
    suffix: bytes

    def message(self, audio_base64: bytes) -> bytes:
        """One whole message."""
        return self.prefix + audio_base64 + self.suffix

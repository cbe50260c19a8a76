"""Work that takes milliseconds, described by a session and done by its owner in a thread."""

from dataclasses import dataclass, field

from fastagent.audio.formats import AudioFormat
from fastagent.local.ears import Listener
from fastagent.local.transcode import from_pcm16
from fastagent.local.voice import Voice

__all__ = ["Hear", "Job", "Speak"]


@dataclass(frozen=True, slots=True)
class Hear:
    """An utterance to recognise."""

    item_id: str
    pcm: bytes = field(repr=False)
    sample_rate: int
    phrases: tuple[str, ...] = field(default=(), repr=False)
    """What the client expects to be said."""

    def run(self, ears: Listener) -> str:
        """The words, or an empty string; takes some ten milliseconds."""
        return ears.hear(self.pcm, self.sample_rate, self.phrases)


@dataclass(frozen=True, slots=True)
class Speak:
    """A text to say in the output format."""

    response_id: str
    text: str = field(repr=False)
    voice: str
    speed: float
    output_format: AudioFormat

    def run(self, voice: Voice) -> bytes:
        """The audio in ``output_format``; takes a few milliseconds."""
        rate = self.output_format.sample_rate
        pcm = voice.speak(self.text, voice=self.voice, sample_rate=rate, speed=self.speed)
        return from_pcm16(pcm, self.output_format.encoding)


Job = Hear | Speak

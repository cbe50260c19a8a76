"""Between linear samples and the encodings a session speaks."""

from fastagent._native.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from fastagent.audio.formats import Encoding

__all__ = ["from_pcm16", "to_pcm16"]


def to_pcm16(audio: bytes, encoding: Encoding) -> bytes:
    """Linear int16 samples of encoded audio, at the same rate."""
    if encoding is Encoding.MULAW:
        return ulaw_decode(audio)
    return alaw_decode(audio) if encoding is Encoding.ALAW else audio


def from_pcm16(pcm: bytes, encoding: Encoding) -> bytes:
    """Encoded audio of linear int16 samples, at the same rate."""
    if encoding is Encoding.MULAW:
        return ulaw_encode(pcm)
    return alaw_encode(pcm) if encoding is Encoding.ALAW else pcm

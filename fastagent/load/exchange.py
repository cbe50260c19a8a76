"""Where all sockets of a load test are: the native engine on its thread, and who is told of what happens.

A subscriber is told of the messages, onsets and ends of one connection; it answers at once and never waits.
"""

import asyncio
import threading
from typing import Protocol, Self

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.load import CLOSED, MESSAGE, ONSET, QUIET, SAID, SIGN, LoadEngine
from fastagent.audio.formats import AudioFormat
from fastagent.load.pairing import PairingDesk
from fastagent.load.speech import Clip, Speech, sign_clip, silence_clip, speech_clip
from fastagent.wire.envelope import MediaEnvelope

__all__ = ["Exchange", "Subscriber"]

STOP_TIMEOUT_S = 5.0


class Subscriber(Protocol):
    """Who owns a connection."""

    def take(self, message: bytes, at_ns: int, played_ns: int) -> None:
        """A message that is not media; ``played_ns`` is when the audio before it will have been played."""

    def onset(self, at_ns: int) -> None:
        """The peer begins to speak."""

    def quiet(self, at_ns: int) -> None:
        """The peer has been quiet for as long as was asked."""

    def said(self, at_ns: int, spoken_ns: int) -> None:
        """A clip is out; its last loud frame ended at ``spoken_ns``."""

    def closed(self, at_ns: int, code: int) -> None:
        """The socket is gone; 1006 without a close frame."""


class Exchange:
    """The engine, its thread and its clips; an async context manager."""

    def __init__(self) -> None:
        self.engine = LoadEngine()
        self.desk = PairingDesk(self.engine.pair)
        self._owners: dict[int, Subscriber] = {}
        self._early: dict[int, list[tuple[int, int, int, bytes]]] = {}
        self._clips: dict[tuple[int, AudioFormat, int], int] = {}
        self._silences: dict[tuple[AudioFormat, int], int] = {}
        self._signs: dict[tuple[int, AudioFormat, int], int] = {}
        self._specs: dict[MediaEnvelope, int] = {}
        self._thread = threading.Thread(target=self.engine.run, name="load-engine", daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        asyncio.get_running_loop().add_reader(self.engine.fileno(), self._dispatch)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.engine.fileno())
        self.engine.stop()
        await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)

    def spec(self, envelope: MediaEnvelope) -> int:
        """The number of a declared media message."""
        if envelope not in self._specs:
            spec = EnvelopeSpec(envelope.discriminator, envelope.values, envelope.audio)
            self._specs[envelope] = self.engine.add_spec(spec)
        return self._specs[envelope]

    def speech(self, speech: Speech, audio_format: AudioFormat, frame_ms: int) -> int:
        """The number of a clip; made when it is first asked for."""
        key = (id(speech), audio_format, frame_ms)
        if key not in self._clips:
            self._clips[key] = self._add(speech_clip(speech, audio_format, frame_ms))
        return self._clips[key]

    def silence(self, audio_format: AudioFormat, frame_ms: int) -> int:
        """The number of a clip of a line on which nobody speaks."""
        key = (audio_format, frame_ms)
        if key not in self._silences:
            self._silences[key] = self._add(silence_clip(audio_format, frame_ms))
        return self._silences[key]

    def sign(self, number: int, audio_format: AudioFormat, frame_ms: int) -> int:
        """The number of a clip of a caller who is to be recognised."""
        key = (number, audio_format, frame_ms)
        if key not in self._signs:
            self._signs[key] = self._add(sign_clip(number, audio_format, frame_ms))
        return self._signs[key]

    def _add(self, clip: Clip) -> int:
        return self.engine.add_clip(clip.text, clip.frames, clip.frame_ms, clip.flags, clip.mark_us)

    def own(self, connection: int, owner: Subscriber) -> None:
        """Have ``owner`` told of a connection from now on, and of what it brought before."""
        self._owners[connection] = owner
        for kind, at_ns, value, text in self._early.pop(connection, ()):
            self._tell(owner, connection, kind, at_ns, value, text)

    def _dispatch(self) -> None:
        for connection, kind, at_ns, value, text in self.engine.events():
            if kind == SIGN:
                self.desk.heard(connection, value)
                continue
            owner = self._owners.get(connection)
            if owner is None:
                self._early.setdefault(connection, []).append((kind, at_ns, value, text))
            else:
                self._tell(owner, connection, kind, at_ns, value, text)

    def _tell(
        self, owner: Subscriber, connection: int, kind: int, at_ns: int, value: int, text: bytes
    ) -> None:
        if kind == MESSAGE:
            owner.take(text, at_ns, value)
        elif kind == ONSET:
            owner.onset(at_ns)
        elif kind == QUIET:
            owner.quiet(at_ns)
        elif kind == SAID:
            owner.said(at_ns, value)
        elif kind == CLOSED:
            self._owners.pop(connection, None)
            owner.closed(at_ns, value)

"""SessionUpdates: the smallest ``session.update`` from what a connection was told to what it shall be.

A server changes only the fields that are present, all of an update or nothing of it. So a field is left out
while the update in force has it so already, and none that still waits for its answer says otherwise::

    write ─▶ waiting ──session.updated──▶ in force
                 └────error with its id──▶ forgotten
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

from fastagent.wire.realtime_dialects import Dialect, session_object
from fastagent.wire.realtime_events import SessionSettings

__all__ = ["SessionUpdates"]

WAITING_MAX = 32
"""Updates without an answer; a server that confirms none gets whole ones."""

_Fields = dict[tuple[str, ...], Any]

_FORMATS = {
    Dialect.GA: (("audio", "input", "format"), ("audio", "output", "format")),
    Dialect.BETA: (("input_audio_format",), ("output_audio_format",)),
}
_VOICES = (("audio", "output", "voice"), ("voice",))
_UNSET: dict[str, Any] = {
    "transcription": None,
    "noise_reduction": None,
    "input_audio_transcription": None,
    "input_audio_noise_reduction": None,
    "speed": 1.0,
    "max_output_tokens": "inf",
    "max_response_output_tokens": "inf",
}
"""What takes a field back that was set before; a voice stays as it is."""


class SessionUpdates:
    """What one connection was told of its session.

    Args:
        dialect: whose field names to use.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._in_force: _Fields = {}
        self._waiting: deque[tuple[str, _Fields]] = deque(maxlen=WAITING_MAX)

    def write(self, settings: SessionSettings, event_id: str, *, is_voice_locked: bool) -> dict[str, Any]:
        """Give the ``session`` of an update that is sent under this id.

        Args:
            is_voice_locked: the model has spoken: naming a voice would have the whole update refused.

        Raises:
            UnsupportedMediaError: an audio format that the protocol does not have.
        """
        wanted = _fields(session_object(settings, self._dialect))
        told = [self._in_force, *(fields for _, fields in self._waiting)]
        for path in {path for fields in told for path in fields if path[-1] in _UNSET}:
            wanted.setdefault(path, _UNSET[path[-1]])
        if is_voice_locked:
            for path in _VOICES:
                wanted.pop(path, None)
        changed = {
            path: value
            for path, value in wanted.items()
            if path == ("type",) or any(path not in fields or fields[path] != value for fields in told)
        }
        if any(path[0] == "audio" or "audio" in path[-1] for path in changed):
            # A server that is told one format alone takes 24 kHz PCM for the other.
            changed.update({path: wanted[path] for path in _FORMATS[self._dialect]})
        self._waiting.append((event_id, wanted))
        return _object(changed)

    def accepted(self) -> None:
        """The oldest update that waits is in force: they are answered in order."""
        if self._waiting:
            self._in_force = self._in_force | self._waiting.popleft()[1]

    def refused(self, event_id: str) -> None:
        """An update was refused as a whole."""
        kept = [one for one in self._waiting if one[0] != event_id]
        self._waiting.clear()
        self._waiting.extend(kept)


def _fields(session: Mapping[str, Any]) -> _Fields:
    """The values by their paths; what lies within ``audio`` is taken apart."""
    fields: _Fields = {}
    for name, value in session.items():
        if name == "audio":
            for side, inside in value.items():
                fields.update({(name, side, one): each for one, each in inside.items()})
        else:
            fields[name,] = value
    return fields


def _object(fields: _Fields) -> dict[str, Any]:
    session: dict[str, Any] = {}
    for path, value in fields.items():
        within = session
        for name in path[:-1]:
            within = within.setdefault(name, {})
        within[path[-1]] = value
    return session

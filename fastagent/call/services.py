"""What all calls of a process share."""

from dataclasses import dataclass

from fastagent.call.clips import ClipSource
from fastagent.call.observer import CallObserver
from fastagent.call.record import CallRecords
from fastagent.call.stored import StoredSessions
from fastagent.legs.model import ModelConnector
from fastagent.legs.tick import GatherTick, PlayoutTick
from fastagent.legs.watch import LegWatch
from fastagent.media.ears import NO_EARS, EarsPlan
from fastagent.recording import RecordingWriter
from fastagent.settings import Settings
from fastagent.stats import Counters

__all__ = ["CallServices"]


@dataclass(frozen=True, slots=True)
class CallServices:
    """What all calls of a process share."""

    settings: Settings
    connector: ModelConnector
    tick: PlayoutTick
    watch: LegWatch
    model_watch: LegWatch
    """Sharper than the carriers': a model that is gone is to be noticed within a sentence."""
    counters: Counters
    observers: tuple[CallObserver, ...] = ()
    ears: EarsPlan = NO_EARS
    clips: ClipSource | None = None
    recordings: RecordingWriter | None = None
    records: CallRecords | None = None
    sessions: StoredSessions | None = None
    gather_tick: GatherTick | None = None
    """None: nothing is gathered."""

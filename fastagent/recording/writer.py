"""The one thread that writes all recordings of the process, so that no disk ever holds up a call.

::

    open ──▶ running ──close──▶ closed ──▶ published
                │
                └─ disk full, unwritable, too large, ... ──▶ stopped, with a reason ──▶ published

The loop's side never waits: it leaves bytes in memory, and the thread looks for them every `DRAIN_PERIOD_S`.
At a SIGKILL at most `LOSS_BOUND_S` of audio is in neither file nor header, as long as the disk keeps up.
"""

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fastagent._native.record import BLOCK_SAMPLES, BOT_SLACK_SAMPLES, SAMPLE_RATE
from fastagent.audio.formats import PCM16_8K, AudioFormat, Encoding
from fastagent.audio.wav import DATA_BYTES_MAX
from fastagent.recording.marks import Mark
from fastagent.recording.names import safe_stem
from fastagent.recording.repair import Outcome, expire, repair
from fastagent.recording.wav_file import CHANNELS, GrowingWav
from fastagent.stats import Counters

__all__ = ["DRAIN_PERIOD_S", "LOSS_BOUND_S", "Recording", "RecordingLimits", "RecordingWriter", "StopReason"]

logger = logging.getLogger("fastagent.recording")

DRAIN_PERIOD_S = 0.1
"""How often the thread looks for audio while anything is recorded."""
LOSS_BOUND_S = (BLOCK_SAMPLES + BOT_SLACK_SAMPLES) / SAMPLE_RATE + 2 * DRAIN_PERIOD_S
"""Audio in the timeline, in the queue and in the write that goes on."""
SPACE_CHECK_BYTES = 1 << 20
"""Bytes written between two looks at the free space."""
EXPIRE_PERIOD_S = 3600.0
MARKS_PER_RECORDING_MAX = 1000


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """What recordings may take."""

    recording_bytes: int = 512 * 1024 * 1024
    """Samples of one recording: 4.6 hours of PCM16, 9.3 of mu-law. Then it is stopped and published."""
    recording_backlog_bytes: int = 4 * 1024 * 1024
    """Waiting for the disk, per recording: two minutes of PCM16."""
    backlog_bytes: int = 64 * 1024 * 1024
    """Waiting for the disk, all recordings together."""
    free_bytes: int = 256 * 1024 * 1024
    """Room that recordings leave to others on the file system."""
    retention_s: float | None = None
    """Age at which finished recordings and their exports are deleted; None keeps them."""

    def __post_init__(self) -> None:
        if not 0 < self.recording_bytes <= DATA_BYTES_MAX:
            raise ValueError(f"recording_bytes: expected 1 to {DATA_BYTES_MAX}, got {self.recording_bytes}")
        if self.recording_backlog_bytes <= 0 or self.backlog_bytes <= 0 or self.free_bytes < 0:
            raise ValueError("backlogs must be more than 0 bytes and the free space not less")
        if self.retention_s is not None and not self.retention_s > 0:
            raise ValueError(f"retention_s: expected more than 0, got {self.retention_s}")


class StopReason(Enum):
    """Why a recording ended before it was closed."""

    DISK_FULL = "disk_full"
    """No space, or a quota or file size limit is reached."""
    UNWRITABLE = "unwritable"
    """The directory or the file could not be made."""
    WRITE_FAILED = "write_failed"
    SPACE_FLOOR = "space_floor"
    """Writing on would leave others too little room."""
    SIZE_LIMIT = "size_limit"
    BACKLOG = "backlog"
    """The disk is too slow."""
    SHUT_DOWN = "shut_down"
    """The writer was closed."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Recording:
    """One recording, as the call sees it. Nothing here blocks but `wait`; one thread calls it."""

    def __init__(self, writer: "RecordingWriter", conversation_id: str, format: AudioFormat) -> None:
        self.name = safe_stem(conversation_id)
        self.format = format
        self.stop_reason: StopReason | None = None
        """Set once when the recording ends by itself."""
        self.path: Path | None = None
        """Of the finished file, once it is published; None for good if nothing was recorded."""
        self.written_bytes = 0
        """Samples that the file's header promises."""
        self._block_bytes = CHANNELS * format.encoding.bytes_per_sample
        self._writer = writer
        self._pending: deque[bytes] = deque()
        self._appended_bytes = 0  # the call's thread alone counts these,
        self._taken_bytes = 0  # and the writer's thread these
        self._marks: list[Mark] = []
        self._is_closed = False
        self._is_drained = False
        self._done = threading.Event()
        self._file: GrowingWav | None = None

    @property
    def is_running(self) -> bool:
        """Audio is taken."""
        return self.stop_reason is None and not self._is_closed

    @property
    def backlog_bytes(self) -> int:
        """Appended and not yet taken by the thread."""
        return self._appended_bytes - self._taken_bytes

    def append(self, data: bytes) -> bool:
        """Add interleaved samples; False once the recording takes no more.

        Raises:
            ValueError: ``data`` ends inside a block of both channels.
        """
        if len(data) % self._block_bytes:
            raise ValueError(f"expected whole blocks of {self._block_bytes} bytes, got {len(data)}")
        if not self.is_running:
            return False
        limits = self._writer.limits
        if self._appended_bytes + len(data) > limits.recording_bytes:
            self._stop(StopReason.SIZE_LIMIT)
            return False
        if (
            self.backlog_bytes + len(data) > limits.recording_backlog_bytes
            or self._writer.backlog_bytes + len(data) > limits.backlog_bytes
        ):
            self._stop(StopReason.BACKLOG)
            return False
        self._appended_bytes += len(data)
        self._writer._appended_bytes += len(data)
        self._pending.append(data)
        return True

    def mark(self, start: int, end: int, label: str) -> None:
        """Name a stretch of samples; more than `MARKS_PER_RECORDING_MAX` are not kept."""
        if self.is_running and len(self._marks) < MARKS_PER_RECORDING_MAX:
            self._marks.append(Mark(start, end, label))

    def close(self) -> None:
        """Have the file finished and published. Closing again does nothing."""
        self._is_closed = True
        self._writer._wake.set()

    def wait(self, timeout_s: float) -> bool:
        """Block until the thread is through with this recording; False when it takes longer."""
        return self._done.wait(timeout_s)

    def _stop(self, reason: StopReason) -> None:
        if self.stop_reason is None:
            self.stop_reason = reason


class RecordingWriter:
    """Writes recordings into one directory, which is made with mode 0700 when it is missing.

    The thread starts with the first recording, or with `start`; first it publishes what a crash left behind.

    Args:
        directory: where files go.
        limits: see `RecordingLimits`.
        clock: monotonic seconds, for the rhythm of retention only.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        limits: RecordingLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = Path(directory)
        self.limits = limits or RecordingLimits()
        self.counters = Counters()
        """Only the thread writes these: opened, published, empty, kept_as_part, stopped_<reason>,
        bytes_written, repaired, repair_failed, expired."""
        self._clock = clock
        self._arriving: deque[Recording] = deque()
        self._flushes: deque[threading.Event] = deque()
        self._appended_bytes = 0
        self._taken_bytes = 0
        self._unchecked_bytes = SPACE_CHECK_BYTES
        self._expired_at: float | None = None
        self._is_closed = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def backlog_bytes(self) -> int:
        """Appended to any recording and not yet taken by the thread."""
        return self._appended_bytes - self._taken_bytes

    def start(self) -> None:
        """Start the thread, and with it the repair of leftovers. Starting again does nothing."""
        if self._thread is None and not self._is_closed:
            # A daemon, since a dead disk must not keep the process from ending; `close` is the clean way.
            self._thread = threading.Thread(target=self._run, name="fastagent-recordings", daemon=True)
            self._thread.start()

    def open(self, conversation_id: str, format: AudioFormat = PCM16_8K) -> Recording:
        """Begin a recording of PCM16 or mu-law at 8 kHz; touches no disk, so it cannot fail for its sake.

        Raises:
            ValueError: another format.
        """
        if format.encoding not in (Encoding.PCM16, Encoding.MULAW) or format.sample_rate != SAMPLE_RATE:
            raise ValueError(f"expected PCM16 or mu-law at {SAMPLE_RATE} Hz, got {format}")
        recording = Recording(self, conversation_id, format)
        if self._is_closed:
            recording._stop(StopReason.SHUT_DOWN)
            recording._done.set()
            return recording
        self.start()
        self._arriving.append(recording)
        self._wake.set()
        return recording

    def flush(self, timeout_s: float) -> bool:
        """Block until all that was appended is in the files; False when it takes longer."""
        if self._thread is None:
            return True
        flushed = threading.Event()
        self._flushes.append(flushed)
        self._wake.set()
        return flushed.wait(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Finish and publish all recordings; False when the disk takes longer (the thread then goes on)."""
        self._is_closed = True
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._repair_leftovers()
        live: list[Recording] = []
        while True:
            idle_s = None if self.limits.retention_s is None else EXPIRE_PERIOD_S
            self._wake.wait(DRAIN_PERIOD_S if live else idle_s)
            self._wake.clear()
            # Both are read before the queues: what was appended before is seen.
            is_closed = self._is_closed
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            while self._arriving:
                live.append(self._arriving.popleft())
            if is_closed:
                for recording in live:
                    if recording.is_running:
                        recording._stop(StopReason.SHUT_DOWN)
            live = self._drain(live)
            for flushed in flushes:
                flushed.set()
            if is_closed and not live:
                return
            self._expire_aged()

    def _drain(self, live: list[Recording]) -> list[Recording]:
        for recording in live:
            self._write(recording)
        ended = [recording for recording in live if recording._is_drained]
        live = [recording for recording in live if not recording._is_drained]
        for recording in ended:
            self._publish(recording)
            # A sync may take long, so the others get their turn after each.
            for other in live:
                self._write(other)
        return live

    def _write(self, recording: Recording) -> None:
        # Read first: nothing is appended after either is set.
        is_over = recording._is_closed or recording.stop_reason is not None
        chunks = [recording._pending.popleft() for _ in range(len(recording._pending))]
        size = sum(map(len, chunks))
        recording._taken_bytes += size
        self._taken_bytes += size
        try:
            if recording._file is None and (chunks or recording.stop_reason is None):
                recording._file = GrowingWav(self.directory, recording.name, recording.format)
                self.counters.note("opened")
                self._unchecked_bytes = SPACE_CHECK_BYTES
            if recording._file is not None and chunks and not self._is_short_of_space(recording, size):
                recording._file.append(chunks)
                recording.written_bytes = recording._file.data_bytes
                self.counters.note("bytes_written", size)
        except OSError as error:
            if recording._file is None:
                reason = StopReason.UNWRITABLE
            else:
                recording.written_bytes = recording._file.data_bytes
                reason = StopReason.DISK_FULL if error.errno in FULL else StopReason.WRITE_FAILED
            recording._stop(reason)
            logger.warning("recording %s: %s", recording.name, errno.errorcode.get(error.errno or 0, "error"))
            is_over = True
        except Exception:
            logger.exception("recording %s", recording.name)
            recording._stop(StopReason.WRITE_FAILED)
            is_over = True
        recording._is_drained = is_over

    def _is_short_of_space(self, recording: Recording, size: int) -> bool:
        self._unchecked_bytes += size
        if self._unchecked_bytes < SPACE_CHECK_BYTES or recording._file is None:
            return False
        if recording._file.free_bytes - size < self.limits.free_bytes:
            recording._stop(StopReason.SPACE_FLOOR)
            return True
        self._unchecked_bytes = 0
        return False

    def _publish(self, recording: Recording) -> None:
        try:
            if recording._file is not None:
                recording.path = recording._file.publish(recording._marks)
                self.counters.note("published" if recording.path else "empty")
        except Exception as error:
            self.counters.note("kept_as_part")
            logger.warning("recording %s keeps its .part name: %s", recording.name, type(error).__name__)
        if recording.stop_reason is not None:
            self.counters.note(f"stopped_{recording.stop_reason.value}")
            seconds = recording.written_bytes / recording._block_bytes / SAMPLE_RATE
            logger.warning(
                "recording %s stopped after %.1f s: %s", recording.name, seconds, recording.stop_reason.value
            )
        recording._file = None
        # What came in while the thread stopped it goes with it.
        self._taken_bytes += recording.backlog_bytes
        recording._taken_bytes = recording._appended_bytes
        recording._pending.clear()
        recording._done.set()

    def _repair_leftovers(self) -> None:
        try:
            for result in repair(self.directory):
                if result.outcome in (Outcome.PUBLISHED, Outcome.EMPTY):
                    self.counters.note("repaired")
                elif result.outcome is not Outcome.IN_USE:
                    self.counters.note("repair_failed")
        except OSError as error:
            self.counters.note("repair_failed")
            logger.warning("recordings were not repaired: %s", type(error).__name__)

    def _expire_aged(self) -> None:
        retention_s = self.limits.retention_s
        now = self._clock()
        if retention_s is None or (self._expired_at is not None and now - self._expired_at < EXPIRE_PERIOD_S):
            return
        self._expired_at = now
        try:
            self.counters.note("expired", len(expire(self.directory, time.time() - retention_s)))
        except OSError as error:
            logger.warning("old recordings were not deleted: %s", type(error).__name__)

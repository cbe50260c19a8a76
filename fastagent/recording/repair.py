"""What is done with recordings after the fact: leftovers of a crash are published, aged files deleted.

A ``.wav.part`` without a writer is a recording whose process died. All whole samples in it are kept, also
those behind what the header says. Every function blocks on the disk.
"""

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fastagent.audio.wav import DATA_BYTES_MAX, WavHeader, parse_header
from fastagent.errors import FormatMismatchError
from fastagent.recording.marks import Mark, parse_marks
from fastagent.recording.names import PART_SUFFIX, WAV_SUFFIX, stems
from fastagent.recording.wav_file import finished, patch_sizes, publish_part

__all__ = ["EXPORT_SUFFIXES", "Found", "Outcome", "Repair", "expire", "recordings", "repair"]

EXPORT_SUFFIXES = (".flac", ".opus")
HEAD_BYTES = 65_544
"""As far as a header may reach."""
MARKS_BYTES_MAX = 1 << 20
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Outcome(Enum):
    """What became of a file."""

    PUBLISHED = "published"
    CORRECTED = "corrected"
    """A finished file whose sizes were wrong."""
    EMPTY = "empty"
    """A leftover without samples; removed."""
    IN_USE = "in use"
    """Its writer lives."""
    UNREADABLE = "unreadable"
    """No header that says what the samples are; left as it is."""
    FAILED = "failed"
    """The disk refused; left as it is."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One file that was looked at: its path now, and what was done."""

    path: Path
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Found:
    """A recording in a directory."""

    path: Path
    duration_s: float | None
    """None when the header cannot be read."""
    size_bytes: int
    encoding: str
    marks: tuple[Mark, ...]
    is_part: bool
    """Being written, or left by a crash."""


def _files(directory: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    # Regular files only: whoever can plant a link here must not choose what is opened or deleted.
    if not directory.is_dir():
        return
    with os.scandir(directory) as entries:
        names = sorted(
            e.name for e in entries if e.name.endswith(suffixes) and e.is_file(follow_symlinks=False)
        )
    for name in names:
        yield directory / name


def repair(directory: str | Path, *, check_finished: bool = False) -> list[Repair]:
    """Publish leftovers; with ``check_finished`` also correct the sizes in finished files.

    Raises:
        OSError: the directory cannot be read.
    """
    directory = Path(directory)
    results = [_repair_one(path, _publish_leftover) for path in _files(directory, (PART_SUFFIX,))]
    if check_finished:
        for path in _files(directory, (WAV_SUFFIX,)):
            result = _repair_one(path, _correct)
            if result is not None:
                results.append(result)
    return [result for result in results if result is not None]


def _repair_one(path: Path, mend: Callable[[Path, int], Repair | None]) -> Repair | None:
    try:
        fd = os.open(path, os.O_RDWR | _OPEN)
    except FileNotFoundError:
        return None
    except OSError:
        return Repair(path, Outcome.FAILED)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd)):
            return None
        return mend(path, fd)
    except BlockingIOError:
        return Repair(path, Outcome.IN_USE)
    except FileNotFoundError:
        return None  # published by its writer, or removed, while we looked
    except FormatMismatchError:
        return Repair(path, Outcome.UNREADABLE)
    except OSError:
        return Repair(path, Outcome.FAILED)
    finally:
        os.close(fd)


def _read_head(fd: int) -> tuple[bytes, WavHeader | None]:
    head = os.pread(fd, HEAD_BYTES, 0)
    return head, parse_header(head)


def _marks_at(fd: int, at: int, size: int) -> list[Mark] | None:
    if not 0 < size - at <= MARKS_BYTES_MAX:
        return None
    return parse_marks(os.pread(fd, size - at, at))


def _publish_leftover(path: Path, fd: int) -> Repair:
    head, found = _read_head(fd)
    size = os.fstat(fd).st_size
    if not head:
        path.unlink()
        return Repair(path, Outcome.EMPTY)
    if found is None:
        return Repair(path, Outcome.UNREADABLE)
    block_bytes = found.channels * found.format.encoding.bytes_per_sample
    end = found.data_offset + (found.data_bytes or 0)
    behind = size - end
    if not (found.data_bytes and end < size and _marks_at(fd, end, size) is not None):
        # Samples written after the header was last brought up to date are as good as the others.
        whole = min(size - found.data_offset, DATA_BYTES_MAX)
        end = found.data_offset + whole - whole % block_bytes
        behind = 0
    if end <= found.data_offset:
        path.unlink()
        return Repair(path, Outcome.EMPTY)
    patch_sizes(fd, head, found, end - found.data_offset, end + behind - 8)
    os.ftruncate(fd, end + behind)
    return Repair(publish_part(_free_part(path), fd), Outcome.PUBLISHED)


def _free_part(part: Path) -> Path:
    # A finished file may have taken the name, as when both were copied here; neither is lost.
    if not finished(part).exists():
        return part
    for path in stems(part.parent, part.name.removesuffix(PART_SUFFIX)):
        other = path.with_name(path.name + PART_SUFFIX)
        if not other.exists() and not finished(other).exists():
            os.rename(part, other)
            return other
    raise FileExistsError(f"no free name for recording {part.name}")


def _correct(path: Path, fd: int) -> Repair | None:
    head, found = _read_head(fd)
    size = os.fstat(fd).st_size
    if found is None:
        return Repair(path, Outcome.UNREADABLE)
    (riff_bytes,) = struct.unpack_from("<I", head, 4)
    data_bytes = found.data_bytes
    is_whole = data_bytes is not None and found.data_offset + data_bytes <= size
    if is_whole and (data_bytes or riff_bytes + 8 == size):
        return None
    block_bytes = found.channels * found.format.encoding.bytes_per_sample
    whole = min(size - found.data_offset, DATA_BYTES_MAX)
    whole -= whole % block_bytes
    # The size of RIFF takes in what is left over at the end: nothing of a finished file is cut off.
    patch_sizes(fd, head, found, whole, found.data_offset + whole - 8)
    os.fsync(fd)
    return Repair(path, Outcome.CORRECTED)


def recordings(directory: str | Path) -> list[Found]:
    """All recordings in a directory by name, those being written included.

    Raises:
        OSError: the directory cannot be read.
    """
    listed = []
    for path in _files(Path(directory), (WAV_SUFFIX, PART_SUFFIX)):
        with contextlib.suppress(FileNotFoundError):
            listed.append(_look(path))
    return listed


def _look(path: Path) -> Found:
    is_part = path.name.endswith(PART_SUFFIX)
    fd = os.open(path, os.O_RDONLY | _OPEN)
    try:
        size = os.fstat(fd).st_size
        try:
            _, found = _read_head(fd)
        except FormatMismatchError:
            found = None
        if found is None:
            return Found(path, None, size, "", (), is_part)
        data_bytes = size - found.data_offset if found.data_bytes is None else found.data_bytes
        samples = data_bytes // (found.channels * found.format.encoding.bytes_per_sample)
        marks = _marks_at(fd, found.data_offset + data_bytes, size) or []
        return Found(
            path,
            samples / found.format.sample_rate,
            size,
            found.format.encoding.value,
            tuple(marks),
            is_part,
        )
    finally:
        os.close(fd)


def expire(directory: str | Path, before_unix_s: float) -> list[Path]:
    """Delete finished recordings and their exports that were last changed before a time; gives their paths.

    Files that cannot be deleted are left.

    Raises:
        OSError: the directory cannot be read.
    """
    deleted = []
    for path in _files(Path(directory), (WAV_SUFFIX, *EXPORT_SUFFIXES)):
        with contextlib.suppress(OSError):
            status = path.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_mtime < before_unix_s:
                path.unlink()
                deleted.append(path)
    return deleted

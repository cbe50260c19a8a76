"""A stereo WAV file that can be read while it grows, and what is put right in its header afterwards.

Samples are written first and both sizes of the header after them, so the header never promises what is not
there. The file is called ``.wav.part`` and is locked (``flock``) as long as its writer lives; at the end it
is synced and renamed. Every function blocks on the disk.
"""

import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from fastagent.audio.formats import AudioFormat
from fastagent.audio.wav import WavHeader, header
from fastagent.recording.marks import Mark, mark_chunks
from fastagent.recording.names import PART_SUFFIX, WAV_SUFFIX, stems

__all__ = [
    "CHANNELS",
    "DIRECTORY_MODE",
    "FILE_MODE",
    "GrowingWav",
    "finished",
    "patch_sizes",
    "publish_part",
    "write_all",
]

CHANNELS = 2
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class GrowingWav:
    """One file while it is written.

    Raises:
        OSError: the directory or the file cannot be made.
    """

    def __init__(self, directory: Path, stem: str, format: AudioFormat) -> None:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self._format = format
        self._block_bytes = CHANNELS * format.encoding.bytes_per_sample
        self._data_offset = len(header(format, CHANNELS, 0))
        self.data_bytes = 0
        """Bytes of samples that the header promises."""
        self.part, self._fd = _create(directory, stem)
        try:
            self._write_header()
        except OSError:
            os.close(self._fd)
            self.part.unlink(missing_ok=True)
            raise

    @property
    def free_bytes(self) -> int:
        """Room that the file's file system has for this user."""
        found = os.fstatvfs(self._fd)
        return found.f_bavail * found.f_frsize

    def append(self, chunks: Sequence[bytes]) -> None:
        """Write whole blocks of samples, then the sizes.

        Raises:
            OSError: not everything could be written; the file holds what could.
        """
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        at = self._data_offset + self.data_bytes
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, memoryview(data)[written:] if written else data, at + written)
        finally:
            self.data_bytes += written - written % self._block_bytes
            self._write_header()

    def _write_header(self, behind: bytes = b"") -> None:
        head = header(self._format, CHANNELS, self.data_bytes)
        if behind:
            (riff_bytes,) = struct.unpack_from("<I", head, 4)
            head = head[:4] + struct.pack("<I", riff_bytes + len(behind)) + head[8:]
        write_all(self._fd, head, 0)

    def publish(self, marks: Sequence[Mark] = ()) -> Path | None:
        """Close the file and give it its name; a file without samples is removed, and None is given.

        Marks for which there is no room are left out.

        Raises:
            OSError: the file could not be synced or renamed; it keeps its ``.part`` name.
        """
        try:
            if not self.data_bytes:
                self.part.unlink(missing_ok=True)
                return None
            end = self._data_offset + self.data_bytes
            os.ftruncate(self._fd, end)
            behind = mark_chunks(marks)
            if behind:
                try:
                    write_all(self._fd, behind, end)
                    self._write_header(behind)
                except OSError:
                    os.ftruncate(self._fd, end)
                    self._write_header()
            return publish_part(self.part, self._fd)
        finally:
            os.close(self._fd)


def _create(directory: Path, stem: str) -> tuple[Path, int]:
    for path in stems(directory, stem):
        part = path.with_name(path.name + PART_SUFFIX)
        try:
            fd = os.open(part, _CREATE, FILE_MODE)
        except FileExistsError:
            continue
        if _is_ours(part, fd):
            return part, fd
        os.close(fd)
    raise FileExistsError(f"no free name for recording {stem}")


def _is_ours(part: Path, fd: int) -> bool:
    # Whoever makes the .part owns the name, unless a finished recording has it already. A repair that runs
    # elsewhere may have locked, or removed, the empty file in between.
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if finished(part).exists():
        part.unlink(missing_ok=True)
        return False
    try:
        return os.path.samestat(os.stat(part, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def finished(part: Path) -> Path:
    """What a ``.wav.part`` will be called."""
    return part.with_name(part.name.removesuffix(PART_SUFFIX) + WAV_SUFFIX)


def publish_part(part: Path, fd: int) -> Path:
    """Sync a complete file and rename it.

    Raises:
        OSError: one of both failed.
    """
    os.fsync(fd)
    path = finished(part)
    os.rename(part, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write at an offset until all is there.

    Raises:
        OSError: the disk takes no more.
    """
    written = os.pwrite(fd, data, at)
    while written < len(data):
        written += os.pwrite(fd, data[written:], at + written)


def patch_sizes(fd: int, head: bytes, found: WavHeader, data_bytes: int, riff_bytes: int) -> None:
    """Put sizes into the header that stands in ``head``: RIFF, data, and the sample count of ``fact``.

    Raises:
        OSError: the disk takes no more.
    """
    write_all(fd, struct.pack("<I", riff_bytes), 4)
    write_all(fd, struct.pack("<I", data_bytes), found.data_offset - 4)
    at = 12
    while at + 8 <= found.data_offset - 8:
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"fact" and size >= 4:
            block_bytes = found.channels * found.format.encoding.bytes_per_sample
            write_all(fd, struct.pack("<I", data_bytes // block_bytes), at + 8)
        at += 8 + size + size % 2

"""The clips of a process: found by name or uploaded, converted once per format, shared by all calls."""

import hashlib
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from fastagent.audio.clip_files import MEDIA_TYPES, ClipLimits
from fastagent.audio.clips import Clip
from fastagent.audio.formats import AudioFormat
from fastagent.audio.tones import TONES, render_tone
from fastagent.errors import ClipNotFoundError, ConfigurationError

__all__ = ["BUILT_IN_CLIPS", "ClipLibrary", "EncodedClip"]

BUILT_IN_CLIPS = frozenset({"hold-music", "one-moment", "please-hold", *TONES})
"""Names that need no folder; a file of the folder with the same name comes first."""
CACHE_BYTES = 64 << 20
"""Converted clips that are kept: two hours and twenty minutes at 8 bytes a millisecond."""
LOADS_AT_ONCE_MAX = 2
"""Clips converted at the same time, whatever the number of threads: each may take 200 MB while it is."""
NAME_CHARACTERS_MAX = 200
_PART = r"(?!\.)[^/\\\0-\x1f\ud800-\udfff]+"
NAME = re.compile(f"{_PART}(?:/{_PART})*")
"""Parts joined by slashes, none of them hidden, ``.`` or ``..``."""
SUFFIXES = ("", *(f".{container}" for container in MEDIA_TYPES))
"""Tried in this order behind the name that was asked for."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A clip as a call plays it."""

    clip_id: str
    """Its name, or ``upload-`` and a part of its content's hash."""
    data: bytes = field(repr=False)
    """Samples in ``format``, no header."""
    format: AudioFormat

    @property
    def duration_ms(self) -> int:
        """How long it plays."""
        return self.format.ms(self.format.samples(len(self.data)))


class ClipLibrary:
    """Finds, converts and remembers clips. Blocks for disk and arithmetic, so call it in a thread; any may.

    Two callers who ask for the same clip at once wait for one conversion. A file is known by its path, size
    and time of change, an upload by its content's hash, and kept apart for each format and level.

    Args:
        folder: where names are looked up; symbolic links are followed as long as they stay inside. None for
            the built-in clips alone.
        limits: how large a clip may be.
        cache_bytes: converted clips that are kept; the least recently used go first.

    Raises:
        ConfigurationError: the folder is none.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        limits: ClipLimits | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise ConfigurationError(f"FASTAGENT_CLIPS_DIR: {folder} is not a directory")
        self.limits = limits or ClipLimits()
        self.conversions = 0
        """Clips converted since the start; the rest came from the cache."""
        self._folder = None if folder is None else Path(folder)
        self._cache_limit_bytes = cache_bytes
        self._cached_bytes = 0
        self._cache: OrderedDict[Key, bytes] = OrderedDict()
        self._running: dict[Key, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(LOADS_AT_ONCE_MAX)

    @property
    def cached_bytes(self) -> int:
        """What the kept clips take."""
        return self._cached_bytes

    def named(self, name: str, format: AudioFormat, *, level_dbfs: float | None = None) -> EncodedClip:
        """A clip of the folder, with or without its suffix, or a built-in one.

        Args:
            level_dbfs: make it this loud (see `Clip.at_level`); None to leave it as it is.

        Raises:
            ClipNotFoundError: no such name, or one that leads out of the folder.
            ClipTooLargeError: it exceeds a limit.
            FormatMismatchError: it is no audio file.
            AudioError: reading it needs the package soundfile.
            ValueError: an impossible level.
        """
        if len(name) > NAME_CHARACTERS_MAX or not NAME.fullmatch(name):
            raise ClipNotFoundError(
                "expected a clip name: parts joined by slashes, none beginning with a dot"
            )
        data = self._from_folder(name, format, level_dbfs)
        if data is None:
            if name not in BUILT_IN_CLIPS:
                where = "" if self._folder is None else " in the clips folder, nor"
                raise ClipNotFoundError(f"no such clip{where} among {', '.join(sorted(BUILT_IN_CLIPS))}")
            key = ("built-in", name, format, level_dbfs)
            data = self._once(key, lambda: _built_in(name, format, self.limits), format, level_dbfs)
        return EncodedClip(name, data, format)

    def uploaded(
        self, content: bytes, format: AudioFormat, *, level_dbfs: float | None = None
    ) -> EncodedClip:
        """The clip of an audio file's content; arguments and errors as `named`."""
        self.limits.check_file(len(content))
        digest = hashlib.sha256(content).hexdigest()
        key = ("upload", digest, format, level_dbfs)
        data = self._once(key, lambda: Clip.from_file(content, self.limits), format, level_dbfs)
        return EncodedClip(f"upload-{digest[:16]}", data, format)

    def _from_folder(self, name: str, format: AudioFormat, level_dbfs: float | None) -> bytes | None:
        """The converted file of this name; None when there is none."""
        if self._folder is None:
            return None
        root = Path(os.path.realpath(self._folder))
        for suffix in SUFFIXES:
            path = Path(os.path.realpath(root / f"{name}{suffix}"))
            if not path.is_relative_to(root):
                raise ClipNotFoundError("this name leads out of the clips folder")
            try:
                # The path is real, so a last link was put there just now; a pipe would wait for a writer.
                opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            found = os.fstat(opened)
            if not stat.S_ISREG(found.st_mode):
                os.close(opened)
                continue
            with open(opened, "rb") as file:
                key = (str(path), found.st_ino, found.st_size, found.st_mtime_ns, format, level_dbfs)

                def load(read: Callable[[int], bytes] = file.read, size_bytes: int = found.st_size) -> Clip:
                    self.limits.check_file(size_bytes)
                    # A file that has grown since is as too large as it is.
                    return Clip.from_file(read(self.limits.file_bytes + 1), self.limits)

                return self._once(key, load, format, level_dbfs)
        return None

    def _once(
        self, key: Key, load: Callable[[], Clip], format: AudioFormat, level_dbfs: float | None
    ) -> bytes:
        """What is kept under ``key``, or else is loaded and converted by one of those who ask at once."""
        with self._lock:
            if (kept := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return kept
            running = self._running.get(key)
            if running is None:
                own: Future[bytes] = Future()
                self._running[key] = own
        if running is not None:
            return running.result()
        try:
            with self._places:
                clip = load()
                data = (clip if level_dbfs is None else clip.at_level(level_dbfs)).encoded(format)
        except BaseException as error:
            with self._lock:
                del self._running[key]
            own.set_exception(error)
            # Else the error would hold this frame, and the frame the error.
            del own
            raise
        with self._lock:
            del self._running[key]
            self._keep(key, data)
        own.set_result(data)
        return data

    def _keep(self, key: Key, data: bytes) -> None:
        self.conversions += 1
        if len(data) > self._cache_limit_bytes:
            return
        self._cache[key] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > self._cache_limit_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)


def _built_in(name: str, format: AudioFormat, limits: ClipLimits) -> Clip:
    if name in TONES:
        return render_tone(TONES[name], format.sample_rate)
    return Clip.from_file(
        (resources.files("fastagent.audio") / "sounds" / f"{name}.wav").read_bytes(), limits
    )

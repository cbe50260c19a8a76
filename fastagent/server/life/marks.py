"""Marks: that something was done once, among all processes of a machine that meet in a folder.

A mark is an empty file. The file system makes it for one process only, at once and without asking anybody,
so a mark holds however many workers there are, and when the one that made it was killed. Without a folder
there is but one process, and its memory will do.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

__all__ = ["MARKS_MAX", "Marks"]

FOLDER = "marks"
MARKS_MAX = 10_000
"""Kept in memory; the oldest are forgotten."""
SWEEP_INTERVAL_S = 60.0


class Marks:
    """Makes marks, which go by themselves.

    Args:
        run_dir: where the processes meet, closed to others; None: there is only one.
        kind: what the marks are of; kinds do not meet.
        kept_s: how long a mark is kept.
        wall_clock: seconds since 1970, as the file system counts them.

    A folder that cannot be written to counts as none: calls go on, and the process's memory has to do.
    """

    def __init__(
        self, run_dir: Path | None, kind: str, kept_s: float, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = None if run_dir is None else run_dir / FOLDER / kind
        self._kept_s = kept_s
        self._wall_clock = wall_clock
        self._own: OrderedDict[str, float] = OrderedDict()
        """Until when, the oldest first."""
        self._sweep_at = 0.0
        if self._folder is not None:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError:
                self._folder = None

    def make(self, name: str) -> bool:
        """Make a mark; False when it was made before, here or in another process."""
        now = self._wall_clock()
        self._sweep(now)
        mark = _name_of(name)
        if self._own.get(mark, 0.0) > now:
            return False
        self._own[mark] = now + self._kept_s
        while len(self._own) > MARKS_MAX:
            self._own.popitem(last=False)
        if self._folder is None:
            return True
        try:
            os.close(os.open(self._folder / mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return not self._is_kept(mark, now)
        except OSError:
            return True  # the disk is full, or the folder gone: this process still knows its own
        return True

    def holds(self, name: str) -> bool:
        """The mark was made, and is not too old."""
        now, mark = self._wall_clock(), _name_of(name)
        return self._own.get(mark, 0.0) > now or self._is_kept(mark, now)

    def _is_kept(self, mark: str, now: float) -> bool:
        if self._folder is None:
            return False
        try:
            return (self._folder / mark).stat().st_mtime + self._kept_s > now
        except OSError:
            return False

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_INTERVAL_S
        while self._own and next(iter(self._own.values())) <= now:
            self._own.popitem(last=False)
        if self._folder is None:
            return
        try:
            with os.scandir(self._folder) as found:
                for one in found:
                    if one.stat().st_mtime + self._kept_s <= now:
                        os.unlink(one.path)
        except OSError:
            return  # another process sweeps, too


def _name_of(name: str) -> str:
    # Names of calls and tickets are for nobody who may list the folder.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

"""What a server on this machine costs: CPU and memory of its processes, read from ``/proc``."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ServerCost", "Usage", "listener_pid"]

PROC = Path("/proc")
LISTEN = "0A"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
FAMILY_EVERY_READS = 30
"""Looking through all processes of a machine takes longer than a generator may be late."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes together."""

    cpu_s: float
    """User and system time since they began."""
    rss_bytes: int
    processes: int


def listener_pid(port: int) -> int | None:
    """Who listens on a TCP port of this machine; None when nobody does whom we may look at."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    owners = [pid for pid in _pids() if pid != os.getpid() and inodes & set(_links(pid))]
    # A parent and its workers share the socket: the oldest is the parent.
    return min(owners, default=None)


def _pids() -> Iterable[int]:
    return sorted(int(one.name) for one in PROC.iterdir() if one.name.isdigit())


def _links(pid: int) -> Iterable[str]:
    folder = PROC / str(pid) / "fd"
    try:
        names = list(folder.iterdir())
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(name)
        except OSError:
            continue


class ServerCost:
    """A process and all that it started.

    Args:
        pid: of the first.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._family: set[int] = set()
        self._reads = 0

    def read(self) -> Usage | None:
        """What they have used so far; None when the first is gone."""
        if self._reads % FAMILY_EVERY_READS == 0:
            self._family = self._found_family()
        self._reads += 1
        stats = {pid: fields for pid in self._family if (fields := _stat(pid)) is not None}
        if self.pid not in stats:
            return None
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in stats.values())
        pages = sum(int(fields[21]) for fields in stats.values())
        return Usage(ticks / TICKS_PER_S, pages * PAGE_BYTES, len(stats))

    def _found_family(self) -> set[int]:
        family = {self.pid}
        for pid in _pids():  # in order: children come after their parents nearly always
            fields = _stat(pid)
            if fields is not None and int(fields[1]) in family:
                family.add(pid)
        return family


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` behind the name: state, parent, and so on."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()

"""What a server on this machine costs: CPU and memory of its processes, read from ``/proc``."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ServerCost", "Usage", "listener_pid"]

PROC = Path("/proc")
LISTEN = "0A"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
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
        self._cores = os.cpu_count() or 1

    def read(self) -> Usage | None:
        """What they have used so far; None when the first is gone."""
        stats = {pid: fields for pid in _pids() if (fields := _stat(pid)) is not None}
        if self.pid not in stats:
            return None
        family = {self.pid}
        for pid in sorted(stats):  # children come after their parents nearly always
            if int(stats[pid][1]) in family:
                family.add(pid)
        ticks = sum(int(stats[pid][11]) + int(stats[pid][12]) for pid in family)
        pages = sum(int(stats[pid][21]) for pid in family)
        return Usage(ticks / TICKS_PER_S, pages * PAGE_BYTES, len(family))


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` behind the name: state, parent, and so on."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()

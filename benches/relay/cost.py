"""What a process used, read from /proc: processor time, memory, and who else ran on its core."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CoreTime", "CpuTime", "core_time", "cpu_time", "rss_kib"]

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Processor time of a process and its descendants up to a moment."""

    at_s: float
    run_s: float
    """On a core, from the scheduler, in ns steps."""
    user_s: float
    system_s: float
    """The split is sampled at the tick: good over seconds, not over milliseconds."""


@dataclass(frozen=True, slots=True)
class CoreTime:
    """What one core did up to a moment."""

    busy_s: float
    steal_s: float
    """Taken by the hypervisor."""


def cpu_time(pid: int) -> CpuTime:
    """Processor time of ``pid``, its threads and its descendants."""
    run_s = user_s = system_s = 0.0
    for process in _family(pid):
        # After the bracketed command name come state, ppid …; utime and stime are fields 14 and 15 (proc(5)).
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        user_s += int(fields[11]) * TICK_S
        system_s += int(fields[12]) * TICK_S
        for task in os.listdir(f"/proc/{process}/task"):
            try:
                run_s += int(Path(f"/proc/{process}/task/{task}/schedstat").read_text().split()[0]) / 1e9
            except (OSError, IndexError):  # the thread just ended, or the kernel keeps no such figures
                continue
    return CpuTime(time.monotonic(), run_s or user_s + system_s, user_s, system_s)


def _family(pid: int) -> list[int]:
    family = [pid]
    for process in family:
        for task in os.listdir(f"/proc/{process}/task"):
            try:
                children = Path(f"/proc/{process}/task/{task}/children").read_text()
            except OSError:
                continue
            family.extend(int(child) for child in children.split())
    return family


def core_time(core: int) -> CoreTime:
    """Busy and stolen time of one core since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *figures = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(f) * TICK_S for f in figures[:8])
            return CoreTime(user + nice + system + irq + softirq, steal)
    raise ValueError(f"expected a core that exists, got {core}")


def rss_kib(pid: int) -> int:
    """Resident memory of ``pid`` and its descendants."""
    total = 0
    for process in _family(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1])
    return total

"""System calls of a process on this machine: by perf, else by strace, else what /proc tells.

perf counts them in the kernel; strace stops the process at each, which makes it several times slower, so
counts a frame stay right and times do not.
"""

import asyncio
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastagent.errors import SystemToolError
from fastagent.profile.system_tool import run_tool

__all__ = ["SystemCalls", "count_system_calls", "parse_perf_trace", "parse_strace"]

Source = Literal["perf trace", "strace", "/proc/PID/io"]


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """How often each was made."""

    source: Source
    counts: dict[str, int]
    """Most first. From /proc: ``read`` and ``write`` alone, each with its relatives."""
    complaints: tuple[str, ...] = ()
    """Why nothing better could be used."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


async def count_system_calls(pid: int, seconds: float) -> SystemCalls:
    """Count those of one process.

    Raises:
        SystemToolError: there is no way to.
    """
    complaints = []
    for source, count in (("perf trace", _perf_trace), ("strace", _strace), ("/proc/PID/io", _proc_io)):
        try:
            counts = await count(pid, seconds)
        except SystemToolError as error:
            complaints.append(str(error))
        else:
            if counts:
                return SystemCalls(source, dict(Counter(counts).most_common()), tuple(complaints))  # type: ignore[arg-type]
            complaints.append(f"{source} told nothing")
    raise SystemToolError("; ".join(complaints))


async def _perf_trace(pid: int, seconds: float) -> dict[str, int]:
    perf = shutil.which("perf")
    if perf is None:
        raise SystemToolError("perf is not installed (the package linux-perf)")
    with tempfile.TemporaryDirectory(prefix="fastagent-profile-") as folder:
        path = Path(folder) / "summary"
        await run_tool(
            [perf, "trace", "-s", "-p", str(pid), "-o", str(path), "--", "sleep", f"{seconds:g}"], seconds
        )
        return parse_perf_trace(path.read_text(errors="replace"))


def parse_perf_trace(text: str) -> dict[str, int]:
    """Calls by name, over all threads, of ``perf trace -s``."""
    counts = Counter[str]()
    for line in text.splitlines():
        if match := re.match(r"\s{2,}([a-z_]\w*)\s+(\d+)\s+\d+\s+[\d.]+\s", line):
            counts[match[1]] += int(match[2])
    return dict(counts)


async def _strace(pid: int, seconds: float) -> dict[str, int]:
    strace = shutil.which("strace")
    if strace is None:
        raise SystemToolError("strace is not installed")
    with tempfile.TemporaryDirectory(prefix="fastagent-profile-") as folder:
        path = Path(folder) / "summary"
        await run_tool(
            [strace, "-c", "-f", "-q", "-p", str(pid), "-o", str(path)], seconds, stops_by_signal=True
        )
        return parse_strace(path.read_text(errors="replace"))


def parse_strace(text: str) -> dict[str, int]:
    """Calls by name of ``strace -c``."""
    counts = {}
    for line in text.splitlines():
        words = line.split()
        # % time, seconds, usecs/call, calls, errors (if any), name
        is_row = len(words) in (5, 6) and words[3].isdigit() and re.fullmatch(r"[a-z_]\w*", words[-1])
        if is_row and words[-1] != "total":
            counts[words[-1]] = int(words[3])
    return counts


async def _proc_io(pid: int, seconds: float) -> dict[str, int]:
    before = _read_io(pid)
    await asyncio.sleep(seconds)
    after = _read_io(pid)
    return {"read": after["syscr"] - before["syscr"], "write": after["syscw"] - before["syscw"]}


def _read_io(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}
    except (OSError, ValueError):
        raise SystemToolError(f"/proc/{pid}/io cannot be read") from None

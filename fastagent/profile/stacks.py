"""Sampled stacks of a process on this machine, by py-spy (Python and C) or perf (C and kernel).

Both need the right to look into another process: the same user and a kernel that allows it, or root.
"""

import re
import shutil
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fastagent.errors import SystemToolError
from fastagent.profile.system_tool import run_tool

__all__ = ["Group", "Sampler", "Stacks", "fold_perf", "fold_py_spy", "group_of", "sample_stacks"]

RATE_HZ = 199
"""Not a divisor of what the server does fifty or a hundred times a second."""
STACK_BYTES = 16_384
"""Of each stack that perf copies, to unwind it by the tables of the binaries."""
FRAMES_MAX = 128
SCRIPT_TIMEOUT_S = 60.0
TEXT_BYTES_MAX = 256 << 20

WAITING = re.compile(
    r"^(epoll_wait|epoll_pwait2?|poll|select|futex\w*|pthread_cond_\w+|sem_\w*wait\w*|lock_PyThread_acquire_lock"
    r"|PyThread_acquire_lock_timed|_queue_SimpleQueue_get\w*|sigtimedwait|clock_nanosleep)\b"
)
IN_KERNEL = re.compile(
    r"^_*(libc_)?(send|sendto|sendmsg|recv|recvfrom|recvmsg|read|readv|write|writev|epoll_ctl|close|accept4?)$"
)
"""Functions of the C library that do nothing but a system call: what py-spy sees of the kernel."""
NATIVE_SOURCES = frozenset(
    f"{name}.{suffix}"
    for name in (
        "bands", "bargein", "base64", "base64_avx2", "convert", "dtmf", "envelope", "fa_base64", "fa_stages",
        "g711", "g711_avx2", "level", "listener", "playout", "pump", "record", "reference", "resample",
        "resample_avx2", "scratch", "stages", "tap", "utf8", "vad",
    )
    for suffix in ("c", "h", "pyx")
)  # fmt: skip
"""Where the kernels' frames are from, when the binaries tell."""
WAITING_DEPTH = 6
"""A stack that ends so near to such a frame waits; samplers disagree on whether that is time."""


class Sampler(StrEnum):
    """Who takes the samples."""

    PY_SPY = "py-spy"
    PERF = "perf"


class Group(StrEnum):
    """Whose code a frame is."""

    FASTAGENT = "fastagent, native"
    FASTAGENT_PYTHON = "fastagent, Python"
    PICOWS = "picows"
    LOOP = "event loop"
    PYTHON = "Python"
    INTERPRETER = "interpreter"
    KERNEL = "kernel, system calls"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Stacks:
    """What was sampled."""

    sampler: Sampler
    rate_hz: int
    seconds: float
    folded: Mapping[tuple[str, ...], int]
    """Samples by stack, outermost frame first; those that waited are left out."""
    waiting: int
    """Samples of threads that waited."""

    @property
    def samples(self) -> int:
        """Those that did something."""
        return sum(self.folded.values())

    @property
    def groups(self) -> dict[Group, int]:
        """Samples by whose code was at work, most first."""
        counts = Counter[Group]()
        for stack, n in self.folded.items():
            counts[_worker(stack)] += n
        return dict(counts.most_common())

    def hottest(self, limit: int) -> list[tuple[str, int]]:
        """The frames at work themselves most often."""
        counts = Counter[str]()
        for stack, n in self.folded.items():
            counts[stack[-1]] += n
        return counts.most_common(limit)

    @property
    def text(self) -> str:
        """Folded stacks, a line each, as flame graph tools read them."""
        return "".join(f"{';'.join(stack)} {n}\n" for stack, n in sorted(self.folded.items()))


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    if beside.exists():
        return str(beside)
    scripts = Path(sysconfig.get_path("scripts")) / "py-spy"
    return str(scripts) if scripts.exists() else shutil.which("py-spy")


async def sample_stacks(pid: int, seconds: float, sampler: Sampler | None = None) -> Stacks:
    """Sample one process.

    Args:
        sampler: None takes py-spy, and perf where that cannot.

    Raises:
        SystemToolError: it is not installed, not allowed, or failed; the text says which.
    """
    complaints = []
    for one in Sampler if sampler is None else (sampler,):
        try:
            with tempfile.TemporaryDirectory(prefix="fastagent-profile-") as folder:
                sample = _sample_py_spy if one is Sampler.PY_SPY else _sample_perf
                folded, waiting = await sample(pid, seconds, Path(folder) / "samples")
            if folded or waiting:
                return Stacks(one, RATE_HZ, seconds, folded, waiting)
            complaints.append(f"{one} took no sample")
        except SystemToolError as error:
            complaints.append(str(error))
    raise SystemToolError("; ".join(complaints))


async def _sample_py_spy(pid: int, seconds: float, path: Path) -> tuple[Mapping[tuple[str, ...], int], int]:
    program = _py_spy()
    if program is None:
        raise SystemToolError("py-spy is not installed (pip install 'fastagent[profile]')")
    await run_tool(
        [
            program, "record", "--native", "--function", "--format", "raw", "--rate", str(RATE_HZ),
            "--duration", str(max(1, round(seconds))), "--pid", str(pid), "--output", str(path),
        ],
        seconds,
    )  # fmt: skip
    return fold_py_spy(_text(path).splitlines())


async def _sample_perf(pid: int, seconds: float, path: Path) -> tuple[Mapping[tuple[str, ...], int], int]:
    perf = shutil.which("perf")
    if perf is None:
        raise SystemToolError("perf is not installed (the package linux-perf)")
    await run_tool(
        [
            perf, "record", "-q", "-F", str(RATE_HZ), "--call-graph", f"dwarf,{STACK_BYTES}", "-p", str(pid),
            "-o", str(path), "--", "sleep", f"{seconds:g}",
        ],
        seconds,
    )  # fmt: skip
    script = path.with_suffix(".script")
    with script.open("wb") as file:
        await run_tool(
            [perf, "script", "--no-inline", "-i", str(path), "-F", "comm,ip,sym,dso"],
            SCRIPT_TIMEOUT_S,
            output=file,
        )
    return fold_perf(_text(script).splitlines())


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise SystemToolError(f"no samples were written: {error.strerror}") from None


def fold_py_spy(lines: Iterable[str]) -> tuple[dict[tuple[str, ...], int], int]:
    """The stacks of py-spy's raw format, and how many samples waited."""
    return _fold(_py_spy_stacks(lines))


def _py_spy_stacks(lines: Iterable[str]) -> Iterator[tuple[Sequence[str], int]]:
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if count.isdigit():
            yield stack.split(";"), int(count)


def fold_perf(lines: Iterable[str]) -> tuple[dict[tuple[str, ...], int], int]:
    """The stacks that ``perf script -F comm,ip,sym,dso`` prints, and how many samples waited."""
    return _fold(_perf_stacks(lines))


_PERF_FRAME = re.compile(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.*)\)$")


def _perf_stacks(lines: Iterable[str]) -> Iterator[tuple[Sequence[str], int]]:
    stack: list[str] = []
    for line in lines:
        if match := _PERF_FRAME.match(line):
            symbol, binary = match.groups()
            stack.append(f"{symbol} ({binary})")
        elif stack:
            yield stack[::-1], 1
            stack = []
    if stack:
        yield stack[::-1], 1


def _fold(stacks: Iterable[tuple[Sequence[str], int]]) -> tuple[dict[tuple[str, ...], int], int]:
    folded = Counter[tuple[str, ...]]()
    waiting = 0
    for frames, n in stacks:
        names = list(_distinct(map(_short, frames)))[:FRAMES_MAX]
        if any(WAITING.match(name) for name in names[-WAITING_DEPTH:]) and not any(
            group_of(name) is Group.KERNEL for name in names[-1:]
        ):
            waiting += n
        elif names:
            folded[tuple(names)] += n
    return dict(folded), waiting


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Names without those that say nothing, and once where a function stands in itself: inlined parts."""
    last = ""
    for name in names:
        if name and name != last:
            yield name
            last = name


_FRAME = re.compile(r"(.*) \((.*)\)$")
_INLINED = ("object.h", "refcount.h")
"""Counting references, wherever it is done: what comes above is not called by it."""


def _short(frame: str) -> str:
    """A frame as it is shown: what is at work, and in what; nothing for what nobody could read."""
    match = _FRAME.match(frame.strip())
    if match is None:
        return frame.strip().replace(";", ":")
    name, place = match.groups()
    if name.startswith("0x") or name == "[unknown]":
        return ""
    path, colon, line = place.rpartition(":")
    if not colon or not line.isdigit():
        path, colon, line = place, "", ""
    if path in _INLINED:
        return ""
    if ".cpython-" in path:
        path = path.partition(".cpython-")[0]
        path = "/".join(path.split("/")[-3 if "fastagent/" in path else -2 :])
    elif path.startswith("/"):
        path = path.rpartition("/")[2]
    if path.endswith((".c", ".h", ".pyx")):
        colon = line = ""  # of the instruction, not of the function: would tell one function as many
    return f"{_demangled(name)} ({path}{colon}{line})".replace(";", ":")


def _demangled(symbol: str) -> str:
    """``__pyx_f_9fastagent_7_native_8listener_3Leg__deliver`` is ``listener.Leg._deliver``."""
    match = re.match(r"__pyx_(?:f|pw|pf|mdef)_", symbol)
    if match is None:
        return symbol
    rest = symbol[match.end() :]
    parts: list[str] = []
    while found := re.match(r"(\d+)", rest):
        size, begin = int(found[1]), found.end()
        # A number before the last name only counts methods.
        if begin + size >= len(rest) or rest[begin + size] != "_":
            rest = rest[begin:]
            break
        parts.append(rest[begin : begin + size])
        rest = rest[begin + size + 1 :]
    return ".".join([*parts[-2:], rest])


def group_of(frame: str) -> Group:
    """Whose code a frame of `Stacks.folded` is."""
    match = _FRAME.match(frame)
    name, place = match.groups() if match else (frame, "")
    if "kernel" in place or place.startswith("[") or (place.startswith("libc.") and IN_KERNEL.match(name)):
        return Group.KERNEL
    if place.partition(":")[0] in NATIVE_SOURCES:
        return Group.FASTAGENT
    if "fastagent/" in place:
        return Group.FASTAGENT_PYTHON if ".py" in place and ".pyx" not in place else Group.FASTAGENT
    if place.startswith(("picows/", "aiofastnet/")):
        return Group.PICOWS
    if re.match(
        r"(uvloop/|loop\.c|uv|linux\.c|stream\.c|core\.c|timer\.c|epoll\.c)", place
    ) or name.startswith("uv"):
        return Group.LOOP
    if place.startswith("libpython") or re.search(r"\.(c|h)(:|$)", place):
        return Group.INTERPRETER
    if ".py" in place or place.startswith("<"):
        return Group.PYTHON
    return Group.OTHER


def _worker(stack: Sequence[str]) -> Group:
    """Whose the frame at work is; what the C library does is done for who called it."""
    for frame in reversed(stack):
        group = group_of(frame)
        if group is not Group.OTHER:
            return group
    return Group.OTHER

"""Runs tools of the system with a deadline, and says plainly why one gave nothing."""

import asyncio
import contextlib
import re
import signal
from collections.abc import Sequence
from pathlib import PurePath
from typing import IO, Any

from fastagent.errors import SystemToolError

__all__ = ["run_tool"]

GRACE_S = 30.0
"""For a tool to begin and to write what it found, beyond the time it measures."""
COMPLAINT_CHARACTERS = 200
_NOT_ALLOWED = re.compile(
    r"permission|not permitted|perf_event_paranoid|EPERM|EACCES|access to performance", re.I
)


async def run_tool(
    command: Sequence[str], seconds: float, *, output: IO[Any] | None = None, stops_by_signal: bool = False
) -> str:
    """What a tool wrote to its standard error.

    Args:
        seconds: that it measures.
        output: what takes its standard output; None for nobody.
        stops_by_signal: it measures until SIGINT, which it gets after ``seconds``.

    Raises:
        SystemToolError: it could not be started, failed, or did not end.
    """
    name = PurePath(command[0]).name
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL if output is None else output,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise SystemToolError(f"{name} could not be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            talking = asyncio.ensure_future(process.communicate())
            if stops_by_signal:
                await asyncio.wait([talking], timeout=seconds)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            _, written = await talking
    except TimeoutError:
        raise SystemToolError(f"{name} did not end within {seconds + GRACE_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    text = written.decode("utf-8", "replace")
    # A tool that was told to stop may say so by its exit code.
    if process.returncode and not (stops_by_signal and process.returncode in (-signal.SIGINT, 130)):
        raise SystemToolError(f"{name} {_complaint(text)}")
    return text


def _complaint(text: str) -> str:
    if _NOT_ALLOWED.search(text):
        return (
            "is not allowed to look into this process (same user, kernel.perf_event_paranoid, "
            "kernel.yama.ptrace_scope, CAP_SYS_PTRACE or CAP_PERFMON)"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"failed: {lines[-1][:COMPLAINT_CHARACTERS]}" if lines else "failed"

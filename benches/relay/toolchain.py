"""Builds the C programs of this bench, once per state of their sources."""

import hashlib
import os
import subprocess
from pathlib import Path

__all__ = ["BuildError", "relay_program", "swarm_program"]

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "benches"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]
SWARM = ["swarm.c", "audiocodes.c", "twilio.c", "model.c", "calls.c", "websocket.c"]
HEADERS = ["calls.h", "histogram.h", "websocket.h"]


class BuildError(Exception):
    """The C compiler is missing or refused a source."""


def swarm_program() -> Path:
    """The load generator: callers and model in one process."""
    return _program("swarm", SWARM, HEADERS)


def relay_program() -> Path:
    """The byte relay that stands in for HAProxy."""
    return _program("relay", ["relay.c"], [])


def _program(name: str, sources: list[str], headers: list[str]) -> Path:
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in (*sources, *headers):
        digest.update((HERE / source).read_bytes())
    program = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    # Built aside and renamed: two runs may build at once.
    partial = program.with_name(f"{program.name}.{os.getpid()}")
    command = ["cc", *FLAGS, "-o", str(partial), *(str(HERE / source) for source in sources), "-lm"]
    try:
        built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as error:
        raise BuildError("expected a C compiler named cc, found none") from error
    if built.returncode:
        raise BuildError(f"cc failed on {name}:\n{built.stderr}")
    partial.replace(program)
    return program

"""Makes an environment for each peer: ``python -m benches.peers.build [NAME ...]``.

Every peer gets a virtual environment of its own under ``build/peers/`` with the versions that
``benches/peers/requirements/NAME.txt`` names, and never meets ours. One that is there and fits its list is
left as it is.
"""

import argparse
import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benches.peers.peer import PEERS, Peer, peers_named

__all__ = ["PeerBuildError", "environment", "main"]

INSTALL_LIMIT_S = 900.0
STAMP = ".requirements-sha256"


class PeerBuildError(Exception):
    """An environment could not be made."""


def environment(peer: Peer) -> Path:
    """The interpreter of a peer's environment, which is made first where it is missing or of another list.

    Raises:
        PeerBuildError: the installer failed, or took longer than `INSTALL_LIMIT_S`.
    """
    peer.environment.parent.mkdir(parents=True, exist_ok=True)
    with peer.environment.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may want it at once
        return _made(peer)


def _made(peer: Peer) -> Path:
    python = peer.environment / "bin" / "python"
    wanted = hashlib.sha256(peer.requirements.read_bytes()).hexdigest()
    stamp = peer.environment / STAMP
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment of {peer.title}", file=sys.stderr, flush=True)
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(peer.environment)],
        [str(python), "-m", "pip", "install", "-q", "--no-deps", "-r", str(peer.requirements)],
    ]
    for command in commands:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PeerBuildError(f"{peer.name}: pip took longer than {INSTALL_LIMIT_S:.0f} s") from error
        if done.returncode:
            raise PeerBuildError(f"{peer.name}: {' '.join(command[1:4])} failed:\n{done.stderr[-2000:]}")
    stamp.write_text(wanted)
    return python


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments; 0, or 1 when one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.peers.build", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"among {', '.join(p.name for p in PEERS)} (all)"
    )
    options = parser.parse_args(arguments)
    try:
        chosen = peers_named(options.names)
    except ValueError as error:
        parser.error(str(error))
    status = 0
    for peer in chosen:
        try:
            print(f"{peer.title} {peer.version}: {environment(peer)}")
        except PeerBuildError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

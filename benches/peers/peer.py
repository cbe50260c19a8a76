"""Who is measured beside FastAgent, and where each lives."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PEERS", "Peer", "peers_named"]

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / "build" / "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server in an environment of its own."""

    name: str
    """As the command line and the environment's folder call it."""
    title: str
    package: str
    """The one whose version is the peer's."""
    server: Path
    levels: tuple[int, ...]
    """Calls at once, rising; a climb ends at the first that fails."""

    @property
    def requirements(self) -> Path:
        """Every package it runs with, by version."""
        return HERE / "requirements" / f"{self.name}.txt"

    @property
    def environment(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def version(self) -> str:
        """As pinned.

        Raises:
            ValueError: its list does not name its package.
        """
        found = re.search(rf"^{re.escape(self.package)}==(\S+)$", self.requirements.read_text(), re.MULTILINE)
        if found is None:
            raise ValueError(f"{self.requirements.name} pins no {self.package}")
        return found[1]


PEERS = (
    Peer("fastapi", "FastAPI pass-through", "fastapi", HERE / "fastapi_server.py", (10, 25, 50, 100, 200)),
    Peer("agents", "OpenAI Agents SDK", "openai-agents", HERE / "agents_server.py", (10, 25, 50, 100, 200)),
    Peer("pipecat", "Pipecat", "pipecat-ai", HERE / "pipecat_server.py", (10, 15, 20, 25, 30)),
)


def peers_named(names: Sequence[str]) -> list[Peer]:
    """The peers of these names; all of them for none.

    Raises:
        ValueError: there is no such peer.
    """
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"expected peers among {', '.join(known)}, got {', '.join(unknown)}")
    return [known[name] for name in names] if names else list(PEERS)

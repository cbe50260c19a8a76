"""Which agent answers which number, and the server that has them answer."""

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from fastagent.errors import ConfigurationError
from fastagent.settings import Settings

__all__ = ["NUMBERS_MAX", "RegisteredAgents", "public_url"]

NUMBERS_MAX = 1000
AGENT_ID_CHARS_MAX = 128


def public_url(webhook_url: str, path: str, *, schemes: tuple[str, ...]) -> str:
    """The server's public address as ``https://…``, of an address with or without the webhook's path.

    Raises:
        ConfigurationError: it is no such address.
    """
    try:
        parts = urlsplit(webhook_url)
        is_fit = (
            parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:  # brackets or a port that cannot be
        is_fit = False
    if not is_fit or parts.query or parts.fragment:
        raise ConfigurationError(f"webhook_url: expected {schemes[0]}://HOST{path}, without user and query")
    scheme = {"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(path).rstrip('/')}"


class RegisteredAgents:
    """Agents by number; the first one registered answers calls that name none."""

    def __init__(self) -> None:
        self._by_number: dict[str, str] = {}
        self._agents: dict[str, Any] = {}

    def check(self, agent_id: str, phone_number: str, agent: Any = None) -> None:
        """Raises: `ConfigurationError` for what `add` would not take."""
        if not agent_id or len(agent_id) > AGENT_ID_CHARS_MAX or not agent_id.isprintable():
            raise ConfigurationError(f"agent_id: expected 1 to {AGENT_ID_CHARS_MAX} printable characters")
        if phone_number not in self._by_number and len(self._by_number) >= NUMBERS_MAX:
            raise ConfigurationError(f"expected at most {NUMBERS_MAX} numbers")
        if agent is not None and agent.agent_id != agent_id:
            raise ConfigurationError(f"agent {agent.agent_id!r} is registered as {agent_id!r}")

    def add(self, agent_id: str, phone_number: str, agent: Any = None) -> None:
        """Have an agent answer a number, in place of whoever did.

        Args:
            agent: None for the agent of this id that the process has when it begins to serve.

        Raises:
            ConfigurationError: an id that cannot be, or is not the agent's; or there are too many numbers.
        """
        self.check(agent_id, phone_number, agent)
        if agent is not None:
            self._agents[agent_id] = agent
        self._by_number[phone_number] = agent_id

    def remove(self, phone_number: str) -> None:
        """Nobody answers this number any more."""
        self._by_number.pop(phone_number, None)

    @property
    def by_number(self) -> dict[str, str]:
        """Ids of agents by numbers."""
        return dict(self._by_number)

    def found(self) -> list[Any]:
        """The agents themselves, each once.

        Raises:
            ConfigurationError: none is registered, or there is none of an id.
        """
        # Looked up only now: the server knows the telephone network, which need not know agents.
        agent_named = import_module("fastagent.agent").agent_named
        found = []
        for agent_id in dict.fromkeys(self._by_number.values()):
            agent = self._agents.get(agent_id) or agent_named(agent_id)
            if agent is None:
                raise ConfigurationError(f"there is no agent {agent_id!r}: make it, or pass agent=")
            found.append(agent)
        if not found:
            raise ConfigurationError("no agent is registered")
        return found

    async def serve(self, **settings: Any) -> None:
        """Answer calls until the process is told to stop.

        Args:
            settings: fields of `Settings`; None takes one from the environment.

        Raises:
            ConfigurationError: see `found`, and what the settings say of themselves.
        """
        agents = self.found()
        serve = import_module("fastagent.server.process").serve
        await serve(agents, Settings.from_environment(**settings))

"""AgentDirectory: who answers calls, in which version.

::

    put ──▶ built and checked in a thread ──▶ kept on the disk ──▶ answers new calls
                └ refused: what answered goes on

A call has its agent from its first moment on, so a running one keeps its graph whatever is put here.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from fastagent.afsm.spec import canonical_json
from fastagent.afsm.verify import Finding
from fastagent.agent import FastAgent, relinked
from fastagent.errors import ConfigurationError, FastAgentError
from fastagent.server.agents.config import AgentConfig, BuiltAgent, build_agent
from fastagent.server.agents.files import AgentFiles, StoredConfig
from fastagent.wire.events import SessionOffered

__all__ = ["AgentDirectory", "AgentVersion", "GraphRefusedError", "HouseFullError", "NotKeptError"]

logger = logging.getLogger("fastagent.server")

AGENTS_MAX = 200
VERSIONS_KEPT = 20
"""Of each agent, to be looked at; the oldest goes first."""
CONFIG_BYTES_MAX = 32 << 20
"""Of all configurations together; earlier versions make room, the oldest first."""
WAITING_MAX = 8
"""Configurations that wait for their turn: one is built at a time."""


class GraphRefusedError(FastAgentError):
    """The check of a graph found what a caller will meet."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(f"the graph has {len(findings)} errors")


class HouseFullError(FastAgentError):
    """Too many agents, or too many configurations at once (``retryable``)."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(reason)


class NotKeptError(FastAgentError):
    """The disk did not take a configuration, so it does not answer either."""


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """An agent as it answers, or answered, calls."""

    agent: FastAgent
    number: int
    content_hash: str
    created_at_unix_s: float
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    """As it was posted; None for an agent in code."""
    findings: tuple[Finding, ...] = ()
    size_bytes: int = 0
    """Of the configuration."""

    @property
    def agent_id(self) -> str:
        """Whose version it is."""
        return self.agent.agent_id


class AgentDirectory:
    """Agents by id. Used from one loop.

    Args:
        agents: those in code; the first answers calls that name no agent.
        files: where posted ones are kept; None forgets them with the process.
        prepare: told of each agent before it answers; may refuse it with a `ConfigurationError`.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: there are no agents, or ``prepare`` refuses one in code.
    """

    def __init__(
        self,
        agents: Sequence[FastAgent],
        *,
        files: AgentFiles | None = None,
        prepare: Callable[[FastAgent], None] = lambda agent: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not agents:
            raise ConfigurationError("there is no agent to answer calls")
        self._files = files
        self._prepare = prepare
        self._clock = clock
        self._coded = {agent.agent_id: agent for agent in agents}
        self._default_id = agents[0].agent_id
        self._versions: dict[str, deque[AgentVersion]] = {}
        self._answering = dict(self._coded)
        self._putting = asyncio.Lock()
        self._work: set[asyncio.Task[tuple[AgentVersion, bool]]] = set()
        for agent in agents:
            prepare(agent)
            self._keep(AgentVersion(agent, 1, _hash(agent, None), clock()))
        for stored in () if files is None else files.load():
            self._restore(stored)

    @property
    def default_id(self) -> str:
        """Who answers calls that name no agent."""
        return self._default_id

    @property
    def answering(self) -> Sequence[FastAgent]:
        """The agents that answer new calls."""
        return tuple(self._answering.values())

    @property
    def current(self) -> Sequence[AgentVersion]:
        """The version of each agent that answers new calls, by id."""
        return [kept[-1] for _, kept in sorted(self._versions.items())]

    def versions(self, agent_id: str) -> Sequence[AgentVersion]:
        """The versions of an agent that are kept, oldest first; empty for an unknown one."""
        return tuple(self._versions.get(agent_id, ()))

    def choose(self, offer: SessionOffered) -> FastAgent:
        """The agent whose id is the bot's name at the carrier, else the default one."""
        return self._answering.get(offer.bot_name) or self._answering[self._default_id]

    def find(self, agent_id: str) -> FastAgent | None:
        """The agent of this id that answers, or that a call of one that answers may be handed over to."""
        house = (one for agent in self._answering.values() for one in agent.house)
        return self._answering.get(agent_id) or next((one for one in house if one.agent_id == agent_id), None)

    def use(self, agents: Sequence[FastAgent]) -> None:
        """Have these be the agents in code from now on; what was posted over one of them goes on answering.

        Raises:
            ConfigurationError: there are none, or ``prepare`` refuses one; nothing has changed then.
        """
        if not agents:
            raise ConfigurationError("there is no agent to answer calls")
        for agent in agents:
            self._prepare(agent)
        coded = {agent.agent_id: agent for agent in agents}
        for gone in self._coded.keys() - coded.keys():
            if self._versions[gone][-1].config is None:
                del self._versions[gone]
        self._coded, self._default_id = coded, agents[0].agent_id
        for agent_id, agent in coded.items():
            kept = self._versions.get(agent_id)
            if kept is not None and kept[-1].config is not None:
                continue
            content_hash = _hash(agent, None)
            number = 1 if kept is None else kept[-1].number + (kept[-1].content_hash != content_hash)
            if kept is not None and kept[-1].number == number:
                kept.pop()  # the same content in other objects
            self._keep(AgentVersion(agent, number, content_hash, self._clock()))
        self._answer()

    async def put(
        self, agent_id: str, config: AgentConfig, document: Mapping[str, Any]
    ) -> tuple[AgentVersion, bool]:
        """Have an agent answer new calls as a configuration says.

        Args:
            document: the configuration as it was posted.

        Returns:
            the version, and whether it is another than before.

        Raises:
            ConfigError: it does not fit.
            GraphRefusedError: the graph's check found errors.
            HouseFullError: too many agents, or too many at once.
            NotKeptError: the disk did not take it.
        """
        if agent_id not in self._versions and len(self._versions) >= AGENTS_MAX:
            raise HouseFullError(f"there are {AGENTS_MAX} agents already", retryable=False)
        if len(self._work) >= WAITING_MAX:
            raise HouseFullError("too many configurations at once", retryable=True)
        work = asyncio.create_task(self._put(agent_id, config, document))
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        # Shielded, so that a client that goes away does not leave the disk and the house at odds.
        return await asyncio.shield(work)

    async def _put(
        self, agent_id: str, config: AgentConfig, document: Mapping[str, Any]
    ) -> tuple[AgentVersion, bool]:
        async with self._putting:
            built = await asyncio.to_thread(
                build_agent, agent_id, config, self._coded.get(agent_id), self._others(agent_id)
            )
            if built.errors:
                raise GraphRefusedError(built.findings)
            content_hash = _hash(built.agent, document)
            last = self._versions[agent_id][-1] if agent_id in self._versions else None
            if last is not None and last.content_hash == content_hash:
                return last, False
            self._check_room(agent_id, document)
            stored = StoredConfig(agent_id, 1 if last is None else last.number + 1, self._clock(), document)
            self._prepare(built.agent)
            if self._files is not None:
                try:
                    await asyncio.to_thread(self._files.save, stored)
                except OSError as error:
                    logger.error(
                        "agent %s: its configuration could not be kept: %s", agent_id, error.strerror
                    )
                    raise NotKeptError("the configuration could not be kept") from None
            version = self._take(stored, built, content_hash)
            logger.info("agent %s answers new calls in version %d", agent_id, version.number)
            return version, True

    def _restore(self, stored: StoredConfig) -> None:
        agent_id = stored.agent_id
        try:
            config = AgentConfig.model_validate(stored.config)
            built = build_agent(agent_id, config, self._coded.get(agent_id), self._others(agent_id))
            if built.errors:
                raise GraphRefusedError(built.findings)
            self._prepare(built.agent)
        except (ValidationError, FastAgentError) as error:
            # What it names in code may be gone; the house serves all the same.
            logger.error(
                "agent %s: its kept configuration does not fit any more: %s", agent_id, type(error).__name__
            )
            return
        self._take(stored, built, _hash(built.agent, stored.config))

    def _take(self, stored: StoredConfig, built: BuiltAgent, content_hash: str) -> AgentVersion:
        version = AgentVersion(
            built.agent,
            stored.version,
            content_hash,
            stored.created_at_unix_s,
            stored.config,
            built.findings,
            _size_bytes(stored.config),
        )
        self._keep(version)
        self._answer()
        return version

    def _answer(self) -> None:
        """Have the newest versions answer new calls."""
        newest = {agent_id: kept[-1].agent for agent_id, kept in self._versions.items()}
        if any(agent.colleagues for agent in newest.values()):
            # A caller is handed over to what answers, not to what answered when the other agent was made.
            newest = relinked(newest)
            for agent in newest.values():
                self._prepare(agent)
        self._answering = newest

    def _keep(self, version: AgentVersion) -> None:
        kept = self._versions.setdefault(version.agent_id, deque(maxlen=VERSIONS_KEPT))
        kept.append(version)
        excess = sum(one.size_bytes for kept in self._versions.values() for one in kept) - CONFIG_BYTES_MAX
        while excess > 0:
            earlier = [kept for kept in self._versions.values() if len(kept) > 1]
            if not earlier:
                return
            excess -= min(earlier, key=lambda kept: kept[0].created_at_unix_s).popleft().size_bytes

    def _check_room(self, agent_id: str, document: Mapping[str, Any]) -> None:
        others = sum(kept[-1].size_bytes for name, kept in self._versions.items() if name != agent_id)
        if others + _size_bytes(document) > CONFIG_BYTES_MAX:
            raise HouseFullError(
                f"all configurations together may have {CONFIG_BYTES_MAX} bytes", retryable=False
            )

    def _others(self, agent_id: str) -> dict[str, FastAgent]:
        return {name: agent for name, agent in self._answering.items() if name != agent_id}


def _size_bytes(document: Mapping[str, Any]) -> int:
    return len(canonical_json(document))


def _hash(agent: FastAgent, config: Mapping[str, Any] | None) -> str:
    graphs = {name: task.graph.content_hash for name, task in agent.tasks.items()}
    content = {"config": config, "graphs": graphs, "instructions": agent.instructions, "tools": agent.tools}
    return hashlib.sha256(canonical_json(content)).hexdigest()

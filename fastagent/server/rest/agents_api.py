"""``/agents``: which agents answer, and their configurations, put and read."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from starlette.responses import Response

from fastagent.afsm.verify import Finding
from fastagent.agent import FastAgent
from fastagent.server.agents.config import AGENT_ID_PATTERN, AgentConfig, ConfigError
from fastagent.server.agents.directory import (
    AgentDirectory,
    AgentVersion,
    GraphRefusedError,
    HouseFullError,
    NotKeptError,
)
from fastagent.server.rest.bodies import parse_json, read_json
from fastagent.server.rest.models import (
    AcceptedConfig,
    AgentList,
    AgentSummary,
    AgentVersionDetail,
    GraphFinding,
    TaskSummary,
)
from fastagent.server.rest.operations import Answer, Asked, Handler, Operation, Parameter, json_answer
from fastagent.server.rest.problems import Problem, invalid
from fastagent.server.rest.queries import WHOLE_NUMBER, Query, rfc3339, validation_errors

__all__ = ["CONFIG_BYTES_MAX", "LIST_AGENTS", "POST_CONFIG", "READ_CONFIG", "AgentsApi"]

CONFIG_BYTES_MAX = 1 << 20
VERSION_MAX = 999_999_999
RETRY_AFTER_S = 2

_AGENT_ID = Parameter("agent_id", "The agent's id: letters, digits, _ and -, at most 64.", AGENT_ID_PATTERN)


class VersionQuery(Query):
    """Which version of a configuration."""

    version: Annotated[int, Field(ge=1, le=VERSION_MAX), WHOLE_NUMBER] | None = Field(
        None, description="The version; left out, the current one."
    )


LIST_AGENTS = Operation(
    "GET",
    "/agents",
    "list_agents",
    "All agents, as they answer new calls",
    {200: Answer("The agents, by id.", AgentList)},
    (405, 422),
    tag="agents",
)
READ_CONFIG = Operation(
    "GET",
    "/agents/{agent_id}/config",
    "read_agent_config",
    "An agent's configuration, as it was posted",
    {200: Answer("One version of the configuration.", AgentVersionDetail)},
    (404, 405, 422),
    tag="agents",
    parameters=(_AGENT_ID,),
    query=VersionQuery,
)
POST_CONFIG = Operation(
    "POST",
    "/agents/{agent_id}/config",
    "post_agent_config",
    "Have an agent answer new calls as a configuration says",
    {
        200: Answer("It answers new calls from now on.", AcceptedConfig),
        201: Answer("The same, of an agent that was not there before.", AcceptedConfig),
    },
    (400, 404, 405, 409, 413, 415, 422, 503),
    description=(
        "What is left out is as the agent in code of the same id has it, or else the default. The graph is "
        "checked as `fastagent verify` does: errors refuse it (422 with `findings`), warnings are listed in "
        "the answer. Running calls keep the graph they have. Effects, functions and colleagues are named, "
        "never brought. Posting what answers already changes nothing."
    ),
    tag="agents",
    parameters=(_AGENT_ID,),
    bodies={"application/json": AgentConfig},
)


class AgentsApi:
    """Answers for the operations of this file.

    Args:
        running: the agents' ids of the running calls.
    """

    def __init__(self, agents: AgentDirectory, running: Callable[[], Iterable[str]]) -> None:
        self._agents = agents
        self._running = running

    @property
    def handlers(self) -> list[tuple[Operation, Handler]]:
        """Each operation with what answers it."""
        return [(LIST_AGENTS, self.list), (READ_CONFIG, self.read), (POST_CONFIG, self.post)]

    async def list(self, asked: Asked) -> Response:
        """All agents."""
        active = Counter(self._running())
        found = [self._summary(version, active) for version in self._agents.current]
        return json_answer(AgentList(agents=found, total_count=len(found)))

    def _summary(self, version: AgentVersion, active: Counter[str]) -> AgentSummary:
        return AgentSummary(
            agent_id=version.agent_id,
            name=str((version.config or {}).get("name", "")),
            version=version.number,
            content_hash=version.content_hash,
            source=_source(version),
            is_default=version.agent_id == self._agents.default_id,
            created_at=rfc3339(version.created_at_unix_s),
            active_sessions=active[version.agent_id],
            tasks=_tasks(version.agent),
        )

    async def read(self, asked: Asked) -> Response:
        """One version of a configuration."""
        versions = self._agents.versions(_agent_id(asked, self._agents))
        wanted = asked.query.version or versions[-1].number
        version = next((one for one in versions if one.number == wanted), None)
        if version is None:
            raise Problem(404, "unknown-version", "this version is not kept, or never was")
        detail = AgentVersionDetail(
            agent_id=version.agent_id,
            version=version.number,
            is_current=version is versions[-1],
            content_hash=version.content_hash,
            source=_source(version),
            created_at=rfc3339(version.created_at_unix_s),
            config=None if version.config is None else dict(version.config),
            tasks=_tasks(version.agent),
            warnings=_findings(version.findings),
            kept_versions=[one.number for one in versions],
        )
        return json_answer(detail, headers={"ETag": f'"{version.content_hash}"'})

    async def post(self, asked: Asked) -> Response:
        """Another configuration."""
        agent_id = asked.path("agent_id")
        if not re.fullmatch(AGENT_ID_PATTERN, agent_id):
            raise invalid("invalid-path", "the path does not fit", [("agent_id", _AGENT_ID.description)])
        body = await read_json(asked.request, CONFIG_BYTES_MAX)
        document, config = await asyncio.to_thread(_read, body)
        is_new = not self._agents.versions(agent_id)
        try:
            version, is_changed = await self._agents.put(agent_id, config, document)
        except ConfigError as error:
            raise invalid(
                "invalid-config", "the configuration does not fit", [(error.path, error.reason)]
            ) from None
        except GraphRefusedError as error:
            found = [one.model_dump() for one in _findings(error.findings)]
            raise Problem(
                422, "graph-refused", "the graph's check found errors", members={"findings": found}
            ) from None
        except HouseFullError as error:
            if error.retryable:
                raise Problem(503, "busy", str(error), {"Retry-After": str(RETRY_AFTER_S)}) from None
            raise Problem(409, "too-many-agents", str(error)) from None
        except NotKeptError as error:
            raise Problem(503, "not-kept", str(error)) from None
        accepted = AcceptedConfig(
            agent_id=agent_id,
            version=version.number,
            content_hash=version.content_hash,
            is_changed=is_changed,
            created_at=rfc3339(version.created_at_unix_s),
            warnings=_findings(version.findings),
        )
        return json_answer(accepted, 201 if is_new else 200, {"Location": f"/agents/{agent_id}/config"})


def _read(body: bytes) -> tuple[dict[str, Any], AgentConfig]:
    document = parse_json(body)
    try:
        return document, AgentConfig.model_validate(document)
    except ValidationError as error:
        raise invalid("invalid-config", "the configuration does not fit", validation_errors(error)) from None


def _agent_id(asked: Asked, agents: AgentDirectory) -> str:
    """An id of an agent that is there; agents in code may have any."""
    agent_id = asked.path("agent_id")
    if not agents.versions(agent_id):
        if not re.fullmatch(AGENT_ID_PATTERN, agent_id):
            raise invalid("invalid-path", "the path does not fit", [("agent_id", _AGENT_ID.description)])
        raise Problem(404, "unknown-agent", "there is no agent of this id")
    return agent_id


def _source(version: AgentVersion) -> Literal["code", "api"]:
    return "code" if version.config is None else "api"


def _tasks(agent: FastAgent) -> list[TaskSummary]:
    return [
        TaskSummary(
            name=task.name,
            content_hash=task.graph.content_hash,
            states=list(task.graph.states),
            initial_state=task.graph.initial_state,
        )
        for task in agent.tasks.values()
    ]


def _findings(found: Sequence[Finding]) -> list[GraphFinding]:
    return [GraphFinding.model_validate(one.as_json()) for one in found]

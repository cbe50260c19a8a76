"""Operation: what the document says of a method of a path; and the routes that hold to it."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fastagent.server.doors.auth import Credential, Denial, Doorkeeper, Scope
from fastagent.server.rest.problems import Problem, denied
from fastagent.server.rest.queries import Query, read_query

__all__ = ["Answer", "Asked", "Handler", "Operation", "Parameter", "json_answer", "operation_routes"]

logger = logging.getLogger("fastagent.server")

DOOR_PROBLEMS = (401, 403, 429)
"""What a door may answer to anybody."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of a path."""

    name: str
    description: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a successful request is answered with."""

    description: str
    model: type[BaseModel] | None = None
    media_type: str = "application/json"
    schema: Mapping[str, Any] | None = None
    """Of what is no model."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """As the document writes it: ``/agents/{agent_id}/config``."""
    name: str
    summary: str
    answers: Mapping[int, Answer]
    problems: tuple[int, ...] = ()
    """Statuses beside those of `DOOR_PROBLEMS`."""
    description: str = ""
    tag: str = ""
    parameters: tuple[Parameter, ...] = ()
    query: type[Query] = Query
    bodies: Mapping[str, type[BaseModel] | Mapping[str, Any]] = field(default_factory=dict)
    """Model or schema by media type."""
    scopes: tuple[Scope, ...] = (Scope.ADMIN,)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let in, with its query read."""

    request: Request
    query: Any
    credential: Credential

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


Handler = Callable[[Asked], Awaitable[Response]]
_Model = TypeVar("_Model", bound=BaseModel)


def operation_routes(doors: Doorkeeper, handlers: Iterable[tuple[Operation, Handler]]) -> list[BaseRoute]:
    """One route for each path; what a door or a handler refuses is answered in problem details."""
    by_path: dict[str, dict[str, tuple[Operation, Handler]]] = {}
    for operation, handler in handlers:
        by_path.setdefault(operation.path, {})[operation.method] = operation, handler
    return [
        Route(path, _endpoint(doors, methods), methods=list(methods)) for path, methods in by_path.items()
    ]


def _endpoint(
    doors: Doorkeeper, methods: Mapping[str, tuple[Operation, Handler]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        # Routes that answer GET answer HEAD, too.
        operation, handler = methods["GET" if request.method == "HEAD" else request.method]
        try:
            found = doors.check(request, *operation.scopes)
            if isinstance(found, Denial):
                raise denied(found)
            return await handler(Asked(request, read_query(request, operation.query), found))
        except Problem as problem:
            return problem.response
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    return answer


def json_answer(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as JSON; never kept by caches."""
    return Response(
        model.model_dump_json(),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )

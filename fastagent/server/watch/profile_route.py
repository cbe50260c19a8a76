"""``POST /profile``: measure this process for some seconds, for whoever may see and change the house.

The answer is two JSON lines: the first says at once whose process it is, so that tools can be pointed at it;
the second is the reading. One process answers, also where several share the port. It is no part of the
documented API: what it tells follows the code of the audio path.
"""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import Field
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from fastagent import __version__
from fastagent.profile.reading import DEFAULT_EVERY, DURATION_MAX_S, EVERY_MAX, Begun
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.rest.operations import Answer, Asked, Operation, operation_routes
from fastagent.server.rest.problems import Problem
from fastagent.server.rest.queries import WHOLE_NUMBER, Query
from fastagent.server.watch.profiler import Profiler, python_version

__all__ = ["PROFILE", "profile_routes"]

DEFAULT_DURATION_MS = 10_000


class ProfileQuery(Query):
    """What is to be measured."""

    duration_ms: Annotated[int, Field(ge=1, le=1000 * DURATION_MAX_S), WHOLE_NUMBER] = DEFAULT_DURATION_MS
    every: Annotated[int, Field(ge=0, le=EVERY_MAX), WHOLE_NUMBER] = DEFAULT_EVERY


PROFILE = Operation(
    method="POST",
    path="/profile",
    name="profile",
    summary="Measure this process",
    answers={200: Answer("Two JSON lines.", media_type="application/x-ndjson")},
    problems=(409,),
    query=ProfileQuery,
)


def profile_routes(profiler: Profiler, doors: Doorkeeper) -> list[BaseRoute]:
    """The route; it asks for an admin's token, as all that looks into the house."""

    async def profile(asked: Asked) -> Response:
        if profiler.is_running:
            raise Problem(409, "profile-running", "this process is being measured already")
        return StreamingResponse(
            _lines(profiler, asked.query.duration_ms / 1000, asked.query.every),
            media_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )

    return operation_routes(doors, [(PROFILE, profile)])


async def _lines(profiler: Profiler, seconds: float, every: int) -> AsyncIterator[str]:
    if profiler.is_running:  # somebody else's request was quicker
        return
    begun = Begun(pid=os.getpid(), version=__version__, python=python_version(), seconds=seconds)
    yield begun.model_dump_json() + "\n"
    reading = await profiler.measure(seconds, every)
    yield reading.model_dump_json() + "\n"

"""Health and metrics: the routes that tell how the server is.

``/health`` is for people and dashboards. ``/health/live`` fails when the event loop stands still: then it
is not this route that answers but the `StalledDoor`, and a supervisor should start the process anew.
``/health/ready`` fails as soon as the process is told to end, so that no more calls are sent to it.
"""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fastagent import __version__
from fastagent.server.doors.auth import Denial, Doorkeeper, Scope
from fastagent.server.switchboard import Switchboard
from fastagent.server.watch.observability import Observability

__all__ = ["health_routes"]


def health_routes(
    observability: Observability,
    switchboard: Switchboard,
    *,
    begun: float,
    doors: Doorkeeper,
    is_open: bool,
) -> list[BaseRoute]:
    """The routes.

    Args:
        begun: when the server was made, in monotonic seconds.
        doors: who may read the metrics.
        is_open: everybody may.
    """

    async def health(request: Request) -> Response:
        return JSONResponse(
            {
                "status": "healthy" if switchboard.has_room else "full",
                "version": __version__,
                "latency_metrics": observability.figures.recent.figures_ms(),
                "active_connections": switchboard.active_calls,
                "uptime_seconds": round(time.monotonic() - begun, 3),
            }
        )

    async def live(request: Request) -> Response:
        if observability.watchdog.is_dead:
            return JSONResponse({"status": "dead", "reason": "loop stalled"}, 503)
        return JSONResponse({"status": "alive"})

    async def ready(request: Request) -> Response:
        if switchboard.is_draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        if not is_open:
            found = doors.check(request, Scope.METRICS)
            if isinstance(found, Denial):
                return found.response
        body, content_type = observability.metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return [
        Route("/health", health),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
    ]

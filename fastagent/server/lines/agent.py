"""Our own clients' door: ``/agent/ws``, its description and its example page.

A client is refused before the WebSocket opens, with an ``error`` message as the body: 401 without a token of
ours, 403 for another site's page, 503 without room. From then on errors are messages.
"""

from collections.abc import Callable, Collection, Mapping
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from fastagent.call import CallServices
from fastagent.legs.carrier import CarrierSocket
from fastagent.server.doors.agent_door import AgentDoor
from fastagent.server.doors.auth import Denial
from fastagent.server.switchboard import Switchboard
from fastagent.server.websocket import accept_leg, leg_of
from fastagent.stats import Counters
from fastagent.wire.agentws import AgentCodec, error_message
from fastagent.wire.agentws_words import SUBPROTOCOL, ErrorCode

__all__ = ["AGENT_PATH", "DEMO_PATH", "AgentSocket", "agent_routes"]

AGENT_PATH = "/agent/ws"
DEMO_PATH = "/agent/demo"
ASYNCAPI_PATH = "/asyncapi.yaml"

DEMO_HEADERS = {
    # The page is one file: its script and style stand in it, and its worklet is a blob of its own.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
        "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AgentSocket(CarrierSocket):
    """One client's WebSocket. A fault of ours is told before it closes."""

    def __init__(self, codec: AgentCodec, *, bad_message_limit: int, counters: Counters) -> None:
        super().__init__(codec, bad_message_limit=bad_message_limit, counters=counters)
        self._agent_codec = codec

    def begin(self) -> None:
        """The socket is open and held: resume what its request names."""
        for event in self._agent_codec.open():
            self.on_event(event)

    def on_message(self, data: bytes, is_text: bool) -> None:
        """Decode, answer, pass on."""
        try:
            super().on_message(data, is_text)
        except Exception:
            if self.leg is not None and not self._agent_codec.may_close:
                self.leg.send(self._agent_codec.failure())
            raise  # the leg closes with 1011


def agent_routes(
    services: CallServices,
    switchboard: Switchboard,
    door: AgentDoor,
    agent_ids: Callable[[], Collection[str]],
) -> list[BaseRoute]:
    """The WebSocket, ``/asyncapi.yaml``, and where it is asked for the page with the microphone."""
    asyncapi = (files("fastagent.server") / "asyncapi.yaml").read_bytes()

    async def describe(request: Request) -> Response:
        return Response(asyncapi, media_type="application/yaml")

    async def call(websocket: WebSocket) -> None:
        subprotocols = websocket.scope.get("subprotocols", [])
        found = door.check(websocket, subprotocols)
        if not door.admits_page(websocket.headers):
            services.counters.note("upgrades_of_foreign_pages")
            await _refuse(websocket, 403, ErrorCode.ORIGIN_FORBIDDEN, "pages of this site may not connect")
        elif isinstance(found, Denial):
            code = ErrorCode.AUTHENTICATION_FAILED
            await _refuse(websocket, found.status, code, found.detail, found.headers)
        elif (refusal := switchboard.refuses_socket()) is not None:
            await _refuse(websocket, 503, ErrorCode.CAPACITY_EXCEEDED, "no capacity", refusal.headers)
        else:
            socket = AgentSocket(
                AgentCodec(agents=agent_ids(), resume_id=websocket.headers.get("x-session-id") or None),
                bad_message_limit=services.settings.bad_message_limit,
                counters=services.counters,
            )
            socket.leg = leg_of(websocket)
            switchboard.hold(socket, f"agent_ws:{found.principal}", {})
            agreed = SUBPROTOCOL if SUBPROTOCOL in subprotocols else None
            await accept_leg(websocket, socket, subprotocol=agreed)
            socket.begin()

    routes: list[BaseRoute] = [Route(ASYNCAPI_PATH, describe), WebSocketRoute(AGENT_PATH, call)]
    if services.settings.agent_demo:
        page = (files("fastagent") / "examples" / "browser" / "microphone.html").read_bytes()

        async def demo(request: Request) -> Response:
            return Response(page, media_type="text/html; charset=utf-8", headers=DEMO_HEADERS)

        routes.append(Route(DEMO_PATH, demo))
    return routes


async def _refuse(
    websocket: WebSocket, status: int, code: ErrorCode, reason: str, headers: Mapping[str, str] | None = None
) -> None:
    await websocket.send_denial_response(JSONResponse(error_message(code, reason), status, headers))

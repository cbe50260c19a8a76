"""The carriers' doors: authentication and capacity before the 101, then on to the switchboard."""

import logging

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from fastagent.call import CallServices
from fastagent.legs.carrier import CarrierSocket
from fastagent.server.auth import BearerTokens
from fastagent.server.switchboard import Switchboard
from fastagent.server.websocket import accept_leg, leg_of
from fastagent.wire.audiocodes import CONNECTIVITY_REPLY, RECOMMENDED_SETTINGS, AudioCodesCodec

__all__ = ["AUDIOCODES_PATH", "audiocodes_routes"]

logger = logging.getLogger("fastagent.server")

AUDIOCODES_PATH = "/audiocodes/webhook"


def audiocodes_routes(
    services: CallServices, switchboard: Switchboard, tokens: BearerTokens
) -> list[BaseRoute]:
    """The bot URL of AudioCodes VoiceAI Connect: a WebSocket per call, and the HTTP connectivity check."""

    async def check(request: Request) -> Response:
        if not tokens.admits(request.headers.get("authorization"), request.headers.get("origin")):
            services.counters.note("http_unauthorized")
            return PlainTextResponse("a bearer token is needed", 401, {"WWW-Authenticate": "Bearer"})
        return Response(CONNECTIVITY_REPLY, media_type="application/json")

    async def call(websocket: WebSocket) -> None:
        if not tokens.admits(websocket.headers.get("authorization"), websocket.headers.get("origin")):
            services.counters.note("upgrades_unauthorized")
            refusal = PlainTextResponse("a bearer token is needed", 401, {"WWW-Authenticate": "Bearer"})
            await websocket.send_denial_response(refusal)
            return
        if not (switchboard.has_room or switchboard.awaits_resume):
            services.counters.note("upgrades_without_room")
            refusal = PlainTextResponse("no capacity", 503, {"Retry-After": "1"})
            await websocket.send_denial_response(refusal)
            return
        socket = CarrierSocket(
            AudioCodesCodec(),
            bad_message_limit=services.settings.bad_message_limit,
            counters=services.counters,
        )
        socket.leg = leg_of(websocket)
        switchboard.hold(socket, "audiocodes", RECOMMENDED_SETTINGS)
        await accept_leg(websocket, socket)

    return [
        Route(AUDIOCODES_PATH, check, methods=["GET", "POST"]),
        WebSocketRoute(AUDIOCODES_PATH, call),
    ]

"""The carriers' doors: authentication and admission before the 101, then on to the switchboard."""

import logging

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from fastagent.call import CallServices
from fastagent.legs.carrier import CarrierSocket
from fastagent.server.doors.auth import Denial, Doorkeeper, Scope
from fastagent.server.life.forward import Visitor
from fastagent.server.switchboard import Switchboard
from fastagent.server.websocket import accept_leg, leg_of
from fastagent.wire.audiocodes import CONNECTIVITY_REPLY, RECOMMENDED_SETTINGS, AudioCodesCodec

__all__ = ["AUDIOCODES_PATH", "audiocodes_routes"]

logger = logging.getLogger("fastagent.server")

AUDIOCODES_PATH = "/audiocodes/webhook"


def audiocodes_routes(services: CallServices, switchboard: Switchboard, doors: Doorkeeper) -> list[BaseRoute]:
    """The bot URL of AudioCodes VoiceAI Connect: a WebSocket per call, and the HTTP connectivity check."""

    async def check(request: Request) -> Response:
        found = doors.check(request, Scope.AUDIOCODES)
        if isinstance(found, Denial):
            return found.response
        return Response(CONNECTIVITY_REPLY, media_type="application/json")

    async def call(websocket: WebSocket) -> None:
        found = doors.check(websocket, Scope.AUDIOCODES)
        if isinstance(found, Denial):
            await websocket.send_denial_response(found.response)
            return
        owner, visitor = f"audiocodes:{found.principal}", Visitor.of(websocket)
        if visitor.resumes:
            if not switchboard.has_call(owner, visitor.resumes):
                await websocket.send_denial_response(PlainTextResponse("no such call", 404))
                return
        elif (refusal := switchboard.refuses_socket()) is not None:
            await websocket.send_denial_response(PlainTextResponse("no capacity", 503, refusal.headers))
            return
        socket = CarrierSocket(
            AudioCodesCodec(),
            bad_message_limit=services.settings.bad_message_limit,
            counters=services.counters,
        )
        socket.leg = leg_of(websocket)
        switchboard.hold(socket, owner, RECOMMENDED_SETTINGS, visitor)
        await accept_leg(websocket, socket)

    return [
        Route(AUDIOCODES_PATH, check, methods=["GET", "POST"]),
        WebSocketRoute(AUDIOCODES_PATH, call),
    ]

"""The ASGI application: routes, and what all calls share."""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from fastagent import __version__
from fastagent.agent import FastAgent
from fastagent.call import CallObserver, CallServices
from fastagent.legs.model import ModelConnector
from fastagent.legs.tick import PlayoutTick
from fastagent.legs.watch import LegWatch
from fastagent.media.detectors import DetectorName, SpeechDetector, build_detector
from fastagent.media.ears import EarsPlan
from fastagent.recording import RecordingLimits, RecordingWriter
from fastagent.server.auth import BearerTokens
from fastagent.server.carriers import audiocodes_routes
from fastagent.server.clip_library import ClipLibrary
from fastagent.server.journals import Journals
from fastagent.server.playback import playback_routes
from fastagent.server.switchboard import Switchboard
from fastagent.server.twilio import twilio_routes
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.tools.mcp import McpPool
from fastagent.wire.events import SessionOffered
from fastagent.wire.openai_realtime import upgrade_request

__all__ = ["Service", "build_app"]

SWITCH_INTERVAL_S = 0.0005
"""How long a function's thread that only computes may keep the interpreter from the loop; Python's own 5 ms
are a quarter of a frame."""

RECORDINGS_CLOSE_TIMEOUT_S = 5.0
"""For the disk to take what was recorded; what it did not take by then is mended at the next start."""


class Service:
    """What one process runs: the agents, the calls and what they share.

    Args:
        realtime_url: where the model is (the settings' own, or the embedded engine's).
        extra_routes: further routes of the same port.
    """

    def __init__(
        self,
        agents: Sequence[FastAgent],
        settings: Settings,
        *,
        realtime_url: str,
        observers: Sequence[CallObserver] = (),
        extra_routes: Sequence[BaseRoute] = (),
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.extra_routes = tuple(extra_routes)
        self.begun = time.monotonic()
        self.clips = ClipLibrary(settings.clips_dir or None)
        self.journals = Journals(settings.journals_dir, retention_days=settings.journal_retention_days)
        self.mcp = McpPool(server for agent in agents for server in agent.mcp_servers)
        self._agents = {agent.agent_id: agent for agent in agents}
        self._first = agents[0]
        for agent in agents:
            self.journals.prepare(agent)
        connector = ModelConnector(
            upgrade_request(realtime_url, settings.openai_api_key, settings.realtime_model),
            attempts=settings.model_connect_attempts,
            timeout_s=settings.model_connect_timeout_s,
            total_timeout_s=settings.model_connect_total_timeout_s,
            max_message_bytes=settings.max_model_message_bytes,
            send_cap_bytes=settings.send_cap_bytes,
            counters=self.counters,
        )
        self.services = CallServices(
            settings,
            connector,
            PlayoutTick(),
            LegWatch(
                ping_interval_s=settings.ping_interval_s,
                ping_timeout_s=settings.ping_timeout_s,
                counters=self.counters,
            ),
            self.counters,
            tuple(observers),
            _ears(settings),
            self.clips,
            _recordings(settings),
            self.journals,
        )
        self.switchboard = Switchboard(self.services, self.choose_agent)

    def choose_agent(self, offer: SessionOffered) -> FastAgent:
        """The agent whose id is the bot's name at the carrier, else the first one."""
        return self._agents.get(offer.bot_name, self._first)

    @contextlib.asynccontextmanager
    async def connected_tools(self) -> AsyncIterator[None]:
        """Have the agents' MCP servers connected while the context is open."""
        users = [agent for agent in self._agents.values() if agent.mcp_servers]
        switch_interval_s = sys.getswitchinterval()
        async with self.mcp:
            try:
                sys.setswitchinterval(SWITCH_INTERVAL_S)
                if users:
                    # The MCP SDK makes some hundred thousand objects that stay: going through them would hold
                    # up the loop for 25 ms at every full collection.
                    gc.collect()
                    gc.freeze()
                for agent in users:
                    agent.use_mcp(self.mcp)
                yield
            finally:
                sys.setswitchinterval(switch_interval_s)
                for agent in users:
                    agent.use_mcp(None)

    async def close(self) -> None:
        """Stop the shared timers, have the journals kept and the recordings published."""
        self.services.tick.close()
        self.services.watch.close()
        await self.journals.close()
        if self.services.recordings is not None:
            await asyncio.to_thread(self.services.recordings.close, RECORDINGS_CLOSE_TIMEOUT_S)


def _ears(settings: Settings) -> EarsPlan:
    """What every call listens for.

    Raises:
        ConfigurationError: the voice detector is not installed.
    """
    new_detector: Callable[[], SpeechDetector] | None = None
    if settings.speech_detector != "native":
        new_detector = partial(
            build_detector,
            cast(DetectorName, settings.speech_detector),
            silero_weights=settings.silero_weights or None,
        )
        new_detector()  # better said at the start than in the first call
    return EarsPlan(
        hears_overlap=settings.barge_in == "local",
        hears_turns=settings.turn_detection == "local",
        hears_digits=settings.inband_dtmf,
        preset=settings.speech_preset,
        new_detector=new_detector,
    )


def _recordings(settings: Settings) -> RecordingWriter | None:
    if not settings.recordings_dir:
        return None
    days = settings.recording_retention_days
    limits = RecordingLimits(retention_s=days * 86_400 if days else None)
    writer = RecordingWriter(Path(settings.recordings_dir), limits=limits)
    writer.start()
    return writer


def build_app(service: Service) -> Starlette:
    """The application of one service."""

    async def health(request: Request) -> Response:
        return JSONResponse(
            {
                "status": "healthy" if service.switchboard.has_room else "full",
                "version": __version__,
                "active_connections": service.switchboard.active_calls,
                "uptime_seconds": round(time.monotonic() - service.begun, 3),
            }
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with service.connected_tools():
            service.journals.start()
            # The WebSocket protocol class reads its limits from here.
            yield {
                "handshake_timeout_s": service.settings.handshake_timeout_s,
                "send_cap_bytes": service.settings.send_cap_bytes,
                "leg_watch": service.services.watch,
            }
            await service.close()

    async def unknown(websocket: WebSocket) -> None:
        # Starlette would answer 403, which says that something is there.
        await websocket.send_denial_response(PlainTextResponse("Not Found", 404))

    tokens = BearerTokens(service.settings.audiocodes_tokens)
    routes: list[BaseRoute] = [
        Route("/health", health),
        *audiocodes_routes(service.services, service.switchboard, tokens),
        *twilio_routes(service.services, service.switchboard),
        *playback_routes(service.switchboard.find, service.clips, tokens, service.counters),
        *service.extra_routes,
        WebSocketRoute("/{path:path}", unknown),
    ]
    return Starlette(routes=routes, lifespan=lifespan)

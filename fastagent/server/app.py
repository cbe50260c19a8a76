"""The ASGI application: routes, and what all calls share."""

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from fastagent.agent import FastAgent
from fastagent.call import CallObserver, CallServices
from fastagent.errors import FastAgentError
from fastagent.legs.model import ModelConnector
from fastagent.legs.tick import PlayoutTick
from fastagent.legs.watch import LegWatch
from fastagent.media.detectors import DetectorName, SpeechDetector, build_detector
from fastagent.media.ears import EarsPlan
from fastagent.recording import RecordingLimits, RecordingWriter
from fastagent.server.agents.directory import AgentDirectory
from fastagent.server.agents.files import AgentFiles
from fastagent.server.chats.chats import TextChats
from fastagent.server.clips.library import ClipLibrary
from fastagent.server.clips.playback import playback_routes
from fastagent.server.doors.admission import Admission
from fastagent.server.doors.agent_door import AgentDoor
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.doors.connections import ConnectionLimit
from fastagent.server.doors.load import LoadSampler
from fastagent.server.kept.continuity import LEASE_TTL_S, SMS_TIMEOUT_S, Continuity
from fastagent.server.kept.journals import Journals
from fastagent.server.kept.session_secret import session_secret
from fastagent.server.kept.stored_call import CallSessions
from fastagent.server.lines.agent import agent_routes
from fastagent.server.lines.audiocodes import audiocodes_routes
from fastagent.server.lines.twilio import twilio_routes
from fastagent.server.lines.twilio_dial import dial_routes
from fastagent.server.rest.agents_api import AgentsApi
from fastagent.server.rest.problems import ProblemAnswers, answer_failure
from fastagent.server.rest.routes import rest_routes
from fastagent.server.rest.sessions_api import SessionsApi
from fastagent.server.switchboard import Switchboard
from fastagent.server.watch.health import health_routes
from fastagent.server.watch.observability import Observability
from fastagent.server.watch.profile_route import profile_routes
from fastagent.server.watch.profiler import Profiler
from fastagent.sessions import KeeperLimits, SessionKeeper, make_store
from fastagent.settings import LOCAL_REALTIME, Settings
from fastagent.stats import Counters
from fastagent.telephony.sms import SmsChannel, sms_channel
from fastagent.telephony.twilio_outbound import twilio_outbound
from fastagent.tools.mcp import McpPool
from fastagent.wire.openai_realtime import upgrade_request

__all__ = ["Service", "build_app"]

logger = logging.getLogger("fastagent.server")

SWITCH_INTERVAL_S = 0.0005
"""How long a function's thread that only computes may keep the interpreter from the loop; Python's own 5 ms
are a quarter of a frame."""

MODEL_WATCH_S = 0.25
"""How often sessions with the model are looked at."""
LOCAL_ANSWER_TIMEOUT_S = 30.0
"""The embedded engine may be slow on a busy machine; that it is gone is told by the kernel, at once."""

WORK_CLOSE_TIMEOUT_S = SMS_TIMEOUT_S + 1.0
"""For messages to callers, and the like, at the end of the process: nobody would send them again."""
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
        self.doors = Doorkeeper(settings, self.counters)
        self.admission = Admission(settings, self.counters)
        self.connections = ConnectionLimit.from_settings(settings, self.counters)
        self.load_sampler = LoadSampler(self.admission.load)
        self.extra_routes = tuple(extra_routes)
        self.begun = time.monotonic()
        self.observability = Observability(settings)
        self.clips = ClipLibrary(settings.clips_dir or None)
        self.journals = Journals(settings.journals_dir, retention_days=settings.journal_retention_days)
        self.store = make_store(settings.redis_url or settings.store_path, retention_s=settings.session_ttl_s)
        self._work: set[asyncio.Task[None]] = set()
        self.twilio_outbound = twilio_outbound(settings)
        sms: SmsChannel | None = None if self.twilio_outbound is None else self.twilio_outbound.sms
        if not settings.texts_by_twilio:
            sms = sms_channel(settings.sms_sender)
        keeper = SessionKeeper(
            self.store,
            on_lost=self._lose,
            limits=KeeperLimits(lease_ttl_s=LEASE_TTL_S),
        )
        self.continuity = Continuity(
            keeper,
            settings,
            session_secret(settings),
            sms=sms,
            start=self._start,
            counters=self.counters,
        )
        self._house = list({id(one): one for agent in agents for one in agent.house}.values())
        self.mcp = McpPool(server for agent in self._house for server in agent.mcp_servers)
        self._is_mcp_connected = False
        self.agents = AgentDirectory(
            agents,
            files=AgentFiles(settings.agents_dir) if settings.agents_dir else None,
            prepare=self._prepare,
        )
        self.chats: TextChats | None = None
        """Where callers who were cut off may go on by text; None: nowhere."""
        if settings.text_channel:
            self.chats = TextChats(self.continuity, self.journals, self.agents.find, settings, self.counters)
        is_local = settings.realtime_url == LOCAL_REALTIME
        connector = ModelConnector(
            upgrade_request(realtime_url, settings.openai_api_key, settings.realtime_model),
            attempts=settings.model_connect_attempts,
            timeout_s=settings.model_connect_timeout_s,
            total_timeout_s=settings.model_connect_total_timeout_s,
            max_message_bytes=settings.max_model_message_bytes,
            send_cap_bytes=settings.send_cap_bytes,
            counters=self.counters,
            answer_limit_s=LOCAL_ANSWER_TIMEOUT_S if is_local else settings.model_answer_timeout_s,
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
            LegWatch(
                ping_interval_s=settings.ping_interval_s if is_local else settings.model_ping_interval_s,
                ping_timeout_s=settings.ping_timeout_s if is_local else settings.model_ping_timeout_s,
                look_every_s=MODEL_WATCH_S,
                counters=self.counters,
            ),
            self.counters,
            (*observers, *self.observability.observers),
            _ears(settings),
            self.clips,
            _recordings(settings),
            self.journals,
            CallSessions(self.continuity) if self._stores_sessions(agents) else None,
        )
        self.switchboard = Switchboard(self.services, self.agents.choose, self.admission, self.continuity)
        self.continuity.on_lost = self.switchboard.lose
        self.observability.connect(self.switchboard, self.counters)

    @property
    def agent_ids(self) -> frozenset[str]:
        """Who can be asked for."""
        return frozenset(agent.agent_id for agent in self.agents.answering)

    def _prepare(self, agent: FastAgent) -> None:
        """Look at an agent before it answers calls.

        Raises:
            ConfigurationError: an effect names a function that is not there.
        """
        self.journals.prepare(agent)
        if self._is_mcp_connected and agent.mcp_servers:
            agent.use_mcp(self.mcp)

    def use_agents(self, agents: Sequence[FastAgent]) -> None:
        """Have these answer the calls that begin from now on.

        Raises:
            ConfigurationError: they cannot: one has an effect without a function, or an MCP server that this
                process is not connected to.
        """
        self.agents.use(agents)
        self._house = list({id(one): one for agent in agents for one in agent.house}.values())

    @contextlib.asynccontextmanager
    async def connected_tools(self) -> AsyncIterator[None]:
        """Have the agents' MCP servers connected while the context is open."""
        house = {id(one): one for agent in (*self._house, *self.agents.answering) for one in agent.house}
        users = [agent for agent in house.values() if agent.mcp_servers]
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
                self._is_mcp_connected = True
                yield
            finally:
                self._is_mcp_connected = False
                sys.setswitchinterval(switch_interval_s)
                for agent in self._house:
                    agent.use_mcp(None)

    def _stores_sessions(self, agents: Sequence[FastAgent]) -> bool:
        """Something of a call may be wanted once it is over."""
        is_durable = bool(self.settings.redis_url or self.settings.store_path)
        remembers = any(one.memory_days for agent in agents for one in agent.house)
        return is_durable or remembers or self.continuity.offers_comebacks

    def _lose(self, session_id: str) -> None:
        self.switchboard.lose(session_id)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    @contextlib.asynccontextmanager
    async def stored_sessions(self) -> AsyncIterator[None]:
        """Have sessions stored while the context is open."""
        try:
            await self.store.open()
        except FastAgentError as error:
            logger.error("sessions cannot be stored (FASTAGENT_STORE, REDIS_URL): %s", error)
            raise
        self.continuity.keeper.start()
        watching = asyncio.create_task(self.continuity.watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if self._work:
                await asyncio.wait(set(self._work), timeout=WORK_CLOSE_TIMEOUT_S)
            for task in self._work:
                task.cancel()
            await asyncio.gather(*self._work, return_exceptions=True)
            await self.continuity.keeper.close()
            await self.store.close()
            if self.twilio_outbound is not None:
                await self.twilio_outbound.close()

    async def close(self) -> None:
        """Stop the shared timers, have the journals kept and the recordings published; the traces go last."""
        self.load_sampler.close()
        self.services.tick.close()
        self.services.watch.close()
        self.services.model_watch.close()
        await self.journals.close()
        if self.services.recordings is not None:
            await asyncio.to_thread(self.services.recordings.close, RECORDINGS_CLOSE_TIMEOUT_S)
        await self.observability.close()


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

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with service.stored_sessions(), service.connected_tools():
            service.journals.start()
            service.load_sampler.start()
            service.observability.start()
            # The WebSocket protocol class reads its limits from here.
            yield {
                "handshake_timeout_s": service.settings.handshake_timeout_s,
                "send_cap_bytes": service.settings.send_cap_bytes,
                "leg_watch": service.services.watch,
                "connection_limit": service.connections,
            }
            await service.close()

    async def unknown(websocket: WebSocket) -> None:
        # Starlette would answer 403, which says that something is there.
        await websocket.send_denial_response(PlainTextResponse("Not Found", 404))

    settings = service.settings
    agents = AgentsApi(service.agents, lambda: [call.agent_id for call in service.switchboard.calls])
    sessions = SessionsApi(
        lambda: service.switchboard.calls,
        recordings_dir=Path(settings.recordings_dir) if settings.recordings_dir else None,
        journals_dir=Path(settings.journals_dir) if settings.journals_dir else None,
        store=service.store,
        figures=service.observability.figures.call,
    )
    routes: list[BaseRoute] = [
        *health_routes(
            service.observability,
            service.switchboard,
            begun=service.begun,
            doors=service.doors,
            is_open=service.settings.metrics == "open",
        ),
        *audiocodes_routes(service.services, service.switchboard, service.doors),
        *twilio_routes(
            service.services,
            service.switchboard,
            service.continuity,
            service.twilio_outbound,
            service.chats,
        ),
        *dial_routes(
            settings, service.doors, service.twilio_outbound, lambda: service.agent_ids, service.counters
        ),
        *agent_routes(
            service.services,
            service.switchboard,
            AgentDoor(service.doors, service.settings.agent_origins),
            lambda: service.agent_ids,
        ),
        *playback_routes(service.switchboard.find, service.clips, service.doors, service.counters),
        *rest_routes(service.doors, agents, sessions),
        *profile_routes(Profiler(lambda: service.switchboard.active_calls), service.doors),
        *service.extra_routes,
        WebSocketRoute("/{path:path}", unknown),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(ProblemAnswers)],
        exception_handlers={Exception: answer_failure, HTTPException: answer_failure},
    )

"""The process: one uvicorn, one port, the embedded engine when asked for, an end that cuts no call early."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from types import FrameType

import uvicorn
from starlette.routing import BaseRoute

from fastagent.agent import FastAgent
from fastagent.call import CallObserver
from fastagent.errors import ConfigurationError
from fastagent.server.addresses import with_mapped_forms
from fastagent.server.agent_socket import AGENT_PATH
from fastagent.server.app import Service, build_app
from fastagent.server.connections import raise_descriptor_limit
from fastagent.server.engine import embedded_engine
from fastagent.server.http import HttpProtocol
from fastagent.server.websocket import WebSocketProtocol
from fastagent.settings import LOCAL_REALTIME, Settings

__all__ = ["RunningServer", "run_server", "serve"]

logger = logging.getLogger("fastagent.server")

BACKLOG = 2048
KEEP_ALIVE_S = 5


class _Server(uvicorn.Server):
    """uvicorn, but running calls are drained before it closes its WebSockets."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let calls end, still listening so that a lost one can resume; then close as uvicorn does."""
        timeout_s = self._service.settings.drain_timeout_s
        await self._service.switchboard.drain(timeout_s, is_urgent=lambda: self.force_exit)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal drains; a second one, of whatever kind, ends at once."""
        # Whoever asks whether we are ready is told at once, not at uvicorn's next look.
        self._service.switchboard.begin_drain()
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)
        if sig == signal.SIGTERM:
            # uvicorn raises again what it caught, which would kill a process that has ended in good order.
            self._captured_signals.remove(sig)


class RunningServer:
    """A server in this process, listening."""

    def __init__(self, server: _Server, service: Service, listener: socket.socket) -> None:
        self._server = server
        self.service = service
        self.host, self.port = listener.getsockname()[:2]

    @property
    def audiocodes_url(self) -> str:
        """The bot URL for AudioCodes."""
        return f"ws://{self.host}:{self.port}/audiocodes/webhook"

    @property
    def twilio_url(self) -> str:
        """The webhook for Twilio, where this machine reaches it."""
        return f"http://{self.host}:{self.port}/twilio/webhook"

    @property
    def agent_url(self) -> str:
        """Where clients of our own protocol connect."""
        return f"ws://{self.host}:{self.port}{AGENT_PATH}"

    def stop(self) -> None:
        """Begin the end: calls are drained first."""
        self.service.switchboard.begin_drain()
        self._server.should_exit = True


@contextlib.asynccontextmanager
async def run_server(
    agents: FastAgent | Sequence[FastAgent],
    settings: Settings,
    *,
    observers: Sequence[CallObserver] = (),
    extra_routes: Sequence[BaseRoute] = (),
    handle_signals: bool = False,
) -> AsyncIterator[RunningServer]:
    """Serve agents while the context is open; leaving it drains and stops.

    Raises:
        ConfigurationError: the port is taken, or the model's address or key cannot work.
    """
    agents = [agents] if isinstance(agents, FastAgent) else list(agents)
    async with contextlib.AsyncExitStack() as stack:
        realtime_url = settings.realtime_url
        if realtime_url == LOCAL_REALTIME:
            realtime_url = await stack.enter_async_context(embedded_engine())
        service = Service(
            agents, settings, realtime_url=realtime_url, observers=observers, extra_routes=extra_routes
        )
        listener = stack.enter_context(contextlib.closing(_listen(settings.host, settings.port)))
        service.observability.guard(listener)
        config = uvicorn.Config(
            build_app(service),
            ws=WebSocketProtocol,
            http=HttpProtocol,
            ws_max_size=settings.max_carrier_message_bytes,
            log_config=None,
            access_log=False,
            server_header=False,
            # Off, and never uvicorn's own default, which believes whoever connects from this machine.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=with_mapped_forms(settings.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16_384,
            backlog=BACKLOG,
            lifespan="on",
        )
        server = _Server(config, service)
        if handle_signals:
            task = asyncio.create_task(server.serve(sockets=[listener]))
        else:
            task = asyncio.create_task(server._serve(sockets=[listener]))
        try:
            while not server.started:
                if task.done():
                    await task
                    raise ConfigurationError("the server did not start")
                await asyncio.sleep(0.005)
            yield RunningServer(server, service, listener)
            if handle_signals:
                await asyncio.shield(task)
        finally:
            server.should_exit = True
            await task


async def serve(agents: FastAgent | Sequence[FastAgent], settings: Settings) -> None:
    """Serve until the process is told to stop."""
    raise_descriptor_limit()
    async with run_server(agents, settings, handle_signals=True) as server:
        logger.info(
            "listening, AudioCodes at %s and health at http://%s:%d/health",
            server.audiocodes_url,
            server.host,
            server.port,
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener

"""The process: one uvicorn, one port, the embedded engine when asked for, an end that cuts no call early.

Signals, where they are handled: SIGTERM drains (see `Drain`), SIGINT drains for a shorter time, a second one
of either ends now, SIGHUP reads tokens and agents again.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import uvicorn
from starlette.routing import BaseRoute

from fastagent.agent import FastAgent
from fastagent.call import CallObserver
from fastagent.errors import ConfigurationError
from fastagent.server.app import Service, build_app
from fastagent.server.coalesce import Coalescer
from fastagent.server.doors.addresses import with_mapped_forms
from fastagent.server.doors.connections import raise_descriptor_limit
from fastagent.server.engine import embedded_engine
from fastagent.server.http import HttpProtocol
from fastagent.server.life.acceptor import Acceptor
from fastagent.server.life.drain import Drain, DrainPhase
from fastagent.server.life.forward import SIBLING_STATE
from fastagent.server.life.listeners import find_listeners
from fastagent.server.life.notifier import Notifier
from fastagent.server.life.siblings import Siblings
from fastagent.server.lines.agent import AGENT_PATH
from fastagent.server.websocket import WebSocketProtocol
from fastagent.settings import LOCAL_REALTIME, Settings
from fastagent.settings.service_manager import ServiceManager

__all__ = ["LoadAgents", "RunningServer", "run_server", "serve"]

FULL_COLLECTION_EVERY = 2
"""Collections of the middle generation; Python's 10 let some five hundred calls' leavings pile up."""

logger = logging.getLogger("fastagent.server")

KEEP_ALIVE_S = 5
CLOSING_TIMEOUT_S = 5
"""For connections without a call, once the calls are over."""
HURRIED_CLOSING_TIMEOUT_S = 1
INTERRUPT_DRAIN_S = 15.0
"""What calls get after a Ctrl-C: somebody waits before a terminal."""

LoadAgents = Callable[[], Sequence[FastAgent]]
"""Gives the agents as they are now; may run in a thread."""


class _Server(uvicorn.Server):
    """uvicorn, but connections are accepted by us, and running calls are drained before it closes."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        listeners: Sequence[socket.socket],
        notifier: Notifier,
        load_agents: LoadAgents | None,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._listeners = listeners
        self._notifier = notifier
        self._load_agents = load_agents
        self._drain: Drain | None = None
        self._siblings: Siblings | None = None
        self._reloading: asyncio.Task[None] | None = None
        self.was_interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, from what listens already."""
        await super().startup(sockets=[])
        settings = self._service.settings
        acceptor = Acceptor(self._listeners, self._new_protocol)
        if settings.run_dir:
            self._siblings = Siblings(Path(settings.run_dir), self._listeners[0].getsockname()[1])
            self._siblings.enter(
                self._listeners, lambda visitor: acceptor.serve(visitor, self._new_sibling_protocol)
            )
            self._service.switchboard.siblings = self._siblings
        self._drain = Drain(
            self._service.switchboard,
            acceptor,
            self._siblings,
            goodbye_s=settings.drain_goodbye_s,
            late_s=settings.handshake_timeout_s,
            connections=lambda: self._service.connections.held,
            is_port_shared=settings.reuse_port and not settings.run_dir,
            leave_port=self._service.observability.leave_port,
        )
        acceptor.resume()
        self._acceptor = acceptor
        self._notifier.ready()

    def _new_protocol(self) -> asyncio.BaseProtocol:
        return HttpProtocol(self.config, self.server_state, self.lifespan.state)

    def _new_sibling_protocol(self) -> asyncio.BaseProtocol:
        # Among siblings there are no limits: each has judged its visitor already.
        state = {name: value for name, value in self.lifespan.state.items() if name != "connection_limit"}
        return HttpProtocol(self.config, self.server_state, {**state, SIBLING_STATE: True})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let calls end, still reached by those that resume; then close as uvicorn does."""
        assert self._drain is not None
        self.begin_drain(self._service.settings.drain_timeout_s)
        await self._drain.run()
        self._service.profiler.close()
        if self._siblings is not None:
            self._siblings.leave()
        await self._acceptor.close()
        if self._reloading is not None:
            await asyncio.gather(self._reloading, return_exceptions=True)
        await super().shutdown(sockets=[])
        self._notifier.close()

    def begin_drain(self, timeout_s: float) -> None:
        """Be not ready from this moment on."""
        self.should_exit = True
        if self._drain is not None and self._drain.phase is DrainPhase.SERVING:
            self._notifier.stopping()
            self._drain.begin(timeout_s)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have signals come as callbacks of the loop, at once and between other things."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler, number)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        """A first signal drains; a second one, of whatever kind, ends at once."""
        if self.should_exit and self._drain is not None:
            logger.warning("told to stop once more: calls end now")
            self.config.timeout_graceful_shutdown = HURRIED_CLOSING_TIMEOUT_S
            self._drain.hurry()
            return
        timeout_s = self._service.settings.drain_timeout_s
        if number == signal.SIGINT:
            self.was_interrupted = True
            timeout_s = min(timeout_s, INTERRUPT_DRAIN_S)
        self.begin_drain(timeout_s)

    def _reload(self, number: signal.Signals) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._read_again())

    async def _read_again(self) -> None:
        """Tokens and agents anew; what cannot be read changes nothing. Running calls keep what they have."""
        await asyncio.to_thread(self._service.doors.reload)
        if self._load_agents is None:
            return
        try:
            agents = await asyncio.to_thread(self._load_agents)
            self._service.use_agents(agents)
        except ConfigurationError as error:
            logger.error("agents stay as they were: %s", error)
        else:
            logger.info("new calls are answered by %s", ", ".join(agent.agent_id for agent in agents))


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
        self._server.begin_drain(self.service.settings.drain_timeout_s)


@contextlib.asynccontextmanager
async def run_server(
    agents: FastAgent | Sequence[FastAgent],
    settings: Settings,
    *,
    observers: Sequence[CallObserver] = (),
    extra_routes: Sequence[BaseRoute] = (),
    handle_signals: bool = False,
    manager: ServiceManager | None = None,
    load_agents: LoadAgents | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve agents while the context is open; leaving it drains and stops.

    Args:
        handle_signals: the module's docstring says which; the context is left once a signal has ended it.
        manager: who started this process, if anybody did.
        load_agents: gives the agents anew on SIGHUP.

    Raises:
        ConfigurationError: the port is taken, or the model's address or key cannot work.
        KeyboardInterrupt: SIGINT ended it.
    """
    agents = [agents] if isinstance(agents, FastAgent) else list(agents)
    manager = manager or ServiceManager()
    async with contextlib.AsyncExitStack() as stack:
        realtime_url = settings.realtime_url
        if realtime_url == LOCAL_REALTIME:
            realtime_url = await stack.enter_async_context(embedded_engine())
        service = Service(
            agents, settings, realtime_url=realtime_url, observers=observers, extra_routes=extra_routes
        )
        listeners = find_listeners(settings, manager.listen_descriptors)
        for listener in listeners:
            stack.enter_context(contextlib.closing(listener))
        service.observability.guard(listeners[0])
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
            timeout_graceful_shutdown=CLOSING_TIMEOUT_S,
            h11_max_incomplete_event_size=16_384,
            lifespan="on",
        )
        server = _Server(config, service, listeners, Notifier(manager), load_agents)
        running = RunningServer(server, service, listeners[0])
        task = asyncio.create_task(server.serve() if handle_signals else server._serve())
        try:
            while not server.started:
                if task.done():
                    await task
                    raise ConfigurationError("the server did not start")
                await asyncio.sleep(0.005)
            yield running
            if handle_signals:
                await asyncio.shield(task)
        finally:
            running.stop()
            await task
        if server.was_interrupted:
            raise KeyboardInterrupt


def forget_the_start() -> None:
    """Have the garbage collector leave alone all that stays for as long as the process does.

    A full collection then goes through the calls alone, some milliseconds instead of 30, and is due as soon
    as they have left a quarter of what they hold, not a quarter of everything: their memory is soon used
    again. Only for a process that does nothing else.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # the collector goes by what the last full collection found
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, FULL_COLLECTION_EVERY)


async def serve(
    agents: FastAgent | Sequence[FastAgent],
    settings: Settings,
    *,
    manager: ServiceManager | None = None,
    load_agents: LoadAgents | None = None,
    with_parent: bool = False,
) -> None:
    """Serve until the process is told to stop; `run_server` tells of the arguments.

    Args:
        with_parent: drain, too, when standard input ends: whoever started us has ended.
    """
    raise_descriptor_limit()
    async with contextlib.AsyncExitStack() as stack:
        at_the_end = stack.enter_context(contextlib.ExitStack())
        server = await stack.enter_async_context(
            run_server(agents, settings, handle_signals=True, manager=manager, load_agents=load_agents)
        )
        forget_the_start()
        switchboard = server.service.switchboard
        coalescer = Coalescer(settings.coalesce_us, lambda: switchboard.active_calls)
        at_the_end.callback(coalescer.close)
        if with_parent:
            follow = partial(_follow_parent, asyncio.get_running_loop(), server.stop)
            threading.Thread(target=follow, name="fastagent-parent", daemon=True).start()
        logger.info(
            "listening, AudioCodes at %s and health at http://%s:%d/health",
            server.audiocodes_url,
            server.host,
            server.port,
        )


def _follow_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended before
        loop.call_soon_threadsafe(stop)

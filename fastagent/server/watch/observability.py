"""All that looks at a running server: figures, pulse, watchdog, metrics, traces; made and ended together."""

import asyncio
import socket
import time

from fastagent.call import CallMeter
from fastagent.server.switchboard import Switchboard
from fastagent.server.watch.costs import load_prices, model_label
from fastagent.server.watch.figures import ServerFigures
from fastagent.server.watch.metrics import ServerMetrics
from fastagent.server.watch.pulse import Pulse
from fastagent.server.watch.redaction import Redactor
from fastagent.server.watch.stall_watchdog import DEAD_AFTER_S, StallWatchdog
from fastagent.server.watch.stalled_door import StalledDoor
from fastagent.server.watch.traces import CallTraces, open_traces
from fastagent.settings import Settings
from fastagent.stats import Counters

__all__ = ["Observability"]


class Observability:
    """Looks at one server.

    Raises:
        ConfigurationError: the price file does not fit, or traces are asked for and not installed.
    """

    def __init__(self, settings: Settings) -> None:
        prices = load_prices(settings.prices_file)
        label = model_label(settings.realtime_model, prices)
        self.figures = ServerFigures(label, prices.get(label))
        self.traces: CallTraces | None = None
        if settings.traces_url:
            self.traces = open_traces(settings.traces_url, Redactor(settings.secrets))
        self.watchdog = StallWatchdog(
            limit_s=settings.stall_ms / 1000,
            dead_after_s=DEAD_AFTER_S,
            on_stall=self.figures.stall_s.note,
            while_dead=self._answer,
        )
        self._pulse = Pulse(self.figures)
        self._door: StalledDoor | None = None
        self._begun = time.monotonic()

    @property
    def observers(self) -> tuple[CallMeter, ...]:
        """What hears the calls."""
        return (self.figures,) if self.traces is None else (self.figures, self.traces)

    def connect(self, switchboard: Switchboard, counters: Counters) -> None:
        """Show this server's calls and counters."""
        self.metrics = ServerMetrics(
            self.figures,
            switchboard,
            counters,
            uptime=lambda: time.monotonic() - self._begun,
            stalled=lambda: self.watchdog.stalled_s,
        )

    def guard(self, listener: socket.socket) -> None:
        """Answer on this socket while the loop cannot."""
        self._door = StalledDoor(listener)

    def leave_port(self) -> None:
        """Hold the listening socket no longer."""
        if self._door is not None:
            self._door.close()

    def start(self) -> None:
        """Look at the running loop from now on."""
        self._pulse.start()
        self.watchdog.start()

    async def close(self) -> None:
        """Look no more; what was traced is sent."""
        self._pulse.close()
        self.watchdog.close()
        if self._door is not None:
            self._door.close()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)

    def _answer(self) -> None:
        if self._door is not None:
            self._door.answer()

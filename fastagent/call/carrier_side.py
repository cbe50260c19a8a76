"""The carrier's side of a call: the socket it has now, if it has one."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastagent._native.listener import Leg
from fastagent.legs.carrier import CarrierSocket
from fastagent.stats import Counters, TimeClasses
from fastagent.wire import events as carrier

__all__ = ["CarrierSide"]


class CarrierSide:
    """One socket of the carrier at a time.

    Args:
        settings: what the carrier is configured with once the call stands on a socket.
        on_event: takes what the carrier says.
        on_lost: takes the socket, code and reason when the socket of now is gone.
        on_leg_closed: takes the leg of each socket that is left, before it closes.
        counters: where oddities are counted.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        on_event: Callable[[carrier.CarrierEvent], None],
        on_lost: Callable[[CarrierSocket, int, str], None],
        on_leg_closed: Callable[[Leg], None],
        counters: Counters,
    ) -> None:
        self.socket: CarrierSocket | None = None
        self.times = TimeClasses()
        """How long the frames of closed legs took."""
        self._settings = settings
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_leg_closed = on_leg_closed
        self._counters = counters
        self._is_configured = False

    @property
    def leg(self) -> Leg | None:
        """The socket's leg."""
        return self.socket.leg if self.socket is not None else None

    def take(self, socket: CarrierSocket) -> None:
        """Have the call on this socket."""
        self.socket = socket
        socket.on_event = self._on_event
        socket.on_lost = partial(self._lost, socket)
        self._is_configured = False

    def _lost(self, socket: CarrierSocket, code: int, reason: str) -> None:
        if socket is self.socket:
            self._on_lost(socket, code, reason)

    def leave(self) -> bool:
        """Give the socket up; False without one."""
        socket, self.socket = self.socket, None
        if socket is None:
            return False
        socket.on_event, socket.on_lost = _ignore, _ignore
        if socket.leg is not None:
            self.times.add(socket.leg.frame_times)
            self._on_leg_closed(socket.leg)
            self._counters.note("carrier_protocol_errors", socket.leg.protocol_errors)
            socket.leg.disconnect_pump()
            socket.close()
        return True

    def take_settings(self, event: carrier.CarrierEvent) -> Mapping[str, Any]:
        """What the carrier is to be configured with now that it has said this; empty for nothing."""
        if self._is_configured or not isinstance(event, carrier.CallMetadata | carrier.CallerStreamStarted):
            return {}
        self._is_configured = True
        return self._settings

    def send(self, command: carrier.CarrierCommand) -> bool:
        """Send what agents may ask for; False for what this carrier cannot do."""
        if self.socket is None:
            return True
        try:
            self.socket.send(command)
        except ValueError:
            self._counters.note("carrier_commands_refused")
            return False
        return True


_ignore: Callable[..., None] = lambda *_: None  # noqa: E731 - a callback that does nothing, typed as any

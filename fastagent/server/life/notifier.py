"""Reports to a service manager: ready, stopping, alive (sd_notify(3)). One datagram each, no library."""

import asyncio
import logging
import socket

from fastagent.settings.service_manager import ServiceManager

__all__ = ["Notifier"]

logger = logging.getLogger("fastagent.server")


class Notifier:
    """Says nothing where there is nobody to tell. A manager that does not read holds nothing up."""

    def __init__(self, manager: ServiceManager) -> None:
        address = manager.notify_address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval_s = manager.watchdog_s / 2
        self._timer: asyncio.TimerHandle | None = None

    def ready(self) -> None:
        """Calls are taken; from now on there are signs of life where they are wanted."""
        self.tell("READY=1")
        if self._interval_s and self._address and self._timer is None:
            self._live()

    def stopping(self) -> None:
        """The end has begun; the signs of life go on, as running calls do."""
        self.tell("STOPPING=1")

    def tell(self, state: str) -> None:
        """Send a report."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto(state.encode(), self._address)
        except OSError as error:
            logger.debug("the service manager was not told %s: %s", state, error)

    def close(self) -> None:
        """No more signs of life."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _live(self) -> None:
        self.tell("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._live)

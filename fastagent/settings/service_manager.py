"""What a service manager tells a process it starts: sockets to listen on, and where to report.

The variables are systemd's (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)); any manager may set
them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ServiceManager"]

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """What there is of one; nothing by default."""

    listen_descriptors: tuple[int, ...] = ()
    """Sockets that listen already."""
    notify_address: str = ""
    """Where to report: a path, or ``@`` and an abstract name; empty: nobody wants to know."""
    watchdog_s: float = 0.0
    """After so long without a sign of life the process is killed; 0: never."""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, *, pid: int | None = None
    ) -> "ServiceManager":
        """Read what is meant for this process; a variable that does not parse is as good as none.

        Args:
            pid: None for our own.
        """
        values = os.environ if environment is None else environment
        own = os.getpid() if pid is None else pid
        descriptors = _number(values.get("LISTEN_FDS")) if _number(values.get("LISTEN_PID")) == own else 0
        is_watched = _number(values.get("WATCHDOG_PID") or str(own)) == own
        return cls(
            tuple(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + descriptors)),
            values.get("NOTIFY_SOCKET", ""),
            _number(values.get("WATCHDOG_USEC")) / 1e6 if is_watched else 0.0,
        )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 16 else 0

"""Who may come in: a request's bearer token and address to a credential, or to the reason of a refusal."""

import ipaddress
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response

from fastagent.errors import ConfigurationError
from fastagent.server.doors.addresses import address_key
from fastagent.server.doors.failures import FailureLimit
from fastagent.server.doors.tokens import (
    Credential,
    DenialCause,
    Scope,
    Token,
    TokenBook,
    presented_digest,
    read_tokens_file,
    tokens_from_settings,
)
from fastagent.settings import Settings
from fastagent.stats import Counters

__all__ = ["Credential", "Denial", "DenialCause", "Doorkeeper", "Scope"]

logger = logging.getLogger("fastagent.server")

ANYONE = Credential("anyone", frozenset(Scope))
"""Who comes while no token is set, which is from this machine alone."""
WELCOME_MAX = 4096
"""Pairs of address and token remembered as good."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why somebody is not let in, and how that is answered."""

    cause: DenialCause
    retry_after_s: int = 0

    @property
    def status(self) -> int:
        """401, 403 or 429."""
        if self.cause is DenialCause.BLOCKED:
            return 429
        return 403 if self.cause in (DenialCause.SCOPE, DenialCause.ORIGIN) else 401

    @property
    def detail(self) -> str:
        """For the one who asks; which of the 401s it is stays our own."""
        if self.cause is DenialCause.BLOCKED:
            return "too many wrong credentials"
        if self.cause is DenialCause.SCOPE:
            return "this token does not open this door"
        if self.cause is DenialCause.ORIGIN:
            return "this door is closed to pages of other sites"
        return "a bearer token is needed"

    @property
    def headers(self) -> dict[str, str]:
        """What belongs to the status."""
        if self.cause is DenialCause.BLOCKED:
            return {"Retry-After": str(self.retry_after_s)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    @property
    def response(self) -> Response:
        """The plain HTTP answer."""
        return PlainTextResponse(self.detail, self.status, self.headers)


class Doorkeeper:
    """Knows all tokens, and which addresses guess.

    Without any token, and only then on loopback (see `Settings`), everybody is let in; a file that becomes
    empty later closes the doors. An address that is blocked for its guesses is still heard with a token that
    it came in with before: one wrong bot of a carrier does not shut out the others behind the same address.

    Args:
        now: monotonic seconds.
        today: the present moment with its zone; tokens begin and expire by the calendar.

    Raises:
        ConfigurationError: the tokens file cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        *,
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._counters = counters
        self._now = now
        self._today = today
        self._file = Path(settings.tokens_file) if settings.tokens_file else None
        self._own = tokens_from_settings(settings)
        self._book = TokenBook([*self._own, *self._read_file()])
        self._failures = FailureLimit(
            settings.auth_failures_max, settings.auth_failure_window_s, settings.auth_block_s
        )
        self._welcome: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self.is_open = settings.is_loopback and not settings.has_tokens

    def _read_file(self) -> list[Token]:
        return read_tokens_file(self._file) if self._file is not None else []

    def reload(self) -> bool:
        """Read the tokens file again; when that fails, the tokens stay as they are.

        May run in a thread. Running calls are not touched: a token opens doors, it holds none open.

        Returns:
            The tokens are those of the file.
        """
        try:
            read = self._read_file()
        except ConfigurationError as error:
            self._counters.note("auth_reloads_failed")
            logger.error("tokens stay as they were: %s", error)
            return False
        self._book = TokenBook([*self._own, *read])
        self._counters.note("auth_reloads")
        logger.info("%d tokens are known", len(self._book))
        return True

    def check(self, connection: HTTPConnection, *scopes: Scope) -> Credential | Denial:
        """Let a request in when its token has one of ``scopes``; every refusal is counted by its cause.

        `starlette`'s `Request` and `WebSocket` are connections. Their client's address is the peer's own, or
        what a trusted proxy says.
        """
        address = connection.client.host if connection.client is not None else ""
        headers = connection.headers
        return self.counted(
            self.admit(headers.get("authorization"), address, *scopes, origin=headers.get("origin"))
        )

    def counted(self, found: Credential | Denial) -> Credential | Denial:
        """What `admit` gave, a refusal counted by its cause."""
        if isinstance(found, Denial):
            self._counters.note(f"auth_refused_{found.cause}")
        return found

    def admit(
        self, authorization: str | None, address: str, *scopes: Scope, origin: str | None = None
    ) -> Credential | Denial:
        """The same of a header and an address, without counting.

        An open door is not open to web pages of other sites: a browser on this machine would let any of them
        through, and says so in ``origin``.
        """
        if self.is_open:
            return ANYONE if origin is None or _is_local(origin) else Denial(DenialCause.ORIGIN)
        now = self._now()
        visitor = address_key(address), presented_digest(authorization or "") or b""
        blocked_s = self._failures.blocked_for_s(address, now)
        if blocked_s and visitor not in self._welcome:
            return Denial(DenialCause.BLOCKED, math.ceil(blocked_s))
        found = self._book.match(authorization, self._today())
        if not isinstance(found, Credential):
            if found in (DenialCause.UNKNOWN, DenialCause.MALFORMED):
                self._failures.note(address, now)
            return Denial(found)
        self._welcome[visitor] = None
        self._welcome.move_to_end(visitor)
        if len(self._welcome) > WELCOME_MAX:
            self._welcome.popitem(last=False)
        return found if found.scopes.intersection(scopes) else Denial(DenialCause.SCOPE)


def _is_local(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The redis-py client of a URL: how long it waits, and that it tries once.

A call never waits for Redis, and what waits behind it (`SessionKeeper`) has retries of its own. redis-py's
would only add up: ten of them stall for 7 s on a frozen server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from fastagent.errors import ConfigurationError

__all__ = ["CONNECTIONS_MAX", "SCHEMES", "SOCKET_TIMEOUT_S", "RedisClient", "connect"]

SOCKET_TIMEOUT_S = 0.25
"""For a connection, and for each answer."""
CONNECTIONS_MAX = 32
"""Of one store to one server."""
SENTINEL_PORT = 26_379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")

RedisClient: TypeAlias = Redis | RedisCluster
Options: TypeAlias = Callable[[], dict[str, Any]]
Close: TypeAlias = Callable[[], Awaitable[Any]]


def connect(url: str, timeout_s: float = SOCKET_TIMEOUT_S) -> tuple[RedisClient, tuple[Close, ...]]:
    """Make the client of a URL, and what closes it; nothing is connected yet.

    - ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` with TLS, ``unix://path[?db=…]``
    - ``redis+sentinel://[user:password@]host[:port],host[:port]…/service[/db]``: the credential is for the
      servers, sentinels are asked without
    - ``redis+cluster://[user:password@]host[:port]``, any node of it

    Raises:
        ConfigurationError: a URL that is none of these. Its text is not quoted: it may hold a password.
    """
    make = {"redis+sentinel": _by_sentinels, "redis+cluster": _of_cluster}
    try:
        scheme = urlsplit(url).scheme
        if scheme not in SCHEMES:
            raise ValueError
        return make.get(scheme, _of_server)(url, partial(_options, timeout_s))
    except ValueError:
        raise ConfigurationError(
            "the Redis URL: expected redis://, rediss://, unix://, redis+sentinel://host:port,…/service "
            "or redis+cluster://, with numbers for port and database"
        ) from None


def _options(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        # The newer protocol adds push messages, of which we want none.
        "protocol": 2,
    }


def _of_server(url: str, options: Options) -> tuple[RedisClient, tuple[Close, ...]]:
    parts = urlsplit(url)
    if parts.scheme != "unix":
        # redis-py takes 0 for a database that is no number.
        _database(parts.path.strip("/"))
    client = Redis.from_pool(ConnectionPool.from_url(url, max_connections=CONNECTIONS_MAX, **options()))
    return client, (client.aclose,)


def _of_cluster(url: str, options: Options) -> tuple[RedisClient, tuple[Close, ...]]:
    given: dict[str, Any] = {**parse_url("redis" + url.removeprefix("redis+cluster")), **options()}
    given["ssl"] = given.pop("connection_class", None) is SSLConnection
    client = RedisCluster(**given, max_connections=CONNECTIONS_MAX)
    return client, (client.aclose,)


def _by_sentinels(url: str, options: Options) -> tuple[RedisClient, tuple[Close, ...]]:
    parts = urlsplit(url)
    credential, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credential.partition(":")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError
    # Sentinels are asked with the same options: left alone, each would be asked ten times.
    sentinel = _Sentinels([_address(host) for host in hosts.split(",")], options)
    client: Redis = sentinel.master_for(
        unquote(service),
        db=_database(database),
        username=unquote(user) or None,
        password=unquote(password) or None,
        max_connections=CONNECTIONS_MAX,
    )
    return client, (client.aclose, sentinel.aclose)


class _Sentinels(Sentinel):
    """Sentinels that are asked once for all who want to know.

    Questions at the same time would each reorder redis-py's one list of sentinels, and lose some of them.
    """

    def __init__(self, addresses: list[tuple[str, int]], options: Options) -> None:
        super().__init__(addresses, sentinel_kwargs=options(), **options())  # type: ignore[no-untyped-call]
        self._asking: asyncio.Task[tuple[str, int]] | None = None

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Where the master is."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(super().discover_master(service_name))
        # Whoever gives up waiting must not end it for the others.
        return await asyncio.shield(self._asking)


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or SENTINEL_PORT


def _database(text: str) -> int:
    number = int(text or "0")
    if number < 0:
        raise ValueError
    return number

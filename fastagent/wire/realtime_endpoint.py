"""Where a Realtime server is reached and how one introduces oneself: URL, headers, dialect.

Three forms are known. OpenAI and everything that imitates it: ``…/v1/realtime?model=…`` with a bearer key.
Azure, generally available: ``…/openai/v1/realtime?model=<deployment>`` with an ``api-key`` header. Azure,
preview: ``…/openai/realtime?api-version=…&deployment=<deployment>``, the same header, and the beta dialect.
"""

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from fastagent.errors import ConfigurationError
from fastagent.wire.realtime_dialects import Dialect

__all__ = ["AZURE_PREVIEW_API_VERSION", "UpgradeRequest", "dialect_for", "upgrade_request"]

AZURE_PREVIEW_API_VERSION = "2025-04-01-preview"
"""Put in the query of a preview URL that names no version."""

_AZURE_HOSTS = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
)
_OPENAI_HOSTS = (".openai.com",)
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
"""Three base64url parts: an Entra token, which Azure takes as a bearer token and not as a key."""


class UpgradeRequest(NamedTuple):
    """What opens the socket. A key may stand in the headers or the query, so ``repr`` leaves both out."""

    url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"UpgradeRequest(url={self.url.partition('?')[0]!r}, headers={sorted(self.headers)!r})"


def dialect_for(url: str) -> Dialect:
    """The dialect spoken at ``url``: beta at Azure's preview path, GA everywhere else.

    Raises:
        ConfigurationError: not a ``ws://`` or ``wss://`` URL.
    """
    return Dialect.BETA if _is_azure_preview(_split(url)) else Dialect.GA


def upgrade_request(
    url: str,
    api_key: str = "",
    model: str = "",
    *,
    dialect: Dialect | None = None,
    organization: str = "",
    project: str = "",
) -> UpgradeRequest:
    """The URL to connect to and the headers to send.

    Args:
        url: where the server is; query parameters already there win over ``model``.
        api_key: the key, a client secret or an Entra token. May be empty for a server of one's own.
        model: the model; on Azure the name of the deployment.
        dialect: what to speak, when it is not `dialect_for` the URL.
        organization: sent to OpenAI when several share a key.
        project: likewise.

    Raises:
        ConfigurationError: a URL, key or model that cannot work. The message holds no key and no query.
    """
    parts = _split(url)
    host = (parts.hostname or "").lower()
    is_azure, is_openai = host.endswith(_AZURE_HOSTS), host.endswith(_OPENAI_HOSTS)
    if (is_azure or is_openai) and parts.scheme != "wss":
        raise ConfigurationError(f"{host} needs wss://: over ws:// the key would travel in clear text")
    key = api_key.strip()
    if not key and (is_azure or is_openai):
        raise ConfigurationError(f"{host} needs an API key and none is set")
    headers = {}
    if key:
        _check_header("the API key", key)
        if is_azure and not _JWT.fullmatch(key):
            headers["api-key"] = key
        else:
            headers["Authorization"] = f"Bearer {key}"
    if not is_azure:
        for name, value in (("OpenAI-Organization", organization), ("OpenAI-Project", project)):
            if value:
                _check_header(name, value)
                headers[name] = value
        if dialect is Dialect.BETA:
            headers["OpenAI-Beta"] = "realtime=v1"
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    if path in ("", "/") and (is_azure or is_openai):
        path = "/openai/v1/realtime" if is_azure else "/v1/realtime"
    query = parse_qsl(parts.query, keep_blank_values=True)
    names = {name for name, _ in query}
    if _is_azure_preview(parts):
        if "api-version" not in names:
            query.append(("api-version", AZURE_PREVIEW_API_VERSION))
        _add_model(query, names, "deployment", model, host)
    elif "call_id" not in names:  # a socket beside a SIP call takes the model of that call
        _add_model(query, names, "model", model, host if is_azure or is_openai else "")
    # The fragment is never sent (RFC 6455, section 3 forbids one).
    return UpgradeRequest(urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), "")), headers)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        port_is_valid = parts.port != 0
    except ValueError:
        raise ConfigurationError("the URL for the model does not parse") from None
    if parts.scheme not in ("ws", "wss"):
        scheme = parts.scheme if re.fullmatch(r"[a-z][a-z0-9+.-]{0,15}", parts.scheme) else ""
        raise ConfigurationError(f"expected a ws:// or wss:// URL for the model, got scheme {scheme!r}")
    if not parts.hostname or not port_is_valid:
        raise ConfigurationError("the URL for the model needs a host, and a port from 1 to 65535 if any")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("the URL for the model must not carry credentials: set the API key instead")
    return parts


def _is_azure_preview(parts: SplitResult) -> bool:
    host = (parts.hostname or "").lower()
    return host.endswith(_AZURE_HOSTS) and parts.path.rstrip("/") == "/openai/realtime"


def _add_model(query: list[tuple[str, str]], names: set[str], key: str, model: str, needed_by: str) -> None:
    if key in names:
        return
    if model:
        query.append((key, model))
    elif needed_by:
        raise ConfigurationError(f"{needed_by} needs a {key} and none is set")


def _check_header(what: str, value: str) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise ConfigurationError(f"{what} holds characters that an HTTP header cannot carry")

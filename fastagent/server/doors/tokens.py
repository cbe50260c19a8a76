"""Bearer tokens: who holds them, what they open and when; only their digests are kept.

A tokens file is TOML. Two tokens of one name are one owner, which is how a token is changed without a gap::

    [[token]]
    name = "live-hub"                       # the principal
    token = "sha256:5f0c6a8e…"               # or the token itself
    scopes = ["audiocodes"]
    expires = 2027-02-01T00:00:00Z          # not_before, expires: optional

The digest of a token: ``printf %s "$TOKEN" | sha256sum``.
"""

import hashlib
import hmac
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from fastagent.errors import ConfigurationError
from fastagent.settings import Settings
from fastagent.settings.values import DIGEST_PREFIX, TOKEN_CHARACTERS_MIN

__all__ = [
    "Credential",
    "DenialCause",
    "Scope",
    "Token",
    "TokenBook",
    "read_tokens_file",
    "tokens_from_settings",
    "tokens_from_texts",
]

TOKENS_FILE_BYTES_MAX = 1_048_576
TOKENS_MAX = 1000
"""Each is compared with every credential that comes: 1000 take some 70 µs."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Scope(StrEnum):
    """What a token may open."""

    CALL = "call"
    """Talk to an agent at ``/agent/ws``."""
    AUDIOCODES = "audiocodes"
    """Bring calls as AudioCodes does."""
    ADMIN = "admin"
    """See and change the running house."""
    METRICS = "metrics"
    DIAL = "dial"
    """Have calls placed."""


class DenialCause(StrEnum):
    """Why nobody was let in."""

    MISSING = "missing"
    """No ``Authorization`` header."""
    MALFORMED = "malformed"
    """Not ``Bearer`` and a token."""
    UNKNOWN = "unknown"
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    SCOPE = "scope"
    """A good token that opens other doors."""
    ORIGIN = "origin"
    """No token is asked for, and a browser brings a page of another site."""
    BLOCKED = "blocked"
    """Too many wrong ones came from this address."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Who is there, and what they may do."""

    principal: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Token:
    """One token, as far as it is kept."""

    digest: bytes = field(repr=False)
    principal: str
    scopes: frozenset[Scope]
    not_before: datetime | None = None
    expires: datetime | None = None


class TokenBook:
    """All tokens of a house."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def match(self, authorization: str | None, today: datetime) -> Credential | DenialCause:
        """Whose token an ``Authorization`` header holds.

        A token that stands in the book several times has the scopes of all that are valid now.

        Args:
            today: the present moment, with its time zone.
        """
        if not authorization:
            return DenialCause.MISSING
        presented = presented_digest(authorization)
        if presented is None:
            return DenialCause.MALFORMED
        # Every digest is compared, so that the time does not tell which one matched.
        matches = [hmac.compare_digest(token.digest, presented) for token in self._tokens]
        found = [token for token, is_match in zip(self._tokens, matches, strict=True) if is_match]
        if not found:
            return DenialCause.UNKNOWN
        valid = [
            token
            for token in found
            if (token.not_before is None or token.not_before <= today)
            and (token.expires is None or today < token.expires)
        ]
        if valid:
            return Credential(valid[0].principal, frozenset().union(*(token.scopes for token in valid)))
        is_early = any(token.not_before is not None and today < token.not_before for token in found)
        return DenialCause.NOT_YET if is_early else DenialCause.EXPIRED


def presented_digest(authorization: str) -> bytes | None:
    """The digest of a header's bearer token; None when it holds none."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return None
    # Header values come as latin-1 text; digests of bytes compare whatever they hold.
    try:
        return hashlib.sha256(token.encode("latin-1")).digest()
    except UnicodeEncodeError:
        return None


def token_digest(text: str) -> bytes:
    """The digest of a token that is written plain or as ``sha256:`` and its digest.

    Raises:
        ConfigurationError: it is too short, or the digest is none; the text is not told.
    """
    if text.startswith(DIGEST_PREFIX):
        digits = text.removeprefix(DIGEST_PREFIX)
        if re.fullmatch(r"[0-9a-fA-F]{64}", digits) is None:
            raise ConfigurationError(f"expected 64 hexadecimal digits after {DIGEST_PREFIX}")
        return bytes.fromhex(digits)
    if len(text) < TOKEN_CHARACTERS_MIN:
        raise ConfigurationError(
            f"expected a token of at least {TOKEN_CHARACTERS_MIN} characters, got {len(text)}"
        )
    return hashlib.sha256(text.encode()).digest()


def tokens_from_texts(texts: Iterable[str], principal: str, *scopes: Scope) -> list[Token]:
    """Tokens of one owner.

    Raises:
        ConfigurationError: see `token_digest`.
    """
    return [Token(token_digest(text), principal, frozenset(scopes)) for text in texts]


def tokens_from_settings(settings: Settings) -> list[Token]:
    """The tokens that stand in the settings themselves; each variable is one owner.

    Only clients of ``/agent/ws`` have an owner for each token: applications have many users.
    """
    clients = [token_digest(text) for text in settings.agent_tokens]
    return [
        *tokens_from_texts(settings.audiocodes_tokens, "audiocodes", Scope.AUDIOCODES),
        *(Token(digest, _client(digest), frozenset({Scope.CALL})) for digest in clients),
        *tokens_from_texts(settings.admin_tokens, "admin", Scope.ADMIN, Scope.DIAL, Scope.METRICS),
        *tokens_from_texts(settings.metrics_tokens, "metrics", Scope.METRICS),
    ]


def _client(digest: bytes) -> str:
    """A name that says nothing of the token, and is the same after a restart."""
    return "agent-" + hashlib.sha256(b"owner" + digest).hexdigest()[:16]


def read_tokens_file(path: Path) -> list[Token]:
    """The tokens of a file.

    Raises:
        ConfigurationError: it cannot be read, or holds what cannot be right; the message says where, never
            a token.
    """
    try:
        with path.open("rb") as file:
            data = file.read(TOKENS_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    if len(data) > TOKENS_FILE_BYTES_MAX:
        raise ConfigurationError(f"{path}: more than {TOKENS_FILE_BYTES_MAX} bytes")
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    try:
        return list(_tokens(table))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _tokens(table: dict[str, Any]) -> Iterator[Token]:
    entries = table.pop("token", [])
    if table:
        raise ConfigurationError(f"expected [[token]] alone, got {min(table)!r}")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationError("expected [[token]]")
    if len(entries) > TOKENS_MAX:
        raise ConfigurationError(f"expected at most {TOKENS_MAX} tokens, got {len(entries)}")
    seen: dict[bytes, int] = {}
    for number, entry in enumerate(entries, 1):
        try:
            token = _token(entry)
        except ConfigurationError as error:
            raise ConfigurationError(f"token {number}: {error}") from None
        if (other := seen.setdefault(token.digest, number)) != number:
            raise ConfigurationError(f"token {number}: the same as token {other}")
        yield token


def _token(entry: dict[str, Any]) -> Token:
    known = ("name", "token", "scopes", "not_before", "expires")
    if unknown := entry.keys() - set(known):
        raise ConfigurationError(f"expected {', '.join(known)}, got {min(unknown)!r}")
    name, text, scopes = entry.get("name"), entry.get("token"), entry.get("scopes")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigurationError("name: expected 1 to 64 letters, digits, '.', '_' or '-'")
    if not isinstance(text, str):
        raise ConfigurationError("token: expected a text")
    if not isinstance(scopes, list) or not scopes or not all(scope in list(Scope) for scope in scopes):
        raise ConfigurationError(f"scopes: expected a list of {', '.join(Scope)}")
    not_before, expires = _moment(entry, "not_before"), _moment(entry, "expires")
    if not_before is not None and expires is not None and expires <= not_before:
        raise ConfigurationError("expires: expected a time after not_before")
    return Token(
        token_digest(text.strip()), name, frozenset(Scope(scope) for scope in scopes), not_before, expires
    )


def _moment(entry: dict[str, Any], key: str) -> datetime | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigurationError(f"{key}: expected a date and time with its zone, as 2027-02-01T00:00:00Z")
    return value.astimezone(UTC)

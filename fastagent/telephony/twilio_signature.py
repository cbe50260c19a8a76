"""Whether Twilio sent a request: its signature over the address it called and the form it posted.

Sources: https://www.twilio.com/docs/usage/webhooks/webhooks-security and the vendor's validator (GitHub
``twilio/twilio-python``, ``twilio/request_validator.py``), with which this one agrees. Where the vendor's
raises or takes an IPv6 address apart, this one does what the documents say.

The signed text is the address as Twilio was told to call it, then name and value of each form field, sorted,
each pair once. Which address that was is configured, never taken from the request: whoever forges a request
writes its ``Host`` and ``X-Forwarded-*`` too.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from fastagent.errors import ConfigurationError

__all__ = [
    "FORM_FIELDS_MAX",
    "SIGNATURE_HEADER",
    "SIGNATURE_SETTINGS_HEADER",
    "Algorithm",
    "Refusal",
    "RequestVerifier",
    "SignedRequest",
    "compute_signature",
    "form_fields",
    "is_signature_of",
    "url_variants",
]

SIGNATURE_HEADER = "x-twilio-signature"
SIGNATURE_SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"
"""On requests signed with a shared key: ``key=<id>,algorithm=HMAC_SHA256``."""
BODY_HASH_PARAMETER = "bodySHA256"
FORM_FIELDS_MAX = 256
"""Fields of one form; real ones have some thirty."""
KEY_CHARACTERS_MIN = 16
"""A key shorter than this is refused: it could be guessed."""

Algorithm = Literal["HMAC_SHA1", "HMAC_SHA256"]
Refusal = Literal["bad_body_hash", "forged", "unknown_algorithm", "unknown_key", "unsigned", "wrong_host"]
"""Why a request is not believed."""

_HASHES = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


def compute_signature(
    key: str, url: str, fields: Iterable[tuple[str, str]] = (), *, algorithm: Algorithm = "HMAC_SHA1"
) -> str:
    """The signature of a request.

    Args:
        key: the account's auth token, or a shared key's secret.
        url: the whole address, exactly as it was called.
        fields: of a posted form, decoded; names may come several times, and values may be empty.
    """
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    digest = hmac.new(key.encode(), signed.encode("utf-8", "surrogatepass"), _HASHES[algorithm]).digest()
    return base64.b64encode(digest).decode()


def url_variants(url: str) -> Iterator[str]:
    """An address with its scheme's usual port, without it, and as it stands: Twilio signs either.

    Another port is signed as it stands or left out, as the vendor's validator has it.
    """
    yield url
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address, as a forger's Host may
        return
    # By hand: a user's part and an IPv6 address hold colons as well.
    before, at, place = parts.netloc.rpartition("@")
    host, colon, _ = place.rpartition(":")
    if not colon or host.startswith("[") != host.endswith("]"):
        port = _PORTS.get(parts.scheme, 80)
        yield parts._replace(netloc=f"{before}{at}{place}:{port}").geturl()
    else:
        yield parts._replace(netloc=f"{before}{at}{host}").geturl()


def is_signature_of(
    signature: str,
    key: str,
    url: str,
    fields: Iterable[tuple[str, str]] = (),
    *,
    algorithm: Algorithm = "HMAC_SHA1",
) -> bool:
    """Whether a request of this address has this signature, with or without its port."""
    fields = tuple(fields)
    presented = signature.encode("utf-8", "surrogatepass")
    # Every variant is compared, so that the time does not tell which one matched.
    return any(
        [  # noqa: C419
            hmac.compare_digest(compute_signature(key, one, fields, algorithm=algorithm).encode(), presented)
            for one in url_variants(url)
        ]
    )


def form_fields(body: bytes) -> tuple[tuple[str, str], ...] | None:
    """Names and values of a form in order, empty values too; None when it is no form that we read."""
    try:
        return tuple(
            parse_qsl(
                body.decode(),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=FORM_FIELDS_MAX,
            )
        )
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What of a request a signature covers, and what it says of itself."""

    headers: Mapping[str, str]
    """By lower-case names."""
    target: str
    """Path and query as they stood in the request line, percent-encoding and all."""
    body: bytes = b""
    """Empty but for a POST."""

    @property
    def is_form(self) -> bool:
        """Its body's fields are signed; those of any other body are not, its hash is."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind == "application/x-www-form-urlencoded"


class RequestVerifier:
    """Believes what Twilio signed for the configured address.

    Args:
        auth_tokens: of the account, the subaccounts, and of both while one is being rotated.
        shared_keys: secrets of further signing keys, by their ids.
        public_url: where Twilio finds this server: ``https://HOST``, with a port or a path before ours if so.

    Raises:
        ConfigurationError: a key is too short.
    """

    def __init__(
        self, auth_tokens: Iterable[str], public_url: str, *, shared_keys: Mapping[str, str] | None = None
    ) -> None:
        self._tokens = tuple(auth_tokens)
        self._shared_keys = dict(shared_keys or {})
        self._public_url = public_url.rstrip("/")
        for key in (*self._tokens, *self._shared_keys.values()):
            if len(key) < KEY_CHARACTERS_MIN:
                raise ConfigurationError(
                    f"Twilio: expected keys of at least {KEY_CHARACTERS_MIN} characters, got {len(key)}"
                )

    def refusal_of(self, request: SignedRequest, *, is_upgrade: bool = False) -> Refusal | None:
        """Why a request is not believed; None for one that Twilio sent here.

        Args:
            is_upgrade: it opens a WebSocket, so that its ``wss://`` address was signed.
        """
        signature = request.headers.get(SIGNATURE_HEADER, "")
        if not signature:
            return "unsigned"
        settings = request.headers.get(SIGNATURE_SETTINGS_HEADER, "")
        algorithm = _algorithm(settings)
        if algorithm is None:
            return "unknown_algorithm"
        keys = self._keys(settings)
        if not keys:
            return "unknown_key"
        fields: tuple[tuple[str, str], ...] = ()
        if request.is_form and request.body:
            found = form_fields(request.body)
            if found is None:
                return "forged"
            fields = found
        elif request.body and not _is_hash_of(request.target, request.body):
            return "bad_body_hash"
        url = _as_websocket(self._public_url) if is_upgrade else self._public_url
        signed = _Signed(signature, keys, request.target, fields, algorithm, is_upgrade)
        if signed.is_for(url):
            return None
        # A request signed for another address, as under a wrong configuration, is told from a forged one.
        scheme = "wss" if is_upgrade else "https"
        hosts = (request.headers.get(name, "") for name in ("host", "x-forwarded-host"))
        is_misled = any([signed.is_for(f"{scheme}://{host}") for host in hosts if host])  # noqa: C419
        return "wrong_host" if is_misled else "forged"

    def _keys(self, settings: str) -> tuple[str, ...]:
        key_id = _setting(settings, "key")
        if not key_id:
            return self._tokens
        secret = self._shared_keys.get(key_id)
        return () if secret is None else (secret,)


@dataclass(frozen=True, slots=True)
class _Signed:
    """A signature, and what it may have been made of, but for where it was sent to."""

    signature: str
    keys: tuple[str, ...]
    target: str
    fields: tuple[tuple[str, str], ...]
    algorithm: Algorithm
    is_upgrade: bool

    def is_for(self, base: str) -> bool:
        """It was sent to ``base``."""
        path, mark, query = self.target.partition("?")
        paths = {path}
        if self.is_upgrade:
            # Reports differ on a slash at the end of a stream's address.
            paths |= {path.rstrip("/"), path.rstrip("/") + "/"}
        urls = [f"{base}{one}{mark}{query}" for one in sorted(paths)]
        return any(
            [  # noqa: C419
                is_signature_of(self.signature, key, url, self.fields, algorithm=self.algorithm)
                for key in self.keys
                for url in urls
            ]
        )


def _setting(settings: str, name: str) -> str:
    for part in settings.split(","):
        key, equals, value = part.partition("=")
        if equals and key.strip() == name:
            return value.strip()
    return ""


def _algorithm(settings: str) -> Algorithm | None:
    match _setting(settings, "algorithm").upper():
        case "" | "HMAC_SHA1":
            return "HMAC_SHA1"
        case "HMAC_SHA256":
            return "HMAC_SHA256"
        case _:
            return None


def _is_hash_of(target: str, body: bytes) -> bool:
    fields = form_fields(target.partition("?")[2].encode("utf-8", "surrogatepass")) or ()
    presented = next((value for name, value in fields if name == BODY_HASH_PARAMETER), "")
    return hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), presented.lower().encode())


def _as_websocket(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return {"https": "wss", "http": "ws"}.get(scheme, scheme) + separator + rest

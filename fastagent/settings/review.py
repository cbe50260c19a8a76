"""Every value with its source, and what is wrong or unsafe about them: what ``serve --check`` prints."""

import ipaddress
import stat
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fastagent.settings.sources import Reading
from fastagent.settings.values import DIGEST_PREFIX, LOCAL_REALTIME, Settings

__all__ = ["Finding", "Level", "Review", "Row", "review"]

TOKEN_CHARACTERS_SAFE = 32
"""A shorter token is unsafe on a public address: in hexadecimal it holds less than 128 bits."""
DISTINCT_CHARACTERS_MIN = 8
"""A token with fewer different characters was not made by chance."""
PRIVATE_FOLDERS = ("recordings_dir", "journals_dir", "run_dir")
PRIVATE_FILES = ("tokens_file", "store_path")
TOKEN_SETTINGS = ("audiocodes_tokens", "twilio_auth_tokens", "agent_tokens", "admin_tokens", "metrics_tokens")


class Level(StrEnum):
    """How bad a finding is."""

    WRONG = "wrong"
    """The server would not start."""
    UNSAFE = "unsafe"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend."""

    level: Level
    setting: str
    """A field's name, or what takes its place."""
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it stands."""

    name: str
    variable: str
    value: str
    """As it may be shown: of a secret only its length."""
    source: str


@dataclass(frozen=True, slots=True)
class Review:
    """All settings, and the findings about them."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """2 when something is wrong, 1 when something is unsafe, 0 else."""
        levels = {finding.level for finding in self.findings}
        return 2 if Level.WRONG in levels else 1 if Level.UNSAFE in levels else 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "exit_code": self.exit_code,
            "settings": [
                {"name": row.name, "variable": row.variable, "value": row.value, "source": row.source}
                for row in self.rows
            ],
            "findings": [
                {"level": str(one.level), "setting": one.setting, "text": one.text} for one in self.findings
            ],
        }


def review(reading: Reading) -> Review:
    """Look at everything; files that settings name are looked at, too, but not read."""
    settings = Settings(**reading.values)
    findings = [Finding(Level.WRONG, name, text) for name, text in reading.complaints.items()]
    for fault in settings.faults():
        if fault.name not in reading.complaints:
            level = Level.UNSAFE if fault.is_exposure else Level.WRONG
            findings.append(Finding(level, fault.name, f"{reading.label(fault.name)}: {fault.text}"))
    findings += [
        Finding(Level.UNSAFE, name, f"{reading.label(name)}: {text}")
        for check in (_tokens, _doors, _secrets_in_clear, _limits)
        for name, text in check(settings)
    ]
    findings += [Finding(Level.UNSAFE, name, text) for name, text in _files(settings, reading)]
    findings += [
        Finding(Level.NOTE, variable, f"{variable}: no setting has this variable")
        for variable in reading.unknown_variables
    ]
    rows = tuple(
        Row(
            entry.name,
            entry.metadata["variable"],
            "wrong"
            if entry.name in reading.complaints
            else _shown(getattr(settings, entry.name), is_secret=bool(entry.metadata.get("is_secret"))),
            str(reading.source(entry.name)),
        )
        for entry in fields(settings)
    )
    return Review(rows, tuple(findings))


def _shown(value: Any, *, is_secret: bool) -> str:
    if isinstance(value, tuple):
        if is_secret:
            return ", ".join(_shown(part, is_secret=True) for part in value) or "not set"
        return ", ".join(value) or "none"
    if is_secret:
        return f"set ({len(value)} characters)" if value else "not set"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:g}"
    return _without_credentials(str(value)) if value != "" else "empty"


def _without_credentials(text: str) -> str:
    """An address without what stands before its host and behind its path, where keys are sometimes put."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
    except ValueError:
        return "an address that cannot be read"


def _tokens(settings: Settings) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for name in TOKEN_SETTINGS:
        for token in getattr(settings, name):
            if (other := seen.setdefault(token, name)) != name:
                yield name, f"the same token stands in {Settings.variable(other)}: it opens both doors"
            if token.startswith(DIGEST_PREFIX) or settings.is_loopback:
                continue
            if len(token) < TOKEN_CHARACTERS_SAFE:
                yield name, f"a token of {len(token)} characters; {TOKEN_CHARACTERS_SAFE} or more are safe"
            elif len(set(token)) < DISTINCT_CHARACTERS_MIN:
                yield name, "a token that was not made by chance (openssl rand -hex 24)"


def _doors(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.metrics == "open" and not settings.is_loopback:
        yield "metrics", "open to whoever reaches the port"
    is_opened = settings.trusted_proxies or (settings.public_url and not _is_near(settings.public_url))
    if is_opened and settings.is_loopback and not settings.has_tokens:
        yield "host", "a proxy on this machine opens the server to others, and no token is set"
    for proxy in settings.trusted_proxies:
        try:
            if ipaddress.ip_network(proxy).prefixlen == 0:
                yield "trusted_proxies", f"{proxy} believes whatever address a client claims to have"
        except ValueError:
            continue  # is wrong, and told as that


def _secrets_in_clear(settings: Settings) -> Iterator[tuple[str, str]]:
    model = settings.realtime_url
    if settings.openai_api_key and model != LOCAL_REALTIME and _scheme(model) == "ws" and not _is_near(model):
        yield "realtime_url", "ws:// sends the key and the talk in clear; wss:// does not"
    if settings.redis_url and _scheme(settings.redis_url) == "redis" and not _is_near(settings.redis_url):
        yield "redis_url", "redis:// sends sessions in clear; rediss:// does not"
    if settings.public_url and _scheme(settings.public_url) == "http" and not _is_near(settings.public_url):
        yield "public_url", "http:// lets tokens and talk be read on the way; https:// does not"


def _limits(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.is_loopback:
        return
    for name in ("calls_per_number", "calls_per_number_hour"):
        if getattr(settings, name) == 0:
            yield name, "0: one number may take every line there is"
    for name in ("admission_lag_ms", "admission_cpu_percent"):
        if getattr(settings, name) == 0:
            yield name, "0: new calls are taken until the running ones suffer"


def _files(settings: Settings, reading: Reading) -> Iterator[tuple[str, str]]:
    secrets = {entry.name for entry in reading.entries if entry.metadata.get("is_secret")}
    from_file = {name for name in secrets if reading.source(name).kind == "file"}
    if from_file and (mode := _readable_by_others(reading.file)):
        yield "config", f"{reading.file}: holds secrets, and others may read it (mode {mode}; chmod 600)"
    for name in PRIVATE_FILES:
        if mode := _readable_by_others(getattr(settings, name)):
            yield name, f"{reading.label(name)}: others may read it (mode {mode}; chmod 600)"
    for name in PRIVATE_FOLDERS:
        if mode := _readable_by_others(getattr(settings, name)):
            yield name, f"{reading.label(name)}: others may look into it (mode {mode}; chmod 700)"


def _readable_by_others(path: str) -> str:
    """The mode of what everybody may read; empty when it is private, or not there."""
    if not path:
        return ""
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return ""
    return f"{mode:03o}" if mode & stat.S_IROTH else ""


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _is_near(url: str) -> bool:
    """On this machine: nobody else hears it."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

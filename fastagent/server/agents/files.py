"""AgentFiles: posted configurations in a folder, one file for each agent, whole or not at all."""

import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from fastagent.errors import ConfigurationError
from fastagent.server.agents.config import AGENT_ID_PATTERN

__all__ = ["AgentFiles", "StoredConfig"]

logger = logging.getLogger("fastagent.server")

SUFFIX = ".json"
FORMAT = 1
FILE_BYTES_MAX = 4 << 20
"""A larger file is none of ours."""
FILES_MAX = 1_000

_AGENT_ID = re.compile(AGENT_ID_PATTERN)


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A configuration as it was posted."""

    agent_id: str
    version: int
    created_at_unix_s: float
    config: Mapping[str, Any]


class AgentFiles:
    """The folder, made with mode 0700 when it is missing; its files have mode 0600. All of it blocks.

    Raises:
        ConfigurationError: the folder cannot be made or read.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.scandir(self.directory).close()
        except OSError as error:
            raise ConfigurationError(f"agents' folder {self.directory}: {error.strerror}") from None

    def save(self, stored: StoredConfig) -> None:
        """Keep a configuration in the place of the agent's last one.

        Raises:
            OSError: it could not be kept; the last one stands.
        """
        content = orjson.dumps(
            {
                "format": FORMAT,
                "agent_id": stored.agent_id,
                "version": stored.version,
                "created_at_unix_s": stored.created_at_unix_s,
                "config": stored.config,
            },
            option=orjson.OPT_INDENT_2,
        )
        path = self.directory / f"{stored.agent_id}{SUFFIX}"
        fresh = path.with_suffix(f".{os.getpid()}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load(self) -> Iterator[StoredConfig]:
        """All configurations, by agent; files that cannot be read are told of in the log and left out."""
        names = sorted(entry.name for entry in os.scandir(self.directory) if entry.name.endswith(SUFFIX))
        for name in names[:FILES_MAX]:
            try:
                yield _read(self.directory / name)
            except (OSError, ValueError) as error:
                logger.error("agents' folder: %s is left out: %s", name, error)


def _read(path: Path) -> StoredConfig:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"more than {FILE_BYTES_MAX} bytes")
    try:
        members = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None
    match members:
        case {
            "format": int(format),
            "agent_id": str(agent_id),
            "version": int(version),
            "created_at_unix_s": int() | float() as created,
            "config": dict(config),
        } if format == FORMAT and version > 0 and _AGENT_ID.fullmatch(agent_id) and agent_id == path.stem:
            return StoredConfig(agent_id, version, created, config)
    raise ValueError(f"not an agent's configuration of format {FORMAT}")

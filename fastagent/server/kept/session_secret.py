"""The secret that keys digests of numbers and codes: the same wherever a store's sessions are read."""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from fastagent.errors import ConfigurationError
from fastagent.settings import Settings

__all__ = ["session_secret"]

SECRET_BYTES = 32


def session_secret(settings: Settings) -> bytes:
    """The secret of the settings, else one that belongs to the place where sessions are stored.

    Raises:
        ConfigurationError: the file beside the store can be neither read nor made.
    """
    if settings.session_secret:
        return settings.session_secret.encode()
    if settings.redis_url:
        # Whoever reads the store knows it as well; it keeps numbers out of everything else.
        return hashlib.sha256(b"fastagent sessions\n" + settings.redis_url.encode()).digest()
    if settings.store_path:
        return _beside(Path(settings.store_path + ".secret"))
    return secrets.token_bytes(SECRET_BYTES)


def _beside(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"FASTAGENT_STORE: {path}: {error.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"FASTAGENT_STORE: {path} holds no whole secret; delete it")
    return secret


def _make(path: Path) -> None:
    """Make the file with all that is in it at once: processes that start together read the same."""
    made = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(secrets.token_bytes(SECRET_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()

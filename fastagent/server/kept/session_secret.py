"""The secret that keys digests of numbers and codes: the same wherever a store's sessions are read."""

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
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
        else:
            secret = secrets.token_bytes(SECRET_BYTES)
            with os.fdopen(file, "wb") as stream:
                stream.write(secret)
    except OSError as error:
        raise ConfigurationError(f"FASTAGENT_STORE: {path}: {error.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"FASTAGENT_STORE: {path} holds no whole secret; delete it")
    return secret

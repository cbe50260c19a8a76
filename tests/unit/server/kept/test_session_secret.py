"""The secret beside the store: one for all processes, whichever of them is first."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastagent.errors import ConfigurationError
from fastagent.server.kept import session_secret as room
from fastagent.server.kept.session_secret import session_secret
from fastagent.settings import Settings


def test_processes_that_start_at_once_have_the_same_secret(tmp_path, monkeypatch):
    settings = Settings(store_path=str(tmp_path / "sessions.db"))
    second = threading.Event()
    token_bytes = room.secrets.token_bytes

    def slow(size):
        # The other one looks while this one has not written yet.
        second.wait(0.5)
        return token_bytes(size)

    monkeypatch.setattr(room.secrets, "token_bytes", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(session_secret, settings)
        other = pool.submit(session_secret, settings)
        secrets = {first.result(), other.result()}
    assert len(secrets) == 1
    assert session_secret(settings) in secrets
    assert os.listdir(tmp_path) == ["sessions.db.secret"]
    assert (tmp_path / "sessions.db.secret").stat().st_mode & 0o777 == 0o600


def test_a_file_that_holds_no_secret_is_refused(tmp_path):
    (tmp_path / "sessions.db.secret").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="no whole secret"):
        session_secret(Settings(store_path=str(tmp_path / "sessions.db")))

"""What a refused upgrade says about when to come back; when trusted certificates are read."""

import ssl

import pytest

from fastagent.legs import upgrade
from fastagent.legs.upgrade import prepare_tls, retry_after_s

NOW_UNIX_S = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "after_s"),
    [
        ("0", 0.0),
        ("2", 2.0),
        (" 30 ", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 40, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, after_s):
    assert retry_after_s(value, now_unix_s=NOW_UNIX_S) == after_s


def test_trusted_certificates_are_read_before_the_first_call_and_once(monkeypatch):
    contexts = []

    def read() -> ssl.SSLContext:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return contexts[-1]

    monkeypatch.setattr(upgrade.ssl, "create_default_context", read)
    upgrade._tls.cache_clear()
    try:
        prepare_tls("ws://127.0.0.1:1/v1/realtime")
        assert not contexts
        prepare_tls("wss://127.0.0.1:1/v1/realtime")
        prepare_tls("wss://127.0.0.1:2/v1/realtime")
        assert contexts == [upgrade._tls()]
    finally:
        upgrade._tls.cache_clear()

"""URL and headers of each kind of Realtime server, and that a key shows nowhere else."""

import pytest

from fastagent.errors import ConfigurationError
from fastagent.wire.openai_realtime import Dialect, dialect_for, upgrade_request

OPENAI = "wss://api.openai.com/v1/realtime"
AZURE = "wss://garage.openai.azure.com/openai/v1/realtime"
PREVIEW = "wss://garage.openai.azure.com/openai/realtime"
LOCAL = "ws://127.0.0.1:9100/v1/realtime"
BEARER = {"Authorization": "Bearer test-key"}
API_KEY = {"api-key": "test-key"}


@pytest.mark.parametrize(
    ("url", "expected", "headers"),
    [
        (OPENAI, f"{OPENAI}?model=m", BEARER),
        (f"{OPENAI}?model=other", f"{OPENAI}?model=other", BEARER),
        (f"{OPENAI}?call_id=rtc_1", f"{OPENAI}?call_id=rtc_1", BEARER),
        (f"{OPENAI}?x=1#part", f"{OPENAI}?x=1&model=m", BEARER),
        ("wss://api.openai.com", f"{OPENAI}?model=m", BEARER),
        ("wss://eu.api.openai.com/v1/realtime", "wss://eu.api.openai.com/v1/realtime?model=m", BEARER),
        (AZURE, f"{AZURE}?model=m", API_KEY),
        ("wss://garage.openai.azure.com/", f"{AZURE}?model=m", API_KEY),
        (PREVIEW, f"{PREVIEW}?api-version=2025-04-01-preview&deployment=m", API_KEY),
        (
            f"{PREVIEW}?api-version=2024-10-01-preview&deployment=d",
            f"{PREVIEW}?api-version=2024-10-01-preview&deployment=d",
            API_KEY,
        ),
        (LOCAL, f"{LOCAL}?model=m", BEARER),
        ("ws://[::1]:9100/realtime", "ws://[::1]:9100/realtime?model=m", BEARER),
        ("wss://notopenai.com", "wss://notopenai.com?model=m", BEARER),
    ],
)
def test_each_server_gets_its_url_and_headers(url: str, expected: str, headers: dict[str, str]) -> None:
    request_url, request_headers = upgrade_request(url, "test-key", "m")
    assert (request_url, request_headers) == (expected, headers)


def test_a_server_of_ones_own_needs_neither_key_nor_model() -> None:
    assert upgrade_request(LOCAL) == (LOCAL, {})


def test_azure_takes_an_entra_token_as_bearer() -> None:
    token = "eyJhbGciOi.eyJzdWIi.c2ln"
    assert upgrade_request(AZURE, token, "m").headers == {"Authorization": f"Bearer {token}"}


def test_organization_and_project_go_to_openai_only() -> None:
    headers = upgrade_request(OPENAI, "test-key", "m", organization="org-1", project="proj_1").headers
    assert headers == {**BEARER, "OpenAI-Organization": "org-1", "OpenAI-Project": "proj_1"}
    assert upgrade_request(AZURE, "test-key", "m", organization="org-1").headers == API_KEY


def test_the_beta_header_is_sent_only_where_beta_is_asked_for() -> None:
    beta = upgrade_request(OPENAI, "test-key", "m", dialect=Dialect.BETA).headers
    assert beta == {**BEARER, "OpenAI-Beta": "realtime=v1"}
    assert upgrade_request(PREVIEW, "test-key", "m", dialect=Dialect.BETA).headers == API_KEY
    assert upgrade_request(OPENAI, "test-key", "m", dialect=Dialect.GA).headers == BEARER


@pytest.mark.parametrize(
    ("url", "dialect"),
    [
        (OPENAI, Dialect.GA),
        (AZURE, Dialect.GA),
        (LOCAL, Dialect.GA),
        (PREVIEW, Dialect.BETA),
        (f"{PREVIEW}/?deployment=d", Dialect.BETA),
        ("ws://127.0.0.1/openai/realtime", Dialect.GA),
    ],
)
def test_the_url_tells_the_dialect(url: str, dialect: Dialect) -> None:
    assert dialect_for(url) is dialect


@pytest.mark.parametrize(
    ("url", "key", "model"),
    [
        ("https://api.openai.com/v1/realtime", "test-key", "m"),
        ("api.openai.com", "test-key", "m"),
        ("", "test-key", "m"),
        ("wss://", "test-key", "m"),
        ("wss://host:99999/", "test-key", "m"),
        ("wss://host:0/", "test-key", "m"),
        ("wss://[half/", "test-key", "m"),
        ("wss://user:test-key@host/", "", "m"),
        ("ws://api.openai.com/v1/realtime", "test-key", "m"),
        ("ws://garage.openai.azure.com/openai/v1/realtime", "test-key", "m"),
        (OPENAI, "", "m"),
        (OPENAI, "  ", "m"),
        (OPENAI, "test-key", ""),
        (PREVIEW, "test-key", ""),
        (OPENAI, "test-key\r\nX-Evil: 1", "m"),
        (OPENAI, "test-key\u00e9", "m"),
        (f"https://host/?api-key={'test-key'}", "", "m"),
    ],
)
def test_what_cannot_work_is_refused_without_showing_the_key(url: str, key: str, model: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        upgrade_request(url, key, model)
    assert "test-key" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_read_from_a_file_may_end_in_a_newline() -> None:
    assert upgrade_request(OPENAI, "test-key\n", "m").headers == BEARER


def test_the_key_shows_in_no_repr() -> None:
    request = upgrade_request(f"{AZURE}?api-key=test-key", "test-key", "m")
    assert "test-key" not in f"{request!r} {request}"
    assert "api-key" in repr(request)


def test_a_path_is_made_fit_for_a_request_line() -> None:
    assert upgrade_request("ws://h/a b/é").url == "ws://h/a%20b/%C3%A9"

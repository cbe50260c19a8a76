"""Who is admitted, whatever the header holds."""

import pytest

from fastagent.server.auth import BearerTokens

TOKEN = "correct-token-0123"
OTHER = "second-token-45678"


@pytest.mark.parametrize(
    ("header", "is_admitted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"BEARER   {TOKEN} ", True),
        (f"Bearer {OTHER}", True),
        (None, False),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer{TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN.upper()}", False),
        (f"Bearer {TOKEN} {OTHER}", False),
        (f"Bearer {TOKEN},{OTHER}", False),
        ("Bearer \xff\xfe\x80", False),
        ("Bearer ключ", False),
        ("Bearer \ud800", False),
        ("Bearer " + "x" * 100_000, False),
    ],
)
def test_only_a_whole_token_behind_the_scheme_is_admitted(header, is_admitted):
    tokens = BearerTokens([TOKEN, OTHER])
    assert not tokens.is_open
    assert tokens.admits(header) is is_admitted


@pytest.mark.parametrize("header", [None, "", "Bearer anything", "Basic x"])
def test_door_without_tokens_is_open(header):
    tokens = BearerTokens([])
    assert tokens.is_open
    assert tokens.admits(header)


def test_token_outside_ascii_is_known_by_the_bytes_on_the_wire():
    token = "geheimes-tökén-0123"
    tokens = BearerTokens([token])
    assert tokens.admits("Bearer " + token.encode().decode("latin-1"))
    assert not tokens.admits(f"Bearer {token}")


def test_character_that_cannot_stand_in_a_header_matches_nothing():
    assert not BearerTokens(["question-mark-is-?"]).admits("Bearer question-mark-is-✓")


def test_tokens_are_not_kept_in_clear():
    assert TOKEN not in repr(vars(BearerTokens([TOKEN])))


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost.example.org:8000", "null", "", "http://["]
)
def test_open_door_is_closed_to_pages_of_other_sites(origin):
    assert not BearerTokens(()).admits(None, origin)


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "http://127.0.0.1:3000", "http://[::1]"])
def test_open_door_is_open_to_programs_and_local_pages(origin):
    assert BearerTokens(()).admits(None, origin)


def test_token_opens_from_any_page():
    token = "a-token-that-is-long-enough"
    assert BearerTokens((token,)).admits(f"Bearer {token}", "https://example.org")

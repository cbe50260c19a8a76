"""Who is admitted, whatever the header holds, and who is no longer listened to."""

import hashlib
import hmac
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from fastagent.errors import ConfigurationError
from fastagent.server.doors.auth import WELCOME_MAX, Credential, Denial, DenialCause, Doorkeeper, Scope
from fastagent.settings import Settings
from fastagent.stats import Counters

TOKEN = "correct-token-0123"
OTHER = "second-token-45678"
WRONG = "Bearer wrong-token-9999999"
DAY = timedelta(days=1)


class House:
    """A doorkeeper with clocks that are set by hand."""

    def __init__(self, **settings: Any) -> None:
        self.counters = Counters()
        self.now = 1000.0
        self.today = datetime(2026, 11, 21, tzinfo=UTC)
        self.doors = Doorkeeper(
            Settings(**settings), self.counters, now=lambda: self.now, today=lambda: self.today
        )

    def ask(
        self, header: str | None, address: str = "192.0.2.1", scope: Scope = Scope.AUDIOCODES
    ) -> Credential | DenialCause:
        found = self.doors.admit(header, address, scope)
        return found.cause if isinstance(found, Denial) else found

    def is_admitted(self, header: str | None, address: str = "192.0.2.1") -> bool:
        return isinstance(self.ask(header, address), Credential)


@pytest.mark.parametrize("scope", Scope)
def test_where_only_twilio_comes_in_every_door_for_tokens_is_closed(scope):
    house = House(twilio_auth_tokens=(TOKEN,), public_url="https://bridge.example.com")
    assert not house.doors.is_open
    assert house.ask(None, scope=scope) is DenialCause.MISSING
    assert house.ask(f"Bearer {TOKEN}", scope=scope) is DenialCause.UNKNOWN


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Bearer {TOKEN}", None),
        (f"bearer {TOKEN}", None),
        (f"BEARER   {TOKEN} ", None),
        (f"Bearer {OTHER}", None),
        (None, DenialCause.MISSING),
        ("", DenialCause.MISSING),
        ("Bearer", DenialCause.MALFORMED),
        ("Bearer ", DenialCause.MALFORMED),
        (TOKEN, DenialCause.MALFORMED),
        (f"Basic {TOKEN}", DenialCause.MALFORMED),
        (f"Bearer{TOKEN}", DenialCause.MALFORMED),
        (f"Bearer {TOKEN}x", DenialCause.UNKNOWN),
        (f"Bearer {TOKEN[:-1]}", DenialCause.UNKNOWN),
        (f"Bearer {TOKEN.upper()}", DenialCause.UNKNOWN),
        (f"Bearer {TOKEN} {OTHER}", DenialCause.UNKNOWN),
        (f"Bearer {TOKEN},{OTHER}", DenialCause.UNKNOWN),
        (f"Bearer sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}", DenialCause.UNKNOWN),
        ("Bearer \xff\xfe\x80", DenialCause.UNKNOWN),
        ("Bearer ключ", DenialCause.MALFORMED),
        ("Bearer \ud800", DenialCause.MALFORMED),
        ("Bearer " + "x" * 100_000, DenialCause.UNKNOWN),
    ],
)
def test_only_a_whole_token_behind_the_scheme_is_admitted(header, expected):
    house = House(audiocodes_tokens=(TOKEN, OTHER))
    assert not house.doors.is_open
    wanted = expected or Credential("audiocodes", frozenset({Scope.AUDIOCODES}))
    assert house.ask(header) == wanted


@pytest.mark.parametrize("header", [None, "", "Bearer anything", "Basic x"])
def test_house_on_loopback_without_any_token_is_open(header):
    house = House()
    assert house.doors.is_open
    assert all(isinstance(house.ask(header, scope=scope), Credential) for scope in Scope)


@pytest.mark.parametrize("setting", ["audiocodes_tokens", "agent_tokens", "admin_tokens", "metrics_tokens"])
def test_one_token_closes_all_doors(setting):
    house = House(**{setting: (TOKEN,)})
    for scope in Scope:
        assert house.ask(None, scope=scope) is DenialCause.MISSING


@pytest.mark.parametrize(
    ("setting", "scopes"),
    [
        ("audiocodes_tokens", {Scope.AUDIOCODES}),
        ("agent_tokens", {Scope.CALL}),
        ("admin_tokens", {Scope.ADMIN, Scope.DIAL, Scope.METRICS}),
        ("metrics_tokens", {Scope.METRICS}),
    ],
)
def test_token_of_a_variable_opens_its_own_doors_alone(setting, scopes):
    house = House(**{setting: (TOKEN,)})
    for scope in Scope:
        found = house.ask(f"Bearer {TOKEN}", scope=scope)
        assert (found is DenialCause.SCOPE) is (scope not in scopes)


def test_token_given_as_its_digest():
    house = House(audiocodes_tokens=("sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest().upper(),))
    assert house.is_admitted(f"Bearer {TOKEN}")


def test_token_outside_ascii_is_known_by_the_bytes_on_the_wire():
    token = "geheimes-tökén-0123"
    house = House(audiocodes_tokens=(token,))
    assert house.is_admitted("Bearer " + token.encode().decode("latin-1"))
    assert not house.is_admitted(f"Bearer {token}")


def test_tokens_are_kept_only_as_digests():
    house = House(audiocodes_tokens=(TOKEN,))
    assert TOKEN not in repr(vars(house.doors._book))
    assert TOKEN not in repr(house.doors._own)


@pytest.mark.parametrize("position", [0, 499, 999, None])
def test_every_digest_is_compared_wherever_the_right_one_stands(position, monkeypatch):
    tokens = [f"token-number-{n:010}" for n in range(1000)]
    house = House(audiocodes_tokens=tuple(tokens))
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    header = WRONG if position is None else f"Bearer {tokens[position]}"
    assert house.is_admitted(header) is (position is not None)
    assert len(compared) == 1000
    assert {len(part) for pair in compared for part in pair} == {32}


# The file


def write_tokens(path: Path, *entries: dict[str, Any]) -> None:
    lines = []
    for entry in entries:
        lines.append("[[token]]")
        for key, value in entry.items():
            if isinstance(value, datetime):
                text = value.isoformat()
            elif isinstance(value, list):
                text = "[" + ", ".join(f'"{part}"' for part in value) + "]"
            else:
                text = f'"{value}"'
            lines.append(f"{key} = {text}")
    path.write_text("\n".join(lines))


def entry(token: str = TOKEN, name: str = "live-hub", **others: Any) -> dict[str, Any]:
    return {"name": name, "token": token, "scopes": ["audiocodes"], **others}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def test_two_tokens_of_one_name_are_one_principal(file):
    write_tokens(file, entry(TOKEN), entry(OTHER), entry("third-token-000001", name="other"))
    house = House(tokens_file=str(file))
    assert house.ask(f"Bearer {TOKEN}") == house.ask(f"Bearer {OTHER}")
    assert house.ask(f"Bearer {TOKEN}") != house.ask("Bearer third-token-000001")


def test_token_begins_and_expires(file):
    begin = datetime(2026, 11, 22, tzinfo=UTC)
    write_tokens(file, entry(not_before=begin, expires=begin + DAY))
    house = House(tokens_file=str(file))
    for moment, expected in (
        (begin - timedelta(seconds=1), DenialCause.NOT_YET),
        (begin, None),
        (begin + DAY - timedelta(seconds=1), None),
        (begin + DAY, DenialCause.EXPIRED),
    ):
        house.today = moment
        found = house.ask(f"Bearer {TOKEN}")
        assert found is expected if expected else isinstance(found, Credential)


def test_token_in_variable_and_file_opens_the_doors_of_both(file):
    write_tokens(file, entry(scopes=["metrics"]))
    house = House(tokens_file=str(file), audiocodes_tokens=(TOKEN,))
    found = house.ask(f"Bearer {TOKEN}")
    assert isinstance(found, Credential)
    assert found.scopes == {Scope.AUDIOCODES, Scope.METRICS}


def test_reload_takes_new_tokens_and_drops_old_ones(file):
    write_tokens(file, entry(TOKEN))
    house = House(tokens_file=str(file))
    write_tokens(file, entry(OTHER))
    assert house.is_admitted(f"Bearer {TOKEN}")
    assert house.doors.reload()
    assert house.is_admitted(f"Bearer {OTHER}")
    assert not house.is_admitted(f"Bearer {TOKEN}")
    assert house.counters["auth_reloads"] == 1


BROKEN = [
    "[[token]",
    "\ufffe",
    'name = "x"',
    "token = 3",
    "token = [3]",
    f'[[token]]\nname = "a b"\ntoken = "{TOKEN}"\nscopes = ["admin"]',
    f'[[token]]\ntoken = "{TOKEN}"\nscopes = ["admin"]',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = ["root"]',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = []',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = "admin"',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = [["admin"]]',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = ["admin"]\nscope = 1',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = ["admin"]\nexpires = 2026-01-01T00:00:00',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = ["admin"]\nexpires = 2026-01-01',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = ["admin"]\n'
    "not_before = 2026-02-01T00:00:00Z\nexpires = 2026-01-01T00:00:00Z",
    '[[token]]\nname = "a"\ntoken = "hush-hush"\nscopes = ["admin"]',
    '[[token]]\nname = "a"\ntoken = "sha256:hush"\nscopes = ["admin"]',
    '[[token]]\nname = "a"\ntoken = 5\nscopes = ["admin"]',
    f'[[token]]\nname = "a"\ntoken = "{TOKEN}"\nscopes = ["admin"]\n' * 2,
]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_file_stops_the_start_and_later_changes_nothing(text, file, caplog):
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"tokens\.toml") as caught:
        House(tokens_file=str(file))
    assert "hush" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    write_tokens(file, entry(TOKEN))
    house = House(tokens_file=str(file))
    file.write_text(text)
    with caplog.at_level(logging.ERROR):
        assert not house.doors.reload()
    assert "tokens stay as they were" in caplog.text
    assert house.is_admitted(f"Bearer {TOKEN}")
    assert house.counters["auth_reloads_failed"] == 1


def test_file_that_is_gone_or_not_text_changes_nothing(file):
    write_tokens(file, entry(TOKEN))
    house = House(tokens_file=str(file))
    file.write_bytes(b"\xff")
    assert not house.doors.reload()
    file.write_bytes(b"#" * 2_000_000)
    assert not house.doors.reload()
    file.unlink()
    assert not house.doors.reload()
    assert house.is_admitted(f"Bearer {TOKEN}")


def test_file_that_becomes_empty_closes_the_doors(file):
    write_tokens(file, entry(TOKEN))
    house = House(tokens_file=str(file))
    file.write_text("")
    assert house.doors.reload()
    assert house.ask(f"Bearer {TOKEN}") is DenialCause.UNKNOWN
    assert house.ask(None) is DenialCause.MISSING


# Guessing


def test_tenth_wrong_token_within_a_minute_blocks_the_address_for_a_minute():
    house = House(audiocodes_tokens=(TOKEN,))
    for _ in range(10):
        assert house.ask(WRONG) is DenialCause.UNKNOWN
        house.now += 1
    assert house.ask(WRONG) is DenialCause.BLOCKED
    assert house.ask(f"Bearer {TOKEN}") is DenialCause.BLOCKED
    assert house.ask(WRONG, "192.0.2.2") is DenialCause.UNKNOWN
    house.now += 58.9
    assert house.ask(f"Bearer {TOKEN}") is DenialCause.BLOCKED
    house.now += 0.2
    assert house.is_admitted(f"Bearer {TOKEN}")


def test_slow_guesses_and_requests_without_a_credential_block_nobody():
    house = House(audiocodes_tokens=(TOKEN,))
    for _ in range(50):
        assert house.ask(WRONG) is DenialCause.UNKNOWN
        house.now += 6.7
    for _ in range(50):
        assert house.ask(None) is DenialCause.MISSING
    assert house.is_admitted(f"Bearer {TOKEN}")


def test_good_token_known_from_a_blocked_address_is_still_heard():
    house = House(audiocodes_tokens=(TOKEN, OTHER))
    assert house.is_admitted(f"Bearer {TOKEN}")
    for _ in range(10):
        house.ask(WRONG)
    assert house.is_admitted(f"Bearer {TOKEN}")
    # It was never seen from there, so it might be a guess.
    assert house.ask(f"Bearer {OTHER}") is DenialCause.BLOCKED


def test_table_of_good_visitors_is_bounded():
    house = House(audiocodes_tokens=(TOKEN,))
    for n in range(WELCOME_MAX + 10):
        assert house.is_admitted(f"Bearer {TOKEN}", f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}")
    assert len(house.doors._welcome) == WELCOME_MAX


def test_refusals_are_counted_by_cause_and_answered_by_kind():
    house = House(audiocodes_tokens=(TOKEN,), auth_failures_max=1)

    def check(header: str | None, scope: Scope = Scope.AUDIOCODES) -> Denial:
        headers = [(b"authorization", header.encode())] if header else []
        request = Request({"type": "http", "headers": headers, "client": ("192.0.2.1", 5)})
        found = house.doors.check(request, scope)
        assert isinstance(found, Denial)
        return found

    assert (check(None).status, check(None).headers) == (401, {"WWW-Authenticate": "Bearer"})
    assert (check(f"Bearer {TOKEN}", Scope.ADMIN).status) == 403
    assert check(WRONG).status == 401
    blocked = check(WRONG)
    assert (blocked.status, blocked.headers) == (429, {"Retry-After": "60"})
    assert blocked.response.status_code == 429
    counts = {name: n for name, n in house.counters.items() if name.startswith("auth_refused_")}
    assert counts == {
        "auth_refused_missing": 2,
        "auth_refused_scope": 1,
        "auth_refused_unknown": 1,
        "auth_refused_blocked": 1,
    }


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost.example.org:8000", "null", "", "http://["]
)
def test_open_door_is_closed_to_pages_of_other_sites(origin):
    found = House().doors.admit(None, "127.0.0.1", Scope.AUDIOCODES, origin=origin)
    assert isinstance(found, Denial)
    assert (found.cause, found.status) == (DenialCause.ORIGIN, 403)


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "http://127.0.0.1:3000", "http://[::1]"])
def test_open_door_is_open_to_programs_and_local_pages(origin):
    assert isinstance(House().doors.admit(None, "127.0.0.1", Scope.AUDIOCODES, origin=origin), Credential)


def test_token_opens_from_any_page():
    house = House(audiocodes_tokens=(TOKEN,))
    found = house.doors.admit(f"Bearer {TOKEN}", "192.0.2.1", Scope.AUDIOCODES, origin="https://example.org")
    assert isinstance(found, Credential)

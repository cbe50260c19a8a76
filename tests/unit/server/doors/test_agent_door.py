"""The door of `/agent/ws`: whose sessions, by which header, and from which pages."""

import pytest
from starlette.requests import HTTPConnection

from fastagent.server.doors.agent_door import AgentDoor
from fastagent.server.doors.auth import Credential, Denial, Doorkeeper
from fastagent.settings import Settings
from fastagent.stats import Counters

FIRST, SECOND = "a-token-of-the-first", "a-token-of-the-second"


def door_of(*tokens: str, origins: tuple[str, ...] = (), **settings: object) -> AgentDoor:
    values = Settings(agent_tokens=tokens, **settings)  # type: ignore[arg-type]
    return AgentDoor(Doorkeeper(values, Counters()), origins)


OPEN = door_of()
CLOSED = door_of(FIRST, SECOND)


def asked(door: AgentDoor, token: str | None, offered: tuple[str, ...] = ()) -> Credential | Denial:
    headers = [] if token is None else [(b"authorization", token.encode())]
    scope = {"type": "http", "headers": headers, "client": ("192.0.2.1", 5)}
    return door.check(HTTPConnection(scope), offered)


def owner(door: AgentDoor, token: str | None, offered: tuple[str, ...] = ()) -> str | None:
    found = asked(door, token, offered)
    return found.principal if isinstance(found, Credential) else None


def test_each_token_is_an_owner_of_its_own_and_stays_the_same():
    owners = {owner(CLOSED, f"Bearer {token}") for token in (FIRST, SECOND)}
    assert len(owners) == 2
    assert None not in owners
    assert owner(CLOSED, f"Bearer {FIRST}") == owner(door_of(SECOND, FIRST), f"Bearer {FIRST}")
    assert not any(token in str(owners) for token in (FIRST, SECOND))


def test_token_may_stand_among_the_subprotocols():
    offered = ("fastagent.v1", f"fastagent.bearer.{SECOND}")
    assert owner(CLOSED, None, offered) == owner(CLOSED, f"Bearer {SECOND}")


@pytest.mark.parametrize(
    ("token", "offered"),
    [
        (None, ()),
        ("Bearer wrong", ()),
        ("Bearer ", ("fastagent.bearer.",)),
        (FIRST, ()),
        (None, (FIRST, f"fastagent.{FIRST}", f"Fastagent.bearer.{FIRST}")),
        (None, ("fastagent.bearer.\u20ac",)),
    ],
)
def test_everybody_else_stays_outside(token, offered):
    assert owner(door_of(FIRST, SECOND), token, offered) is None


def test_open_door_takes_anybody_as_one():
    assert owner(OPEN, None) == owner(OPEN, "Bearer whatever") is not None


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({}, True),
        ({"agent_tokens": (FIRST,)}, False),
        # A token of another door says that others than this machine's users may come.
        ({"audiocodes_tokens": (FIRST,)}, False),
        ({"host": "0.0.0.0", "audiocodes_tokens": (FIRST,)}, False),
    ],
)
def test_door_is_open_on_this_machine_alone(settings, is_open):
    door = AgentDoor(Doorkeeper(Settings(**settings), Counters()))
    assert (owner(door, None) is not None) is is_open


@pytest.mark.parametrize(
    ("origin", "host", "is_admitted"),
    [
        (None, "host.example", True),
        ("https://host.example", "host.example", True),
        ("http://host.example:8000", "host.example:8000", True),
        ("HTTPS://Host.Example", "HOST.example", True),
        ("https://host.example:8000", "host.example", False),
        ("https://evil.example", "host.example", False),
        ("https://host.example.evil.example", "host.example", False),
        ("https://user@host.example", "host.example", False),
        ("null", "host.example", False),
        ("", "host.example", False),
        ("file://", "", False),
        ("https://", "", False),
        ("ftp://host.example", "host.example", False),
        ("http://[", "[", False),
        ("https://app.example", "host.example", True),
        ("https://app.example:444", "host.example", False),
    ],
)
def test_only_our_own_pages_and_those_allowed_may_connect(origin, host, is_admitted):
    door = door_of(FIRST, origins=("https://App.example/",))
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    assert door.admits_page(headers) is is_admitted


@pytest.mark.parametrize(
    ("host", "is_admitted"),
    [
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("rebound.example:8000", False),
        ("10.0.0.7:8000", False),
    ],
)
def test_open_door_knows_pages_of_this_machine_by_their_name(host, is_admitted):
    assert OPEN.admits_page({"origin": f"http://{host}", "host": host}) is is_admitted

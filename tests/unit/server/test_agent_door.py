"""The door of `/agent/ws`: whose sessions, by which header, and from which pages."""

import pytest

from fastagent.server.agent_door import AgentDoor
from fastagent.settings import Settings

FIRST, SECOND = "a-token-of-the-first", "a-token-of-the-second"
OPEN = AgentDoor((), is_open=True)
CLOSED = AgentDoor((FIRST, SECOND))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_each_token_is_an_owner_of_its_own_and_stays_the_same():
    owners = {CLOSED.owner_of(bearer(token)) for token in (FIRST, SECOND)}
    assert len(owners) == 2
    assert None not in owners
    assert CLOSED.owner_of(bearer(FIRST)) == AgentDoor((SECOND, FIRST)).owner_of(bearer(FIRST))
    assert not any(token in str(owners) for token in (FIRST, SECOND))


def test_token_may_stand_among_the_subprotocols():
    offered = ["fastagent.v1", f"fastagent.bearer.{SECOND}"]
    assert CLOSED.owner_of({}, offered) == CLOSED.owner_of(bearer(SECOND))


@pytest.mark.parametrize(
    ("headers", "offered"),
    [
        ({}, []),
        (bearer("wrong"), []),
        (bearer(""), ["fastagent.bearer."]),
        ({"authorization": FIRST}, []),
        ({}, [FIRST, f"fastagent.{FIRST}", f"Fastagent.bearer.{FIRST}"]),
        (bearer("\u20ac"), ["fastagent.bearer.\u20ac"]),
    ],
)
def test_everybody_else_stays_outside(headers, offered):
    assert CLOSED.owner_of(headers, offered) is None
    assert AgentDoor(()).owner_of(headers, offered) is None


def test_open_door_takes_anybody_as_one():
    assert OPEN.owner_of({}) == OPEN.owner_of(bearer("whatever")) is not None


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        (Settings(), True),
        (Settings(agent_tokens=(FIRST,)), False),
        # A token of another door says that others than this machine's users may come.
        (Settings(audiocodes_tokens=(FIRST,)), False),
        (Settings(host="0.0.0.0", audiocodes_tokens=(FIRST,)), False),
    ],
)
def test_door_is_open_on_this_machine_alone(settings, is_open):
    assert (AgentDoor.of(settings).owner_of({}) is not None) is is_open


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
    door = AgentDoor((FIRST,), ("https://App.example/",))
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

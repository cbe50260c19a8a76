"""Connections by address, in all, and that each is given back once."""

import resource

import pytest

from fastagent.server.doors import connections
from fastagent.server.doors.addresses import Networks
from fastagent.server.doors.connections import (
    CONNECTIONS_MIN,
    ConnectionLimit,
    descriptor_share,
    raise_descriptor_limit,
)
from fastagent.settings import Settings
from fastagent.stats import Counters


class Transport:
    def __init__(self, address: object) -> None:
        self.address = address

    def get_extra_info(self, name: str) -> object:
        assert name == "peername"
        return self.address


def peer(address: str) -> Transport:
    return Transport((address, 40_000))


def limit(total: int = 10, each: int = 2, proxies: tuple[str, ...] = ()) -> tuple[ConnectionLimit, Counters]:
    counters = Counters()
    return ConnectionLimit(total, each, Networks(proxies), counters), counters


def test_one_address_is_refused_and_others_are_not():
    one, counters = limit()
    held = [peer("192.0.2.1") for _ in range(2)]
    assert all(one.admit(transport) for transport in held)
    assert not one.admit(peer("192.0.2.1"))
    assert not one.admit(peer("::ffff:192.0.2.1"))
    assert one.admit(peer("192.0.2.2"))
    one.release(held[0])
    assert one.admit(peer("192.0.2.1"))
    assert counters == {"connections_refused_address": 2}


def test_release_counts_once_and_only_what_was_admitted():
    one, _ = limit(each=1)
    held, refused = peer("192.0.2.1"), peer("192.0.2.1")
    assert one.admit(held)
    assert not one.admit(refused)
    one.release(refused)
    assert not one.admit(refused)
    one.release(held)
    one.release(held)
    assert one.held == 0
    assert not one._by_address


def test_ipv6_subscriber_is_one():
    one, _ = limit()
    assert one.admit(peer("2001:db8::1"))
    assert one.admit(peer("2001:db8::2"))
    assert not one.admit(peer("2001:db8::3"))


def test_trusted_proxy_is_held_by_the_total_alone():
    one, counters = limit(total=5, proxies=("10.0.0.0/8",))
    assert sum(one.admit(peer("10.0.0.1")) for _ in range(9)) == 5
    assert counters == {"connections_refused_total": 4}


@pytest.mark.parametrize("address", [None, (), ""])
def test_connection_without_an_address_is_held_by_the_total(address):
    one, _ = limit(total=3)
    assert sum(one.admit(Transport(address)) for _ in range(5)) == 3


@pytest.mark.parametrize(
    ("soft", "share"), [(1024, 102), (65_536, 6553), (20, CONNECTIONS_MIN), (resource.RLIM_INFINITY, 104_857)]
)
def test_total_is_a_tenth_of_the_descriptors(soft, share, monkeypatch):
    monkeypatch.setattr(connections.resource, "getrlimit", lambda kind: (soft, soft))
    assert descriptor_share() == share
    made = ConnectionLimit.from_settings(
        Settings(max_connections=500, connections_per_address=10_000), Counters()
    )
    assert sum(made.admit(peer("192.0.2.1")) for _ in range(1000)) == min(500, share)


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 4096, (4096, 4096)),
        (1024, 1 << 20, (65_536, 1 << 20)),
        (1024, resource.RLIM_INFINITY, (65_536, resource.RLIM_INFINITY)),
        (100_000, 1 << 20, None),
        (4096, 4096, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_descriptors_are_raised_as_far_as_allowed_and_never_lowered(soft, hard, expected, monkeypatch):
    changes = []
    monkeypatch.setattr(connections.resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(connections.resource, "setrlimit", lambda kind, both: changes.append(both))
    raise_descriptor_limit()
    assert changes == ([] if expected is None else [expected])

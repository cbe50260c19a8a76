"""One-time tickets: bound to their call and claims, to their time, and taken once."""

import itertools

import pytest

from fastagent.telephony.tickets import Tickets

KEY = b"a key of good length"
CLAIMS = ("+15550100001", "front-desk")


def tickets(**options: object) -> Tickets:
    numbers = itertools.count()
    return Tickets(KEY, ttl_s=60, new_nonce=lambda: f"n{next(numbers)}", **options)  # type: ignore[arg-type]


def test_ticket_is_taken_once() -> None:
    house = tickets()
    ticket = house.give("CA1", CLAIMS, now=1000.0)
    assert house.take(ticket, "CA1", CLAIMS, now=1001.0) is None
    assert house.take(ticket, "CA1", CLAIMS, now=1001.0) == "ticket_replayed"


@pytest.mark.parametrize(
    ("call", "claims"),
    [
        ("CA2", CLAIMS),
        ("CA1", ()),
        ("CA1", ("+15550100001", "front-desk", "")),
        ("CA1", ("+15550100001f", "ront-desk")),
        ("CA1+", ("15550100001", "front-desk")),
    ],
)
def test_ticket_is_bound_to_its_call_and_claims(call: str, claims: tuple[str, ...]) -> None:
    house = tickets()
    ticket = house.give("CA1", CLAIMS, now=1000.0)
    assert house.take(ticket, call, claims, now=1001.0) == "ticket_forged"
    assert house.take(ticket, "CA1", CLAIMS, now=1001.0) is None


def test_ticket_dies_with_its_time() -> None:
    house = tickets()
    ticket = house.give("CA1", now=1000.0)
    assert house.take(ticket, "CA1", now=1060.0) == "ticket_expired"
    assert house.take(ticket, "CA1", now=1059.9) is None


@pytest.mark.parametrize(
    "ticket", ["x", ".", "..", "1060.n0.", "1060.n0.ü", "1060.n0.\udcff", "x.n0.y", "٣.n.s", "9" * 500]
)
def test_what_is_no_ticket_is_refused(ticket: str) -> None:
    assert tickets().take(ticket, "CA1", now=1000.0) == "ticket_forged"


def test_nothing_is_missing() -> None:
    assert tickets().take("", "CA1", now=1000.0) == "ticket_missing"


def test_time_cannot_be_written_into_a_ticket() -> None:
    house = tickets()
    _, nonce, seal = house.give("CA1", now=1000.0).split(".")
    assert house.take(f"9999.{nonce}.{seal}", "CA1", now=1000.0) == "ticket_forged"


def test_another_process_with_the_key_takes_it_and_one_without_does_not() -> None:
    ticket = tickets().give("CA1", now=1000.0)
    assert Tickets(KEY).take(ticket, "CA1", now=1001.0) is None
    assert Tickets(b"another key").take(ticket, "CA1", now=1001.0) == "ticket_forged"


def test_taken_tickets_are_bounded_and_never_forgotten_too_early() -> None:
    house = tickets(limit=2)
    given = [house.give(f"CA{k}", now=1000.0 + k) for k in range(3)]
    assert house.take(given[0], "CA0", now=1003.0) is None
    assert house.take(given[1], "CA1", now=1003.0) is None
    assert house.take(given[2], "CA2", now=1003.0) == "tickets_full"
    assert house.take(given[0], "CA0", now=1003.0) == "ticket_replayed"
    assert house.take(given[2], "CA2", now=1060.5) is None


def test_tickets_differ() -> None:
    house = Tickets(KEY)
    assert len({house.give("CA1", now=1000.0) for _ in range(100)}) == 100

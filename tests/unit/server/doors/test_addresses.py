"""What counts as one address, and which are trusted."""

import pytest

from fastagent.server.doors.addresses import Networks, address_key, with_mapped_forms


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("unknown", "unknown"),
        ("x" * 100_000, "x" * 64),
    ],
)
def test_key_of_an_address(address, key):
    assert address_key(address) == key


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("", False),
        ("10.1.2.3:80", False),
        ("proxy", False),
    ],
)
def test_address_in_networks(address, is_inside):
    assert (address in Networks(["10.0.0.0/8", "2001:db8::/32"])) is is_inside


def test_mapped_forms_are_what_a_socket_of_both_families_sees():
    both = with_mapped_forms(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])
    assert both == [
        "10.0.0.0/8",
        "::ffff:10.0.0.0/104",
        "192.0.2.1",
        "::ffff:192.0.2.1/128",
        "2001:db8::/32",
    ]

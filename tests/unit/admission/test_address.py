"""The address that a call comes from, as its connection and the proxies in front say."""

import pytest

from penstock.admission.address import client_address, is_within

PROXIES = ("10.0.0.0/8", "2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("2001:db8::1", "[2001:470::7]:443", "2001:470::7"),
        ("2001:db8::1", "2001:470::7", "2001:470::7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, unknown", None),
        ("10.0.0.1", "_hidden", None),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,", None),
        ("", "198.51.100.1", None),
    ],
)
def test_only_what_trusted_proxies_appended_is_believed(peer: str, forwarded: str | None, expected: str | None) -> None:
    found = client_address(peer, forwarded, PROXIES)
    assert (str(found) if found is not None else None) == expected


def test_without_trusted_proxies_the_header_means_nothing() -> None:
    assert str(client_address("10.0.0.1", "198.51.100.1", ())) == "10.0.0.1"


def test_an_address_lies_in_the_networks_of_its_own_kind() -> None:
    address = client_address("198.51.100.1", None, ())
    assert address is not None
    assert is_within(address, ("::/0", "198.51.100.0/24"))
    assert not is_within(address, ("::/0", "203.0.113.0/24"))

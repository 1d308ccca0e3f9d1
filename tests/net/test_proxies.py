"""Whose request it is: `X-Forwarded-For` counts only from our own proxies."""

import pytest

from relay.net.proxies import LOOPBACK, address_group, client_address, is_trusted, parse_networks

PROXIES = parse_networks(["127.0.0.1", "10.0.0.0/8", "2001:db8::/64"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # a claim of a stranger
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),  # what stands left is a stranger's
        ("127.0.0.1", "1.2.3.4, 198.51.100.1, 10.9.8.7", "198.51.100.1"),  # two proxies of ours
        ("127.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, garbage, 10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", ",", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1:5000", "198.51.100.1"),
        ("127.0.0.1", "[2001:DB9::0:1]:5000", "2001:db9::1"),
        ("127.0.0.1", "2001:db9::1", "2001:db9::1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("2001:db8::7", "198.51.100.1", "198.51.100.1"),
        ("unix", "198.51.100.1", "unix"),
    ],
)
def test_the_client_is_the_first_stranger_from_the_right(peer: str, forwarded_for: str, client: str) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == client


def test_loopback_of_both_families_is_trusted_by_default() -> None:
    assert is_trusted("127.0.0.1", LOOPBACK)
    assert is_trusted("::1", LOOPBACK)
    assert is_trusted("::ffff:127.0.0.1", LOOPBACK)
    assert not is_trusted("10.0.0.1", LOOPBACK)
    assert not is_trusted("unix", LOOPBACK)


def test_a_bad_network_is_named() -> None:
    with pytest.raises(ValueError, match="proxy"):
        parse_networks(["127.0.0.1", "proxy"])


def test_what_counts_as_one_address() -> None:
    """An IPv6 client owns its /64; a mapped IPv4 address is the IPv4 one; what is no address is itself."""
    assert address_group("192.0.2.7") == "192.0.2.7" == address_group("::ffff:192.0.2.7")
    assert address_group("2001:db8:1:2:3::4") == address_group("2001:db8:1:2:ffff::1")
    assert address_group("2001:db8:1:2::1") != address_group("2001:db8:1:3::1")
    assert address_group("unix") == "unix"

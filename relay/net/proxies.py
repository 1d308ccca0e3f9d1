"""Whose request it is: the client's address behind proxies that we trust, and what counts as one client (pure).

`X-Forwarded-For` is a claim. It counts only from a trusted peer, and is read from the right, where our own proxies
write, up to the first address that is not one of them; what stands to the left of that was written by strangers.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

LOOPBACK: Networks = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def parse_networks(texts: Iterable[str]) -> Networks:
    """Addresses and networks in CIDR form. Raises `ValueError` naming the one that is neither."""
    return tuple(ip_network(text, strict=False) for text in texts)


def is_trusted(peer: str, trusted: Networks) -> bool:
    """Whether this peer is one of our proxies. IPv4 on a dual-stack socket is judged as IPv4."""
    address = _parse(peer)
    return address is not None and any(address in network for network in trusted)


def client_address(peer: str, forwarded_for: str, trusted: Networks) -> str:
    """The client's address in its shortest form; `peer` itself when it is no address (a Unix socket)."""
    address = _parse(peer)
    if address is None:
        return peer
    for claim in _claims(forwarded_for):
        if not any(address in network for network in trusted):
            break
        forwarded = _parse(claim)
        if forwarded is None:
            break
        address = forwarded
    return str(address)


def address_group(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, since every host has all of it."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))


def _claims(forwarded_for: str) -> Sequence[str]:
    return forwarded_for.split(",")[::-1] if forwarded_for else ()


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, also as proxies write it with a port: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address

"""Who may be contacted: pure judgement of addresses, names and URLs (protocol.md section 23, checklist 157, 238, 263).

Owns the tables. Opens nothing and resolves nothing: `relay.net.dial` asks here about the text before it resolves and
about each address before it connects, so a name that resolves to a private address is caught as well.
`ipaddress.is_global` is not used: its answer differs between Python versions and calls several tunnels global.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from relay.net.errors import HostRefused
from relay.protocol.syntax import is_hostname

# IANA special-purpose registries (RFC 6890 and its updates): everything that is not a host on the public internet.
_V4_REFUSED = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared address space behind carrier NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, where clouds keep their metadata service
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_V6_GLOBAL = IPv6Network("2000::/3")  # the only block that is handed out; loopback, ULA, link-local lie outside
_V6_REFUSED = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address, any, in disguise; withdrawn
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))

_match_url = re.compile(
    r"(?:(?P<scheme>https?|wss?)://)?"
    r"(?:\[(?P<literal>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!\"$-~]*)?",  # printable ASCII but "#": a fragment is never sent
    re.IGNORECASE | re.ASCII,
).fullmatch
_match_name = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*").fullmatch


class Origin(NamedTuple):
    """Where to connect: `host` is a lower-case name or an address without brackets."""

    host: str
    port: int
    tls: bool

    @property
    def name(self) -> str:
        """`host[:port]`, the port left out when it is the scheme's own; what a host is known by everywhere."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The `http` or `https` URL without a path."""
        return f"{'https' if self.tls else 'http'}://{self.name}"


def is_public_address(address: str) -> bool:
    """Whether this IPv4 or IPv6 address belongs to a host on the public internet; text that is no address does not.

    IPv4 inside IPv6 is judged as IPv4 where the network delivers it (mapped, NAT64) and refused as a tunnel elsewhere.
    """
    parsed = _reached(address)
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _V4_REFUSED)
    return parsed is not None and parsed in _V6_GLOBAL and not any(parsed in network for network in _V6_REFUSED)


def is_private_address(address: str) -> bool:
    """Whether `allow_private` lets this address be contacted: it is not public, and neither link-local.

    Nobody runs a host on a link-local address, and clouds answer there with the credentials of the machine.
    """
    parsed = _reached(address)
    if parsed is None or is_public_address(address):
        return False
    return not any(parsed in network for network in _LINK_LOCAL)


def _reached(address: str) -> IPv4Address | IPv6Address | None:
    """The address that the network delivers to; None for text that is none, or that names an interface of ours."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv4Address):
        return parsed
    if parsed.scope_id is not None:
        return None
    if parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return IPv4Address(int(parsed) & 0xFFFF_FFFF) if parsed in _NAT64 else parsed


def is_address(host: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address (without brackets)."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_name(text: str) -> bool:
    """Whether the text has the form of a host name, in lower case: one label or more, as private networks have too."""
    return _match_name(text) is not None


def check_name(host: str, *, allow_private: bool = False) -> None:
    """Raise `HostRefused` unless a connection to this host may be tried (checklist 238).

    Public policy: a DNS name of two labels or more, not under a reserved TLD, never an address. `allow_private` adds
    private addresses, single labels and reserved TLDs; a public address stays without a name and refused.
    """
    if is_address(host):
        if not allow_private or not is_private_address(host):
            raise HostRefused(f"an IP address is not a host name: {host}")
    elif not is_hostname(host) and not (allow_private and is_name(host.lower())):
        raise HostRefused(f"not a public host name: {host[:260]!r}")


def split_url(url: str) -> tuple[Origin, str]:
    """The origin and request target of an absolute URL (http, https, ws, wss). Raises `HostRefused`.

    Syntax only: no userinfo, no fragment, no character that could end a line. Who may be contacted is `check_name`'s.
    """
    found = _match_url(url)
    if found is None or found["scheme"] is None:
        raise HostRefused(f"not a plain http or ws URL: {url[:260]!r}")
    target = found["target"] or "/"
    return _origin(found, tls=found["scheme"].lower() in {"https", "wss"}), target if target[0] == "/" else "/" + target


def check_hostname(text: str, *, allow_private: bool = False, allow_insecure: bool = False) -> Origin:
    """The origin of a host that asks or is asked to be crawled: a bare name, or a URL without a path (checklist 238).

    Refused (`HostRefused`): addresses, any port, userinfo, paths, reserved TLDs, localhost, http. `allow_private` lets
    names and addresses of private networks through, with any port; `allow_insecure` lets `http://` and `ws://` through,
    and takes a bare `localhost` or address (which no certificate is for) as plain HTTP, as development networks do.
    """
    found = _match_url(text)
    if found is None or found["target"] not in {None, "/"}:
        raise HostRefused(f"not a host name: {text[:260]!r}")
    host = (found["literal"] or found["name"]).lower()
    check_name(host, allow_private=allow_private)
    if found["port"] is not None and not allow_private:
        raise HostRefused(f"a public host has no port of its own: {text[:260]!r}")
    if found["scheme"] is None:
        tls = not (allow_insecure and (host == "localhost" or is_address(host)))
    else:
        tls = found["scheme"].lower() in {"https", "wss"}
    if not tls and not allow_insecure:
        raise HostRefused(f"not over TLS: {text[:260]!r}")
    return _origin(found, tls=tls)


def _origin(found: re.Match[str], *, tls: bool) -> Origin:
    port = int(found["port"]) if found["port"] is not None else (443 if tls else 80)
    if not 1 <= port <= 65535:
        raise HostRefused(f"not a port: {port}")
    return Origin((found["literal"] or found["name"]).lower(), port, tls)

"""Which addresses, names and URLs may be contacted (checklist 157, 238, 263)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.errors import HostRefused
from relay.net.guard import Origin, check_hostname, check_name, is_private_address, is_public_address, split_url


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "169.253.255.255",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_addresses_of_the_public_internet(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",  # IPv4-compatible
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:a9fe:a9fe",  # mapped 169.254.169.254
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",  # NAT64 of a local network
        "100::1",  # discard only
        "2001::1",  # Teredo
        "2001:2::1",  # benchmarking
        "2001:10::1",  # ORCHID
        "2001:db8::1",
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:8.8.8.8%eth0",
        "fec0::1",
        "ff02::1",
        "4000::1",  # not handed out
        "",
        "example.com",
        "127.1",
        "0x7f000001",
        "2130706433",
        "1.1.1.1 ",
        "[::1]",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_judged_as_the_ipv4_that_it_reaches(address: object) -> None:
    public = is_public_address(str(address))

    assert is_public_address(f"::ffff:{address}") == public
    assert is_public_address(f"64:ff9b::{address}") == public
    assert not is_public_address(f"::{address}")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12:3456::1", "fec0::1"]
)
def test_private_networks_have_these(address: str) -> None:
    assert is_private_address(address)


LINK_LOCAL = [
    "169.254.0.0",
    "169.254.169.254",
    "169.254.255.255",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "fe80::1",
    "febf::1",
    "fe80::1%eth0",
]


@pytest.mark.parametrize("address", [*LINK_LOCAL, "::1%lo", "8.8.8.8", "2606:4700::1111", "", "localhost"])
def test_link_local_addresses_are_no_private_network(address: str) -> None:
    """Clouds answer there with the credentials of the machine."""
    assert not is_private_address(address)


@pytest.mark.parametrize("address", [address for address in LINK_LOCAL if "%" not in address])
def test_a_link_local_address_is_no_host_of_a_private_network(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(HostRefused):
        check_hostname(f"http://{literal}:80", allow_private=True, allow_insecure=True)
    with pytest.raises(HostRefused):
        check_name(address, allow_private=True)


BAD_HOSTNAMES = [
    "",
    " ",
    ".",
    "com",
    "localhost",
    "localhost:2583",
    "LOCALHOST",
    "foo.localhost",
    "127.0.0.1",
    "127.1",
    "1.1.1.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "[::1]",
    "[2606:4700::1111]",
    "::1",
    "2606:4700::1111",
    "https://127.0.0.1",
    "https://[::ffff:127.0.0.1]",
    "pds.example.com:443",
    "pds.example.com:8080",
    "https://pds.example.com:443",
    "https://pds.example.com:2583",
    "pds.example.com:",
    "user@pds.example.com",
    "user:secret@pds.example.com",
    "https://user@pds.example.com",
    "https://pds.example.com@evil.example.com",
    "pds.local",
    "pds.internal",
    "metadata.google.internal",
    "pds.test",
    "pds.example",
    "pds.invalid",
    "pds.onion",
    "pds.alt",
    "1.0.0.127.in-addr.arpa",
    "pds.example.com.",
    ".pds.example.com",
    "pds..example.com",
    "-pds.example.com",
    "pds-.example.com",
    "pds_x.example.com",
    "pds.example.com/xrpc",
    "https://pds.example.com/xrpc/",
    "https://pds.example.com?x=1",
    "https://pds.example.com#x",
    "pds.example.com#",
    "http://pds.example.com",
    "ws://pds.example.com",
    "ftp://pds.example.com",
    "file:///etc/passwd",
    "https:pds.example.com",
    "//pds.example.com",
    "https://",
    "pds.example.com\n",
    "\npds.example.com",
    "pds.example.com\r\nHost: x",
    "pds .example.com",
    "pds.example.com\0",
    "pds%2eexample.com",
    "pds.exämple.com",
    "pds。example。com",
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "a" * 64 + ".com",
    ("a" * 60 + ".") * 5 + "com",
]


@pytest.mark.parametrize("text", BAD_HOSTNAMES)
def test_hostnames_that_may_not_be_crawled(text: str) -> None:
    with pytest.raises(HostRefused):
        check_hostname(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("pds.example.com", "pds.example.com"),
        ("PDS.Example.COM", "pds.example.com"),
        ("https://pds.example.com", "pds.example.com"),
        ("https://pds.example.com/", "pds.example.com"),
        ("WSS://pds.example.com", "pds.example.com"),
        ("xn--bcher-kva.example.com", "xn--bcher-kva.example.com"),
        ("1.example.com", "1.example.com"),
        ("localhost.example.com", "localhost.example.com"),
    ],
)
def test_hostnames_that_may_be_crawled(text: str, host: str) -> None:
    assert check_hostname(text) == Origin(host, 443, tls=True)


def test_http_needs_permission_and_keeps_its_port() -> None:
    origin = check_hostname("http://pds.example.com", allow_insecure=True)

    assert origin == Origin("pds.example.com", 80, tls=False)
    assert origin.name == "pds.example.com"
    assert origin.url == "http://pds.example.com"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:2583", Origin("localhost", 2583, tls=False)),
        ("127.0.0.1:2583", Origin("127.0.0.1", 2583, tls=False)),
        ("[::1]:2583", Origin("::1", 2583, tls=False)),
        ("http://pds:3000", Origin("pds", 3000, tls=False)),
        ("https://pds.test", Origin("pds.test", 443, tls=True)),
        ("pds_one.internal:3000", Origin("pds_one.internal", 3000, tls=True)),
    ],
)
def test_private_networks_may_use_addresses_reserved_names_and_ports(text: str, expected: Origin) -> None:
    assert check_hostname(text, allow_private=True, allow_insecure=True) == expected


def test_private_networks_without_plain_http_stay_on_tls() -> None:
    assert check_hostname("localhost:2583", allow_private=True) == Origin("localhost", 2583, tls=True)
    with pytest.raises(HostRefused):
        check_hostname("http://localhost:2583", allow_private=True)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "[2606:4700::1111]", "localhost:0", "localhost:65536", "local host", "a..b"]
)
def test_a_public_address_is_never_a_host_name_and_ports_are_ports(text: str) -> None:
    with pytest.raises(HostRefused):
        check_hostname(text, allow_private=True, allow_insecure=True)


@given(st.text(max_size=60) | st.from_regex(re.compile(r"(https?://)?[a-z0-9.:@\[\]/-]{0,40}"), fullmatch=True))
def test_any_text_is_either_an_origin_that_round_trips_or_refused(text: str) -> None:
    try:
        origin = check_hostname(text, allow_private=True, allow_insecure=True)
    except HostRefused:
        return

    assert check_hostname(origin.url, allow_private=True, allow_insecure=True) == origin
    check_name(origin.host, allow_private=True)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://plc.directory/did:plc:abc", Origin("plc.directory", 443, tls=True), "/did:plc:abc"),
        ("HTTP://Localhost:2582", Origin("localhost", 2582, tls=False), "/"),
        ("http://[::1]:80/a?b=c&d=%41", Origin("::1", 80, tls=False), "/a?b=c&d=%41"),
        ("wss://a.example.com?cursor=0", Origin("a.example.com", 443, tls=True), "/?cursor=0"),
    ],
)
def test_urls_are_split(url: str, origin: Origin, target: str) -> None:
    assert split_url(url) == (origin, target)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "plc.directory",
        "/x",
        "ftp://a.example.com/",
        "https://u@a.example.com/",
        "https://a.example.com\\@b.example.com/",
        "https://a.example.com/\r\nX: y",
        "https://a.example.com/a b",
        "https://a.example.com/#f",
        "https://a.example.com/é",
        "https://a.example.com:99999/",
        "https://[::1/",
    ],
)
def test_urls_that_could_mean_two_things_are_refused(url: str) -> None:
    with pytest.raises(HostRefused):
        split_url(url)


def test_an_ipv6_origin_is_written_in_brackets() -> None:
    assert Origin("::1", 2582, tls=False).url == "http://[::1]:2582"
    assert Origin("::1", 443, tls=True).name == "[::1]"

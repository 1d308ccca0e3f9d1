"""Who may be crawled by asking for it, and what answers as a PDS."""

import pytest

from relay.crawl.admission import Admitted, Refused, is_forwarded, is_relay, judge_answer, judge_request
from relay.crawl.settings import HostSettings
from relay.net.http import HttpResponse

PRIVATE = HostSettings(allow_private=True, allow_insecure=True)
PUBLIC = HostSettings()
DESCRIPTION = b'{"did":"did:web:pds.example.com","availableUserDomains":[]}'


@pytest.mark.parametrize("hostname", ["localhost:2583", "http://127.0.0.1:2583", "pds.internal", "10.0.0.7:3000"])
def test_private_hosts_are_admitted_where_the_relay_serves_a_private_network(hostname: str) -> None:
    assert isinstance(judge_request(hostname, PRIVATE), Admitted)


@pytest.mark.parametrize("hostname", ["pds.example.com", "https://PDS.Example.com/"])
def test_public_hosts_are_admitted_by_their_plain_name(hostname: str) -> None:
    verdict = judge_request(hostname, PRIVATE)
    assert isinstance(verdict, Admitted)
    assert verdict.origin.name == "pds.example.com"


@pytest.mark.parametrize(
    "hostname",
    [
        "",
        "a b",
        "localhost",
        "localhost:2583",
        "127.0.0.1",
        "http://127.0.0.1:2583",
        "[::1]",
        "8.8.8.8",
        "2130706433",
        "0x7f.1",
        "pds.example.com:8443",
        "pds.example.com:80",
        "user@pds.example.com",
        "https://user:secret@pds.example.com",
        "pds.example.com/path",
        "pds.example.com?query",
        "pds.example.com#fragment",
        "http://pds.example.com",
        "ws://pds.example.com",
        "ftp://pds.example.com",
        "pds",
        "pds.local",
        "pds.internal",
        "pds.test",
        "pds.onion",
        "pds.example",
        "pds..example.com",
        "-pds.example.com",
        "pds.example.com.",
        "p\u00e4ds.example.com",
        "pds.example.com\r\nHost: x",
        "a" * 64 + ".example.com",
        ".".join(["abcdefgh"] * 40) + ".com",
    ],
)
def test_bad_names_are_a_bad_request(hostname: str) -> None:
    """Checklist 238."""
    refused = judge_request(hostname, PUBLIC)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (400, "BadRequest")


def test_a_relay_does_not_crawl_itself() -> None:
    refused = judge_request("https://Relay.example.com", PUBLIC, ("relay.example.com",))
    assert isinstance(refused, Refused)


def test_a_pds_answers_with_its_did() -> None:
    """Checklist 239."""
    assert judge_answer(HttpResponse(200, {}, DESCRIPTION)) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b'{"did":1}'), (302, DESCRIPTION), (500, b"")],
)
def test_nothing_else_is_an_answer_of_a_pds(status: int, body: bytes) -> None:
    refused = judge_answer(HttpResponse(status, {}, body))
    assert refused is not None
    assert refused.error == "HostNotFound"


def test_a_relay_is_known_by_its_server_header() -> None:
    """Checklist 262."""
    for server in ("atproto-relay/1.0", "indigo-relay/1 (atproto-relay)", "ATPROTO-RELAY"):
        assert is_relay(server)
        assert judge_answer(HttpResponse(200, {"server": server}, DESCRIPTION)) is not None
    assert not is_relay("simulated-pds")


@pytest.mark.parametrize("name", ["via", "user-agent"])
def test_what_came_through_a_relay_is_not_sent_on(name: str) -> None:
    assert is_forwarded({name: "HTTP/1.1 atproto-relay"})
    assert not is_forwarded({name: "curl/8"})

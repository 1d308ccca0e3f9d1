"""Who may be crawled by asking for it."""

import pytest

from relay.crawl.admission import Admitted, Refused, judge_request
from relay.crawl.settings import HostSettings

PRIVATE = HostSettings(allow_private=True, allow_insecure=True)


@pytest.mark.parametrize("hostname", ["localhost:2583", "http://127.0.0.1:2583", "pds.internal", "10.0.0.7:3000"])
def test_private_hosts_are_admitted_where_the_relay_serves_a_private_network(hostname: str) -> None:
    assert isinstance(judge_request(hostname, PRIVATE), Admitted)


@pytest.mark.parametrize("hostname", ["localhost:2583", "http://127.0.0.1:2583", "pds.internal", "pds.example.com"])
def test_nobody_is_admitted_elsewhere(hostname: str) -> None:
    refused = judge_request(hostname, HostSettings(allow_insecure=True))
    assert isinstance(refused, Refused)
    assert refused.status == 403


def test_public_hosts_are_refused_by_a_private_relay_too() -> None:
    refused = judge_request("pds.bsky-test.com", PRIVATE)
    assert isinstance(refused, Refused)
    assert refused.status == 403


@pytest.mark.parametrize("hostname", ["", "a b", "user@localhost", "localhost/path", "ftp://localhost", "localhost:0"])
def test_what_is_no_hostname_is_a_bad_request(hostname: str) -> None:
    refused = judge_request(hostname, PRIVATE)
    assert isinstance(refused, Refused)
    assert refused.status == 400

"""May this host be crawled? The decision on a requestCrawl, pure; who stores it and when is the caller's matter."""

from typing import NamedTuple

from relay.crawl.settings import HostSettings
from relay.net.errors import HostRefused
from relay.net.guard import Origin, check_hostname


class Admitted(NamedTuple):
    """The host may be crawled at `origin`."""

    origin: Origin


class Refused(NamedTuple):
    """It may not; `error` is an XRPC error name, `status` the HTTP status that goes with it."""

    status: int
    error: str
    message: str


def judge_request(hostname: str, settings: HostSettings) -> Admitted | Refused:
    """The decision on the text of a requestCrawl (checklist 238).

    Taken are hosts of private networks, on a relay that was told to serve one. Hosts of the public internet come in as
    seeds: admitting strangers takes the budgets and checks that decide how many of them a relay can bear.
    """
    try:
        origin = check_hostname(hostname, allow_private=True, allow_insecure=settings.allow_insecure)
    except HostRefused as refused:
        return Refused(400, "BadRequest", str(refused))
    if not settings.allow_private or _is_public(hostname):
        return Refused(403, "CrawlNotAllowed", "this relay takes crawl requests from hosts of its private network only")
    return Admitted(origin)


def _is_public(hostname: str) -> bool:
    try:
        check_hostname(hostname, allow_insecure=True)
    except HostRefused:
        return False
    return True

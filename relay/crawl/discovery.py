"""Hosts out of another relay's `listHosts`: one page read and judged at a time; who stores it is the caller.

Owns the request and what a page means for us (interface.md, `hosts.discover_*`). A page is a stranger's: it is bounded,
and every name in it passes the same hygiene as a requestCrawl.
"""

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from relay.crawl.settings import HostSettings
from relay.net.errors import HostRefused, NetError
from relay.net.guard import check_hostname
from relay.net.http import HttpClient

PAGE_HOSTS = 1_000
PAGES_MAX = 1_000  # of one run: a list that goes round ends there
RETRY_SECONDS = 300.0  # after a source that could not be read
_PAGE_BYTES_MAX = 1 << 20
_PAGE_SECONDS_MAX = 30.0
_CURSOR_CHARS_MAX = 4_096
_PATH = "/xrpc/com.atproto.sync.listHosts"
_ACCOUNTS_MAX = 1_000_000_000
_LIVE = frozenset({"active", ""})
_SKIPPED = frozenset({"banned"})


class DiscoveryFailed(Exception):  # noqa: N818 -- what happened, to be told and tried again later
    """The source could not be read now; the message is for people."""


class Listed(msgspec.Struct):
    """A host as a relay lists it. All but the name may be absent, or wrong."""

    hostname: str
    seq: int | None = None
    accountCount: int | None = None  # noqa: N815 -- the lexicon's key
    status: str | None = None


class _Page(msgspec.Struct):
    hosts: list[Listed]
    cursor: str | None = None


class Found(NamedTuple):
    """A host to be added: its name, and the fields of its row."""

    hostname: str
    fields: dict[str, Any]


def retry_seconds(settings: HostSettings) -> float:
    """When sources are read again after one that could not be."""
    return min(RETRY_SECONDS, settings.discover_minutes * 60)


async def read_page(client: HttpClient, source: str, cursor: str) -> tuple[list[Listed], str | None]:
    """One page of `source` (an http or https URL without a path) after `cursor`. Raises `DiscoveryFailed`."""
    query = urlencode({"limit": PAGE_HOSTS, **({"cursor": cursor} if cursor else {})})
    try:
        response = await client.get(
            f"{source.rstrip('/')}{_PATH}?{query}", timeout_seconds=_PAGE_SECONDS_MAX, body_bytes_max=_PAGE_BYTES_MAX
        )
    except NetError as error:
        raise DiscoveryFailed(str(error)) from None
    if response.status != 200:
        raise DiscoveryFailed(f"status {response.status} from {source}")
    try:
        page = msgspec.json.decode(response.body, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DiscoveryFailed(f"{source} did not answer listHosts in the lexicon's words") from None
    following = page.cursor if page.hosts and page.cursor and len(page.cursor) <= _CURSOR_CHARS_MAX else None
    return page.hosts[:PAGE_HOSTS], None if following == cursor else following


def judge_page(
    hosts: list[Listed], settings: HostSettings, is_banned: Callable[[str], bool], *, at_install: bool
) -> list[Found]:
    """Which of the listed hosts are read, and from where. `at_install`: they are the network as this relay found it.

    A host that its source has lost is taken too, as offline: it is probed once an hour, and many such hosts are alive.
    """
    found = []
    for listed in hosts:
        try:
            origin = check_hostname(
                listed.hostname, allow_private=settings.allow_private, allow_insecure=settings.allow_insecure
            )
        except HostRefused:
            continue
        if (listed.status or "") in _SKIPPED or is_banned(origin.name):
            continue
        fields = {
            "insecure": not origin.tls,
            "start": _start(listed, settings),
            "listed_accounts": min(max(0, listed.accountCount or 0), _ACCOUNTS_MAX),
            "known_at_install": at_install,
            "status": "offline" if listed.status == "offline" else "idle",
        }
        found.append(Found(origin.name, fields))
    return found


def _start(listed: Listed, settings: HostSettings) -> str:
    """`hosts.discover_start`; "auto" is live for hosts that the source calls active with a seq, else window."""
    if settings.discover_start != "auto":
        return settings.discover_start
    return "live" if (listed.status or "") in _LIVE and (listed.seq or 0) > 0 else "window"

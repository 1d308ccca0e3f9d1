"""Hosts out of another relay's list: what is taken, on which terms, and how a run goes on after a stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.app.discovery import Scout, known_run, read_source
from relay.crawl.discovery import Listed, judge_page
from relay.crawl.settings import HostSettings
from relay.net.connection import Site
from relay.net.dial import Dialer
from relay.net.exchange import Request, Response, error_response, json_response
from relay.net.http import HttpClient
from relay.serve.pages import catching_up
from relay.store.hosts import HostRow
from relay.store.policy import DOMAIN_BAN, DomainBan, encoded
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.world.loopback import origin, serve_on_loopback

LOG = LogSettings(sync=False, state_map_bytes=1 << 26)
NOW_MS = 1_760_000_000_000
PUBLIC = HostSettings()


def take(*listed: Listed, settings: HostSettings = PUBLIC) -> dict[str, dict[str, Any]]:
    return dict(judge_page(list(listed), settings, lambda host: host.endswith(".evil.org"), at_install=True))


def test_where_a_found_host_is_read_from() -> None:
    """interface.md, hosts.discover_start: live for hosts called active with a seq, else the window."""
    found = take(
        Listed("a.example.com", seq=5, status="active"),
        Listed("b.example.com", seq=5),
        Listed("c.example.com", status="active"),
        Listed("d.example.com", seq=5, status="idle"),
        Listed("e.example.com", seq=5, status="offline"),
    )
    assert [fields["start"] for fields in found.values()] == ["live", "live", "window", "window", "window"]
    assert [fields["status"] for fields in found.values()] == ["idle"] * 4 + ["offline"]
    window = take(Listed("a.example.com", seq=5), settings=replace(PUBLIC, discover_start="window"))
    assert window["a.example.com"]["start"] == "window"


@pytest.mark.parametrize(
    "listed",
    [
        Listed("127.0.0.1"),
        Listed("localhost"),
        Listed("pds.local"),
        Listed("pds.example.com:8443"),
        Listed("http://pds.example.com"),
        Listed("pds.example.com/x"),
        Listed(""),
        Listed("pds.example.com", status="banned"),
        Listed("pds.evil.org"),
    ],
)
def test_what_is_not_taken_from_a_list(listed: Listed) -> None:
    """Checklist 238, 260: a list is a stranger's word too."""
    assert take(listed) == {}


def test_counts_of_a_list_are_bounded() -> None:
    found = take(Listed("a.example.com", accountCount=-5), Listed("b.example.com", accountCount=10**18))
    assert [fields["listed_accounts"] for fields in found.values()] == [0, 10**9]


class Source:
    """A relay that lists `hosts`, some on each page; `fails_at` is the cursor at which it does not answer."""

    def __init__(self, hosts: list[dict[str, Any]], per_page: int) -> None:
        self.hosts = hosts
        self.per_page = per_page
        self.fails_at = ""
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        assert request.path == "/xrpc/com.atproto.sync.listHosts"
        cursor = dict(request.query).get("cursor", "")
        self.asked.append(cursor)
        if cursor and cursor == self.fails_at:
            return error_response(502, "Bad", "gateway")
        start = int(cursor or 0)
        end = start + self.per_page
        page: dict[str, Any] = {"hosts": self.hosts[start:end]}
        return json_response(200, page | ({"cursor": str(end)} if end < len(self.hosts) else {}))


@asynccontextmanager
async def scouting(folder: Path, source: Source) -> AsyncIterator[Scout]:
    store = Store.open(folder / "data", LOG, create=True, now_ms=NOW_MS)

    async def inline(write: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return write()

    try:
        async with trio.open_nursery() as nursery:
            source.url = origin(await nursery.start(serve_on_loopback, Site(source.answer), 0))
            client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
            yield Scout(store, client, PUBLIC, inline, lambda: NOW_MS)
            nursery.cancel_scope.cancel()
    finally:
        store.close()


def names(store: Store) -> list[str]:
    return [row.hostname for row in rows(store)]


def rows(store: Store) -> list[HostRow]:
    with store.view() as view:
        return view.hosts(0, 1_000)


def listed(count: int) -> list[dict[str, Any]]:
    return [{"hostname": f"h{n}.example.com", "seq": 9, "accountCount": 70, "status": "active"} for n in range(count)]


async def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """Every page and its place in the list are one txn, so nothing is asked for twice."""
    source = Source(listed(7), per_page=2)
    async with scouting(tmp_path, source) as scout:
        source.fails_at = "4"
        run = await read_source(scout, source.url)
        assert (run.error != "", run.cursor, run.added, run.at_ms) == (True, "4", 4, NOW_MS)
        assert known_run(scout.store, source.url) == run
        source.fails_at = ""
        source.asked.clear()
        run = await read_source(scout, source.url)
        assert source.asked == ["4", "6"]
        assert (run.error, run.cursor, run.listed, run.added, run.finished_ms) == ("", None, 7, 7, NOW_MS)
        assert names(scout.store) == [f"h{n}.example.com" for n in range(7)]


async def test_a_failed_run_is_told_until_it_succeeds(tmp_path: Path) -> None:
    """Of a source that is read on a timer; of another whoever asked for it was told (`relay pull-hosts`)."""
    source = Source(listed(7), per_page=2)
    async with scouting(tmp_path, source) as scout:
        hosts = replace(PUBLIC, discover_from=(source.url + "/",))
        source.fails_at = "4"
        run = await read_source(scout, source.url)
        (said,) = catching_up(scout.store, hosts, NOW_MS + 70_000)
        assert said == f"the hosts of {source.url} could not be read: {run.error}, tried again in 4 min"
        assert catching_up(scout.store, PUBLIC, NOW_MS) == []
        source.fails_at = ""
        await read_source(scout, source.url)
        assert catching_up(scout.store, hosts, NOW_MS) == []


async def test_a_second_run_adds_what_is_new_and_only_raises_counts(tmp_path: Path) -> None:
    """Hosts of the first run are those of the installation; later ones start strict (design section 4)."""
    source = Source(listed(2), per_page=100)
    async with scouting(tmp_path, source) as scout:
        scout.store.set_policy(DOMAIN_BAN + "h2.example.com", encoded(DomainBan()))
        scout.store.add_host("h0.example.com", insecure=False, now_ms=NOW_MS, account_limit=5, status="banned")
        await read_source(scout, source.url)
        source.hosts = listed(4)
        source.hosts[1]["accountCount"] = 60
        run = await read_source(scout, source.url)
        assert run.added == 1
        first, second, last = rows(scout.store)
        assert (first.status, first.account_limit, first.listed_accounts) == ("banned", 5, 70)
        assert (second.known_at_install, second.listed_accounts, second.start) == (True, 70, "live")
        assert (last.hostname, last.known_at_install) == ("h3.example.com", False)


async def test_a_source_that_is_no_relay_is_told_and_nothing_stored(tmp_path: Path) -> None:
    source = Source([{"name": "x"}], per_page=10)
    async with scouting(tmp_path, source) as scout:
        run = await read_source(scout, source.url)
        assert "lexicon" in run.error
        assert names(scout.store) == []
        dead = await read_source(scout, "http://127.0.0.1:1")
        assert (dead.error, dead.at_ms) == ("127.0.0.1: Connection refused", NOW_MS)

"""Finding hosts: what other relays list, read at the start and on a timer, or once by `relay pull-hosts`.

Owns the runs and that they go on where a stop cut them off: each page of hosts and the place in the list are one txn.
What a page means is `relay.crawl.discovery`; following the hosts is the ingest workers', which see the new rows.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import trio

from relay.crawl.discovery import PAGES_MAX, DiscoveryFailed, judge_page, read_page, retry_seconds
from relay.crawl.settings import HostSettings
from relay.net.http import HttpClient
from relay.observe.logs import get_logger
from relay.store.policy import DISCOVERY, DiscoveryRun, encoded
from relay.store.store import Store

PAUSE_SECONDS = 0.2  # between two pages

_log = get_logger("discovery")


class Scout(NamedTuple):
    """What reading a list takes. `offload` runs a write txn of the store; `now_ms` is the wall clock."""

    store: Store
    client: HttpClient
    settings: HostSettings
    offload: Callable[..., Awaitable[Any]]
    now_ms: Callable[[], int]


async def keep_discovering(scout: Scout, sources: Sequence[str]) -> None:
    """Read every source now and every `hosts.discover_minutes`, until cancelled; one after the other."""
    while sources:
        failed = False
        for source in sources:
            run = await read_source(scout, source)
            failed = failed or bool(run.error)
        await trio.sleep(retry_seconds(scout.settings) if failed else scout.settings.discover_minutes * 60)


async def read_source(scout: Scout, source: str) -> DiscoveryRun:
    """Read one source's whole list, from where an unfinished run stopped. Never raises for what the source does."""
    name = source.rstrip("/")
    before = known_run(scout.store, name)
    is_first = not before.finished_ms
    if before.cursor is None:
        run = DiscoveryRun(cursor="", started_ms=scout.now_ms(), finished_ms=before.finished_ms)
    else:
        run = DiscoveryRun(before.cursor, before.started_ms, before.finished_ms, before.listed, before.added)
    for _ in range(PAGES_MAX):
        try:
            hosts, cursor = await read_page(scout.client, name, run.cursor or "")
        except DiscoveryFailed as failed:
            return await _note(scout, name, run, error=str(failed)[:200])
        with scout.store.view() as view:
            found = judge_page(
                hosts, scout.settings, lambda host: view.domain_ban(host) is not None, at_install=is_first
            )
        now_ms = scout.now_ms()
        finished_ms = run.finished_ms if cursor is not None else now_ms
        fields = {"cursor": cursor, "finished_ms": finished_ms, "listed": run.listed + len(hosts), "at_ms": now_ms}
        run = msgspec.structs.replace(run, **fields)
        add = partial(scout.store.add_listed_hosts, found, now_ms=now_ms, run=name, progress=run)
        run = msgspec.structs.replace(run, added=run.added + await scout.offload(add))
        if cursor is None:
            _log.info("hosts_discovered", source=name, listed=run.listed, added=run.added)
            return run
        await trio.sleep(PAUSE_SECONDS)
    return await _note(scout, name, run, cursor=None, error=f"the list has no end after {PAGES_MAX} pages")


def known_run(store: Store, source: str) -> DiscoveryRun:
    """How far the last run of a source came."""
    with store.view() as view:
        return view.policy(DISCOVERY + source.rstrip("/"), DiscoveryRun, DiscoveryRun())


async def _note(scout: Scout, name: str, run: DiscoveryRun, **changes: Any) -> DiscoveryRun:
    run = msgspec.structs.replace(run, at_ms=scout.now_ms(), **changes)
    _log.warning("discovery_stopped", source=name, why=run.error)
    await scout.offload(partial(scout.store.note_policy, DISCOVERY + name, encoded(run)))
    return run

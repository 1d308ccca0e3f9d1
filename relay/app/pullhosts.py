"""`relay pull-hosts`: the hosts that another relay lists, added to this one's, whether it runs or not.

Works on the store directly: rows are the only source of what is followed, so a running relay takes them up at once.
Owns what is told of the run, to people or as JSON; its log is quiet, so that nothing else is between the lines.
"""

import time
from typing import Any

import trio

from relay.app.discovery import Scout, read_source
from relay.app.settings import RelaySettings
from relay.net.dial import Dialer
from relay.net.http import HttpClient
from relay.store.policy import DiscoveryRun
from relay.store.store import Store


async def pull_hosts(settings: RelaySettings, source: str) -> DiscoveryRun:
    """Read `source` once, from where an unfinished run stopped; its `error` says why it was not read to its end.

    Raises StoreError.
    """
    hosts = settings.hosts
    dialer = Dialer(allow_private=hosts.allow_private, allow_insecure=hosts.allow_insecure)
    client = HttpClient(dialer, settings.user_agent)
    store = Store.open(settings.data_dir, settings.log)
    try:
        scout = Scout(store, client, hosts, trio.to_thread.run_sync, lambda: time.time_ns() // 1_000_000)
        return await read_source(scout, source)
    finally:
        store.close()
        await client.aclose()


def lines(source: str, run: DiscoveryRun) -> list[str]:
    """The run for people."""
    told = [f"{run.listed:,} hosts listed by {source}, {run.added:,} of them new here"]
    return [*told, f"not read to its end: {run.error}; run it again to go on"] if run.error else told


def report(source: str, run: DiscoveryRun) -> dict[str, Any]:
    """The run as JSON values."""
    return {"source": source, "listed": run.listed, "added": run.added, "error": run.error or None}

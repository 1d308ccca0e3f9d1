"""`relay pull-hosts`: the hosts that another relay lists, added to this one's, whether it runs or not.

Works on the store directly: rows are the only source of what is followed, so a running relay takes them up at once.
"""

import time
from collections.abc import Callable

import trio

from relay.app.discovery import Scout, read_source
from relay.app.settings import RelaySettings
from relay.net.dial import Dialer
from relay.net.http import HttpClient
from relay.store.store import Store


async def pull_hosts(settings: RelaySettings, source: str, say: Callable[[str], None]) -> bool:
    """Read `source` once, from where an unfinished run stopped; whether it was read to its end. Raises StoreError."""
    hosts = settings.hosts
    dialer = Dialer(allow_private=hosts.allow_private, allow_insecure=hosts.allow_insecure)
    client = HttpClient(dialer, settings.user_agent)
    store = Store.open(settings.data_dir, settings.log)
    try:
        scout = Scout(store, client, hosts, trio.to_thread.run_sync, lambda: time.time_ns() // 1_000_000)
        run = await read_source(scout, source)
    finally:
        store.close()
        await client.aclose()
    say(f"{run.listed} hosts listed by {source}, {run.added} of them new here")
    if run.error:
        say(f"not read to its end: {run.error}; run it again to go on")
    return not run.error

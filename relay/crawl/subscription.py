"""Following one host: connect at our cursor, read, and come back after whatever ends. One host is one task.

Owns what happens between two connections: how long the host is left alone (`relay.crawl.hoststate` counts), and the
probe that finds out whether its seqs began anew. What happens on a connection is `relay.crawl.reading`.
"""

import trio

from relay.crawl.host import GAP_RESTART, GAP_SLOW, Follower, Host, HostNews
from relay.crawl.hoststate import Ending
from relay.crawl.probe import Finding, find_out
from relay.crawl.reading import read_host
from relay.net.errors import NetError


async def follow(host: Host, follower: Follower) -> None:
    """Read the host until cancelled."""
    stream, health = host.stream, host.health
    while True:
        before = stream.progress
        end = await read_host(host, follower)
        if stream.progress > before:
            health.progress()
        seconds = health.ended(end.ending, trio.current_time(), end.retry_after_seconds)
        gap = GAP_SLOW if end.ending is Ending.TOO_SLOW else ""
        host.report(HostNews(health.status, end.error, end.ending, gap))
        if end.ending in (Ending.OUR_STOP, Ending.THROTTLED):
            await host.wait_for_room()
            continue
        if await _has_restarted(host, follower):
            continue
        with trio.move_on_after(seconds):
            await host.wake.wait()


async def _has_restarted(host: Host, follower: Follower) -> bool:
    """Whether the host's seqs began anew, if it is time to find out; the stream begins anew with them."""
    health, cursor = host.health, host.stream.cursor
    if cursor is None or host.stream.in_flight or not health.wants_probe(trio.current_time()):
        return False
    health.probed(trio.current_time())
    try:
        async with follower.subscribe(host.upstream.url(0)) as subscription:
            finding = await find_out(subscription, cursor, follower.now_ms())
    except NetError as error:
        finding, said = Finding.UNDECIDED, str(error)
    else:
        said = _WORDS[finding]
    if finding in (Finding.RESTARTED, Finding.EMPTY):
        host.stream.restart()
        host.report(HostNews(health.status, said, None, GAP_RESTART, probed=True, cursor_before=cursor))
        return True
    host.report(HostNews(health.status, f"our cursor {cursor} is in its future; {said}", None, probed=True))
    return False


_WORDS = {
    Finding.RESTARTED: "its seqs began anew; it is read from the beginning",
    Finding.EMPTY: "its seqs began anew and its window is empty",
    Finding.NOT_RESTARTED: "but its window goes further than that",
    Finding.UNDECIDED: "its window did not tell how high its seqs go",
}

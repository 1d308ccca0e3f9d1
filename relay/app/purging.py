"""The background job behind `takedown --purge`: segment by segment, as long as an operator's takedown asks for it.

Owns when it is done and the progress that operators see. How a segment is purged is `relay.store.purge`. Housekeeping
does it in the thread of its retention, one segment at a time, so neither ever meets the other half-way.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from relay.observe.logs import get_logger
from relay.store.policy import PURGED, TAKEDOWN, Takedown, decoded, encoded
from relay.store.store import Store

LOOK_SECONDS = 5.0
ACCOUNTS_AT_ONCE = 100
PROGRESS_SECONDS = 2.0  # between two words on it
_PAGE = 1_000

Offload = Callable[..., Awaitable[Any]]

_log = get_logger("purging")


async def keep_purging(store: Store, offload: Offload, now_ms: Callable[[], int]) -> None:
    """Do what takedowns ask for until cancelled; a job that was cut off begins again. Raises StoreError."""
    while True:
        if pending := wanted(store):
            await purge(store, pending, offload, now_ms)
        await trio.sleep(LOOK_SECONDS)


def wanted(store: Store) -> dict[str, Takedown]:
    """Takedowns whose purge is not done, at most `ACCOUNTS_AT_ONCE` of them."""
    found: dict[str, Takedown] = {}
    after = ""
    while len(found) < ACCOUNTS_AT_ONCE:
        with store.view() as view:
            page = view.policy_page(TAKEDOWN, after, _PAGE)
        if not page:
            break
        after = page[-1][0]
        entries = ((did, decoded(value, Takedown)) for did, value in page)
        found |= {did: entry for did, entry in entries if entry.purge and not entry.purged_ms}
    return dict(list(found.items())[:ACCOUNTS_AT_ONCE])


async def purge(store: Store, pending: dict[str, Takedown], offload: Offload, now_ms: Callable[[], int]) -> None:
    """Take these accounts out of all that is in the log by now."""
    names = await offload(store.seal)
    _log.info("purge_begins", accounts=len(pending), segments=len(names))
    frames, told_at = 0, float("-inf")
    for done, name in enumerate(names):
        frames += await offload(partial(store.purge_segment, name, tuple(pending)))
        if trio.current_time() - told_at >= PROGRESS_SECONDS:
            told_at = trio.current_time()
            await offload(partial(store.note_purge, pending, {"segments": len(names), "purged_segments": done + 1}))
    finished = {"segments": len(names), "purged_segments": len(names), "purged_frames": frames, "purged_ms": now_ms()}
    await offload(partial(store.set_policy, PURGED, encoded(finished["purged_ms"])))  # first: a cut-off run tells again
    await offload(partial(store.note_purge, pending, finished))
    _log.info("purge_done", accounts=len(pending), frames=frames)

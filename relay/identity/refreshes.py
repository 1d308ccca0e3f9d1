"""How often hosts may have DIDs read again: the budgets of forced refreshes.

Owns the counting. Whether a refresh is due is decided by `relay.verify`, waiting for one is `relay.ingest.waiting`.
Budgets are each host's own, so that nobody can use up what the account's host will need.
"""

from collections.abc import Callable

import trio

from relay.net.limiter import Keyed, TokenBucket

REFRESHES_PER_DID_BURST = 5  # handle change, rotation and migration may follow each other closely; then one a minute
BUCKETS_MAX = 50_000


class Refreshes:
    """Budgets for each DID and for each host that asks; `per_minute` is that of a host."""

    def __init__(self, per_minute: int) -> None:
        self._per_did = Keyed(_refreshes(1, REFRESHES_PER_DID_BURST), BUCKETS_MAX)
        self._per_host = Keyed(_refreshes(per_minute, per_minute), BUCKETS_MAX)

    def wait_seconds(self, did: str, host: str) -> float | None:
        """Takes one refresh of `did` at the request of `host`; how long to wait for it, None when there is none.

        A DID that was just read again and again is judged by what is known; a host that names many DIDs waits its turn
        for each.
        """
        now = trio.current_time()
        if not self._of(did, host, now).take(now):
            return None
        return self._per_host.get(host, now).reserve(now)

    def stale_wait_seconds(self, did: str, host: str) -> float:
        """Takes one refresh that an `#identity` of the account's own host made due; how long to wait before asking
        again, 0.0 when it was there.

        None is promised ahead: who goes on without it, because others must not wait, leaves no debt behind.
        """
        now = trio.current_time()
        bucket = self._of(did, host, now)
        return 0.0 if bucket.take(now) else bucket.delay_seconds(now)

    def _of(self, did: str, host: str, now: float) -> TokenBucket:
        return self._per_did.get(f"{did} {host}", now)


def _refreshes(per_minute: int, burst: int) -> Callable[[float], TokenBucket]:
    return lambda now: TokenBucket(per_minute / 60.0, burst, now)

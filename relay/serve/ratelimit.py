"""How many requests an address may make, and how it is told (checklist 248, protocol.md section 20).

Owns the count, the `RateLimit-*` headers of the draft that atproto services use, and how a budget of what costs more is
spent. Does not own which those are; the stream has places instead (`relay.serve.audience`), and health checks are never
limited (the router knows which those are). Each worker counts what comes to it, and tells of that.
"""

import math
from typing import NamedTuple

import trio

from relay.net.exchange import Headers
from relay.net.limiter import Keyed, SlidingCount, TokenBucket
from relay.net.proxies import address_group
from relay.serve.settings import limits_share
from relay.serve.xrpc import too_many

WINDOW_SECONDS = 300
_ADDRESSES_MAX = 50_000  # about 20 MB if every one of them is in use
_EXPOSED = "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, Retry-After"


def shared_buckets(rate: float, burst: int, workers: int, keys_max: int) -> Keyed[TokenBucket]:
    """One worker's share of token buckets by key: together the `workers` let about `rate` a second and `burst` through.

    For what costs others or guards a secret: whoever spreads over connections, and so over workers, gains nothing.
    """
    return Keyed(lambda now: TokenBucket(rate / workers, limits_share(burst, workers), now), keys_max)


def spend(budgets: Keyed[TokenBucket], key: str, message: str) -> None:
    """Take one token of this key. Raises `Refusal` 429 with Retry-After when there is none (checklist 248)."""
    now = trio.current_time()
    budget = budgets.get(key, now)
    if not budget.take(now):
        raise too_many(message, budget.delay_seconds(now))


class Allowance(NamedTuple):
    """What an address may still do after a request: whether it was one too many, and the headers that say so."""

    refused: bool
    headers: Headers


class RequestLimit:
    """At most `limit` requests of one address in any `WINDOW_SECONDS`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts = Keyed(lambda now: SlidingCount(limit, WINDOW_SECONDS, now), _ADDRESSES_MAX)

    def take(self, address: str, now: float, now_ms: int) -> Allowance:
        """Count one request. `now` is any clock in seconds that only rises, `now_ms` unix milliseconds."""
        counted = self._counts.get(address_group(address), now)
        refused = not counted.take(now)
        seconds = max(1, math.ceil(counted.delay_seconds(now))) if refused else WINDOW_SECONDS
        headers = [
            ("RateLimit-Limit", str(self._limit)),
            ("RateLimit-Remaining", str(max(0, int(self._limit - counted.count(now))))),
            ("RateLimit-Reset", str(now_ms // 1000 + seconds)),
            ("RateLimit-Policy", f"{self._limit};w={WINDOW_SECONDS}"),
            ("Access-Control-Expose-Headers", _EXPOSED),
        ]
        if refused:
            headers.append(("Retry-After", str(seconds)))
        return Allowance(refused, tuple(headers))

"""What a serve worker is told: the keys `consumers.*` and `http.*`, the proxies it believes, the bounds of the side for
operators, and the settings of the floors below it.

Owns names, units and defaults. Ranges, texts and parsing are in `relay.app.keys`.
"""

import math
from dataclasses import dataclass, field

from relay.crawl.settings import HostSettings
from relay.store.settings import LogSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """Bounds of the consumers of the whole relay; `places_share` is one worker's part of them.

    `stall_seconds` without a single byte taken ends a consumer. `read_bytes` is one read of the log by a consumer that
    is behind, `hot_bytes` the newest part of the log that all consumers of a worker share in memory.
    """

    max: int = 5_000
    per_address: int = 20
    stall_seconds: float = 120.0
    read_bytes: int = 256 << 10
    hot_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Bounds of the HTTP API. `requests_per_address` counts in any five minutes, in each worker by itself.

    A client's requests come over one connection, which stays with its worker: of a share, a client that keeps to the
    limit would be refused.
    """

    requests_per_address: int = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Bounds of the operator's side of each worker; no key sets them.

    A wrong password is answered after `failure_seconds`. `streams_max` pages are kept up to date at a time.
    """

    failure_seconds: float = 1.0
    streams_max: int = 32
    takedowns_per_page: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRoleSettings:
    """All that a serve worker needs to know. `trusted_proxies` are networks whose X-Forwarded-For counts.

    `mode` is how strictly chains are judged where nothing else is said; here it is only told to who asks.

    `/_ready` answers 503 when less than `disk_free_bytes_min` is left, or our clock is more than `tip_age_seconds_max`
    behind the newest event; an event that is older than that is only a warning.

    Any of `admin_passwords` opens the operator's API; with `separate_admin` it is served on the last listener alone,
    which then serves nothing else.

    At a stop consumers have `flush_seconds` to take what is in memory; whoever has not is told to come back, and cut
    after `farewell_seconds` more.
    """

    user_agent: str = "atproto-relay"
    contact: str = ""
    log: LogSettings = field(default_factory=LogSettings)
    hosts: HostSettings = field(default_factory=HostSettings)
    mode: str = "ratchet"
    consumers: ConsumerSettings = field(default_factory=ConsumerSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    operator: OperatorSettings = field(default_factory=OperatorSettings)
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    siblings: tuple[str, ...] = ()
    admin_passwords: tuple[str, ...] = field(default=(), repr=False)
    separate_admin: bool = False
    flush_seconds: float = 6.0
    farewell_seconds: float = 2.0
    tip_age_seconds_max: float = 3_600.0
    disk_free_bytes_min: int = 1 << 30


def limits_share(limit: int, workers: int) -> int:
    """One worker's part of a budget of the whole relay: at least 1, and rounded up so that nothing of it is lost."""
    return max(1, -(-limit // workers))


def places_share(limit: int, workers: int) -> int:
    """One worker's part of a number of connections, never above the limit.

    The kernel deals connections out at random, so an even part would refuse people below the limit: five times the
    square root of that part is above nearly every deal, as the standard deviation is less than the square root.
    """
    even = limit / workers
    return min(limit, math.ceil(even + 5 * math.sqrt(even)))

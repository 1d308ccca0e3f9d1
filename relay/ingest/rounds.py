"""What a worker looks at from time to time: gauges, hosts that lag, and room for accounts that wait.

Owns when it looks, and what the hosts' rows learn of it through the ledger. Each look is one pass over the hosts that
are followed; what is found was counted elsewhere.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import trio

from relay.crawl.pace import Pace
from relay.ingest.judge import Judge
from relay.ingest.ledger import Ledger
from relay.ingest.quota import RELEASED_PER_SECOND
from relay.observe.metrics import Metrics
from relay.store.hosts import HostRow
from relay.store.store import Store

FIGURES_INTERVAL_SECONDS = 1.0
HOSTS_INTERVAL_SECONDS = 10.0
RELEASE_INTERVAL_SECONDS = 1.0
BACKLOG_SECONDS_MIN = 60.0  # a host whose events are older than this is catching up
_NEAR_RATE = 0.8

Offload = Callable[..., Awaitable[Any]]


class _Watched(NamedTuple):
    judge: Judge
    pace: Pace


class Rounds:
    """The hosts that are followed, looked at again and again. `offload` runs a write txn."""

    def __init__(
        self, store: Store, ledger: Ledger, metrics: Metrics, offload: Offload, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._metrics = metrics
        self._offload = offload
        self._now_ms = now_ms
        self._watched: dict[int, _Watched] = {}
        self._lag_seconds: dict[int, float] = {}  # as the rows were told
        self._over: set[int] = set()  # hosts whose rows say that they are over their quota

    def begin(self, row: HostRow, judge: Judge, pace: Pace) -> None:
        """The host is followed from now on."""
        self._watched[row.host_id] = _Watched(judge, pace)
        self._lag_seconds[row.host_id] = row.lag_ms / 1_000
        if row.over_quota_ms:
            self._over.add(row.host_id)

    def forget(self, host_id: int) -> None:
        """The host is no longer followed here."""
        del self._watched[host_id], self._lag_seconds[host_id]

    async def run(self) -> None:
        """Look, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_figures)
            nursery.start_soon(self._look_at_hosts)
            nursery.start_soon(self._release)

    async def _keep_figures(self) -> None:
        while True:
            self.set_figures()
            await trio.sleep(FIGURES_INTERVAL_SECONDS)

    async def _look_at_hosts(self) -> None:
        while True:
            await trio.sleep(HOSTS_INTERVAL_SECONDS)
            self.look_at_rates()
            self.note_backlogs()

    async def _release(self) -> None:
        """Let throttled accounts in where there is room, oldest first and no more than so many a second."""
        while True:
            for host_id, room in self.hosts_with_room():
                count = min(room, RELEASED_PER_SECOND)
                release = partial(self._store.release_throttled, host_id, count, now_ms=self._now_ms())
                released = await self._offload(release)
                self._metrics.append.events_appended.labels("#account", "relay").inc(released)
            await trio.sleep(RELEASE_INTERVAL_SECONDS)

    def set_figures(self) -> None:
        """Set the gauges of what is under way."""
        judges = [watched.judge for watched in self._watched.values()]
        self._metrics.ingest.in_flight.set(sum(judge.place.in_flight for judge in judges))
        self._metrics.ingest.lanes_waiting.set(sum(len(judge.lanes) for judge in judges))
        statuses = Counter(self._ledger.statuses().values())
        for status in ("active", "idle", "offline", "throttled"):
            self._metrics.crawl.hosts.labels(status).set(statuses[status])

    def look_at_rates(self) -> None:
        """Count the hosts that have used most of what they may send in an hour or a day."""
        now = trio.current_time()
        near = sum(watched.pace.usage(now) >= _NEAR_RATE for watched in self._watched.values())
        self._metrics.crawl.hosts_near_rate.set(near)

    def note_backlogs(self) -> None:
        """Tell the rows of hosts that are catching up, and of those that have."""
        now_ms = self._now_ms()
        for host_id, watched in self._watched.items():
            seconds = watched.judge.books.backlog_seconds(now_ms)
            seconds = seconds if seconds >= BACKLOG_SECONDS_MIN else 0.0
            before = self._lag_seconds[host_id]
            if (seconds == 0) != (before == 0) or abs(seconds - before) > BACKLOG_SECONDS_MIN:
                self._lag_seconds[host_id] = seconds
                self._ledger.note(host_id, lag_ms=int(seconds * 1_000))

    def hosts_with_room(self) -> list[tuple[int, int]]:
        """Hosts with throttled accounts and room for some of them: host id, and for how many.

        Their rows learn on the way since when they are over their quota, and that they no longer are.
        """
        found: list[tuple[int, int]] = []
        over: set[int] = set()
        with self._store.view() as view:
            for host_id in view.throttling():
                watched, row = self._watched.get(host_id), view.host(host_id)
                if watched is None or row is None:
                    continue
                over.add(host_id)
                if not row.over_quota_ms:
                    self._ledger.note(host_id, over_quota_ms=self._now_ms())
                room = watched.judge.quota.limit - (row.account_count - row.throttled_count)
                if room > 0:
                    found.append((host_id, min(room, row.throttled_count)))
        for host_id in self._over - over:
            self._ledger.note(host_id, over_quota_ms=0)
        self._over = over
        return found

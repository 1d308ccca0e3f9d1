"""Figures over all hosts, taken once a minute: who is catching up, and who is near the account limit.

Owns the walk over the rows, in short txns, and what is made of it. Nothing is done about it here: an operator reads the
metrics, `/_ready` and the dashboard the note, and what was counted goes on to `relay.app.clockwatch`.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from relay.crawl.limits import is_near_quota, limits_of
from relay.crawl.settings import HostSettings
from relay.observe.metrics import HostWatchMetrics
from relay.store.hosts import HostRow
from relay.store.policy import CATCHING_UP, CatchingUp, encoded
from relay.store.store import Store
from relay.verify.verdict import Reason

ROWS_PER_TXN = 256
NAMED_MAX = 50  # hosts that get a series of their own
_TXN_PAUSE_SECONDS = 0.001


class Counts(NamedTuple):
    """What was ever counted of a host: all its events, and those dropped as `rev_in_future`."""

    events: int
    in_future: int


class HostWatch:
    """One look after the other. Blocks: for a thread of its own."""

    def __init__(
        self, store: Store, settings: HostSettings, metrics: HostWatchMetrics, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._now_ms = now_ms

    def look(self) -> dict[int, Counts]:
        """Take stock of all hosts; what was counted of those that are not banned, by id. Raises `StoreError`."""
        counts: dict[int, Counts] = {}
        near: list[tuple[float, HostRow]] = []
        behind: list[int] = []
        over = 0
        for row in self._rows():
            if row.status == "banned":
                continue
            counts[row.host_id] = _counts(row)
            if row.lag_ms and row.status == "active":
                behind.append(row.lag_ms)
            limits = limits_of(row, self._settings)
            over += row.throttled_count > 0
            if is_near_quota(row, limits) and row.account_count:
                near.append((row.account_count / max(1, limits.accounts), row))
        self._metrics.near_quota.set(len(near))
        self._metrics.over_quota.set(over)
        self._metrics.account_usage.clear()
        for share, row in sorted(near, key=lambda pair: -pair[0])[:NAMED_MAX]:
            self._metrics.account_usage.labels(row.hostname).set(share)
        self._note_backlog(behind)
        return counts

    def _rows(self) -> Iterator[HostRow]:
        after_id = 0
        while True:
            with self._store.view() as view:
                rows = view.hosts(after_id, ROWS_PER_TXN)
            yield from rows
            if not rows:
                return
            after_id = rows[-1].host_id
            time.sleep(_TXN_PAUSE_SECONDS)  # this thread shares the interpreter with the control socket

    def _note_backlog(self, behind: list[int]) -> None:
        """How many hosts are catching up, and when they have at the pace since the last look."""
        with self._store.view() as view:
            before = view.policy(CATCHING_UP, CatchingUp, CatchingUp())
        if not behind and not before.hosts:
            return
        now_ms, lag_ms = self._now_ms(), max(behind, default=0)
        gained_ms, passed_ms = before.lag_ms - lag_ms, now_ms - before.at_ms
        is_known = before.hosts and gained_ms > 0 and passed_ms > 0
        left = lag_ms * passed_ms // gained_ms // 1_000 if is_known else None
        self._store.note_policy(CATCHING_UP, encoded(CatchingUp(now_ms, len(behind), lag_ms, left)))


def _counts(row: HostRow) -> Counts:
    return Counts(row.accepted + sum(row.dropped.values()), row.dropped.get(Reason.REV_IN_FUTURE, 0))

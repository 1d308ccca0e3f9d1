"""The hosts this worker follows: compared with the stored rows whenever an operator or a requestCrawl changed them.

Rows are the only source: what should be followed is read from the state env when its generation moved, so that every
worker comes to the same answer and a restart needs no memory (design section 1).
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import trio

from relay.crawl.hoststate import HostHealth
from relay.crawl.roster import owner_of
from relay.crawl.subscription import Follower, HostNews, Upstream, Wake, follow
from relay.ingest.ledger import Ledger
from relay.ingest.stream import Desk, HostStream
from relay.observe.metrics import Metrics
from relay.store.hosts import HostRow
from relay.store.store import Store
from relay.verify.chain import HostView
from relay.verify.modes import mode_of

POLL_SECONDS = 0.25
HOSTS_PER_READ = 1_000
STAGGER_SECONDS_PER_HOST = 0.01
STAGGER_SECONDS_MAX = 30.0


class Followed(NamedTuple):
    """A host that is followed: the row it was started from, its stream, and how to wake or end it."""

    row: HostRow
    stream: HostStream
    wake: Wake
    scope: trio.CancelScope


class Roster(NamedTuple):
    """Which part of the hosts is this worker's, and where its writes and dials go."""

    store: Store
    worker: int
    workers: int
    desk: Desk
    ledger: Ledger
    follower: Follower
    metrics: Metrics
    mode: str


class Following:
    """Starts and ends subscriptions so that they match the stored rows."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._followed: dict[int, Followed] = {}
        self._generation: int | None = None

    @property
    def streams(self) -> list[HostStream]:
        """The streams of all hosts followed now."""
        return [followed.stream for followed in self._followed.values()]

    async def run(self) -> None:
        """Keep up with the rows until cancelled; the subscriptions end with it."""
        async with trio.open_nursery() as nursery:
            while True:
                rows = self._changed_rows()
                if rows is not None:
                    self._match(rows, nursery)
                await trio.sleep(POLL_SECONDS)

    def _changed_rows(self) -> list[HostRow] | None:
        """All rows of this worker, None when nothing changed since the last call."""
        with self._roster.store.view() as view:
            generation = view.generation()
            if generation == self._generation:
                return None
            self._generation = generation
            rows: list[HostRow] = []
            page = view.hosts(0, HOSTS_PER_READ)
            while page:
                rows += [row for row in page if owner_of(row.hostname, self._roster.workers) == self._roster.worker]
                page = view.hosts(page[-1].host_id, HOSTS_PER_READ)
        return rows

    def _match(self, rows: list[HostRow], nursery: trio.Nursery) -> None:
        wanted = {row.host_id: row for row in rows if row.status != "banned"}
        for host_id in [host_id for host_id in self._followed if host_id not in wanted]:
            self._end(host_id)
        fresh = [row for host_id, row in wanted.items() if host_id not in self._followed]
        for row in wanted.values():
            known = self._followed.get(row.host_id)
            if known is None:
                continue
            known.stream.judge_under(self._mode(row))
            if row.asked_ms > known.row.asked_ms:
                self._followed[row.host_id] = known._replace(row=row)
                known.wake.set()
        spread = min(len(fresh) * STAGGER_SECONDS_PER_HOST, STAGGER_SECONDS_MAX)
        for row in fresh:
            self._start(row, nursery, spread)

    def _start(self, row: HostRow, nursery: trio.Nursery, spread: float) -> None:
        view = HostView(row.host_id, row.hostname, row.epoch, self._mode(row))
        stream = HostStream(view, row.cursor, self._roster.desk)
        followed = Followed(row, stream, Wake(), trio.CancelScope())
        self._followed[row.host_id] = followed
        delay = random.uniform(0, spread)  # noqa: S311 -- spreads connects, guards nothing
        nursery.start_soon(self._follow, followed, delay)

    def _mode(self, row: HostRow) -> str:
        return mode_of(row.mode, self._roster.mode, known_at_install=row.known_at_install, proven=row.proven)

    def _end(self, host_id: int) -> None:
        self._followed.pop(host_id).scope.cancel()
        self._roster.ledger.forget(host_id)

    async def _follow(self, followed: Followed, delay: float) -> None:
        row = followed.row
        upstream = Upstream(row.hostname, row.insecure, from_window=row.start == "window")
        follower = self._roster.follower._replace(report=self._report(row.host_id))
        with followed.scope:
            await trio.sleep(delay)
            await follow(upstream, followed.stream, HostHealth(random.Random()), followed.wake, follower)  # noqa: S311 -- as above

    def _report(self, host_id: int) -> Callable[[HostNews], None]:
        def report(news: HostNews) -> None:
            outcome = news.ending or "connected"
            self._roster.metrics.crawl.reconnects.labels(outcome).inc()
            self._roster.ledger.report(host_id, news)

        return report

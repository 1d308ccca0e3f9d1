"""The hosts this worker follows: compared with the stored rows whenever an operator or a requestCrawl changed them.

Rows are the only source: what should be followed, from where and within which limits is read from the state env when
its generation moved, so that every worker comes to the same answer and a restart needs no memory (design section 1).
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import trio

from relay.crawl import subscription
from relay.crawl.hoststate import HostHealth
from relay.crawl.limits import Limits, limits_of
from relay.crawl.pace import Pace
from relay.crawl.roster import owner_of
from relay.crawl.settings import HostSettings
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
BACKLOG_SECONDS_MIN = 60.0  # a host whose events are older than this is catching up
_NEAR_RATE = 0.8


class Followed(NamedTuple):
    """A host that is followed: its row as last read, its stream and pace, and how to wake or end it."""

    row: HostRow
    stream: HostStream
    pace: Pace
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
    hosts: HostSettings


class Following:
    """Starts and ends subscriptions so that they match the stored rows."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._followed: dict[int, Followed] = {}
        self._lagging: dict[int, float] = {}
        self._over: set[int] = set()  # hosts whose rows say that they are over their quota
        self._generation: int | None = None

    @property
    def streams(self) -> list[HostStream]:
        """The streams of all hosts followed now."""
        return [followed.stream for followed in self._followed.values()]

    @property
    def near_rate(self) -> int:
        """How many hosts have used most of what they may send in an hour or a day."""
        now = trio.current_time()
        return sum(followed.pace.usage(now) >= _NEAR_RATE for followed in self._followed.values())

    def waiting_hosts(self) -> Iterator[tuple[int, int]]:
        """Hosts with throttled accounts and room for some of them: host id, and for how many.

        Their rows learn on the way since when they are over their quota, and that they no longer are.
        """
        over: set[int] = set()
        with self._roster.store.view() as view:
            for host_id in view.throttling():
                followed, row = self._followed.get(host_id), view.host(host_id)
                if followed is None or row is None:
                    continue
                over.add(host_id)
                if not row.over_quota_ms:
                    self._roster.ledger.note(host_id, over_quota_ms=self._roster.desk.now_ms())
                room = followed.stream.quota.limit - (row.account_count - row.throttled_count)
                if room > 0:
                    yield host_id, min(room, row.throttled_count)
        for host_id in self._over - over:
            self._roster.ledger.note(host_id, over_quota_ms=0)
        self._over = over

    def note_backlogs(self) -> None:
        """Tell the rows of hosts that are catching up, and of those that have."""
        now_ms = self._roster.desk.now_ms()
        for host_id, followed in self._followed.items():
            seconds = followed.stream.backlog_seconds(now_ms)
            seconds = seconds if seconds >= BACKLOG_SECONDS_MIN else 0.0
            before = self._lagging.get(host_id, followed.row.lag_ms / 1_000)
            if (seconds == 0) != (before == 0) or abs(seconds - before) > BACKLOG_SECONDS_MIN:
                self._lagging[host_id] = seconds
                self._roster.ledger.note(host_id, lag_ms=int(seconds * 1_000))

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
        fresh: list[HostRow] = []
        for row in wanted.values():
            known = self._followed.get(row.host_id)
            if known is not None and self._begins_anew(row, known):
                self._end(row.host_id)
                self._start(row, nursery, 0.0)
            elif known is not None:
                self._change(row, known)
            else:
                fresh.append(row)
        spread = min(len(fresh) * STAGGER_SECONDS_PER_HOST, STAGGER_SECONDS_MAX)
        for row in fresh:
            self._start(row, nursery, spread)

    def _begins_anew(self, row: HostRow, known: Followed) -> bool:
        """Whether an operator wants another connection, or another place in the host's stream."""
        return row.reconnect_ms > known.row.reconnect_ms or row.epoch > known.stream.host.epoch

    def _change(self, row: HostRow, known: Followed) -> None:
        """Let what an operator or a request changed take effect on the subscription as it is."""
        limits = limits_of(row, self._roster.hosts)
        known.stream.judge_under(self._mode(row))
        known.stream.quota.limit = limits.accounts
        known.pace.change(limits, trio.current_time())
        self._followed[row.host_id] = known._replace(row=row)
        if row.asked_ms > known.row.asked_ms:
            known.wake.set()

    def _start(self, row: HostRow, nursery: trio.Nursery, spread: float) -> None:
        limits = limits_of(row, self._roster.hosts)
        view = HostView(row.host_id, row.hostname, row.epoch, self._mode(row))
        stream = HostStream(view, row.cursor, self._roster.desk, limits.accounts)
        followed = Followed(row, stream, self._pace(limits), Wake(), trio.CancelScope())
        self._followed[row.host_id] = followed
        self._roster.ledger.begin(row.host_id, row.status)
        if row.over_quota_ms:
            self._over.add(row.host_id)
        delay = random.uniform(0, spread)  # noqa: S311 -- spreads connects, guards nothing
        nursery.start_soon(self._follow, followed, delay)

    def _pace(self, limits: Limits) -> Pace:
        return Pace(limits, self._roster.hosts.new_accounts_per_second, trio.current_time())

    def _mode(self, row: HostRow) -> str:
        return mode_of(row.mode, self._roster.mode, known_at_install=row.known_at_install, proven=row.proven)

    def _end(self, host_id: int) -> None:
        followed = self._followed.pop(host_id)
        followed.stream.is_banned = True
        followed.scope.cancel()
        self._lagging.pop(host_id, None)
        self._roster.ledger.forget(host_id)

    async def _follow(self, followed: Followed, delay: float) -> None:
        row = followed.row
        upstream = Upstream(row.hostname, row.insecure, from_window=row.start == "window")
        follower = self._roster.follower._replace(report=self._report(followed))
        since_probe_seconds = (self._roster.desk.now_ms() - row.probed_ms) / 1_000
        health = HostHealth(
            random.Random(),  # noqa: S311 -- as above
            status=row.status,
            probed=trio.current_time() - since_probe_seconds,
        )
        host = subscription.Followed(upstream, followed.stream, health, followed.pace, followed.wake)
        with followed.scope:
            await trio.sleep(delay)
            await follow(host, follower)

    def _report(self, followed: Followed) -> Callable[[HostNews], None]:
        def report(news: HostNews) -> None:
            if followed.scope.cancel_called:
                return  # its successor has the word now
            if news.ending is not None or not (news.gap or news.probed or news.error):
                self._roster.metrics.crawl.reconnects.labels(news.ending or "connected").inc()
            self._roster.ledger.report(followed.row.host_id, news)

        return report

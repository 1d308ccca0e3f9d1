"""The hosts this worker follows: compared with the stored rows whenever an operator or a requestCrawl changed them.

Rows are the only source: what should be followed, from where and within which limits is read from the state env when
its generation moved, so that every worker comes to the same answer and a restart needs no memory (design section 1).
"""

import random
from functools import partial
from typing import NamedTuple

import trio

from relay.crawl.host import Follower, Host, HostNews, Upstream, Wake
from relay.crawl.hoststate import HostHealth
from relay.crawl.limits import limits_of
from relay.crawl.pace import Pace
from relay.crawl.roster import owner_of
from relay.crawl.settings import HostSettings
from relay.crawl.subscription import follow
from relay.ingest.judge import Desk, Judge
from relay.ingest.ledger import Ledger
from relay.ingest.rounds import Rounds
from relay.ingest.stream import HostStream
from relay.observe.metrics import Metrics
from relay.store.hosts import HostRow
from relay.store.store import Store
from relay.verify.facts import HostView
from relay.verify.modes import mode_of

POLL_SECONDS = 0.25
HOSTS_PER_READ = 1_000
STAGGER_SECONDS_PER_HOST = 0.01
STAGGER_SECONDS_MAX = 30.0


class Followed(NamedTuple):
    """A host that is followed: its row as last read, what judges its events, its pace, and how to wake or end it."""

    row: HostRow
    judge: Judge
    pace: Pace
    wake: Wake
    scope: trio.CancelScope


class Roster(NamedTuple):
    """Which part of the hosts is this worker's, where its writes and dials go, and who else hears of a host."""

    store: Store
    worker: int
    workers: int
    desk: Desk
    ledger: Ledger
    rounds: Rounds
    follower: Follower
    metrics: Metrics
    mode: str
    hosts: HostSettings


class Following:
    """Starts and ends subscriptions so that they match the stored rows."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._followed: dict[int, Followed] = {}
        self._generation: int | None = None

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
        return row.reconnect_ms > known.row.reconnect_ms or row.epoch > known.judge.host.epoch

    def _change(self, row: HostRow, known: Followed) -> None:
        """Let what an operator or a request changed take effect on the subscription as it is."""
        limits = limits_of(row, self._roster.hosts)
        known.judge.judge_under(self._mode(row))
        known.judge.quota.limit = limits.accounts
        known.pace.change(limits, trio.current_time())
        self._followed[row.host_id] = known._replace(row=row)
        if row.asked_ms > known.row.asked_ms:
            known.wake.set()

    def _start(self, row: HostRow, nursery: trio.Nursery, spread: float) -> None:
        limits = limits_of(row, self._roster.hosts)
        view = HostView(row.host_id, row.hostname, row.epoch, self._mode(row))
        judge = Judge(view, row.cursor, self._roster.desk, limits.accounts)
        pace = Pace(limits, self._roster.hosts.new_accounts_per_second, trio.current_time())
        followed = Followed(row, judge, pace, Wake(), trio.CancelScope())
        self._followed[row.host_id] = followed
        self._roster.ledger.begin(row.host_id, row.status)
        self._roster.rounds.begin(row, judge, pace)
        delay = random.uniform(0, spread)  # noqa: S311 -- spreads connects, guards nothing
        nursery.start_soon(self._follow, followed, delay)

    def _mode(self, row: HostRow) -> str:
        return mode_of(row.mode, self._roster.mode, known_at_install=row.known_at_install, proven=row.proven)

    def _end(self, host_id: int) -> None:
        followed = self._followed.pop(host_id)
        followed.judge.is_banned = True
        followed.scope.cancel()
        self._roster.ledger.forget(host_id)
        self._roster.rounds.forget(host_id)

    async def _follow(self, followed: Followed, delay: float) -> None:
        row = followed.row
        upstream = Upstream(row.hostname, row.insecure, from_window=row.start == "window")
        since_probe_seconds = (self._roster.desk.now_ms() - row.probed_ms) / 1_000
        health = HostHealth(
            random.Random(),  # noqa: S311 -- as above
            status=row.status,
            untried=not row.last_ending,
            probed=trio.current_time() - since_probe_seconds,
        )
        report = partial(self._report, followed)
        host = Host(upstream, HostStream(followed.judge), health, followed.pace, followed.wake, report)
        with followed.scope:
            await trio.sleep(delay)
            await follow(host, self._roster.follower)

    def _report(self, followed: Followed, news: HostNews) -> None:
        if followed.scope.cancel_called:
            return  # its successor has the word now
        if news.ending is not None or not (news.gap or news.probed or news.error):
            self._roster.metrics.crawl.reconnects.labels(news.ending or "connected").inc()
        self._roster.ledger.report(followed.row.host_id, news)

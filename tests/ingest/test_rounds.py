"""What rows and gauges learn of the hosts that are followed, look by look. The store is real, and nothing is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from relay.crawl.limits import Limits
from relay.crawl.pace import Pace
from relay.ingest.ledger import Ledger
from relay.ingest.quota import RELEASED_PER_SECOND
from relay.ingest.rounds import RELEASE_INTERVAL_SECONDS, Rounds
from relay.observe.metrics import Metrics
from relay.protocol.frame import MessageFrame
from relay.store.batch import Batch, Item
from relay.store.hosts import HostRow
from relay.store.store import Store
from relay.verify.facts import AccountState
from relay.world.messages import identity_message
from relay.world.times import datetime_text
from tests.support.bench import Bench, store_of_home
from tests.support.log_writer import did_of
from tests.support.scene import HOME, NOW_MS

LIMITS = Limits("default", per_second=10, per_hour=100, per_day=1_000, accounts=2)
MINUTE = 60


class Watch:
    """The rounds over `HOME`. Writes run inline; `clock_ms` is turned by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.metrics = Metrics()
        self.clock_ms = NOW_MS
        self.ledger = Ledger(self._write, self.now_ms)
        self.rounds = Rounds(store, self.ledger, self.metrics, self._inline, self.now_ms)
        self.bench = Bench(store)
        self.pace = Pace(LIMITS, 5.0, trio.current_time())

    def now_ms(self) -> int:
        return self.clock_ms

    def begin(self, limit: int = 2) -> None:
        self.bench.judge.quota.limit = limit
        self.rounds.begin(self.row(), self.bench.judge, self.pace)

    def row(self) -> HostRow:
        with self.store.view() as view:
            row = view.host(HOME.host_id)
        assert row is not None
        return row

    def read(self, age_seconds: int) -> None:
        """An event of that age was read and appended just now."""
        frame = MessageFrame("#account", {"time": datetime_text(self.clock_ms - age_seconds * 1_000)})
        self.bench.judge.books.last_event_ms = self.clock_ms
        self.bench.judge.books.appended(frame, (), self.clock_ms)

    async def told(self) -> HostRow:
        """The row after a look at backlogs."""
        self.rounds.note_backlogs()
        await self.ledger.flush()
        return self.row()

    def gauge(self, name: str) -> float:
        lines = self.metrics.render().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])

    async def _write(self, changes: dict[int, dict[str, Any]]) -> None:
        await trio.lowlevel.checkpoint()
        self.store.update_hosts(changes)

    async def _inline(self, write: Any, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return write(*arguments)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_of_home(tmp_path / "data") as opened:
        yield opened


def crowd(store: Store, active: int, throttled: int) -> None:
    """Accounts of `HOME`, some of which wait."""
    items = []
    for number, status in enumerate([""] * active + ["throttled"] * throttled, 1):
        state = AccountState(host_id=HOME.host_id, local_status=status)
        items.append(Item(did_of(number), 0, state, None, HOME.host_id, number))
    store.append(Batch(NOW_MS, tuple(items)))


async def test_a_backlog_is_told_when_it_begins_grows_shrinks_and_ends(store: Store) -> None:
    """In steps of a minute: a synced write each time somebody looks would be too many."""
    watch = Watch(store)
    watch.begin()
    told = []
    for age_seconds in (59, 60, 59, 600, 630, 540, 500, 59):
        watch.read(age_seconds)
        told.append((await watch.told()).lag_ms // 1_000)

    assert told == [0, 60, 0, 600, 600, 600, 500, 0]


async def test_a_backlog_ends_with_the_events(store: Store) -> None:
    """Of a host that fell silent everything was read."""
    watch = Watch(store)
    watch.begin()
    watch.read(2 * MINUTE)
    before = (await watch.told()).lag_ms
    watch.clock_ms += 15_000

    assert (before, (await watch.told()).lag_ms) == (2 * MINUTE * 1_000, 0)


async def test_what_a_row_was_told_before_a_restart_is_taken_back(store: Store) -> None:
    """Nobody but the worker that follows the host would."""
    store.update_hosts({HOME.host_id: {"lag_ms": 90_000, "over_quota_ms": NOW_MS}})
    watch = Watch(store)
    watch.begin()
    watch.rounds.hosts_with_room()
    row = await watch.told()

    assert (row.lag_ms, row.over_quota_ms) == (0, 0)


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, []), (4, [(HOME.host_id, 1)]), (100, [(HOME.host_id, 2)])], ids=["full", "one", "all"]
)
async def test_there_is_room_for_as_many_as_wait_and_the_limit_allows(
    store: Store, limit: int, expected: list[tuple[int, int]]
) -> None:
    crowd(store, active=3, throttled=2)
    watch = Watch(store)
    watch.begin(limit)

    assert watch.rounds.hosts_with_room() == expected


async def test_a_row_knows_since_when_accounts_wait_and_that_none_do(store: Store) -> None:
    crowd(store, active=3, throttled=1)
    watch = Watch(store)
    watch.begin()
    watch.rounds.hosts_with_room()
    since = (await watch.told()).over_quota_ms
    watch.clock_ms += 5_000
    watch.rounds.hosts_with_room()
    still = (await watch.told()).over_quota_ms
    store.release_throttled(HOME.host_id, 1, now_ms=NOW_MS)
    watch.rounds.hosts_with_room()

    assert (since, still, (await watch.told()).over_quota_ms) == (NOW_MS, NOW_MS, 0)


async def test_hosts_of_other_workers_are_theirs_to_look_after(store: Store) -> None:
    """And so are those that are no longer followed."""
    crowd(store, active=0, throttled=2)
    watch = Watch(store)
    before = watch.rounds.hosts_with_room()
    watch.begin()
    watch.rounds.forget(HOME.host_id)

    assert before == watch.rounds.hosts_with_room() == []


async def test_accounts_are_let_in_so_many_a_second(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    """Checklist 255: consumers hear of each, and a limit that rises does not flood them."""
    crowd(store, active=0, throttled=RELEASED_PER_SECOND + 30)
    watch = Watch(store)
    watch.begin(1_000)
    waiting = []
    with trio.move_on_after(RELEASE_INTERVAL_SECONDS * 2.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.rounds.run)
            for _ in range(2):
                await trio.sleep(RELEASE_INTERVAL_SECONDS / 2)
                waiting.append(watch.row().throttled_count)
                await trio.sleep(RELEASE_INTERVAL_SECONDS / 2)

    assert waiting == [30, 0]
    assert watch.gauge('relay_log_events_appended_total{event="#account",origin="relay"}') == RELEASED_PER_SECOND + 30


async def test_gauges_follow_what_is_under_way(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    watch = Watch(store)
    watch.begin()
    watch.ledger.begin(HOME.host_id, "active")
    stranger = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
    watch.bench.stream.take([identity_message(stranger, None).frame(seq, NOW_MS) for seq in (1, 2)])
    watch.pace.spend(LIMITS.per_hour, 0)
    for _ in range(LIMITS.per_hour):
        await trio.sleep(watch.pace.delay_seconds(trio.current_time()))
    watch.rounds.set_figures()
    watch.rounds.look_at_rates()

    assert watch.gauge("relay_ingest_in_flight") == 2
    assert watch.gauge("relay_ingest_lanes_waiting") == 1
    assert watch.gauge('relay_crawl_hosts{status="active"}') == 1
    assert watch.gauge("relay_crawl_hosts_near_rate_limit") == 1

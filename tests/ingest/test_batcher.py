"""Group commit over a real store: order, refusals, the overlay, and when a batch is due."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from relay.ingest.batcher import BARE_INTERVAL_SECONDS, QUIET_WAIT_SECONDS, Batcher
from relay.ingest.entries import Entry
from relay.ingest.lanes import Pending
from relay.ingest.place import Place
from relay.protocol.events import AccountEvent
from relay.protocol.frame import MessageFrame, account_frame
from relay.store.batch import Appended, Batch, HostMark, Item
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import NO_ACCOUNT, AccountState
from tests.support.log_reader import LogReader

NOW_MS = 1_700_000_000_000
ANNA, BERT = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"


class Origin:
    """A host's stream that only keeps its place; refused events are remembered."""

    def __init__(self, host_id: int) -> None:
        self.host_id = host_id
        self.place = Place(0)
        self.refused: list[list[int]] = []
        self.done: list[int] = []

    def settle(self, seq: int) -> None:
        self.place.settle(seq)

    def reopen(self, seq: int) -> None:
        self.place.reopen(seq)

    def refuse(self, refused: Sequence[Pending]) -> None:
        self.refused.append([pending.event.seq for pending in refused])

    def appended(self, entry: Entry) -> None:
        self.done.append(entry.pending.event.seq)

    def take_mark(self) -> HostMark:
        return HostMark(self.host_id, 0, self.place.mark, NOW_MS)


class Bench:
    """A batcher over a store, with one host."""

    def __init__(self, store: Store, settings: LogSettings) -> None:
        self.store = store
        self.batches: list[Batch] = []
        self.hold: trio.Event | None = None
        host = store.add_host("pds.example.com", insecure=False, now_ms=NOW_MS)
        self.origin = Origin(host.host_id)
        self.batcher = Batcher(self._append, settings, lambda: NOW_MS, lambda: ())

    async def _append(self, batch: Batch) -> Appended:
        self.batches.append(batch)
        if self.hold is not None:
            await self.hold.wait()
        return self.store.append(batch)

    def account(self, did: str) -> AccountState:
        with self.store.view() as view:
            return self.batcher.overlaid(did) or view.account(did) or NO_ACCOUNT

    def put(self, did: str, seq: int) -> None:
        """An accepted `#account` of the host, judged against what is known now."""
        account = self.account(did)
        self.origin.place.receive(seq)
        state = account._replace(host_id=self.origin.host_id, upstream_seq=seq)
        item = Item(did, account.version, state, account_frame(did, NOW_MS, True, None), self.origin.host_id, seq)
        pending = Pending(AccountEvent(seq, did, True, None), MessageFrame("#account", {}), 100, 0)
        self.batcher.put(Entry(item, pending, self.origin))

    def elsewhere(self, did: str) -> None:
        """Another worker writes that account."""
        with self.store.view() as view:
            account = view.account(did) or NO_ACCOUNT
        state = account._replace(host_id=self.origin.host_id, upstream_seq=1)
        template = account_frame(did, NOW_MS, True, None)
        self.store.append(Batch(NOW_MS, (Item(did, account.version, state, template, self.origin.host_id, 1),)))

    def logged(self) -> list[str]:
        """DIDs in the log, in order."""
        return [frame.payload["did"] for frame in LogReader(self.store).frames()]

    def cursor(self) -> int | None:
        with self.store.view() as view:
            host = view.host(self.origin.host_id)
        assert host is not None
        return host.cursor


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    stores: list[Store] = []

    def make(**settings: int) -> Bench:
        log = LogSettings(sync=False, state_map_bytes=1 << 26, **settings)
        stores.append(Store.open(tmp_path / "data", log, create=True, now_ms=NOW_MS))
        return Bench(stores[-1], log)

    yield make
    for store in stores:
        store.close()


async def test_items_are_appended_in_order_with_the_host_cursor(
    make_bench: Callable[..., Bench], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Invariant 2: frames, rows and cursor in one append."""
    bench = make_bench()
    nursery.start_soon(bench.batcher.run)
    for seq, did in enumerate((ANNA, BERT, ANNA), 1):
        bench.put(did, seq)
    await trio.sleep(QUIET_WAIT_SECONDS)

    assert bench.logged() == [ANNA, BERT, ANNA]
    assert bench.origin.done == [1, 2, 3]
    assert bench.cursor() == 3
    assert len(bench.batches) == 1
    assert bench.account(ANNA).version == 2
    assert bench.batcher.overlaid(ANNA) is None


async def test_events_of_one_did_are_judged_against_those_on_their_way(
    make_bench: Callable[..., Bench], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = make_bench(batch_items=1)
    nursery.start_soon(bench.batcher.run)
    for seq in range(1, 6):
        bench.put(ANNA, seq)
    await trio.sleep(1)

    assert bench.logged() == [ANNA] * 5
    assert bench.origin.refused == []
    assert bench.account(ANNA).version == 5


async def test_a_refused_did_goes_back_whole_and_the_cursor_stays_below_it(
    make_bench: Callable[..., Bench], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Design section 3, "Compare": the refused item, the later ones in its batch and those queued behind, in order.

    Without the last, the item queued behind would match the version that the other worker wrote and pass out of order.
    """
    bench = make_bench()
    bench.put(ANNA, 1)
    bench.elsewhere(ANNA)
    bench.put(BERT, 2)
    bench.put(ANNA, 3)
    bench.hold = trio.Event()
    nursery.start_soon(bench.batcher.run)
    await trio.sleep(1)
    bench.put(ANNA, 4)
    bench.put(BERT, 5)
    bench.hold.set()
    await trio.sleep(1)

    assert bench.origin.refused == [[1, 3, 4]]
    assert bench.origin.done == [2, 5]
    assert bench.logged() == [ANNA, BERT, BERT]
    assert bench.cursor() == 0
    assert bench.batcher.overlaid(ANNA) is None
    assert bench.account(ANNA).version == 1


async def test_a_full_batch_does_not_wait(
    make_bench: Callable[..., Bench], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = make_bench(batch_items=3)
    nursery.start_soon(bench.batcher.run)
    await trio.testing.wait_all_tasks_blocked()
    started = trio.current_time()
    for seq in range(1, 4):
        bench.put(ANNA, seq)
    assert bench.batcher.is_full
    await bench.batcher.wait_for_room()

    assert trio.current_time() == started
    assert not bench.batcher.is_full


async def test_a_batch_is_cut_at_its_bytes(
    make_bench: Callable[..., Bench], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = make_bench(batch_bytes=250)
    for seq in range(1, 6):
        bench.put(ANNA, seq)
    nursery.start_soon(bench.batcher.run)
    await trio.sleep(1)

    assert [len(batch.items) for batch in bench.batches] == [2, 2, 1]
    assert bench.logged() == [ANNA] * 5


async def test_a_mark_alone_waits_for_its_turn(
    make_bench: Callable[..., Bench], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Drops only: the state is written at most once a second."""
    bench = make_bench()
    nursery.start_soon(bench.batcher.run)
    await trio.sleep(5)
    for seq in range(1, 41):
        bench.origin.place.receive(seq)
        bench.origin.place.settle(seq)
        bench.batcher.touch(bench.origin)
        await trio.sleep(0.1)
    await trio.sleep(2 * BARE_INTERVAL_SECONDS)

    assert 4 <= len(bench.batches) <= 6
    assert bench.cursor() == 40
    assert bench.logged() == []


async def test_closing_appends_what_is_left(
    make_bench: Callable[..., Bench], autojump_clock: trio.testing.MockClock
) -> None:
    bench = make_bench(batch_items=2)
    for seq in range(1, 6):
        bench.put(ANNA, seq)
    bench.batcher.close()
    await bench.batcher.run()

    assert bench.logged() == [ANNA] * 5
    assert bench.cursor() == 5

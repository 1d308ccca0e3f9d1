"""The place of one host's stream: which seqs are new, and where it resumes. No sockets; the store is real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from relay.crawl.subscription import ErrorFrameReceived
from relay.ingest.settings import IngestRoleSettings, IngestSettings
from relay.ingest.stream import HostStream
from relay.ingest.worker import Worker, in_one_thread
from relay.observe.metrics import Metrics
from relay.protocol.errors import FramingError
from relay.store.batch import Batch
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.world.messages import account_message, error_frame, identity_message, info_frame
from tests.support.scene import HOME, NOW_MS, Scene

SCENE = Scene()
FRESH_MS = 1 << 45  # later than any clock, so that nothing is looked up again


class Bench:
    """A stream of `HOME` in a worker that does not run: what is put into its batcher stays there."""

    def __init__(self, store: Store, cursor: int | None, settings: IngestSettings) -> None:
        worker = Worker(IngestRoleSettings(ingest=settings), store, Metrics(), in_one_thread())
        self.waiting: list[str] = []
        self.batcher = worker.batcher
        desk = worker._desk()._replace(now_ms=lambda: NOW_MS, start_lane=lambda _, did: self.waiting.append(did))
        self.stream = HostStream(HOME, cursor, desk)

    def identity(self, seq: int, did: str = SCENE.did) -> bytes:
        return identity_message(did, None).frame(seq, NOW_MS)

    def drops(self) -> dict[str, int]:
        return dict(self.stream.take_mark().dropped)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    log = LogSettings(sync=False, state_map_bytes=1 << 26)
    opened = Store.open(tmp_path / "data", log, create=True, now_ms=NOW_MS)
    assert opened.add_host(HOME.hostname, insecure=False, now_ms=NOW_MS).host_id == HOME.host_id
    opened.append(Batch(NOW_MS, identities=(SCENE.identity(fetched_ms=FRESH_MS),)))
    yield opened
    opened.close()


def bench(store: Store, cursor: int | None = None, settings: IngestSettings | None = None) -> Bench:
    return Bench(store, cursor, settings or IngestSettings())


async def test_a_stream_that_begins_at_zero_is_followed_from_there(store: Store) -> None:
    """Upstream seqs are 0 and up (design section 5)."""
    made = bench(store)
    before = made.stream.cursor
    made.stream.take([made.identity(0), made.identity(1)])

    assert (before, made.stream.cursor) == (None, 1)
    assert made.stream.in_flight == 2


async def test_the_largest_seq_there_is(store: Store) -> None:
    made = bench(store, 2**53)
    made.stream.take([made.identity(2**64 - 1)])

    assert made.stream.cursor == 2**64 - 1
    assert made.drops() == {}


async def test_seqs_have_to_rise_within_a_connection(store: Store) -> None:
    """Checklist 46, 48: the first message may repeat the cursor; a later one that does not rise is a fault."""
    made = bench(store, 10)
    made.stream.reconnected()
    made.stream.take([made.identity(10), made.identity(11), made.identity(11), made.identity(5), made.identity(12)])

    assert made.drops() == {"replayed": 1, "seq_not_increasing": 2}
    assert made.stream.cursor == 12


async def test_what_is_no_event_is_settled_with_its_seq(store: Store) -> None:
    """A payload against the schema does not hold the cursor back; one without a seq does not move it."""
    made = bench(store, 10)
    faulty = account_message(SCENE.did)._replace(payload={"did": SCENE.did, "active": "yes"})
    made.stream.take([faulty.frame(11, NOW_MS), info_frame("OutdatedCursor", "gone")])

    assert made.stream.take_mark().low_water == 11
    assert made.stream.possible_gap
    mark = made.stream.take_mark()
    assert mark.dropped == {}


async def test_what_came_before_a_broken_message_is_kept(store: Store) -> None:
    made = bench(store, 0)
    with pytest.raises(FramingError):
        made.stream.take([made.identity(1), b"\xff", made.identity(2)])

    assert made.stream.cursor == 1
    assert made.drops() == {"framing": 1}


async def test_an_error_frame_ends_the_connection(store: Store) -> None:
    made = bench(store, 0)
    with pytest.raises(ErrorFrameReceived) as caught:
        made.stream.take([error_frame("FutureCursor", "")])
    assert caught.value.name == "FutureCursor"


async def test_an_unknown_did_waits_in_a_lane_and_others_go_on(store: Store) -> None:
    """Design section 4: without holding the host's other accounts."""
    stranger = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
    made = bench(store, 0)
    account = account_message(SCENE.did).frame(2, NOW_MS)
    made.stream.take([made.identity(1, stranger), account, made.identity(3, stranger)])

    assert made.waiting == [stranger]
    assert len(made.stream.lane(stranger)) == 2
    assert made.batcher.overlaid(SCENE.did) is not None
    assert made.stream.take_mark().low_water == 0


@pytest.mark.parametrize("settings", [IngestSettings(in_flight=3), IngestSettings(lane_items=3)])
async def test_a_full_stream_stops_reading_and_drops_nothing(store: Store, settings: IngestSettings) -> None:
    """Backpressure, never a drop."""
    stranger = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
    made = bench(store, 0, settings)
    made.stream.take([made.identity(seq, stranger) for seq in (1, 2)])
    with trio.fail_after(1):
        await made.stream.wait_for_room()
    made.stream.take([made.identity(3, stranger)])
    with trio.move_on_after(0.05) as stopped:
        await made.stream.wait_for_room()

    assert stopped.cancelled_caught
    assert made.drops() == {}

"""The place of one host's stream: which seqs are new, and where it resumes. No sockets; the store is real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from relay.crawl.host import ErrorFrameReceived
from relay.ingest.judge import Judge
from relay.ingest.settings import IngestSettings
from relay.ingest.stream import HostStream
from relay.protocol.errors import FramingError
from relay.store.store import Store
from relay.world.messages import account_message, error_frame, identity_message, info_frame
from tests.support.bench import Bench, store_of_home
from tests.support.scene import HOME, NOW_MS, Scene

SCENE = Scene()
FRESH_MS = 1 << 45  # later than any clock, so that nothing is looked up again
STRANGER = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_of_home(tmp_path / "data", SCENE.identity(fetched_ms=FRESH_MS)) as opened:
        yield opened


def identity(seq: int, did: str = SCENE.did) -> bytes:
    return identity_message(did, None).frame(seq, NOW_MS)


async def test_a_stream_that_begins_at_zero_is_followed_from_there(store: Store) -> None:
    """Upstream seqs are 0 and up (design section 5)."""
    made = Bench(store)
    before = made.stream.cursor
    made.stream.take([identity(0), identity(1)])

    assert (before, made.stream.cursor) == (None, 1)
    assert made.stream.in_flight == 2


async def test_the_largest_seq_there_is(store: Store) -> None:
    made = Bench(store, 2**53)
    made.stream.take([identity(2**64 - 1)])

    assert made.stream.cursor == 2**64 - 1
    assert made.drops() == {}


async def test_seqs_have_to_rise_within_a_connection(store: Store) -> None:
    """Checklist 46, 48: the first message may repeat the cursor; a later one that does not rise is a fault."""
    made = Bench(store, 10)
    made.stream.reconnected()
    made.stream.take([identity(10), identity(11), identity(11), identity(5), identity(12)])

    assert made.drops() == {"replayed": 1, "seq_not_increasing": 2}
    assert made.stream.cursor == 12


@pytest.mark.parametrize("did", ["did:web:localhost", "did:web:localhost%3A2583", "did:web:anna.test"])
async def test_dids_of_development_networks_are_for_those(did: str, store: Store) -> None:
    """Checklist 147."""
    made = Bench(store, 0)
    made.stream.take([identity(1, did)])
    assert made.drops() == {"did_unsupported": 1}
    assert made.waiting == []

    HostStream(Judge(HOME, 0, made.judge.desk._replace(allow_localhost=True))).take([identity(1, did)])
    assert made.waiting == [did]


async def test_what_is_no_event_is_settled_with_its_seq(store: Store) -> None:
    """A payload against the schema does not hold the cursor back; one without a seq does not move it."""
    made = Bench(store, 10)
    faulty = account_message(SCENE.did)._replace(payload={"did": SCENE.did, "active": "yes"})
    made.stream.take([faulty.frame(11, NOW_MS), info_frame("OutdatedCursor", "gone")])

    assert made.judge.take_mark().low_water == 11
    assert made.stream.possible_gap
    mark = made.judge.take_mark()
    assert mark.dropped == {}


async def test_an_account_is_told_of_messages_against_the_schema(store: Store) -> None:
    """As far as the payload names one by a DID; the store keeps the note if that one has a row here."""
    made = Bench(store, 0)
    known = account_message(SCENE.did)
    made.stream.take([known.frame(1, NOW_MS)])
    faulty = [
        known._replace(payload={"did": SCENE.did, "active": "yes"}),
        SCENE.write()._replace(payload={"repo": SCENE.did, "blocks": b""}),
        known._replace(payload={"did": STRANGER, "active": 1}),
        known._replace(payload={"did": "did:plc:", "active": True}),
        known._replace(payload={"did": 5, "active": True}),
    ]
    made.stream.take([message.frame(seq, NOW_MS) for seq, message in enumerate(faulty, 2)])
    noted = [(note.subject, note.reason) for note in made.batcher._notes]

    assert noted[:3] == [(SCENE.did, "schema"), (SCENE.did, "schema"), (STRANGER, "schema")]
    assert [subject for subject, _ in noted[3:]] == [None, None]


async def test_what_has_no_seq_gives_a_host_that_was_never_read_no_place(store: Store) -> None:
    """Else it would be read from its beginning at the next connection, instead of live."""
    made = Bench(store)
    made.stream.take([info_frame("Hello", "")])

    assert made.stream.cursor is None
    assert made.judge.take_mark().low_water == -1


async def test_what_came_before_a_broken_message_is_kept(store: Store) -> None:
    made = Bench(store, 0)
    with pytest.raises(FramingError):
        made.stream.take([identity(1), b"\xff", identity(2)])

    assert made.stream.cursor == 1
    assert made.drops() == {"framing": 1}
    (note,) = made.batcher._notes
    assert (note.reason, note.subject, note.detail) == ("framing", None, "too short for a frame")


async def test_an_error_frame_ends_the_connection(store: Store) -> None:
    made = Bench(store, 0)
    with pytest.raises(ErrorFrameReceived) as caught:
        made.stream.take([error_frame("FutureCursor", "")])
    assert caught.value.name == "FutureCursor"


async def test_an_unknown_did_waits_in_a_lane_and_others_go_on(store: Store) -> None:
    """Checklist 55, design section 4: in order, without holding the host's other accounts."""
    made = Bench(store, 0)
    account = account_message(SCENE.did).frame(2, NOW_MS)
    made.stream.take([identity(1, STRANGER), account, identity(3, STRANGER)])

    assert made.waiting == [STRANGER]
    lane = made.judge.lanes[STRANGER]
    assert [lane.pop().event.seq for _ in range(len(lane))] == [1, 3]
    assert made.batcher.overlaid(SCENE.did) is not None
    assert made.judge.take_mark().low_water == 0


@pytest.mark.parametrize("settings", [IngestSettings(in_flight=3), IngestSettings(lane_items=3)])
async def test_a_full_stream_stops_reading_and_drops_nothing(store: Store, settings: IngestSettings) -> None:
    """Backpressure, never a drop."""
    made = Bench(store, 0, settings)
    made.stream.take([identity(seq, STRANGER) for seq in (1, 2)])
    with trio.fail_after(1):
        await made.stream.wait_for_room()
    made.stream.take([identity(3, STRANGER)])
    with trio.move_on_after(0.05) as stopped:
        await made.stream.wait_for_room()

    assert stopped.cancelled_caught
    assert made.drops() == {}

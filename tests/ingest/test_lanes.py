"""Order for each DID: one lane, and the lanes of a host with their bounds."""

import pytest

from relay.ingest.lanes import PENDING_OVERHEAD_BYTES, Lane, Lanes, Pending
from relay.protocol.events import IdentityEvent
from relay.protocol.frame import MessageFrame

ANNA, BERT = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"


def pending(seq: int, frame_bytes: int = 10) -> Pending:
    return Pending(IdentityEvent(seq, ANNA, None), MessageFrame("#identity", {}), frame_bytes, 0)


def test_lane_returns_refused_events_to_its_head_in_order() -> None:
    """Invariant 4."""
    lane = Lane()
    for seq in (5, 6):
        lane.push(pending(seq))
    lane.put_back([pending(3), pending(4)])

    assert [lane.pop().event.seq for _ in range(len(lane))] == [3, 4, 5, 6]
    assert lane.bytes == 0


def test_lane_counts_bytes_with_their_overhead() -> None:
    lane = Lane()
    lane.push(pending(1, frame_bytes=500))

    assert lane.bytes == 500 + PENDING_OVERHEAD_BYTES
    assert lane.head.event.seq == 1


def test_each_lane_that_opens_is_told_of_once() -> None:
    """One task works a lane off; a second one would judge its events twice."""
    started: list[str] = []
    lanes = Lanes(started.append, items_max=10, bytes_max=1 << 20)
    assert lanes.open(ANNA) is lanes.open(ANNA) is lanes[ANNA]
    lanes.open(BERT)
    assert (len(lanes), BERT in lanes, started) == (2, True, [ANNA, BERT])
    lanes.close(BERT)
    assert (len(lanes), BERT in lanes) == (1, False)
    lanes.open(BERT)

    assert started == [ANNA, BERT, BERT]


def test_a_lane_is_closed_empty() -> None:
    """What it holds would never be judged."""
    lanes = Lanes(lambda _: None, items_max=10, bytes_max=1 << 20)
    lanes.open(ANNA).push(pending(1))
    with pytest.raises(AssertionError):
        lanes.close(ANNA)


@pytest.mark.parametrize(
    ("items_max", "bytes_max"), [(2, 1 << 20), (100, 2 * PENDING_OVERHEAD_BYTES + 20)], ids=["items", "bytes"]
)
def test_one_full_lane_is_enough_to_stop_reading(items_max: int, bytes_max: int) -> None:
    """Invariant 8; many lanes that hold little are no reason to stop."""
    lanes = Lanes(lambda _: None, items_max, bytes_max)
    lanes.open(ANNA).push(pending(1))
    lanes.open(BERT).push(pending(2))
    found = [lanes.is_full]
    lanes[ANNA].push(pending(3))
    found.append(lanes.is_full)
    lanes[ANNA].pop()

    assert [*found, lanes.is_full] == [False, True, False]


def test_who_is_hurried() -> None:
    """The lanes that are full, or all there are; one that opens again takes its time again."""
    lanes = Lanes(lambda _: None, items_max=1, bytes_max=1 << 20)
    lanes.open(ANNA).push(pending(1))
    lanes.open(BERT)
    lanes.hurry(all_of_them=False)
    found = [lanes[ANNA].hurried.is_set(), lanes[BERT].hurried.is_set()]
    lanes.hurry(all_of_them=True)
    found.append(lanes[BERT].hurried.is_set())
    lanes.close(BERT)

    assert [*found, lanes.open(BERT).hurried.is_set()] == [True, False, True, False]

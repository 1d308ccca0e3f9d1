"""Order per DID and the low-water mark."""

from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.lanes import PENDING_OVERHEAD_BYTES, Lane, LowWater, Pending
from relay.protocol.events import IdentityEvent
from relay.protocol.frame import MessageFrame


def pending(seq: int, frame_bytes: int = 10) -> Pending:
    event = IdentityEvent(seq, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", None)
    return Pending(event, MessageFrame("#identity", {}), frame_bytes, 0.0)


@given(st.data())
def test_mark_is_the_highest_seq_with_nothing_open_below(data: st.DataObject) -> None:
    """Invariant 3: whatever the order of settling and reopening, the mark never passes an unsettled event."""
    water = LowWater(100)
    received = 100
    open_seqs: set[int] = set()
    settled: set[int] = set()
    for _ in range(data.draw(st.integers(0, 60))):
        match data.draw(st.sampled_from(["receive", "settle", "reopen"])):
            case "receive":
                received += data.draw(st.integers(1, 3))
                water.receive(received)
                open_seqs.add(received)
            case "settle" if open_seqs:
                seq = data.draw(st.sampled_from(sorted(open_seqs)))
                water.settle(seq)
                open_seqs.remove(seq)
                settled.add(seq)
            case "reopen" if settled:
                seq = data.draw(st.sampled_from(sorted(settled)))
                water.reopen(seq)
                settled.remove(seq)
                open_seqs.add(seq)
        expected = min(open_seqs) - 1 if open_seqs else received
        if data.draw(st.booleans()):
            assert water.mark == expected
        assert water.in_flight == len(open_seqs)
    assert water.mark == (min(open_seqs) - 1 if open_seqs else received)


def test_lane_returns_refused_events_to_its_head_in_order() -> None:
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


def test_one_stuck_event_bounds_what_is_remembered() -> None:
    """Invariant 8: everything above the oldest unsettled seq is remembered, and counted against a bound."""
    water = LowWater(0)
    for seq in range(1, 1_001):
        water.receive(seq)
        if seq > 1:
            water.settle(seq)

    assert (water.mark, water.in_flight, water.held) == (0, 1, 1_000)
    water.settle(1)
    assert (water.mark, water.held) == (1_000, 0)

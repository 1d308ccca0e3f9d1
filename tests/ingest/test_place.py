"""A host's place in its stream, beside a model that keeps every seq there was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.place import UNFIT_SEQ_JUMP_MAX, Place
from relay.verify.verdict import Reason


class Naive:
    """Every seq that counts, and what has become of it."""

    def __init__(self, cursor: int | None) -> None:
        self.cursor = cursor
        self.settled: dict[int, bool] = {}
        self.behind = 0
        self.connection_begins = True

    @property
    def open(self) -> list[int]:
        return [seq for seq, settled in self.settled.items() if not settled]

    @property
    def mark(self) -> int:
        everything = -1 if self.cursor is None else self.cursor
        return min(self.open) - 1 if self.open else everything

    def receive(self, seq: int) -> Reason | None:
        begins, self.connection_begins = self.connection_begins, False
        if self.cursor is None or seq > self.cursor:
            self.cursor, self.behind = seq, 0
            self.settled[seq] = False
            return None
        if begins and seq == self.cursor:
            return Reason.REPLAYED
        self.behind += 1
        return Reason.SEQ_NOT_INCREASING

    def pass_over(self, seq: int) -> None:
        if self.cursor is None or seq > self.cursor:
            self.cursor, self.connection_begins = seq, False
            self.settled[seq] = True


@given(st.data())
def test_place_against_a_model_that_keeps_everything(data: st.DataObject) -> None:
    """Invariant 3: whatever comes, settles or is refused in whatever order, the mark passes no unsettled event."""
    begin = data.draw(st.none() | st.integers(0, 5))
    place, naive = Place(begin), Naive(begin)
    for _ in range(data.draw(st.integers(0, 60))):
        step(data, place, naive)

        assert (place.cursor, place.behind, place.in_flight) == (naive.cursor, naive.behind, len(naive.open))
        if data.draw(st.booleans()):  # whoever asks for the mark lets the place forget what lies below
            assert place.mark == naive.mark
            assert place.held <= sum(seq > naive.mark for seq in naive.settled)
    assert place.mark == naive.mark


def step(data: st.DataObject, place: Place, naive: Naive) -> None:
    near = st.integers(0, 0 if naive.cursor is None else naive.cursor + 3)
    done = [seq for seq, settled in naive.settled.items() if settled]
    match data.draw(st.sampled_from(["receive", "pass over", "settle", "settle", "refuse", "reconnect", "restart"])):
        case "receive":
            seq = data.draw(near)
            assert place.receive(seq) == naive.receive(seq)
        case "pass over":
            seq = data.draw(near)
            place.pass_over(seq)
            naive.pass_over(seq)
        case "settle" if naive.open:
            seq = data.draw(st.sampled_from(naive.open))
            place.settle(seq)
            naive.settled[seq] = True
        case "refuse" if done:
            seq = data.draw(st.sampled_from(done))
            place.reopen(seq)
            naive.settled[seq] = False
        case "reconnect":
            place.reconnected()
            naive.behind, naive.connection_begins = 0, True
        case "restart" if not naive.open:
            place.restart()
            naive.cursor = 0
            naive.settled.clear()


def test_one_stuck_event_bounds_what_is_remembered() -> None:
    """Invariant 8: everything above the oldest unsettled seq is remembered, and counted against a bound."""
    place = Place(0)
    for seq in range(1, 1_001):
        place.receive(seq)
        if seq > 1:
            place.settle(seq)

    assert (place.mark, place.in_flight, place.held) == (0, 1, 1_000)
    place.settle(1)
    assert (place.mark, place.held) == (1_000, 0)


def test_the_seq_of_what_is_no_event_is_believed_within_a_jump() -> None:
    """It may be as wrong as the rest, and a cursor far ahead would skip everything up to there."""
    place = Place(10)
    place.pass_over(11 + UNFIT_SEQ_JUMP_MAX)
    assert (place.cursor, place.mark) == (10, 10)
    place.pass_over(10 + UNFIT_SEQ_JUMP_MAX)

    assert (place.cursor, place.mark) == (10 + UNFIT_SEQ_JUMP_MAX, 10 + UNFIT_SEQ_JUMP_MAX)


def test_seqs_of_two_epochs_do_not_mix() -> None:
    place = Place(10)
    place.receive(11)
    with pytest.raises(AssertionError):
        place.restart()

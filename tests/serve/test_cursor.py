"""The cursor rules at every edge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.cursor import Bad, Future, Start, find_start, moved_start, parse_cursor
from relay.store.layout import Raise

SEQ_MAX = 2**53 - 1


@pytest.mark.parametrize(
    "texts",
    [
        [""],
        ["1", "1"],
        ["+1"],
        ["-1"],
        ["1.0"],
        ["1e3"],
        ["abc"],
        [" 1"],
        ["1\n"],
        ["1_000"],
        ["0x10"],
        ["٣"],  # ARABIC-INDIC DIGIT THREE, which int() would take
        [str(SEQ_MAX + 1)],
        [str(2**64)],
        ["9" * 5000],
    ],
)
def test_a_malformed_cursor_is_refused(texts: list[str]) -> None:
    assert isinstance(parse_cursor(texts), Bad)


@pytest.mark.parametrize(("texts", "cursor"), [([], None), (["0"], 0), (["007"], 7), ([str(SEQ_MAX)], SEQ_MAX)])
def test_a_good_cursor_is_a_number(texts: list[str], cursor: int | None) -> None:
    assert parse_cursor(texts) == cursor


@pytest.mark.parametrize(
    ("cursor", "start"),
    [
        (None, Start(200)),
        (0, Start(99, whole=True)),
        (1, Start(99, outdated=True, whole=True)),
        (98, Start(99, outdated=True, whole=True)),
        (99, Start(99)),  # nothing between the cursor and the floor is missing
        (100, Start(100)),
        (199, Start(199)),
        (200, Start(200)),
        (201, Future(201, 200)),
        (SEQ_MAX, Future(SEQ_MAX, 200)),
    ],
)
def test_edges_of_a_window_from_100_to_200(cursor: int | None, start: Start | Future) -> None:
    assert find_start(cursor, floor_seq=100, tip_seq=200) == start


@pytest.mark.parametrize(
    ("cursor", "start"),
    [
        (None, Start(200)),
        (0, Start(200, whole=True)),
        (199, Start(200, outdated=True, whole=True)),
        (200, Start(200)),
        (201, Future(201, 200)),
    ],
)
def test_an_empty_window_still_knows_what_was_issued(cursor: int | None, start: Start | Future) -> None:
    assert find_start(cursor, floor_seq=201, tip_seq=200) == start


def test_a_log_that_never_issued_anything_calls_every_positive_cursor_future() -> None:
    assert find_start(5, floor_seq=1, tip_seq=0) == Future(5, 0)
    assert find_start(0, floor_seq=1, tip_seq=0) == Start(0, whole=True)


RAISE = Raise(before_seq=150, after_seq=1000)


@pytest.mark.parametrize(
    ("floor", "tip", "cursor", "start"),
    [
        (100, 999, 150, Start(999)),  # a restored log that has issued nothing since: not future
        (100, 999, 151, Start(999)),
        (100, 999, 999, Start(999)),
        (100, 999, 1000, Future(1000, 999)),
        (100, 1200, 149, Start(149)),
        (100, 1200, 500, Start(999)),  # in the middle of the window
        (1000, 1200, 500, Start(999)),  # the window begins where the raise ended: not outdated
        (1000, 1200, 150, Start(999)),  # the last seq before the raise, so nothing is missing
        (1000, 1200, 149, Start(999, outdated=True, whole=True)),
        (1001, 1200, 500, Start(1000, outdated=True, whole=True)),  # retention took what followed the raise: a loss
    ],
)
def test_inside_a_raise_a_cursor_is_neither_outdated_nor_future(
    floor: int, tip: int, cursor: int, start: Start | Future
) -> None:
    assert find_start(cursor, floor_seq=floor, tip_seq=tip, raises=(RAISE,)) == start


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 120))
def test_a_start_loses_nothing_that_the_window_holds(floor: int, length: int, cursor: int) -> None:
    """Exactly the seqs of the window above the cursor lie after the start, and OutdatedCursor says a loss."""
    tip = floor + length - 1
    start = find_start(cursor, floor_seq=floor, tip_seq=tip)
    if isinstance(start, Future):
        assert cursor > tip
        return
    held = range(floor, tip + 1)
    assert [seq for seq in held if seq > start.after_seq] == [seq for seq in held if seq > cursor]
    assert start.outdated == (cursor > 0 and cursor + 1 < floor)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 120), st.integers(1, 50))
def test_a_start_that_retention_overtook_is_that_of_a_later_connect(
    floor: int, length: int, cursor: int, removed: int
) -> None:
    """With what is removed meanwhile the answer is the one for the new window, but nobody is told a loss twice."""
    tip = floor + length + removed
    start = find_start(cursor, floor_seq=floor, tip_seq=tip)
    floor_later = floor + removed
    if isinstance(start, Future) or start.after_seq + 1 >= floor_later:
        return
    later = find_start(cursor, floor_seq=floor_later, tip_seq=tip)
    assert isinstance(later, Start)
    assert moved_start(start, floor_later) == later._replace(outdated=later.outdated and not start.outdated)

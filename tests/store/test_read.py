"""Reading: the edges of the window, slices at message borders, place keeping, and polls."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.frame import iter_messages
from relay.store.errors import BelowWindow
from relay.store.store import Store
from tests.store.batches import (
    FIRST_SEQ,
    NOW_MS,
    add_hosts,
    batch,
    fill,
    frames,
    item,
    mark,
    open_store,
    seqs,
    settings,
)

HOUR_MS = 3_600_000


def test_an_empty_log_has_a_window_and_nothing_to_read(store: Store) -> None:
    assert store.tip() == (FIRST_SEQ - 1, FIRST_SEQ, 0)
    assert store.window() == (FIRST_SEQ, 0, FIRST_SEQ - 1, 0, ())
    assert store.reader().read(FIRST_SEQ - 1, 1_000) is None
    assert store.reader().read(FIRST_SEQ + 50, 1_000) is None
    with pytest.raises(BelowWindow):
        store.reader().read(FIRST_SEQ - 2, 1_000)


def test_the_edges_of_the_window(store: Store) -> None:
    fill(store, 5)
    tip = FIRST_SEQ + 4
    assert store.window() == (FIRST_SEQ, NOW_MS, tip, NOW_MS + 4, ())
    assert seqs(store, FIRST_SEQ - 1) == list(range(FIRST_SEQ, tip + 1))
    assert seqs(store, FIRST_SEQ) == list(range(FIRST_SEQ + 1, tip + 1))
    assert seqs(store, tip - 1) == [tip]
    assert store.reader().read(tip, 1_000) is None
    assert store.reader().read(tip + 1, 1_000) is None
    with pytest.raises(BelowWindow) as raised:
        store.reader().read(FIRST_SEQ - 2, 1_000)
    assert raised.value.floor_seq == FIRST_SEQ


def test_a_reader_at_the_tip_goes_on_when_something_comes(store: Store) -> None:
    fill(store, 2)
    reader = store.reader()
    assert reader.read(FIRST_SEQ + 1, 1_000) is None
    fill(store, 1)
    part = reader.read(FIRST_SEQ + 1, 1_000)
    assert part is not None
    assert (part.first_seq, part.last_seq, part.time_ms) == (FIRST_SEQ + 2, FIRST_SEQ + 2, NOW_MS + 1)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """60 frames of very different sizes in chunks of up to 2 kB and 3 segments."""
    store = open_store(tmp_path_factory.mktemp("mixed"), batch_bytes=2_000)
    add_hosts(store)
    version = 0
    for number in range(20):
        sizes = ((number * 7) % 130, (number * 131) % 900, 0)
        items = [item(0, version + place, number * 3 + place, padding=size) for place, size in enumerate(sizes)]
        version += 3
        store.append(batch(*items, time_ms=NOW_MS + number * HOUR_MS // 7))
    assert len(store._segments.names()) == 3
    return store


@given(after=st.integers(-1, 60), bytes_max=st.integers(1, 30_000))
def test_any_slicing_from_any_place_gives_the_same_frames(mixed: Store, after: int, bytes_max: int) -> None:
    """Invariant 5: wherever consumers begin and however much they take at a time, they get the same bytes."""
    position = FIRST_SEQ + after
    whole = dict(frames(mixed))
    assert dict(frames(mixed, position, bytes_max)) == {seq: whole[seq] for seq in range(position + 1, FIRST_SEQ + 60)}


@given(bytes_max=st.integers(1, 5_000))
def test_a_slice_is_bounded_unless_it_is_one_message(mixed: Store, bytes_max: int) -> None:
    reader, position = mixed.reader(), FIRST_SEQ - 1
    while (part := reader.read(position, bytes_max)) is not None:
        assert len(part.data) <= bytes_max or part.count == 1
        position = part.last_seq


@given(places=st.lists(st.integers(-1, 62), min_size=1, max_size=12))
def test_a_reader_that_jumps_about_reads_what_a_fresh_one_reads(mixed: Store, places: list[int]) -> None:
    reader = mixed.reader()
    for place in places:
        assert reader.read(FIRST_SEQ + place, 700) == mixed.reader().read(FIRST_SEQ + place, 700)


def test_a_reader_that_goes_on_does_not_search(mixed: Store) -> None:
    """The place after a slice is the very chunk and offset to go on at."""
    reader = mixed.reader()
    part = reader.read(FIRST_SEQ - 1, 300)
    assert part is not None
    place = reader._place
    assert place is not None
    assert (place.segment, place.chunk, place.offset) == (FIRST_SEQ, FIRST_SEQ, len(part.data))


def test_slices_do_not_mix_times_of_segments(mixed: Store) -> None:
    """The time of a slice is that of its newest chunk, and never falls."""
    reader, position, times = mixed.reader(), FIRST_SEQ - 1, []
    while (part := reader.read(position, 1 << 20)) is not None:
        position = part.last_seq
        times.append(part.time_ms)
    assert times == sorted(times)
    assert times[-1] == mixed.tip().time_ms
    assert len(times) == 3


def test_what_was_not_polled_yet_is_found_when_asked_for(store: Store) -> None:
    reader = store.reader()
    fill(store, 1)
    part = reader.read(FIRST_SEQ - 1, 1_000)
    assert part is not None
    assert len(list(iter_messages(part.data))) == 1


class Died(BaseException):
    """The process died here."""


def test_a_frame_is_not_seen_before_the_state_has_it(tmp_path: Path) -> None:
    """Invariant 1: a chunk without its state is invisible, so that no consumer ever holds a cursor above the tip."""
    fatal = False

    def die(name: str) -> None:
        if fatal and name == "segment_committed":
            raise Died

    store = Store.open(tmp_path, settings(), create=True, now_ms=NOW_MS, on_step=die)
    add_hosts(store)
    fill(store, 2)
    fatal = True
    with pytest.raises(Died):
        fill(store, 1)
    fatal = False
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1]
    assert store.tip().seq == FIRST_SEQ + 1
    assert store.seq_at(0) == FIRST_SEQ
    store.append(batch(marks=(mark(9),)))
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]
    store.close()


def test_a_stored_frame_stays_as_it_is(tmp_path: Path) -> None:
    """Invariant 5: neither appends, rolls, a death with its healing, starts, raises nor retention change its bytes."""
    fatal: set[str] = set()

    def die(name: str) -> None:
        if name in fatal:
            raise Died

    def opened(first_seq: int = FIRST_SEQ) -> Store:
        chosen = settings(initial_seq=first_seq, window_hours=1.5, batch_bytes=300)
        return Store.open(tmp_path, chosen, create=True, now_ms=NOW_MS, on_step=die)

    known: dict[int, bytes] = {}

    def look(store: Store) -> list[int]:
        found = dict(frames(store))
        assert dict(frames(store, bytes_max=1)) == found
        assert all(known.setdefault(seq, frame) == frame for seq, frame in found.items())
        return list(found)

    store = opened()
    add_hosts(store)
    fill(store, 3, padding=100)
    assert len(look(store)) == 3
    fill(store, 3, time_ms=NOW_MS + HOUR_MS)
    assert len(look(store)) == 6
    fatal.add("segment_committed")
    with pytest.raises(Died):
        fill(store, 1, time_ms=NOW_MS + HOUR_MS)
    fatal.clear()
    assert len(look(store)) == 6
    store.close()
    store = opened(2 * FIRST_SEQ)
    assert len(look(store)) == 7
    fill(store, 3, time_ms=NOW_MS + 2 * HOUR_MS)
    assert len(look(store)) == 10
    assert store.retain() == 1
    assert look(store) == [FIRST_SEQ + 3, FIRST_SEQ + 4, FIRST_SEQ + 5, FIRST_SEQ + 6, *range(2_000, 2_003)]
    assert len(known) == 10
    store.close()


def test_poll_answers_once_for_each_change(store: Store) -> None:
    assert store.poll() == store.tip()
    assert store.poll() is None
    fill(store, 1)
    assert store.poll() == (FIRST_SEQ, FIRST_SEQ, NOW_MS)
    assert store.poll() is None
    store.append(batch(marks=(mark(3),)))
    assert store.poll() is not None  # something was committed, if no frame
    assert store.poll() is None


def test_seq_at_finds_the_first_chunk_not_older(mixed: Store) -> None:
    for number in range(20):
        time_ms = NOW_MS + number * HOUR_MS // 7
        assert mixed.seq_at(time_ms) == FIRST_SEQ + 3 * number
        assert mixed.seq_at(time_ms + 1) == FIRST_SEQ + 3 * (number + 1)
    assert mixed.seq_at(0) == FIRST_SEQ
    assert mixed.seq_at(NOW_MS * 2) == mixed.tip().seq + 1


def test_seq_at_of_an_empty_log_is_what_comes_next(store: Store) -> None:
    assert store.seq_at(NOW_MS) == FIRST_SEQ


def test_reading_needs_no_write_lock(store: Store) -> None:
    fill(store, 3)
    with store._state.writing():
        assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]

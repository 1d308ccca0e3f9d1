"""The append: what is refused, where the cursor may go, how frames become chunks, and when a segment is rolled."""

from pathlib import Path

import pytest

from relay.protocol.frame import FrameTemplate
from relay.store.errors import Corrupt
from relay.store.store import Store
from tests.store.batches import (
    FIRST_SEQ,
    NOW_MS,
    add_hosts,
    batch,
    did,
    fill,
    item,
    mark,
    open_store,
    seqs,
    settings,
)

HOUR_MS = 3_600_000


def version(store: Store, account: int) -> int:
    with store.view() as view:
        state = view.account(did(account))
    return state.version if state is not None else 0


def cursor(store: Store, host_id: int = 1) -> int | None:
    with store.view() as view:
        host = view.host(host_id)
    assert host is not None
    return host.cursor


def test_seqs_are_contiguous_over_batches(store: Store) -> None:
    """Invariant 1: in the order of the commits, beginning with the first seq."""
    assert store.append(batch(item(1, 0, 1), item(2, 0, 2))) == (FIRST_SEQ, FIRST_SEQ + 1, ())
    assert store.append(batch(item(1, 1, 3))) == (FIRST_SEQ + 2, FIRST_SEQ + 2, ())
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]
    assert version(store, 1) == 2


def test_an_item_without_a_frame_changes_the_row_and_takes_no_seq(store: Store) -> None:
    answer = store.append(batch(item(1, 0, 1, emits=False, local_status="takendown"), item(2, 0, 2)))
    assert (answer.first_seq, answer.tip_seq) == (FIRST_SEQ, FIRST_SEQ)
    with store.view() as view:
        state = view.account(did(1))
    assert state is not None
    assert (state.version, state.local_status) == (1, "takendown")


def test_a_wrong_version_refuses_the_item_and_every_later_one_of_its_did(store: Store) -> None:
    """Invariant 4: nothing of a DID overtakes what was refused of it."""
    store.append(batch(item(1, 0, 1), item(2, 0, 2)))
    answer = store.append(batch(item(1, 0, 3), item(2, 1, 4), item(1, 1, 5), item(2, 2, 6)))
    assert answer == (FIRST_SEQ + 2, FIRST_SEQ + 3, (0, 2))
    assert (version(store, 1), version(store, 2)) == (1, 3)


def test_a_version_above_the_row_is_refused_too(store: Store) -> None:
    assert store.append(batch(item(1, 1, 1))).refused == (0,)
    assert seqs(store) == []


def test_the_cursor_stays_below_the_lowest_refused_event(store: Store) -> None:
    """Invariant 3: what was refused is not settled yet."""
    store.append(batch(item(1, 0, 1), marks=(mark(1),)))
    answer = store.append(
        batch(
            item(2, 0, 2), item(1, 0, 5), item(1, 0, 4), item(3, 0, 6), marks=(mark(6, accepted=4), mark(9, host_id=2))
        )
    )
    assert answer.refused == (1, 2)
    assert cursor(store) == 3
    assert cursor(store, 2) == 9
    with store.view() as view:
        host = view.host(1)
    assert host is not None
    assert host.accepted == 2  # the refused ones are verified again and counted then


def test_a_refused_event_zero_leaves_the_host_without_a_cursor(store: Store) -> None:
    store.append(batch(item(1, 5, 0), marks=(mark(7),)))
    assert cursor(store) is None


def test_a_batch_without_frames_writes_the_state_alone(store: Store) -> None:
    before = store.tip()
    answer = store.append(batch(marks=(mark(5, dropped={"schema": 3}),), time_ms=NOW_MS + 99))
    assert (answer.first_seq, answer.tip_seq) == (FIRST_SEQ, FIRST_SEQ - 1)
    assert store.tip() == before
    assert cursor(store) == 5
    assert store.audit().chunks == 0


def test_a_batch_whose_items_are_all_refused_appends_nothing(store: Store) -> None:
    answer = store.append(batch(item(1, 3, 1), item(1, 4, 2), marks=(mark(2),)))
    assert (answer.first_seq, answer.tip_seq, answer.refused) == (FIRST_SEQ, FIRST_SEQ - 1, (0, 1))
    assert cursor(store) == 0


def test_an_empty_batch_is_harmless(store: Store) -> None:
    assert store.append(batch()) == (FIRST_SEQ, FIRST_SEQ - 1, ())


def test_time_never_runs_backwards(store: Store) -> None:
    store.append(batch(item(1, 0, 1), time_ms=NOW_MS))
    store.append(batch(item(1, 1, 2), time_ms=NOW_MS - 5_000))
    assert store.tip().time_ms == NOW_MS
    assert store.audit().findings == ()


def test_a_batch_is_cut_into_chunks_of_batch_bytes(tmp_path: Path) -> None:
    store = open_store(tmp_path, batch_bytes=10_000)
    add_hosts(store)
    store.append(batch(*(item(number, 0, number, padding=3_000) for number in range(10))))
    assert store.audit().chunks == 4  # three frames of 3.1 kB each
    assert seqs(store) == list(range(FIRST_SEQ, FIRST_SEQ + 10))
    part = store.reader().read(FIRST_SEQ - 1, 10_000)
    assert part is not None
    assert part.count == 3
    store.close()


def test_a_frame_larger_than_a_chunk_has_a_chunk_of_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path, batch_bytes=1_000)
    add_hosts(store)
    huge = item(2, 0, 2)._replace(template=FrameTemplate(b"\xa0", bytes(4_999_000)))
    store.append(batch(item(1, 0, 1), huge, item(3, 0, 3)))
    assert store.audit().chunks == 3
    reader = store.reader()
    sizes = []
    position = FIRST_SEQ - 1
    while (part := reader.read(position, 1_000)) is not None:
        position = part.last_seq
        sizes.append(len(part.data))
    assert sizes[1] == 4_999_000 + 1 + 3 + 10  # head, seq, WebSocket header
    assert len(sizes) == 3
    store.close()


def test_every_batch_size_around_the_chunk_bound_gives_back_the_same_frames(tmp_path: Path) -> None:
    """The same frames come out whatever the chunks are, and in one slice of the whole log as in slices of one."""
    for chunk_bytes in (1, 100, 107, 108, 109, 1_000):
        store = open_store(tmp_path / str(chunk_bytes), batch_bytes=chunk_bytes)
        add_hosts(store)
        store.append(batch(*(item(number, 0, number) for number in range(20))))
        whole = seqs(store)
        assert whole == seqs(store, bytes_max=1) == list(range(FIRST_SEQ, FIRST_SEQ + 20))
        store.close()


def test_equal_batches_give_equal_logs(tmp_path: Path) -> None:
    """`append` is a function of log, state and batch alone: the stored bytes agree."""
    logs = []
    for name in "ab":
        store = open_store(tmp_path / name, batch_bytes=500)
        add_hosts(store)
        for number in range(5):
            store.append(
                batch(
                    item(number, 0, number),
                    item(9, number, 50 + number),
                    marks=(mark(number),),
                    time_ms=NOW_MS + number,
                )
            )
        part = store.reader().read(FIRST_SEQ - 1, 1 << 20)
        assert part is not None
        with store._segments.borrowed(FIRST_SEQ, active=True) as env, env.begin() as txn:
            effects = list(txn.cursor(db=env.db[b"effects"]))
        logs.append((part.data, effects))
        store.close()
    assert logs[0] == logs[1]


def segments(store: Store) -> tuple[int, ...]:
    return store._segments.names()


def test_a_segment_is_rolled_after_an_hour_of_batch_time(store: Store) -> None:
    store.append(batch(item(1, 0, 1), time_ms=NOW_MS))
    store.append(batch(item(1, 1, 2), time_ms=NOW_MS + HOUR_MS - 1))
    store.append(batch(item(1, 2, 3), time_ms=NOW_MS + HOUR_MS))
    assert segments(store) == (FIRST_SEQ, FIRST_SEQ + 2)
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]


def test_a_segment_is_rolled_by_size(tmp_path: Path) -> None:
    store = open_store(tmp_path, segment_bytes=200_000)
    add_hosts(store)
    fill(store, 30, padding=20_000)
    assert 3 <= len(segments(store)) <= 6
    assert seqs(store, bytes_max=50_000) == list(range(FIRST_SEQ, FIRST_SEQ + 30))
    assert store.audit().findings == ()
    store.close()


def test_a_batch_without_frames_never_rolls(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.append(batch(marks=(mark(4),), time_ms=NOW_MS + 2 * HOUR_MS))
    assert segments(store) == (FIRST_SEQ,)


def test_a_refused_batch_may_roll_and_the_empty_segment_serves(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.append(batch(item(1, 0, 2), time_ms=NOW_MS + HOUR_MS))
    assert segments(store) == (FIRST_SEQ, FIRST_SEQ + 1)
    assert seqs(store) == [FIRST_SEQ]
    store.append(batch(item(1, 1, 2), time_ms=NOW_MS + 3 * HOUR_MS))
    assert segments(store) == (FIRST_SEQ, FIRST_SEQ + 1)
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1]


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add_hosts(store)
    store.append(batch(item(1, 0, 1), item(2, 0, 2), marks=(mark(2),)))
    store.close()
    again = Store.open(tmp_path, settings())
    assert seqs(again) == [FIRST_SEQ, FIRST_SEQ + 1]
    assert (version(again, 1), cursor(again)) == (1, 2)
    assert again.append(batch(item(1, 1, 3))).first_seq == FIRST_SEQ + 2
    again.close()


def test_the_sequence_ends_loudly_at_its_limit(tmp_path: Path) -> None:
    store = open_store(tmp_path, initial_seq=2**53 - 2)
    add_hosts(store)
    store.append(batch(item(1, 0, 1), item(2, 0, 2)))
    assert store.tip().seq == 2**53 - 1
    with pytest.raises(Corrupt, match="used up"):
        store.append(batch(item(1, 1, 3)))
    store.close()

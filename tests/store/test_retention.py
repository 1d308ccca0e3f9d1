"""Retention: by age and by bytes, always at the floor, never the active segment, and what readers notice of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relay.store.creation import mark_restored
from relay.store.errors import BelowWindow
from relay.store.store import Store
from tests.store.batches import FIRST_SEQ, NOW_MS, add_hosts, batch, fill, item, open_store, seqs, settings

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000


def hourly(store: Store, hours: int, *, start: int = 0) -> None:
    """One frame an hour, so one segment each."""
    for number in range(start, start + hours):
        store.append(batch(item(0, number, number), time_ms=NOW_MS + number * HOUR_MS))


def names(store: Store) -> tuple[int, ...]:
    return store._segments.names()


def deleted_but_open(folder: Path) -> list[str]:
    """Files of `folder` that this process still has mapped, so that their space is not free."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if line.endswith("(deleted)") and str(folder) in line]


def test_what_is_older_than_the_window_goes(tmp_path: Path) -> None:
    """Invariant 6: whole segments at the floor, the oldest first, and nothing else."""
    store = open_store(tmp_path, window_hours=3)
    add_hosts(store)
    hourly(store, 6)
    assert store.retain() == 2
    assert names(store) == tuple(FIRST_SEQ + number for number in (2, 3, 4, 5))
    assert store.window()[:2] == (FIRST_SEQ + 2, NOW_MS + 2 * HOUR_MS)
    assert seqs(store) == [FIRST_SEQ + number for number in (2, 3, 4, 5)]
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == [f"{name:016d}" for name in names(store)]
    assert store.retain() == 0
    store.close()


def test_age_is_measured_against_the_newest_chunk_and_can_be_paused(tmp_path: Path) -> None:
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    hourly(store, 3)
    assert store.retain(by_time=False) == 0
    assert store.retain() == 1
    store.close()


def test_the_log_is_cut_to_its_bytes_even_while_time_is_paused(tmp_path: Path) -> None:
    store = open_store(tmp_path, segment_bytes=300_000, window_bytes=1_000_000)
    add_hosts(store)
    fill(store, 100, padding=20_000)
    assert store.stats().log_bytes > 1_000_000
    assert store.retain(by_time=False) > 0
    stats = store.stats()
    assert 500_000 < stats.log_bytes <= 1_000_000
    found = seqs(store)
    assert found == list(range(found[0], FIRST_SEQ + 100))
    assert store.tip().floor == found[0]
    assert store.audit().findings == ()
    store.close()


def test_the_active_segment_stays_whatever_the_bounds(tmp_path: Path) -> None:
    store = open_store(tmp_path, window_hours=0.001, window_bytes=1)
    add_hosts(store)
    fill(store, 3)
    assert store.retain() == 0
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]
    store.close()


def test_a_window_can_become_empty_and_keeps_its_floor(tmp_path: Path) -> None:
    store = open_store(tmp_path, window_bytes=1)
    add_hosts(store)
    fill(store, 3)
    store.append(batch(item(0, 0, 9), time_ms=NOW_MS + HOUR_MS))  # refused, but the segment was rolled for it
    assert store.retain() == 1
    assert store.window() == (FIRST_SEQ + 3, 0, FIRST_SEQ + 2, 0, ())
    assert store.tip() == (FIRST_SEQ + 2, FIRST_SEQ + 3, NOW_MS + 2)
    assert store.reader().read(FIRST_SEQ + 2, 1_000) is None
    store.close()
    again = Store.open(tmp_path, settings(window_bytes=1))
    assert again.tip().floor == FIRST_SEQ + 3
    again.append(batch(item(0, 3, 9), time_ms=NOW_MS))
    assert again.window() == (FIRST_SEQ + 3, NOW_MS + 2, FIRST_SEQ + 3, NOW_MS + 2, ())
    again.close()


def test_a_reader_that_retention_overtook_is_told_the_floor(tmp_path: Path) -> None:
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    hourly(store, 5)
    reader = store.reader()
    part = reader.read(FIRST_SEQ - 1, 1_000)
    assert part is not None
    store.retain()
    with pytest.raises(BelowWindow) as raised:
        reader.read(part.last_seq, 1_000)
    assert raised.value.floor_seq == FIRST_SEQ + 3
    assert seqs(store) == [FIRST_SEQ + 3, FIRST_SEQ + 4]
    store.close()


def test_a_reader_right_at_the_floor_is_not_disturbed(tmp_path: Path) -> None:
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    hourly(store, 5)
    reader = store.reader()
    assert reader.read(FIRST_SEQ + 1, 1_000) is not None
    store.retain()
    part = reader.read(FIRST_SEQ + 2, 1_000)
    assert part is not None
    assert part.first_seq == FIRST_SEQ + 3
    store.close()


def test_a_removed_segment_is_closed_so_that_its_space_is_freed(tmp_path: Path) -> None:
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    hourly(store, 5)
    assert seqs(store)  # opens them all
    store.retain()
    assert deleted_but_open(tmp_path) == []
    store.close()


RETAIN = """
import sys
import subprocess
import sys
from pathlib import Path
from relay.store.store import Store
from tests.store.batches import settings
store = Store.open(Path(sys.argv[1]), settings(window_hours=1))
print(store.retain())
"""


def test_a_reading_process_frees_what_another_one_removed(tmp_path: Path) -> None:
    """It keeps removed segments open until its next poll shows it the new floor."""
    store = open_store(tmp_path)
    add_hosts(store)
    hourly(store, 5)
    reader = store.reader()
    part = reader.read(FIRST_SEQ - 1, 1_000)
    assert part is not None
    words = [sys.executable, "-c", RETAIN, str(tmp_path)]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout == "3\n"
    assert deleted_but_open(tmp_path) != []
    assert store.poll() is not None
    assert deleted_but_open(tmp_path) == []
    with pytest.raises(BelowWindow):
        reader.read(part.last_seq, 1_000)
    store.close()


def test_a_process_that_has_only_a_removed_segment_open_frees_it_too(tmp_path: Path) -> None:
    """A consumer far behind: its segment is the only one open there. Nothing is remembered of what was removed."""
    store = open_store(tmp_path)
    add_hosts(store)
    hourly(store, 5)
    store.close()
    store = Store.open(tmp_path, settings(), readonly=True)
    assert store.reader().read(FIRST_SEQ - 1, 1_000) is not None
    assert list(store._segments._open) == [FIRST_SEQ]
    assert store._segments.info(FIRST_SEQ, active=False).first_seq == FIRST_SEQ
    words = [sys.executable, "-c", RETAIN, str(tmp_path)]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout == "3\n"
    assert store.poll() is not None
    assert deleted_but_open(tmp_path) == []
    assert store._segments._infos == {}
    store.close()


def test_the_floor_moves_on_to_the_next_chunk_past_a_segment_without_one(tmp_path: Path) -> None:
    """A copy whose state is newer than its log seals a segment that is still empty; the window goes on behind it."""
    store = open_store(tmp_path / "data", window_hours=1)
    add_hosts(store)
    hourly(store, 1)
    store.append(batch(item(0, 0, 9), time_ms=NOW_MS + HOUR_MS))  # refused, but the segment was rolled for it
    store.close()
    shutil.copytree(tmp_path / "data" / "log", tmp_path / "log then")
    store = open_store(tmp_path / "data", window_hours=1)
    hourly(store, 1, start=1)
    store.close()
    shutil.rmtree(tmp_path / "data" / "log")
    shutil.move(tmp_path / "log then", tmp_path / "data" / "log")
    mark_restored(tmp_path / "data" / "state", settings())

    store = open_store(tmp_path / "data", window_hours=1)
    assert names(store) == (FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2)
    hourly(store, 1, start=2)
    kept = store.tip().seq
    assert seqs(store) == [FIRST_SEQ, kept]
    assert store.retain() == 2
    assert store.window()[:3] == (kept, NOW_MS + 2 * HOUR_MS, kept)
    assert seqs(store) == [kept]
    assert names(store) == (FIRST_SEQ + 2,)
    store.close()


def test_raises_leave_with_the_floor(tmp_path: Path) -> None:
    """Only raises that a cursor can still be in are kept, so the list is bounded by the window."""
    for number in range(6):
        store = open_store(tmp_path, window_hours=2, initial_seq=FIRST_SEQ * (number + 1))
        add_hosts(store)
        store.append(batch(item(0, number, number), time_ms=NOW_MS + number * HOUR_MS))
        store.retain()
        raises = store.window().raises
        store.close()
    assert raises == ((3_000, 4_000), (4_000, 5_000), (5_000, 6_000))


def test_a_borrowed_segment_survives_its_removal(tmp_path: Path) -> None:
    """A read that is under way in another thread ends well; the env is closed after it."""
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    hourly(store, 4)
    with store._segments.borrowed(FIRST_SEQ, active=False) as env:
        store.retain()
        with env.begin() as txn:
            assert txn.stat(db=env.db[b"chunks"])["entries"] == 1
        assert deleted_but_open(tmp_path) != []
    assert deleted_but_open(tmp_path) == []
    store.close()


def test_a_segment_that_leaves_can_be_read_by_more_than_one(tmp_path: Path) -> None:
    """An env may not be open twice in a process, so a second reader shares the first one's, and the last closes it."""
    store = open_store(tmp_path)
    add_hosts(store)
    hourly(store, 3)
    segments = store._segments
    with segments.borrowed(FIRST_SEQ, active=False) as first:
        segments.forget_below(FIRST_SEQ + 1)
        with segments.borrowed(FIRST_SEQ, active=False) as second:
            assert second is first
        with first.begin() as txn:
            assert txn.stat(db=first.db[b"chunks"])["entries"] == 1
    assert FIRST_SEQ not in segments._open
    assert FIRST_SEQ + 2 in segments._open
    store.close()


def test_an_older_snapshot_does_not_undo_what_is_known(tmp_path: Path) -> None:
    """Threads learn in any order, and a roll and the floor move while the tip stays: neither may go back."""
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    hourly(store, 3)
    log = store._log
    before = log.refresh()
    store.retain()
    store.append(batch(item(0, 0, 9), time_ms=NOW_MS + 9 * HOUR_MS))  # refused, but the segment was rolled for it
    known = log.refresh()
    assert (known.applied_seq, known.floor_seq) == (before.applied_seq, before.floor_seq + 1)
    assert known.active > before.active
    for older in (before, before._replace(active=known.active), before._replace(floor_seq=known.floor_seq)):
        log._learn(older)
        assert log.row == known
    store.close()


class Died(BaseException):
    """The process died here."""


@pytest.mark.parametrize("step", ["floor_moved", "segment_renamed"])
def test_a_pass_that_was_cut_off_is_finished_by_the_next(tmp_path: Path, step: str) -> None:
    """Invariant 6: the floor has moved, so what is below it leaves, even if the window is wider now, and no more."""

    def die(name: str) -> None:
        if name == step:
            raise Died

    store = Store.open(tmp_path, settings(window_hours=1), create=True, now_ms=NOW_MS, on_step=die)
    add_hosts(store)
    hourly(store, 4)
    with pytest.raises(Died):
        store.retain()
    assert store.tip().floor == FIRST_SEQ + 1
    assert seqs(store) == [FIRST_SEQ + 1, FIRST_SEQ + 2, FIRST_SEQ + 3]
    store.close()
    again = Store.open(tmp_path, settings(window_hours=100))
    again.retain()
    assert names(again) == (FIRST_SEQ + 1, FIRST_SEQ + 2, FIRST_SEQ + 3)
    assert len(list((tmp_path / "log").iterdir())) == 3
    assert again.audit().findings == ()
    again.close()


def test_stats_name_sizes_and_readers(store: Store) -> None:
    fill(store, 3)
    stats = store.stats()
    assert stats.segments == 1
    assert stats.log_bytes > 0
    assert 0 < stats.state_bytes < stats.state_map_bytes == 64 << 20
    assert stats.readers == ()
    with store.view():
        assert len(store.stats().readers) == 1
    assert store.check_readers() == 0

"""Opening: a fresh folder, a wrong one, the first seq and its floor, and a restored copy."""

import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from relay.store.creation import mark_restored
from relay.store.env import create_env, open_env
from relay.store.errors import Corrupt, LayoutMismatch, NotWritable, Restored, StoreClosed
from relay.store.layout import META, META_LAYOUT, STATE_DBS
from relay.store.store import Store
from tests.store.batches import FIRST_SEQ, NOW_MS, add_hosts, batch, did, fill, item, open_store, seqs, settings

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_auto_starts_at_ten_times_the_milliseconds_and_stays(tmp_path: Path) -> None:
    Store.open(tmp_path, settings(initial_seq=None), create=True, now_ms=NOW_MS).close()
    store = Store.open(tmp_path, settings(initial_seq=None), create=True, now_ms=NOW_MS + 999)
    assert store.tip() == (10 * NOW_MS - 1, 10 * NOW_MS, 0)
    assert store.window().raises == ()
    store.close()


def test_a_folder_with_only_what_the_supervisor_made_is_fresh(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "lost+found").mkdir()
    open_store(tmp_path).close()


def test_a_missing_folder_is_made_and_only_on_create(tmp_path: Path) -> None:
    with pytest.raises(LayoutMismatch):
        Store.open(tmp_path / "a" / "b", settings())
    assert not (tmp_path / "a").exists()
    open_store(tmp_path / "a" / "b").close()
    Store.open(tmp_path / "a" / "b", settings()).close()


def stranger(folder: Path) -> None:
    (folder / "thesis.txt").write_text("mine")


def log_without_state(folder: Path) -> None:
    (folder / "log" / "0000000000001000").mkdir(parents=True)


def other_layout(folder: Path) -> None:
    open_store(folder).close()
    env = open_env(folder / "state", STATE_DBS, map_bytes=64 << 20)
    with env.begin(write=True) as txn:
        txn.put(META_LAYOUT, b"atproto-relay 0", db=env.db[META])
    env.close()


def no_layout(folder: Path) -> None:
    (folder / "state").mkdir()
    create_env(folder / "state", (META,), map_bytes=1 << 20, sync=False).close()


def other_lmdb(folder: Path) -> None:
    (folder / "state").mkdir()
    create_env(folder / "state", (b"other",), map_bytes=1 << 20, sync=False).close()


def not_lmdb(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "data.mdb").write_bytes(b"something else" * 1_000)


@pytest.mark.parametrize("spoil", [stranger, log_without_state, other_layout, no_layout, other_lmdb, not_lmdb])
@pytest.mark.parametrize("create", [True, False])
def test_what_is_not_ours_is_refused_and_not_touched(tmp_path: Path, spoil: object, create: bool) -> None:
    assert callable(spoil)
    spoil(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(LayoutMismatch):
        Store.open(tmp_path, settings(), create=create, now_ms=NOW_MS)
    after = contents(tmp_path)
    if not create and spoil in (other_layout, no_layout, other_lmdb):
        # Another process may be at work there, so the look takes a reader's slot as any LMDB reader does.
        del before["state/lock.mdb"], after["state/lock.mdb"]
    assert after == before


LOOK = """
import sys
from pathlib import Path
from relay.store.creation import is_ours
print(is_ours(Path(sys.argv[1]), alone=sys.argv[2] == "alone"))
"""


@pytest.mark.parametrize(("how", "slots"), [("alone", 0), ("shared", 1)])
def test_a_look_at_a_store_in_use_takes_a_readers_slot(store: Store, tmp_path: Path, how: str, slots: int) -> None:
    """Without one, commits of the other process could replace the pages under the look (seen under load)."""
    env = store._state.env._env
    before = env.info()["num_readers"]
    words = [sys.executable, "-c", LOOK, str(tmp_path / "data"), how]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout == "True\n"
    assert env.info()["num_readers"] == before + slots


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(LayoutMismatch):
        open_store(tmp_path / "data")


def test_a_creation_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "state.new").mkdir()
    (tmp_path / "state.new" / "data.mdb").write_bytes(b"half")
    (tmp_path / "log").mkdir()
    store = open_store(tmp_path)
    assert store.tip().seq == FIRST_SEQ - 1
    store.close()


def test_a_numeric_initial_seq_is_a_floor_at_every_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add_hosts(store)
    fill(store, 2)
    store.close()
    store = open_store(tmp_path, initial_seq=5_000)
    assert store.tip() == (4_999, FIRST_SEQ, NOW_MS + 1)
    assert store.window().raises == ((FIRST_SEQ + 1, 5_000),)
    fill(store, 2, time_ms=NOW_MS + 2)
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, 5_000, 5_001]
    assert store.audit().findings == ()
    store.close()
    store = open_store(tmp_path, initial_seq=10)  # lower than where the log is: nothing to do
    assert store.tip().seq == 5_001
    assert len(store.window().raises) == 1
    store.close()


def test_a_raise_of_an_empty_log_moves_its_floor(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    store = open_store(tmp_path, initial_seq=5_000)
    add_hosts(store)
    assert store.window() == (5_000, 0, 4_999, 0, ((FIRST_SEQ - 1, 5_000),))
    fill(store, 1)
    assert seqs(store) == [5_000]
    store.close()


@pytest.mark.parametrize("after", [FIRST_SEQ + 1, FIRST_SEQ + 2, 3_000, 4_998, 4_999])
def test_a_position_inside_a_raise_goes_on_behind_it(tmp_path: Path, after: int) -> None:
    store = open_store(tmp_path)
    add_hosts(store)
    fill(store, 2)
    store.close()
    store = open_store(tmp_path, initial_seq=5_000)
    reader = store.reader()
    assert reader.read(after, 1_000) is None  # not in the future: just nothing there yet
    fill(store, 1, time_ms=NOW_MS + 2)
    part = reader.read(after, 1_000)
    assert part is not None
    assert (part.first_seq, part.last_seq, part.count) == (5_000, 5_000, 1)
    store.close()


def test_a_position_before_a_raise_stays_good_when_the_floor_comes_to_the_raise(tmp_path: Path) -> None:
    """Who had everything up to the raise missed nothing, although what it had is gone."""
    store = open_store(tmp_path, window_hours=1)
    add_hosts(store)
    fill(store, 2)
    store.append(batch(item(0, 0, 9), time_ms=NOW_MS + 3_600_000))  # refused: only rolls
    store.close()
    store = open_store(tmp_path, window_hours=1, initial_seq=5_000)
    fill(store, 1, time_ms=NOW_MS + 3 * 3_600_000)
    assert store.retain() == 1
    assert store.tip().floor == 5_000
    assert seqs(store, FIRST_SEQ + 1) == [5_000]
    assert seqs(store, 3_000) == [5_000]
    with pytest.raises(LookupError):
        seqs(store, FIRST_SEQ)
    store.close()


def copied(tmp_path: Path, *, log: bool = True) -> Path:
    """A copy at rest of a log with three frames in two segments."""
    store = open_store(tmp_path / "original")
    add_hosts(store)
    fill(store, 2)
    store.append(batch(item(0, 2, 7), time_ms=NOW_MS + 3_600_000))
    store.close()
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    if not log:
        shutil.rmtree(tmp_path / "copy" / "log")
        (tmp_path / "copy" / "log").mkdir()
    return tmp_path / "copy"


def test_a_restored_copy_is_raised_once_at_its_first_start(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    mark_restored(copy / "state", settings())
    with pytest.raises(Restored):
        Store.open(copy, settings())
    store = open_store(copy)
    assert store.tip().seq == 10 * NOW_MS - 1
    assert store.window().raises == ((FIRST_SEQ + 2, 10 * NOW_MS),)
    store.append(batch(item(0, 3, 8)))
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2, 10 * NOW_MS]
    assert store.audit().findings == ()
    store.close()
    store = open_store(copy)
    assert store.tip().seq == 10 * NOW_MS
    store.close()


def test_a_copy_whose_seqs_are_beyond_the_clock_is_raised_all_the_same(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    mark_restored(copy / "state", settings())
    store = Store.open(copy, settings(), create=True, now_ms=5)
    assert store.tip().seq > FIRST_SEQ + 1_000_000
    store.close()


def test_a_copy_without_its_log_starts_with_an_empty_window(tmp_path: Path) -> None:
    copy = copied(tmp_path, log=False)
    with pytest.raises(Corrupt):
        open_store(copy)
    mark_restored(copy / "state", settings())
    store = open_store(copy)
    assert store.window() == (10 * NOW_MS, 0, 10 * NOW_MS - 1, 0, ((FIRST_SEQ + 2, 10 * NOW_MS),))
    with store.view() as view:
        account = view.account(did(0))
    assert account is not None
    store.append(batch(item(0, account.version, 8)))
    assert seqs(store) == [10 * NOW_MS]
    assert store.audit().findings == ()
    store.close()


def test_a_copy_whose_state_is_older_than_its_log_catches_up(tmp_path: Path) -> None:
    """As a running backup makes it: the state first, then the segments, some of them newer than it knows."""
    original = tmp_path / "original"
    store = open_store(original, window_hours=2.5)
    add_hosts(store)
    fill(store, 2)
    store.close()
    shutil.copytree(original / "state", tmp_path / "state then")
    store = open_store(original, window_hours=2.5)
    for hours in (1, 2, 3):
        store.append(batch(item(0, 1 + hours, 9), item(hours, 0, 5), time_ms=NOW_MS + hours * 3_600_000))
    assert store.retain() == 1
    with store.view() as view:
        accounts, hosts = view.accounts("", 9), view.hosts(0, 9)
    floor, kept = store.tip().floor, seqs(store)
    store.close()
    shutil.rmtree(original / "state")
    shutil.move(tmp_path / "state then", original / "state")
    mark_restored(original / "state", settings())
    store = open_store(original)
    with store.view() as view:
        assert view.accounts("", 9) == accounts
        assert view.hosts(0, 9) == hosts
    assert store.tip().floor == floor
    assert seqs(store) == kept
    store.close()


def test_catching_up_with_a_long_log_needs_no_memory_for_all_of_it(tmp_path: Path) -> None:
    """A whole segment may have to be taken over: its effects are looked at a few at a time."""
    store = open_store(tmp_path / "data")
    add_hosts(store)
    store.close()
    shutil.copytree(tmp_path / "data" / "state", tmp_path / "state then")
    store = open_store(tmp_path / "data")
    status, appends = "x" * 30_000, 200  # a status that has no code is part of the row, and so of the effects
    for number in range(appends):
        store.append(batch(item(0, number, number, upstream_status=status)))
    store.close()
    shutil.rmtree(tmp_path / "data" / "state")
    shutil.move(tmp_path / "state then", tmp_path / "data" / "state")
    tracemalloc.start()
    store = open_store(tmp_path / "data")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.tip().seq == FIRST_SEQ + appends - 1
    assert peak < appends * len(status) / 4
    store.close()


def test_a_copy_whose_log_begins_beyond_its_state_is_corrupt(tmp_path: Path) -> None:
    """What the frames between did to the rows is lost, and no raise can make up for that."""
    store = open_store(tmp_path)
    add_hosts(store)
    fill(store, 2)
    store.close()
    shutil.copytree(tmp_path / "state", tmp_path.parent / "state then")
    store = open_store(tmp_path)
    for hours in (1, 2):
        store.append(batch(item(hours, 0, 5), time_ms=NOW_MS + hours * 3_600_000))
    store.close()
    shutil.rmtree(tmp_path / "state")
    shutil.move(tmp_path.parent / "state then", tmp_path / "state")
    shutil.rmtree(tmp_path / "log" / f"{FIRST_SEQ + 2:016d}")
    mark_restored(tmp_path / "state", settings())
    with pytest.raises(Corrupt, match="goes on with 1003"):
        open_store(tmp_path)


def test_a_log_that_lost_its_end_is_corrupt_until_it_is_marked(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    shutil.rmtree(copy / "log" / f"{FIRST_SEQ + 2:016d}")
    with pytest.raises(Corrupt):
        open_store(copy)
    mark_restored(copy / "state", settings())
    store = open_store(copy)
    assert store.window().raises == ((FIRST_SEQ + 1, FIRST_SEQ + 3), (FIRST_SEQ + 2, 10 * NOW_MS))
    store.append(batch(item(0, 3, 8)))
    assert seqs(store) == [FIRST_SEQ, FIRST_SEQ + 1, 10 * NOW_MS]
    assert seqs(store, FIRST_SEQ + 1) == [10 * NOW_MS]
    store.close()


def test_a_log_that_lost_its_start_is_corrupt(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    shutil.rmtree(copy / "log" / f"{FIRST_SEQ:016d}")
    with pytest.raises(Corrupt):
        open_store(copy)


def test_a_store_opened_for_reading_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add_hosts(store)
    fill(store, 2)
    store.close()
    before = {name: data for name, data in contents(tmp_path).items() if "lock.mdb" not in name}
    reading = Store.open(tmp_path, settings(), readonly=True)
    assert seqs(reading) == [FIRST_SEQ, FIRST_SEQ + 1]
    assert reading.audit().findings == ()
    with pytest.raises(NotWritable):
        reading.append(batch(item(0, 2, 3)))
    reading.close()
    assert {name: data for name, data in contents(tmp_path).items() if "lock.mdb" not in name} == before


def test_a_closed_store_refuses_all_use(store: Store) -> None:
    fill(store, 1)
    reader = store.reader()
    store.close()
    store.close()
    for use in (
        store.tip,
        store.poll,
        store.view().__enter__,
        lambda: store.append(batch()),
        store.stats,
        store.retain,
    ):
        with pytest.raises(StoreClosed):
            use()
    with pytest.raises(StoreClosed):
        reader.read(FIRST_SEQ - 1, 10)

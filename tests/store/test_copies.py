"""Copies: a backup is whole, marked and without a hole, or there is none; a rewritten state is the same and smaller."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relay.store.copies import CopyFailed, backup, compact
from relay.store.errors import Corrupt, LayoutMismatch, Restored
from relay.store.store import Store
from tests.store.batches import (
    FIRST_SEQ,
    NOW_MS,
    SEGMENT_FRAMES,
    add_hosts,
    batch,
    fill,
    item,
    open_store,
    seqs,
    settings,
    three_segments,
)

ROOT = Path(__file__).parents[2]
THIRD = FIRST_SEQ + 2 * SEGMENT_FRAMES
TIP = FIRST_SEQ + 3 * SEGMENT_FRAMES - 1


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_holds_what_the_original_held_and_is_raised_by_its_first_start(tmp_path: Path) -> None:
    three_segments(tmp_path / "data")

    made = backup(tmp_path / "data", tmp_path / "copies" / "copy", settings(), with_log=True)

    copy = tmp_path / "copies" / "copy"
    assert sorted(files_below(copy)) == [
        *(f"log/{FIRST_SEQ + number * SEGMENT_FRAMES:016d}/data.mdb" for number in range(3)),
        "state/data.mdb",
    ]
    assert made == (
        (copy / "state" / "data.mdb").stat().st_size,
        3,
        sum(file.stat().st_size for file in copy.glob("log/*/data.mdb")),
    )
    with pytest.raises(Restored):
        Store.open(copy, settings())
    store = Store.open(copy, settings(initial_seq=None), create=True, now_ms=NOW_MS)
    assert store.window().raises == ((TIP, 10 * NOW_MS),)
    assert seqs(store) == list(range(FIRST_SEQ, TIP + 1))
    assert store.audit().findings == ()
    store.close()


COPY = """
import sys
from pathlib import Path
from relay.store.copies import backup
from tests.store.batches import settings
backup(Path(sys.argv[1]), Path(sys.argv[2]), settings(), with_log=True)
"""


def test_backups_of_a_store_that_is_written_to_are_each_of_one_moment(tmp_path: Path) -> None:
    """Segments begin and end meanwhile; the log of a copy goes as far as its state or beyond, and is taken over."""
    store = open_store(tmp_path / "data", segment_bytes=200_000)
    add_hosts(store)
    fill(store, 10)
    for number in range(3):
        words = [sys.executable, "-c", COPY, str(tmp_path / "data"), str(tmp_path / f"copy {number}")]
        before = store.tip().seq
        with subprocess.Popen(words, cwd=ROOT) as copying:
            while copying.poll() is None:
                fill(store, 20, padding=2_000)
        assert copying.returncode == 0
        made = open_store(tmp_path / f"copy {number}", initial_seq=None)
        assert seqs(made) == list(range(FIRST_SEQ, made.window().raises[0].before_seq + 1))
        assert before <= made.window().raises[0].before_seq <= store.tip().seq
        assert made.audit().findings == ()
        made.close()
    assert len(list((tmp_path / "data" / "log").iterdir())) > 3
    store.close()


def test_a_backup_without_the_log_starts_with_an_empty_window(tmp_path: Path) -> None:
    three_segments(tmp_path / "data")

    assert backup(tmp_path / "data", tmp_path / "copy", settings(), with_log=False)[1:] == (0, 0)

    store = open_store(tmp_path / "copy", initial_seq=None)
    assert store.window()[:3] == (10 * NOW_MS, 0, 10 * NOW_MS - 1)
    with store.view() as view:
        assert len(view.accounts("", 100).accounts) == 3 * SEGMENT_FRAMES
    store.close()


def test_what_retention_took_meanwhile_takes_everything_older_with_it(tmp_path: Path) -> None:
    """Seqs of a copy have no hole: a segment in the middle that is gone says that those before are gone too."""
    _, _, second, _ = three_segments(tmp_path / "data")
    second.unlink()

    assert backup(tmp_path / "data", tmp_path / "copy", settings(), with_log=True).segments == 1

    store = open_store(tmp_path / "copy", initial_seq=None)
    assert seqs(store) == list(range(THIRD, TIP + 1))
    store.close()


def test_a_log_that_begins_above_its_state_is_no_copy(tmp_path: Path) -> None:
    """Retention came past the snapshot of the state: what the frames between did to the rows is nowhere."""
    store = open_store(tmp_path / "data")
    add_hosts(store)
    fill(store, 2)
    store.close()
    shutil.copytree(tmp_path / "data" / "state", tmp_path / "state")
    store = open_store(tmp_path / "data")
    for hours in (1, 2):
        store.append(batch(item(hours, 0, 5), time_ms=NOW_MS + hours * 3_600_000))
    store.close()
    shutil.rmtree(tmp_path / "data" / "state")
    shutil.move(tmp_path / "state", tmp_path / "data" / "state")
    (tmp_path / "data" / "log" / f"{FIRST_SEQ + 2:016d}" / "data.mdb").unlink()

    with pytest.raises(CopyFailed, match="--no-log"):
        backup(tmp_path / "data", tmp_path / "copy", settings(), with_log=True)

    assert list((tmp_path / "copy").iterdir()) == []


def limited(act: str, bytes_max: int, folder: Path, *arguments: object) -> str:
    """What is said of a function that may write no file beyond `bytes_max`."""
    script = (
        "import resource, sys; from tests.store.batches import *; from relay.store.copies import backup, compact;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_max}, {bytes_max})); {act}"
    )
    words = [sys.executable, "-c", script, str(folder), *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60).stderr


def test_a_backup_that_fails_leaves_nothing_and_its_place_can_be_used_again(tmp_path: Path) -> None:
    three_segments(tmp_path / "data")  # its state fits, the segments do not
    (tmp_path / "copy").mkdir()

    act = "backup(Path(sys.argv[1]), Path(sys.argv[2]), settings(), with_log=True)"
    said = limited(act, 60_000, tmp_path / "data", tmp_path / "copy")

    assert f"CopyFailed: {tmp_path / 'copy'}: " in said
    assert "DiskFull" in said
    assert list((tmp_path / "copy").iterdir()) == []
    assert backup(tmp_path / "data", tmp_path / "copy", settings(), with_log=True).segments == 3


def test_a_damaged_state_is_not_copied_as_if_it_were_sound(tmp_path: Path) -> None:
    state, *_ = three_segments(tmp_path / "data")
    with state.open("r+b") as data:
        data.truncate(3 * 4_096)

    with pytest.raises(Corrupt):
        backup(tmp_path / "data", tmp_path / "copy", settings(), with_log=True)
    with pytest.raises(Corrupt):
        compact(tmp_path / "data", settings())


ROWS = 2_000


def with_free_pages(folder: Path) -> Store:
    """A store whose state has many rows more than it needs room for."""
    store = open_store(folder)
    add_hosts(store)
    fill(store, 3)
    for number in range(ROWS):
        store.note_policy(f"budget/{number}", b"x" * 500)
    with store._state.writing() as txn:
        for number in range(ROWS):
            txn.delete(f"budget/{number}".encode(), db=store._state.env.db[b"policy"])
    return store


def test_a_compacted_state_is_smaller_and_the_same(tmp_path: Path) -> None:
    store = with_free_pages(tmp_path)
    with store.view() as view:
        accounts, hosts = view.accounts("", 9), view.hosts(0, 9)
    kept = seqs(store)
    store.close()
    (tmp_path / "state.new").mkdir()
    (tmp_path / "state.new" / "data.mdb").write_bytes(b"of one that was cut off")

    sizes = compact(tmp_path, settings())

    assert sizes.after == (tmp_path / "state" / "data.mdb").stat().st_size < sizes.before / 5
    assert not (tmp_path / "state.new").exists()
    store = Store.open(tmp_path, settings())
    with store.view() as view:
        assert (view.accounts("", 9), view.hosts(0, 9)) == (accounts, hosts)
    fill(store, 2, time_ms=NOW_MS + 9)
    assert seqs(store) == [*kept, kept[-1] + 1, kept[-1] + 2]
    assert store.window().raises == ()
    assert store.audit().findings == ()
    store.close()


@pytest.mark.parametrize("more", [0, 1])
def test_who_has_the_old_state_open_does_not_lead_new_ones_astray(tmp_path: Path, more: int) -> None:
    """Txns of the new file are counted from one; by the lock file of the old one every other number is of no txn."""
    original = with_free_pages(tmp_path)
    for _ in range(more):
        original.note_policy("budget", b"x")
    compact_elsewhere = "from relay.store.copies import compact; from tests.store.batches import *; import sys; "
    words = [sys.executable, "-c", compact_elsewhere + "compact(Path(sys.argv[1]), settings())", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, timeout=60)
    look = (
        "from tests.store.batches import *; import sys; store = Store.open(Path(sys.argv[1]), settings());"
        "fill(store, 1, time_ms=NOW_MS + 9); print(seqs(store), store.audit().findings)"
    )
    words = [sys.executable, "-c", look, str(tmp_path)]
    said = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    original.close()

    assert said == f"{[FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2, FIRST_SEQ + 3]} ()\n"


@pytest.mark.parametrize("act", [compact, lambda folder, log: backup(folder, folder / "x", log, with_log=True)])
def test_a_folder_that_is_no_relays_is_left_alone(tmp_path: Path, act: object) -> None:
    assert callable(act)
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(LayoutMismatch):
        act(tmp_path, settings())

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_state_that_does_not_fit_beside_itself_stays_as_it_is(tmp_path: Path) -> None:
    with_free_pages(tmp_path).close()
    before = files_below(tmp_path)

    assert "DiskFull" in limited("compact(Path(sys.argv[1]), settings())", 8_192, tmp_path)

    assert files_below(tmp_path) == before

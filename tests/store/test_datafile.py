"""Data files that were cut off are found out before LMDB maps them, and no other file is."""

import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import lmdb
import pytest

from relay.store.datafile import DATA_FILE, check_whole
from relay.store.env import Database
from relay.store.errors import Corrupt, LayoutMismatch
from relay.store.store import Store
from tests.store.batches import FIRST_SEQ, SEGMENT_FRAMES, open_store, seqs, settings, three_segments

ROOT = Path(__file__).parents[2]
PAGE_BYTES = 4_096
LOOKS = 1_000
PAGES_UNWRITTEN = 1_000  # by how many the file of `ending_early` is shorter than its last page says, at least


def opened(folder: Path) -> lmdb.Environment:
    return lmdb.open(str(folder), map_size=1 << 28, max_dbs=1, sync=False, lib_version=0)


def ending_early(folder: Path) -> Path:
    """A sound file that ends before the last page its meta page names: those behind were given back unwritten."""
    with opened(folder) as env:
        rows = env.open_db(b"rows")
        with env.begin(write=True) as txn:
            put(txn, rows, range(400), 300)
        for start in (100, 150, 200):
            with env.begin(write=True) as txn:
                delete(txn, rows, range(start, 300, 7))
        put_and_take_back(env, rows)
        return early_end(folder, env)


def ending_early_with_a_large_freelist(folder: Path) -> Path:
    """As before, with a freelist of several pages and a long list in it, since a reader holds on to what was freed."""
    with opened(folder) as env:
        rows = env.open_db(b"rows")
        with env.begin(write=True) as txn:
            put(txn, rows, range(2_000), 1_000)
            put(txn, rows, range(2_000, 2_600), 3_000)
        for number in range(3):
            with env.begin(write=True) as txn:
                delete(txn, rows, range(number, 2_000, 3))
        with env.begin():
            with env.begin(write=True) as txn:
                delete(txn, rows, range(2_000, 2_600, 2))
            for number in range(60):
                with env.begin(write=True) as txn:
                    put(txn, rows, [number], 100)
            put_and_take_back(env, rows)
        return early_end(folder, env)


def put(txn: lmdb.Transaction, rows: Database, numbers: Iterable[int], size: int) -> None:
    for number in numbers:
        txn.put(b"%05d" % number, b"x" * size, db=rows)


def delete(txn: lmdb.Transaction, rows: Database, numbers: Iterable[int]) -> None:
    for number in numbers:
        txn.delete(b"%05d" % number, db=rows)


def put_and_take_back(env: lmdb.Environment, rows: Database) -> None:
    """A value that finds no gap among the free pages, so that it is put at the end, and that is never written."""
    with env.begin(write=True) as txn:
        put(txn, rows, [1], 300)
        put(txn, rows, [99_999], PAGES_UNWRITTEN * PAGE_BYTES)
        delete(txn, rows, [99_999])


def early_end(folder: Path, env: lmdb.Environment) -> Path:
    file = folder / DATA_FILE
    assert file.stat().st_size // PAGE_BYTES + PAGES_UNWRITTEN <= env.info()["last_pgno"]
    return file


# For each length, a child reads all there is of a copy cut to it. Prints the lengths that this survives.
READ_EACH = """
import os, resource, shutil, signal, sys
from pathlib import Path
import lmdb
original, folder, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
size = original.stat().st_size
for cut in [*range(step, size, step), size]:
    shutil.copyfile(original, folder / "data.mdb")
    os.truncate(folder / "data.mdb", cut)
    child = os.fork()
    if not child:
        try:
            with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=1, lib_version=0) as env:
                with open(os.devnull, "wb") as sink:
                    env.copyfd(sink.fileno(), compact=True)
        except lmdb.Error:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(cut)
"""


@pytest.mark.parametrize(
    ("make", "step"), [(ending_early, PAGE_BYTES), (ending_early_with_a_large_freelist, 37 * PAGE_BYTES)]
)
def test_a_file_passes_if_and_only_if_all_of_it_can_be_read(tmp_path: Path, make: object, step: int) -> None:
    """What LMDB itself makes of the file, cut off at any page, is the judge."""
    assert callable(make)
    original: Path = make(tmp_path / "original")
    (tmp_path / "cut").mkdir()
    words = [sys.executable, "-c", READ_EACH, str(original), str(tmp_path / "cut"), str(step)]
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100).stdout
    readable = {int(line) for line in printed.split()}

    size = original.stat().st_size
    assert size in readable
    for cut in [*range(step, size, step), size]:
        file = tmp_path / "cut" / DATA_FILE
        shutil.copyfile(original, file)
        with file.open("r+b") as data:
            data.truncate(cut)
        assert passes(file) == (cut in readable), cut


def passes(file: Path) -> bool:
    try:
        check_whole(file)
    except Corrupt:
        return False
    return True


def test_a_page_that_is_there_in_part_is_missing(tmp_path: Path) -> None:
    file = three_segments(tmp_path)[-1]
    with file.open("r+b") as data:
        data.truncate(file.stat().st_size - 1)

    assert not passes(file)


def test_an_empty_file_and_none_at_all_were_ours_once(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    for name in ("empty", "none"):
        with pytest.raises(Corrupt, match=f"{tmp_path / name} "):
            check_whole(tmp_path / name)


def test_what_is_not_of_lmdb_is_for_others_to_judge(tmp_path: Path) -> None:
    for text in (b"x", b"something else" * 1_000):
        (tmp_path / "file").write_bytes(text)

        assert not check_whole(tmp_path / "file")


def test_a_file_of_another_format_is_not_ours_and_not_cut_off(tmp_path: Path) -> None:
    """Where the last page and the freelist lie in it we do not know."""
    file = three_segments(tmp_path)[0]
    with file.open("r+b") as data:
        for page in (0, 1):
            data.seek(page * PAGE_BYTES + 20)  # behind the header of a page and the magic number
            assert data.read(4) == b"\1\0\0\0"
            data.seek(page * PAGE_BYTES + 20)
            data.write(b"\2\0\0\0")
        data.truncate(3 * PAGE_BYTES)

    assert not check_whole(file)
    with pytest.raises(LayoutMismatch, match="of the format we read"):
        open_store(tmp_path)


def test_a_freelist_that_names_a_giant_list_costs_no_memory(tmp_path: Path) -> None:
    """A look may come upon a page that is being written; what stands in it is no reason to read gigabytes."""
    file = tmp_path / DATA_FILE
    pages, claimed_bytes = 1 << 17, 256 << 20
    meta = struct.pack("=16xII16xI36xQ48xQQ", 0xBEEFC0DE, 1, PAGE_BYTES, 2, pages + 5, 1)
    leaf = struct.pack("=10xHH2xH", 0x02, 18, 100).ljust(100, b"\0")
    leaf += struct.pack("=HHHH8xQ", claimed_bytes & 0xFFFF, claimed_bytes >> 16, 0x01, 8, 3)
    file.write_bytes(meta.ljust(2 * PAGE_BYTES, b"\0") + leaf.ljust(PAGE_BYTES, b"\0"))
    with file.open("r+b") as data:
        data.truncate(pages * PAGE_BYTES)
    assert file.stat().st_size > claimed_bytes

    tracemalloc.start()
    is_whole = passes(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert not is_whole
    assert peak < claimed_bytes / 10


def test_a_file_that_is_written_to_meanwhile_is_whole(tmp_path: Path) -> None:
    """Pages first, then the meta page: a look in between finds no fault, also where the freelist has to be read."""
    file = ending_early(tmp_path)
    with opened(tmp_path) as env:
        rows = env.open_db(b"rows")
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                put_and_take_back(env, rows)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            looks, before = 0, env.info()["last_txnid"]
            while looks < LOOKS or env.info()["last_txnid"] < before + LOOKS / 10:
                check_whole(file)
                assert file.stat().st_size // PAGE_BYTES <= env.info()["last_pgno"]
                looks += 1
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("number", range(4))
def test_a_start_names_the_file_that_was_cut_off_and_leaves_all_as_it_is(tmp_path: Path, number: int) -> None:
    files = three_segments(tmp_path)
    assert len(files) == 4
    with files[number].open("r+b") as data:
        data.truncate(3 * PAGE_BYTES)
    before = [file.read_bytes() for file in files]

    with pytest.raises(
        Corrupt, match=f"^{files[number]} was cut off, it has 12288 bytes .* put a whole copy of it back"
    ):
        open_store(tmp_path)

    assert [file.read_bytes() for file in files] == before


def test_a_worker_that_comes_to_a_segment_cut_off_meanwhile_says_so(tmp_path: Path) -> None:
    files = three_segments(tmp_path)
    with files[2].open("r+b") as data:
        data.truncate(3 * PAGE_BYTES)
    store = Store.open(tmp_path, settings())

    with pytest.raises(Corrupt, match=str(files[2])):
        seqs(store, FIRST_SEQ + SEGMENT_FRAMES - 1)
    store.close()

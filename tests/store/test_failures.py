"""When the disk says no: a clear error, nothing half-written, and a store that refuses further use."""

import errno
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from relay.store.batch import Batch, DropNote
from relay.store.env import store_error
from relay.store.errors import (
    Corrupt,
    DiskFull,
    EnvFailed,
    MapFull,
    NotWritable,
    StoreClosed,
    StoreError,
)
from relay.store.store import Store
from tests.store.batches import FIRST_SEQ, NOW_MS, add_hosts, batch, fill, item, mark, open_store, seqs

ROOT = Path(__file__).parents[2]


def in_a_process(script: str, *arguments: object) -> list[str]:
    """Run a script with limits of its own; its lines of output."""
    code = textwrap.dedent(script)
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_state_map_ends_the_store_and_leaves_what_was_there(tmp_path: Path) -> None:
    store = open_store(tmp_path, state_map_bytes=256 << 10)
    add_hosts(store)
    fill(store, 2)
    with pytest.raises(MapFull):
        store.append(batch(*(item(number, 0, number) for number in range(1, 3_000))))
    for use in (store.tip, lambda: store.append(batch()), store.view().__enter__):
        with pytest.raises(StoreClosed, match="MAP_FULL"):
            use()
    store.close()
    # The rows found no room, so the frames never passed their commit point.
    again = open_store(tmp_path, state_map_bytes=64 << 20)
    assert seqs(again) == [FIRST_SEQ, FIRST_SEQ + 1]
    assert again.audit().findings == ()
    assert again.append(batch(*(item(number, 0, number) for number in range(1, 3_000)))).refused == ()
    again.close()


FILL = """
    import resource, signal, sys
    from pathlib import Path
    from relay.store.errors import StoreError
    from tests.store.batches import *
    folder, limit = Path(sys.argv[1]), int(sys.argv[2])
    store = Store.open(folder, settings())
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = 0
    try:
        for number in range(10_000):
            store.append(batch(item(1, number, number, padding=30_000), item(2 + number, 0, number)))
            done += 1
    except StoreError as error:
        print(type(error).__name__, done)
    try:
        store.append(batch())
    except StoreError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("limit", [300_000, 1_000_000, 1_050_000])
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, limit: int) -> None:
    store = open_store(tmp_path)
    add_hosts(store)
    store.close()
    first, second = in_a_process(FILL, tmp_path, limit)
    assert first.startswith("DiskFull ")
    assert second == "StoreClosed"
    acknowledged = int(first.split()[1])
    again = open_store(tmp_path)
    assert seqs(again) == list(range(FIRST_SEQ, again.tip().seq + 1))
    assert again.tip().seq - FIRST_SEQ + 1 == 2 * acknowledged
    assert again.audit().findings == ()
    again.append(batch(item(1, acknowledged, 1)))
    again.close()


UNPRIVILEGED = """
    import os, sys
    from pathlib import Path
    from relay.store.errors import StoreError
    from tests.store.batches import *
    os.setgid(65534), os.setuid(65534)
    try:
        Store.open(Path(sys.argv[1]), settings(), create=True, now_ms=NOW_MS)
    except StoreError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="dropping privileges needs root")
@pytest.mark.parametrize("existing", [True, False])
def test_a_folder_that_cannot_be_written(tmp_path: Path, existing: bool) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    if existing:
        open_store(tmp_path).close()
    assert in_a_process(UNPRIVILEGED, tmp_path) == ["NotWritable"]


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EFBIG, DiskFull),
        (errno.EROFS, NotWritable),
        (errno.EACCES, NotWritable),
        (errno.EIO, EnvFailed),
    ],
)
def test_what_the_system_says_becomes_a_leaf_of_ours(code: int, leaf: type[StoreError]) -> None:
    assert type(store_error(OSError(code, os.strerror(code)))) is leaf


def test_a_hole_in_the_chunks_is_corrupt_and_not_skipped(tmp_path: Path) -> None:
    """Invariant 9: doubt about our own data ends the use of it."""
    store = open_store(tmp_path)
    add_hosts(store)
    fill(store, 3)
    with store._segments.borrowed(FIRST_SEQ, active=True) as env, env.begin(write=True) as txn:
        txn.delete((FIRST_SEQ + 1).to_bytes(8, "big"), db=env.db[b"effects"])
    with pytest.raises(Corrupt):
        seqs(store)
    store.close()


def test_a_segment_that_is_behind_its_state_is_corrupt(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add_hosts(store)
    fill(store, 3)
    with store._segments.borrowed(FIRST_SEQ, active=True) as env, env.begin(write=True) as txn:
        txn.delete((FIRST_SEQ + 2).to_bytes(8, "big"), db=env.db[b"effects"])
    with pytest.raises(Corrupt):
        store.append(batch(item(1, 0, 1)))
    store.close()


def test_an_error_of_the_caller_leaves_the_store_usable(store: Store) -> None:
    """Only the disk ends a store; an assertion about a batch rolls back and that is all."""
    with pytest.raises(AssertionError):
        store.append(batch(item(1, 0, 1, data=b"short")))
    assert store.append(batch(item(1, 0, 1))).tip_seq == FIRST_SEQ


@pytest.mark.parametrize(
    "wrong",
    [
        batch(item(1, 0, 1, host_id=99)),
        batch(item(1, 0, 1), marks=(mark(1, host_id=99),)),
        batch(item(1, 0, 1), notes=(DropNote(-1, None, "schema", "", "", 1, NOW_MS),)),
    ],
    ids=["the host of an account", "the host of a mark", "a note"],
)
def test_a_batch_that_cannot_be_applied_stays_before_the_commit_point(store: Store, wrong: Batch) -> None:
    """Behind it the batch would be taken over, and fail again, by every writer that comes."""
    with pytest.raises((AssertionError, struct.error)):
        store.append(wrong)
    assert store.append(batch(item(1, 0, 1))) == (FIRST_SEQ, FIRST_SEQ, ())
    assert seqs(store) == [FIRST_SEQ]
    assert store.audit().findings == ()

"""LMDB itself: opening an env with the right flags, txns, and the translation of its exceptions.

The only module that imports `lmdb`. Facts it takes care of: `lib_version=0` keeps the data format at 0.9.x whatever
the environment says; a process may not open an env twice; `put(append=True)` answers False instead of raising; a
sub-db handle opened in a read txn of ours would be lost with it, because a spare txn is reset and not committed; the
sync flags go together, since `metasync=False` lets a power cut undo the last commit (design section 3, "Durability").
Nothing here knows what the bytes mean.
"""

import errno
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import lmdb

from relay.store.datafile import DATA_FILE, check_whole
from relay.store.disk import inode_of
from relay.store.errors import (
    Corrupt,
    DiskFull,
    EnvFailed,
    MapFull,
    NotWritable,
    ReadersFull,
    StoreError,
)

LOCK_FILE = "lock.mdb"
READERS_MAX = 512  # slots in the lock file of an env: 64 bytes each, one for each read txn at a time

Txn = lmdb.Transaction
Database = lmdb._Database  # noqa: SLF001 -- the only name py-lmdb gives the type of a handle

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_BY_CLASS: tuple[tuple[type[lmdb.Error], type[StoreError]], ...] = (
    (lmdb.MapFullError, MapFull),
    (lmdb.ReadonlyError, NotWritable),
    (lmdb.ReadersFullError, ReadersFull),
    (lmdb.CorruptedError, Corrupt),
    (lmdb.PageNotFoundError, Corrupt),
    (lmdb.PanicError, Corrupt),
    (lmdb.InvalidError, Corrupt),
    (lmdb.VersionMismatchError, Corrupt),
    (lmdb.NotFoundError, Corrupt),
)


def store_error(error: lmdb.Error | OSError) -> StoreError:
    """The leaf of `StoreError` that says what an exception of LMDB or the operating system means."""
    code = error.code if isinstance(error, lmdb.Error) else error.errno
    if code in _FULL:
        return DiskFull(str(error))
    if code in _FORBIDDEN:
        return NotWritable(str(error))
    if code == errno.EIO and isinstance(error, lmdb.Error):
        # LMDB's name for a write that was cut short, and that is how a disk that becomes full shows itself first.
        return DiskFull(f"{error}: a write was cut short, the disk is full or failing")
    for foreign, ours in _BY_CLASS:
        if isinstance(error, foreign):
            return ours(str(error))
    return EnvFailed(str(error))


class Translated:
    """`with TRANSLATED:` turns exceptions of LMDB and the operating system into leaves of `StoreError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, lmdb.Error | OSError):
            raise store_error(error) from error


TRANSLATED = Translated()


class Env:
    """One open env and the handles of its sub-dbs, `db[b"name"]`. Never crosses a fork."""

    __slots__ = ("_env", "db", "inode", "path")

    def __init__(self, path: Path, env: lmdb.Environment, db: dict[bytes, Database]) -> None:
        self.path = path
        self.inode = inode_of(path / DATA_FILE)
        self._env = env
        self.db = db

    def begin(self, *, write: bool = False) -> "Txn[bytes]":
        """A txn that gives bytes. Waits for the write lock when `write`."""
        return self._env.begin(write=write)

    def begin_views(self) -> "Txn[memoryview]":
        """A read txn that gives memoryviews into the map, valid only until it ends."""
        return self._env.begin(buffers=True)

    def copy(self, descriptor: int) -> None:
        """Write it to a file as it is now, without its free pages: one read txn, however long that takes."""
        self._env.copyfd(descriptor, compact=True)

    def close(self) -> None:
        """Unmap it. No txn may be open in any thread."""
        self._env.close()

    def reader_check(self) -> int:
        """Free the slots of readers that died. Returns how many there were."""
        return self._env.reader_check()

    def readers(self) -> tuple[tuple[int, int], ...]:
        """`(pid, txn id)` of each read txn that is open now, in any process."""
        table = []
        for line in self._env.readers().splitlines():
            words = line.split()
            if len(words) == 3 and words[0].isdigit() and words[2].isdigit():
                table.append((int(words[0]), int(words[2])))
        return tuple(table)

    def map_bytes(self) -> int:
        """The address space reserved for it."""
        return self._env.info()["map_size"]

    def used_bytes(self) -> int:
        """What the data file would hold up to its last used page."""
        return (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]

    def free_pages(self) -> int:
        """Pages below the last used one that belong to no sub-db: the freelist and what it lists."""
        with self.begin() as txn:
            stats = [self._env.stat(), *(txn.stat(db=handle) for handle in self.db.values())]
        owned = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return max(0, self._env.info()["last_pgno"] + 1 - 2 - owned)


def open_env(
    path: Path,
    names: Iterable[bytes],
    *,
    map_bytes: int,
    sync: bool = True,
    readahead: bool = True,
    readonly: bool = False,
    lock: bool = True,
    check: bool = True,
) -> Env:
    """Open an env that exists, with its sub-dbs. Raises `StoreError`; `Corrupt` when a sub-db or a page is not there.

    `map_bytes` has to be the same in every process. `lock=False` takes no reader slot: for envs nobody writes any more.
    `check=False` is for who has just seen that the file is whole.
    """
    wanted = tuple(names)
    with TRANSLATED:
        if check:
            check_whole(path / DATA_FILE)
        env = _environment(path, len(wanted), map_bytes, sync=sync, readahead=readahead, readonly=readonly, lock=lock)
        try:
            handles = {name: env.open_db(name, create=False) for name in wanted}
        except BaseException:
            env.close()
            raise
    return Env(path, env, handles)


def create_env(path: Path, names: Iterable[bytes], *, map_bytes: int, sync: bool) -> Env:
    """Make a new env with empty sub-dbs in the empty or missing folder `path`. Raises `StoreError`."""
    wanted = tuple(names)
    with TRANSLATED:
        path.mkdir(exist_ok=True)
        env = _environment(path, len(wanted), map_bytes, sync=sync, readahead=True, readonly=False, lock=True)
        try:
            with env.begin(write=True) as txn:
                handles = {name: env.open_db(name, txn=txn) for name in wanted}
        except BaseException:
            env.close()
            raise
    return Env(path, env, handles)


def _environment(
    path: Path, dbs: int, map_bytes: int, *, sync: bool, readahead: bool, readonly: bool, lock: bool
) -> lmdb.Environment:
    return lmdb.Environment(
        str(path),
        map_size=map_bytes,
        max_dbs=dbs,
        max_readers=READERS_MAX,
        max_spare_txns=1,  # begin() then reuses a reset txn: 0.25 µs; a reset txn pins no pages
        sync=sync,
        metasync=sync,
        readahead=readahead,
        readonly=readonly,
        lock=lock,
        create=False,
        lib_version=0,
    )


def put_last(txn: "Txn[bytes]", database: Database, key: bytes, value: bytes) -> None:
    """Append a key that must be the greatest of its sub-db. Raises `Corrupt` when it is not."""
    if not txn.put(key, value, append=True, db=database):
        raise Corrupt(f"key {key.hex()} is not beyond the last one of its sub-db")

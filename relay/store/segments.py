"""Log segments as folders and envs: which there are, opening and closing them, making and removing one.

A segment is an LMDB env that is only ever appended to, in a folder named by the first seq that may be in it. Exactly
one is active; the others are sealed and never change, so they are opened without reader slots. Which one is active is
said by the state, never by the folder. A folder under a temporary name is not part of the log.
"""

import shutil
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

from relay.store.datafile import DATA_FILE, check_whole
from relay.store.disk import inode_of, sync_file, sync_folder
from relay.store.effects import Head, read_head
from relay.store.env import TRANSLATED, Env, create_env, open_env, put_last
from relay.store.errors import Corrupt, StoreClosed
from relay.store.layout import CHUNKS, EFFECTS, SEGMENT_DBS, u64, u64_of
from relay.store.settings import LogSettings

_NAME_DIGITS = 16
_NEW = ".new"
_REMOVED = ".removed"
_OPEN_MAX = 8
_ENTRIES_PER_TXN = 16
# One append of a batch of the largest frames, and the pages that small appends leave behind before a roll.
_MAP_BYTES_BEYOND = 1 << 30


Change: TypeAlias = Callable[[bytes, int, int], tuple[bytes, int]]
Entry: TypeAlias = tuple[int, bytes | None, bytes]


class SegmentInfo(NamedTuple):
    """What a segment holds. `first_seq` is of its first chunk, None without one (`last_seq` may then be of a raise)."""

    name: int
    first_seq: int | None
    first_time_ms: int
    last_seq: int
    last_time_ms: int
    bytes: int


class SegmentGone(LookupError):  # noqa: N818 -- internal to the store: retention was faster
    """The folder is not there."""


class _Open:
    __slots__ = ("doomed", "env", "users")

    def __init__(self, env: Env) -> None:
        self.env = env
        self.users = 0
        self.doomed = False


class Segments:
    """The folder `log/`. Names are ints: the first seq that a segment may hold. Thread-safe.

    `alone`: no other process works on it, so no lock file is needed. At most `open_max` are open beside those in use.
    """

    def __init__(
        self, folder: Path, settings: LogSettings, *, readonly: bool, alone: bool = False, open_max: int = _OPEN_MAX
    ) -> None:
        self._folder = folder
        self._readonly = readonly
        self._alone = alone
        self._open_max = open_max
        self._sync = settings.sync
        self._map_bytes = settings.segment_bytes + _MAP_BYTES_BEYOND
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}
        self._names: tuple[int, ...] = ()
        self._infos: dict[int, SegmentInfo] = {}
        self._closed = False

    def path(self, name: int) -> Path:
        """Where a segment lies, or would."""
        return self._folder / f"{name:0{_NAME_DIGITS}d}"

    def names(self) -> tuple[int, ...]:
        """All segments on the disk, oldest first."""
        with TRANSLATED:
            found = [path.name for path in self._folder.iterdir()]
        self._names = tuple(sorted(int(name) for name in found if len(name) == _NAME_DIGITS and name.isdigit()))
        return self._names

    def check_whole(self) -> None:
        """Raise `Corrupt` for a segment whose file is not all there; for a start, before any consumer comes to it."""
        with TRANSLATED:
            for name in self.names():
                check_whole(self.path(name) / DATA_FILE)

    def holding(self, seq: int, active: int) -> tuple[int, ...]:
        """The segment that holds `seq` if any does, and those after it up to the active one."""
        names = self._names
        if not names or names[-1] < active or seq < names[0]:
            names = self.names()
        return names[max(0, bisect_right(names, seq) - 1) : bisect_right(names, active)]

    def exists(self, name: int) -> bool:
        """Whether it has a folder, without looking when it is open here."""
        return name in self._open or self.path(name).is_dir()

    @contextmanager
    def borrowed(self, name: int, *, active: bool) -> Iterator[Env]:
        """The open env of a segment; it stays open for the block. Raises `SegmentGone`, `StoreError`."""
        held = self._take(name, active=active)
        try:
            yield held.env
        finally:
            with self._lock:
                held.users -= 1
                if held.doomed and not held.users:
                    self._open.pop(name).env.close()

    def _take(self, name: int, *, active: bool) -> _Open:
        with self._lock:
            if self._closed:
                raise StoreClosed("the store was closed")
            held = self._open.pop(name, None)
            if held is not None and not held.users and self._is_replaced(held):
                held.env.close()
                held = None
            if held is None:
                self._close_idle()
                held = _Open(self._open_env(name, active=active))
            self._open[name] = held  # again at the end: the order is that of last use
            held.users += 1
            return held

    def _is_replaced(self, held: _Open) -> bool:
        """Whether a purge has put another file in the place of the one that is open."""
        return inode_of(held.env.path / DATA_FILE) not in (0, held.env.inode)

    def _open_env(self, name: int, *, active: bool) -> Env:
        path = self.path(name)
        if not (path / DATA_FILE).exists():
            raise SegmentGone(name)
        return open_env(
            path,
            SEGMENT_DBS,
            map_bytes=self._map_bytes,
            sync=self._sync,
            readonly=self._readonly or not active,
            lock=active and not self._alone,
        )

    def _close_idle(self) -> None:
        idle = [name for name, held in self._open.items() if not held.users]
        for name in idle[: max(0, len(self._open) + 1 - self._open_max)]:
            self._open.pop(name).env.close()

    def forget_below(self, seq: int) -> None:
        """Close what was removed: segments that are followed by one named `seq` or lower. Frees their disk space."""
        with self._lock:
            for name, following in pairwise(sorted({*self._open, *self._names})):
                if following <= seq:
                    self._doom(name)
            for name, info in list(self._infos.items()):
                if info.last_seq < seq:
                    del self._infos[name]

    def _doom(self, name: int) -> None:
        """Close it with its last user. Until then it stays in the table: a process may not open an env twice."""
        held = self._open.get(name)
        if held is not None:
            held.doomed = True
            if not held.users:
                self._open.pop(name).env.close()

    def create(self, name: int) -> None:
        """Make an empty segment: complete under a temporary name first, then renamed. Call it under the state lock."""
        path = self.path(name)
        unfinished = path.with_suffix(_NEW)
        with TRANSLATED:
            shutil.rmtree(unfinished, ignore_errors=True)
            create_env(unfinished, SEGMENT_DBS, map_bytes=self._map_bytes, sync=self._sync).close()
            if self._sync:
                sync_folder(unfinished)
            unfinished.rename(path)
            if self._sync:
                sync_folder(self._folder)

    def append(self, name: int, entries: list[Entry]) -> None:
        """Commit chunks and effects, `(first seq, chunk or None, effects)` in order. The commit point of an append."""
        with self.borrowed(name, active=True) as env, TRANSLATED, env.begin(write=True) as txn:
            for seq, chunk, effects in entries:
                key = u64(seq)
                if chunk is not None:
                    put_last(txn, env.db[CHUNKS], key, chunk)
                put_last(txn, env.db[EFFECTS], key, effects)

    def last_head(self, name: int) -> Head | None:
        """Head of the newest entry of the active segment, None in an empty one. For the holder of the state's lock.

        By a write txn, which changes nothing: a read txn goes by what the last writer told the others, and one that was
        killed between its commit and that word did not tell. Only taking its lock over finds what it committed.
        """
        with self.borrowed(name, active=True) as env, TRANSLATED, env.begin(write=True) as txn:
            cursor = txn.cursor(db=env.db[EFFECTS])
            return read_head(cursor.value()) if cursor.last() else None

    def used_bytes(self, name: int) -> int:
        """How much of the active segment is used."""
        with self.borrowed(name, active=True) as env, TRANSLATED:
            return env.used_bytes()

    def info(self, name: int, *, active: bool) -> SegmentInfo:
        """What a segment holds. Raises `SegmentGone`, `StoreError`."""
        known = self._infos.get(name)
        if known is not None:
            return known
        with self.borrowed(name, active=active) as env, TRANSLATED, env.begin_views() as txn:
            chunks, effects = txn.cursor(db=env.db[CHUNKS]), txn.cursor(db=env.db[EFFECTS])
            first = u64_of(chunks.key()) if chunks.first() else None
            last = read_head(effects.value()) if effects.last() else Head(0, name - 1)
            if first is not None and not effects.set_key(u64(first)):
                raise Corrupt(f"chunk {first} has no effects")
            first_time_ms = read_head(effects.value()).time_ms if first is not None else 0
            size = (env.path / DATA_FILE).stat().st_size
        info = SegmentInfo(name, first, first_time_ms, last.last_seq, last.time_ms, size)
        if not active:
            self._infos[name] = info
        return info

    def rewrite(self, name: int, change: Change) -> int:
        """Put a changed copy in the place of a sealed segment's file. Returns how many messages changed.

        `change` gets a chunk and its first seq and time, and answers the chunk as it shall be and how many messages
        differ. The copy is complete and on the disk before it takes the place, in one step: who has the old file open
        goes on with it until it is opened anew. Nothing happens when nothing differs.
        """
        folder = self.path(name).with_suffix(_NEW)
        with TRANSLATED:
            shutil.rmtree(folder, ignore_errors=True)
            copy = create_env(folder, SEGMENT_DBS, map_bytes=self._map_bytes, sync=False)
        changed = 0
        try:
            for entries in self.entries(name, active=False):
                with TRANSLATED, copy.begin(write=True) as txn:
                    for seq, chunk, effects in entries:
                        if chunk is not None:
                            chunk, count = change(chunk, seq, read_head(effects).time_ms)  # noqa: PLW2901 -- the same chunk
                            changed += count
                            put_last(txn, copy.db[CHUNKS], u64(seq), chunk)
                        put_last(txn, copy.db[EFFECTS], u64(seq), effects)
        finally:
            copy.close()
        if changed:
            self._replace(name, folder)
        with TRANSLATED:
            shutil.rmtree(folder)
        return changed

    def _replace(self, name: int, folder: Path) -> None:
        with TRANSLATED:
            if self._sync:
                sync_file(folder / DATA_FILE)
            (folder / DATA_FILE).replace(self.path(name) / DATA_FILE)
            if self._sync:
                sync_folder(self.path(name))
        self._infos.pop(name, None)

    def entries(
        self, name: int, *, active: bool, after_seq: int = 0, with_chunks: bool = True
    ) -> Iterator[list[Entry]]:
        """`(first seq, chunk or None, effects)` behind `after_seq`, in order, a few at a time: each list is one txn."""
        while True:
            with self.borrowed(name, active=active) as env, TRANSLATED, env.begin() as txn:
                cursor = txn.cursor(db=env.db[EFFECTS])
                found = cursor.set_range(u64(after_seq + 1))
                some: list[Entry] = []
                while found and len(some) < _ENTRIES_PER_TXN:
                    key, effects = cursor.item()
                    some.append((u64_of(key), txn.get(key, db=env.db[CHUNKS]) if with_chunks else None, effects))
                    found = cursor.next()
            if not some:
                return
            after_seq = some[-1][0]
            yield some

    def rename_away(self, name: int) -> None:
        """Take a sealed segment out of the log; `sweep` deletes it."""
        with self._lock:
            self._doom(name)
        self._infos.pop(name, None)
        with TRANSLATED:
            self.path(name).rename(self.path(name).with_suffix(_REMOVED))

    def sweep(self, *, unfinished: bool = False) -> None:
        """Delete segments that were renamed away; with `unfinished` (no other process at work) half-made ones too."""
        with TRANSLATED:
            for path in sorted(self._folder.iterdir()):
                if path.suffix == _REMOVED or (unfinished and path.suffix == _NEW):
                    shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Close every env; those in use follow when they are given back."""
        with self._lock:
            self._closed = True
            for name in list(self._open):
                self._doom(name)

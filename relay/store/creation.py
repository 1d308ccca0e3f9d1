"""The first moments of a data folder: is it ours, making a new one, and what a start or a restored copy needs.

Nothing is touched before the layout version was read. Creation is complete under a temporary name before it counts.
Time comes in as an argument.
"""

from pathlib import Path

from relay.protocol.limits import SEQ_MAX
from relay.store.datafile import DATA_FILE, check_whole
from relay.store.disk import sync_folder
from relay.store.effects import Head
from relay.store.env import LOCK_FILE, TRANSLATED, Txn, create_env, open_env
from relay.store.errors import Corrupt, LayoutMismatch, Restored
from relay.store.heal import catch_up, check_reaches, raise_seq, take_over, with_floor
from relay.store.layout import (
    FOLDERS_BEFORE_CREATION,
    LAYOUT_VERSION,
    LOG_FOLDER,
    META,
    META_LAYOUT,
    META_RESTORED,
    STATE_DBS,
    STATE_FOLDER,
    STATE_UNFINISHED,
    LogRow,
    Raise,
    read_log_row,
    read_raises,
    write_log_row,
    write_raises,
)
from relay.store.segments import Segments
from relay.store.settings import LogSettings
from relay.store.state import State

SEQS_PER_MS = 10
# How far a restored copy goes beyond its own tip at least, should the clock say less: a day at 10,000 events a second.
_RESTORED_SEQS_MIN = 1_000_000_000
_MAP_BYTES_TO_LOOK = 1 << 40  # addresses only: beyond what a state may grow to between opening and reading it


def is_ours(data_dir: Path, *, alone: bool = False) -> bool:
    """True for a folder of this layout, False where one may be created. Raises `LayoutMismatch` for anything else, and
    `Corrupt` for a state that is not all there or has no log.

    Nothing is written but, unless `alone` (no other process works on the folder), a reader's slot in the lock file of
    an LMDB env that has one: without a slot a commit of somebody else can replace the very pages that are looked at.
    """
    with TRANSLATED:
        if not data_dir.exists():
            return False
        if not data_dir.is_dir():
            raise LayoutMismatch(f"{data_dir} is not a folder")
        if (data_dir / STATE_FOLDER / DATA_FILE).exists():
            _check_version(data_dir / STATE_FOLDER, alone=alone)
            if not (data_dir / LOG_FOLDER).is_dir():
                raise Corrupt(f"{data_dir} has a state without its log")
            return True
        strangers = {entry.name for entry in data_dir.iterdir()} - FOLDERS_BEFORE_CREATION
        if strangers:
            raise LayoutMismatch(f"{data_dir} holds {', '.join(sorted(strangers)[:3])} and is not a relay's")
        if (data_dir / LOG_FOLDER).exists() and any((data_dir / LOG_FOLDER).iterdir()):
            raise LayoutMismatch(f"{data_dir} has a log without its state")
        return False


def _check_version(folder: Path, *, alone: bool) -> None:
    if not check_whole(folder / DATA_FILE):
        raise LayoutMismatch(f"{folder} is not a relay's: its {DATA_FILE} is not an LMDB file of the format we read")
    lock = not alone and (folder / LOCK_FILE).exists()
    try:
        env = open_env(folder, (META,), map_bytes=_MAP_BYTES_TO_LOOK, readonly=True, lock=lock, check=False)
    except Corrupt as error:
        raise LayoutMismatch(f"{folder} is not a relay's: {error}") from error
    try:
        with TRANSLATED, env.begin() as txn:
            found = txn.get(META_LAYOUT, db=env.db[META])
    finally:
        env.close()
    if found is None:
        raise LayoutMismatch(f"{folder} is not a relay's: it names no layout")
    if found != LAYOUT_VERSION:
        theirs, ours = (name.decode("ascii", "backslashreplace") for name in (found, LAYOUT_VERSION))
        raise LayoutMismatch(
            f"{folder} was written by another version of the relay: its layout is '{theirs}', this one reads '{ours}'"
        )


def create(data_dir: Path, settings: LogSettings, now_ms: int | None) -> None:
    """Make the folders of an empty relay. The first segment is made by the first catch-up. Raises `StoreError`."""
    first_seq = settings.initial_seq
    if first_seq is None:
        assert now_ms is not None, "initial_seq auto needs the time"
        first_seq = SEQS_PER_MS * now_ms
    assert 1 <= first_seq < SEQ_MAX, first_seq
    with TRANSLATED:
        (data_dir / LOG_FOLDER).mkdir(parents=True, exist_ok=True)
        unfinished = data_dir / STATE_UNFINISHED
        if unfinished.exists():
            for path in unfinished.iterdir():
                path.unlink()
        env = create_env(unfinished, STATE_DBS, map_bytes=settings.state_map_bytes, sync=True)
        try:
            with env.begin(write=True) as txn:
                txn.put(META_LAYOUT, LAYOUT_VERSION, db=env.db[META])
                write_log_row(env, txn, LogRow(first_seq - 1, 0, first_seq, 0, first_seq, 0))
        finally:
            env.close()
        sync_folder(unfinished)
        unfinished.rename(data_dir / STATE_FOLDER)
        sync_folder(data_dir)


def mark_restored(folder: Path, settings: LogSettings) -> LogRow:
    """Mark the state of a copy, which nobody works on, so that its first start raises the sequence above all that its
    original may have issued. Returns how the log stands in it.
    """
    env = open_env(folder, (META,), map_bytes=settings.state_map_bytes, lock=False)
    try:
        with TRANSLATED, env.begin(write=True) as txn:
            txn.put(META_RESTORED, b"1", db=env.db[META])
            return read_log_row(env, txn)
    finally:
        env.close()


def recover(state: State, segments: Segments, txn: "Txn[bytes]") -> None:
    """What a worker does when it opens the store: heal an append that was cut off. Raises `Restored`, `StoreError`."""
    if txn.get(META_RESTORED, db=state.env.db[META]) is not None:
        raise Restored("this is a restored copy: it has to be started as a relay first")
    catch_up(state, segments, txn)


def start(state: State, segments: Segments, settings: LogSettings, txn: "Txn[bytes]", now_ms: int | None) -> None:
    """What the start of a relay does, alone on the folder: heal, raise a restored copy, apply a numeric initial seq."""
    is_restored = txn.get(META_RESTORED, db=state.env.db[META]) is not None
    row = _adopt(state, segments, txn, is_restored=is_restored)
    row = catch_up(state, segments, txn)
    if is_restored:
        if now_ms is None:
            raise Restored("this is a restored copy: raising its seqs needs the time")
        first_seq = max(SEQS_PER_MS * now_ms, row.applied_seq + _RESTORED_SEQS_MIN)
        row = raise_seq(state, segments, txn, row, first_seq - 1)
        txn.delete(META_RESTORED, db=state.env.db[META])
    if settings.initial_seq is not None:
        raise_seq(state, segments, txn, row, settings.initial_seq - 1)


def look(data_dir: Path, settings: LogSettings) -> None:
    """Raise the `StoreError` that a start would end with, without changing anything; no process may be at work there.

    Beyond that, every segment has to be readable at its first and last entry. What is left to the start itself are the
    effects of segments that a copy's state does not know yet.
    """
    if not is_ours(data_dir, alone=True):
        return
    segments = Segments(data_dir / LOG_FOLDER, settings, readonly=True)
    segments.check_whole()
    env = open_env(data_dir / STATE_FOLDER, STATE_DBS, map_bytes=_MAP_BYTES_TO_LOOK, readonly=True, lock=False)
    try:
        with TRANSLATED, env.begin() as txn:
            row = read_log_row(env, txn)
            is_restored = txn.get(META_RESTORED, db=env.db[META]) is not None
        ends = {name: segments.info(name, active=False).last_seq for name in segments.names()}
    finally:
        segments.close()
        env.close()
    if not is_restored:
        _check_begins(row, tuple(ends))
        check_reaches(row, ends.get(row.active))


def _adopt(state: State, segments: Segments, txn: "Txn[bytes]", *, is_restored: bool) -> LogRow:
    """Take in segments that are newer than the state, as in a copy whose state was taken first."""
    row = read_log_row(state.env, txn)
    names = segments.names()
    last = Head(0, row.active - 1)
    for name in names:
        if name >= row.active:
            row = row if name == row.active else row._replace(active=name, active_time_ms=0)
            row = take_over(state, segments, txn, row, name)
            last = segments.last_head(name) or Head(0, name - 1)
    if is_restored:
        row = _without_gap(state, segments, txn, row, last.last_seq)
    else:
        _check_begins(row, names)
    write_log_row(state.env, txn, row)
    return row


def _check_begins(row: LogRow, names: tuple[int, ...]) -> None:
    """Raise `Corrupt` when the log begins above its floor."""
    if names and names[0] > row.floor_seq:
        raise Corrupt(f"the log starts at {names[0]}, its floor is {row.floor_seq}")


def _without_gap(state: State, segments: Segments, txn: "Txn[bytes]", row: LogRow, log_tip: int) -> LogRow:
    """In a copy the log may end before the state, or be missing: what is missing is recorded as a raise."""
    names = segments.names()
    if log_tip < row.applied_seq:
        if names:
            write_raises(state.env, txn, (*read_raises(state.env, txn), Raise(log_tip, row.applied_seq + 1)))
        row = row._replace(active=row.applied_seq + 1, active_time_ms=0)
    return with_floor(segments, row, names)

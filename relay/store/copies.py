"""Copies of a store: all of it while it is in use, and its state alone, rewritten in its place.

A backup is the state as one snapshot first, then the segments, so the log of a copy goes as far as its state or beyond.
It is marked: the original goes on issuing seqs, so the first start of a copy raises its own above them (`creation`).
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from relay.store.creation import is_ours, mark_restored
from relay.store.datafile import DATA_FILE
from relay.store.disk import sync_file, sync_folder
from relay.store.env import LOCK_FILE, TRANSLATED, Env, open_env
from relay.store.errors import Corrupt, LayoutMismatch, StoreError
from relay.store.layout import LOG_FOLDER, META, STATE_DBS, STATE_FOLDER, STATE_UNFINISHED, read_log_row
from relay.store.segments import SegmentGone, Segments
from relay.store.settings import LogSettings


class CopyFailed(Exception):  # noqa: N818 -- of the place of a copy, not of the store, which is well
    """A copy could not be made to its end; nothing of it is left. The message says why."""


class Copied(NamedTuple):
    """What a copy holds."""

    state_bytes: int
    segments: int
    log_bytes: int


class Sizes(NamedTuple):
    """Bytes of the state's file."""

    before: int
    after: int


def backup(data_dir: Path, place: Path, settings: LogSettings, *, with_log: bool) -> Copied:
    """Copy the store, which may be in use, to `place`, a missing or empty folder.

    The state is one read txn: while it is copied, pages that a running relay replaces are kept. Raises `StoreError`
    when the store cannot be read, `CopyFailed`.
    """
    if not is_ours(data_dir):
        raise LayoutMismatch(f"{data_dir} holds no relay")
    state = open_env(
        data_dir / STATE_FOLDER, STATE_DBS, map_bytes=settings.state_map_bytes, readahead=False, readonly=True
    )
    segments = Segments(data_dir / LOG_FOLDER, settings, readonly=True)
    try:
        return _backup(state, segments if with_log else None, place, settings)
    except Corrupt:
        raise
    except StoreError as error:
        raise CopyFailed(f"{place}: {error}") from error
    finally:
        segments.close()
        state.close()


def _backup(state: Env, segments: Segments | None, place: Path, settings: LogSettings) -> Copied:
    """The state gets its name last: without it a folder with a log is nothing that a relay would start on."""
    log, unfinished = place / LOG_FOLDER, place / STATE_UNFINISHED
    with TRANSLATED:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            log.mkdir()
            unfinished.mkdir()
            _copy_env(state, unfinished)
            row = mark_restored(unfinished, settings)
            state_bytes = (unfinished / DATA_FILE).stat().st_size
            sizes = _copy_log(state, segments, log, row.applied_seq) if segments is not None else []
            sync_folder(unfinished)
            sync_folder(log)
            unfinished.rename(place / STATE_FOLDER)
            sync_folder(place)
        except BaseException:
            shutil.rmtree(log, ignore_errors=True)
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return Copied(state_bytes, len(sizes), sum(sizes))


def _copy_log(state: Env, segments: Segments, log: Path, applied_seq: int) -> list[int]:
    """The bytes of each segment copied, newest first: retention takes the oldest, so no hole can come in between."""
    with state.begin() as txn:
        active = read_log_row(state, txn).active
    names = segments.names()
    sizes: list[int] = []
    for name in reversed(names):
        folder = log / segments.path(name).name
        try:
            _copy_segment(segments, name, folder, active=name >= active)
        except SegmentGone:
            break
        sizes.append((folder / DATA_FILE).stat().st_size)
    if names and (not sizes or names[-len(sizes)] > applied_seq + 1):
        raise CopyFailed("retention was faster than the copy, which has a hole between state and log; make it --no-log")
    return sizes


def _copy_segment(segments: Segments, name: int, folder: Path, *, active: bool) -> None:
    """Raises `SegmentGone`, with nothing left behind. A sealed segment is a file that does not change any more."""
    if active:
        with segments.borrowed(name, active=True) as env:
            folder.mkdir()
            _copy_env(env, folder)
    else:
        folder.mkdir()
        try:
            shutil.copyfile(segments.path(name) / DATA_FILE, folder / DATA_FILE)
        except FileNotFoundError:
            folder.rmdir()
            raise SegmentGone(name) from None
        sync_file(folder / DATA_FILE)
    sync_folder(folder)


def _copy_env(env: Env, folder: Path) -> None:
    """To a file of ours: LMDB would write past the page cache, where a full disk is told as an invalid argument."""
    with (folder / DATA_FILE).open("xb") as file:
        env.copy(file.fileno())
        os.fsync(file.fileno())


def compact(data_dir: Path, settings: LogSettings) -> Sizes:
    """Rewrite the state without the pages that are free in it; no process may be at work on the folder.

    The new file is complete and on the disk before it takes the place of the old one. Raises `StoreError`.
    """
    if not is_ours(data_dir, alone=True):
        raise LayoutMismatch(f"{data_dir} holds no relay")
    folder, unfinished = data_dir / STATE_FOLDER, data_dir / STATE_UNFINISHED
    with TRANSLATED:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            state = open_env(folder, (META,), map_bytes=settings.state_map_bytes, readonly=True, lock=False)
            try:
                _copy_env(state, unfinished)
            finally:
                state.close()
            return _take_place(folder / DATA_FILE, unfinished / DATA_FILE)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _take_place(old: Path, new: Path) -> Sizes:
    """The lock file goes first: it names the last txn of the old file, and those of the new one are counted anew."""
    sizes = Sizes(old.stat().st_size, new.stat().st_size)
    shutil.copymode(old, new)
    shutil.chown(new, old.stat().st_uid, old.stat().st_gid)
    (old.parent / LOCK_FILE).unlink(missing_ok=True)
    new.replace(old)
    sync_folder(old.parent)
    return sizes

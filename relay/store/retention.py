"""Letting the oldest segments go: by age against the newest chunk, and by bytes.

The floor moves first, in the state; then the folder is renamed away and deleted, outside the lock, because that takes
a second a GB. Cut off at any point, nothing is visible below the floor, and the next pass finishes the work. The active
segment always stays.
"""

from typing import NamedTuple

from relay.store.heal import catch_up, with_floor
from relay.store.layout import LogRow, read_raises, write_log_row, write_raises
from relay.store.segments import SegmentInfo, Segments
from relay.store.settings import LogSettings
from relay.store.state import State

_HOUR_MS = 3_600_000


class StoreStats(NamedTuple):
    """Sizes for metrics. `readers` are `(pid, txn id)` of the state's open read txns."""

    log_bytes: int
    segments: int
    state_bytes: int
    state_map_bytes: int
    state_free_pages: int
    readers: tuple[tuple[int, int], ...]


def retain(state: State, segments: Segments, settings: LogSettings, *, by_time: bool) -> int:
    """Remove every segment that is out of the window. Returns how many. Raises `StoreError`."""
    removed = 0
    while _remove_oldest(state, segments, settings, by_time=by_time):
        removed += 1
    segments.sweep()
    return removed


def _remove_oldest(state: State, segments: Segments, settings: LogSettings, *, by_time: bool) -> bool:
    with state.writing() as txn:
        row = catch_up(state, segments, txn)
        sealed = [name for name in segments.names() if name < row.active]
        if not sealed:
            return False
        oldest = segments.info(sealed[0], active=False)
        if oldest.last_seq >= row.floor_seq:  # else: left over by a pass that was cut off
            if not _is_out(segments, settings, row, oldest, by_time=by_time):
                return False
            row = with_floor(segments, row, (*sealed[1:], row.active))
            write_log_row(state.env, txn, row)
            raises = read_raises(state.env, txn)
            write_raises(state.env, txn, tuple(jump for jump in raises if jump.after_seq >= row.floor_seq))
    state.on_step("floor_moved")
    segments.rename_away(oldest.name)
    state.on_step("segment_renamed")
    return True


def _is_out(segments: Segments, settings: LogSettings, row: LogRow, oldest: SegmentInfo, *, by_time: bool) -> bool:
    if by_time and row.time_ms - oldest.last_time_ms > settings.window_hours * _HOUR_MS:
        return True
    return 0 < settings.window_bytes < log_bytes(segments, row)[0]


def log_bytes(segments: Segments, row: LogRow) -> tuple[int, int]:
    """Bytes and number of the segments on the disk."""
    names = [name for name in segments.names() if name <= row.active]
    return sum(segments.info(name, active=name == row.active).bytes for name in names), len(names)

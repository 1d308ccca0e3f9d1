"""Keeping the state level with the log, and moving the sequence: what every writer does under the lock first.

An append commits its segment first and the state second; whoever takes the lock next applies what was left between the
two (design section 3). The same walk takes in the segments of a copy whose state is older than its log.
"""

from collections.abc import Iterable
from itertools import chain

from relay.protocol.limits import SEQ_MAX
from relay.store.effects import Effects, Head, apply_effects, pack_entry, unpack_entry
from relay.store.env import Txn
from relay.store.errors import Corrupt
from relay.store.layout import (
    LogRow,
    Raise,
    read_log_row,
    read_raises,
    write_log_row,
    write_raises,
)
from relay.store.segments import Segments
from relay.store.state import State


def catch_up(state: State, segments: Segments, txn: "Txn[bytes]") -> LogRow:
    """Bring the state up to the log, under the lock. Raises `Corrupt` when the log is behind the state."""
    row = read_log_row(state.env, txn)
    if not segments.exists(row.active):
        check_reaches(row, None)
        segments.create(row.active)
        state.on_step("segment_created")
    head = segments.last_head(row.active)
    tip_seq = head.last_seq if head is not None else row.active - 1
    check_reaches(row, tip_seq)
    if tip_seq == row.applied_seq:
        return row
    return take_over(state, segments, txn, row, row.active)


def check_reaches(row: LogRow, tip_seq: int | None) -> None:
    """Raise `Corrupt` when the log, ending at `tip_seq`, is behind its state; None: it has no active segment."""
    if tip_seq is None and row.applied_seq >= row.active:
        raise Corrupt(f"the state goes to {row.applied_seq}, but segment {row.active} is missing")
    if tip_seq is not None and tip_seq < row.applied_seq:
        raise Corrupt(f"the log ends at {tip_seq}, its state at {row.applied_seq}")


def take_over(state: State, segments: Segments, txn: "Txn[bytes]", row: LogRow, name: int) -> LogRow:
    """Apply what segment `name` holds beyond `row.applied_seq`. Returns the row, written."""
    entries = segments.entries(name, active=True, after_seq=row.applied_seq, with_chunks=False)
    for seq, _, entry in chain.from_iterable(entries):
        head, effects = unpack_entry(entry)
        if effects.raised_from is not None:
            row = _jumped(state, txn, row, head.last_seq)
        elif seq != row.applied_seq + 1:
            raise Corrupt(f"after {row.applied_seq} the log goes on with {seq}")
        else:
            row = grown(row, head.last_seq, head.time_ms)
        apply_effects(state.env, txn, effects)
    write_log_row(state.env, txn, row)
    return row


def raise_seq(state: State, segments: Segments, txn: "Txn[bytes]", row: LogRow, tip_seq: int) -> LogRow:
    """Let the log go on behind `tip_seq`: a recorded raise. Does nothing when the log is there already."""
    if tip_seq <= row.applied_seq:
        return row
    if tip_seq >= SEQ_MAX:
        raise Corrupt(f"the sequence cannot be raised to {tip_seq}")
    effects = Effects(raised_from=row.applied_seq)
    segments.append(row.active, [(tip_seq, None, pack_entry(Head(row.time_ms, tip_seq), effects))])
    state.on_step("segment_committed")
    row = _jumped(state, txn, row, tip_seq)
    write_log_row(state.env, txn, row)
    return row


def _jumped(state: State, txn: "Txn[bytes]", row: LogRow, tip_seq: int) -> LogRow:
    is_empty = row.floor_seq > row.applied_seq
    write_raises(state.env, txn, (*read_raises(state.env, txn), Raise(row.applied_seq, tip_seq + 1)))
    return row._replace(applied_seq=tip_seq, floor_seq=tip_seq + 1 if is_empty else row.floor_seq)


def grown(row: LogRow, last_seq: int, time_ms: int) -> LogRow:
    """The log row after chunks up to `last_seq`. The floor of an empty window is already the seq that comes next."""
    was_empty = row.floor_seq > row.applied_seq
    return row._replace(
        applied_seq=last_seq,
        time_ms=time_ms,
        floor_time_ms=time_ms if was_empty else row.floor_time_ms,
        active_time_ms=row.active_time_ms or time_ms,
    )


def rolled(row: LogRow) -> LogRow:
    """The log row with a new active segment that starts behind the tip."""
    return row._replace(active=row.applied_seq + 1, active_time_ms=0)


def with_floor(segments: Segments, row: LogRow, names: Iterable[int]) -> LogRow:
    """The log row with its floor at the first chunk of `names`: after a restore a segment may be without any."""
    for name in names:
        info = segments.info(name, active=name == row.active)
        if info.first_seq is not None:
            return row._replace(floor_seq=info.first_seq, floor_time_ms=info.first_time_ms)
    return row._replace(floor_seq=row.applied_seq + 1, floor_time_ms=0)

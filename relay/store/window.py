"""Where the log stands: the tip, the floor, the raises, and which seq belongs to a time.

One object per process, shared by its readers: it remembers the last log row it saw, so that a reader that is behind
does not have to ask the state at all, and the txn id of the last poll.
"""

import threading
from typing import NamedTuple

from relay.store.effects import read_head
from relay.store.env import TRANSLATED
from relay.store.layout import CHUNKS, EFFECTS, LogRow, Raise, read_log_row, read_raises, u64, u64_of
from relay.store.segments import SegmentGone, Segments
from relay.store.state import State


class Tip(NamedTuple):
    """`seq` is the newest seq issued, `floor` the first one still in the window (`seq + 1` when it is empty).

    `time_ms` is the batch time of the newest chunk, 0 when there never was one. After a raise `seq` is the last of the
    seqs that were skipped.
    """

    seq: int
    floor: int
    time_ms: int


class Window(NamedTuple):
    """The backfill window as `GET /window` tells it. Times are 0 when the window is empty."""

    floor_seq: int
    floor_time_ms: int
    tip_seq: int
    tip_time_ms: int
    raises: tuple[Raise, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever appended, or nothing of it is left."""
        return self.floor_seq > self.tip_seq

    @property
    def events(self) -> int:
        """How many events are held."""
        return self.events_between(self.floor_seq, self.tip_seq + 1)

    def events_between(self, low: int, high: int) -> int:
        """How many of the seqs `low..high-1` were issued: all but those that a raise skipped."""
        skipped = sum(max(0, min(jump.after_seq, high) - max(jump.before_seq + 1, low)) for jump in self.raises)
        return max(0, high - low - skipped)


class LogWindow:
    """What all readers of this process share: the last known log row, and what was polled."""

    def __init__(self, state: State, segments: Segments) -> None:
        self.state = state
        self.segments = segments
        self._polled_txn: int | None = None
        self._lock = threading.Lock()
        self.row = self._look()

    def refresh(self) -> LogRow:
        """The log row in a fresh snapshot. Raises `StoreError`."""
        row = self._look()
        self._learn(row)
        return row

    def _look(self) -> LogRow:
        with self.state.reading() as txn:
            return read_log_row(self.state.env, txn)

    def poll(self) -> Tip | None:
        """The tip, or None when nothing at all was committed to the state since the last poll.

        Compares the id of the read txn itself: `last_txnid` may already be that of a commit the snapshot lacks.
        """
        with self.state.reading() as txn:
            txn_id = txn.id()
            if txn_id == self._polled_txn:
                return None
            row = read_log_row(self.state.env, txn)
        self._polled_txn = txn_id
        self._learn(row)
        return tip_of(row)

    def _learn(self, row: LogRow) -> None:
        # Threads may come here in any order, and an older snapshot must not undo what is known.
        with self._lock:
            known = self.row
            if _age(row) <= _age(known):
                return
            self.row = row
        if row.floor_seq != known.floor_seq:
            self.segments.forget_below(row.floor_seq)

    def raises(self) -> tuple[Raise, ...]:
        """The raises that concern the window."""
        with self.state.reading() as txn:
            return read_raises(self.state.env, txn)

    def window(self) -> Window:
        """The window in a fresh snapshot."""
        with self.state.reading() as txn:
            row = read_log_row(self.state.env, txn)
            raises = read_raises(self.state.env, txn)
        is_empty = row.floor_seq > row.applied_seq
        return Window(
            row.floor_seq,
            0 if is_empty else row.floor_time_ms,
            row.applied_seq,
            0 if is_empty else row.time_ms,
            raises,
        )

    def seq_at(self, time_ms: int) -> int:
        """The first seq whose chunk is not older than `time_ms`; `tip + 1` when there is none yet."""
        row = self.refresh()
        for name in self.segments.holding(row.floor_seq, row.active):
            try:
                info = self.segments.info(name, active=name == row.active)
            except SegmentGone:
                continue  # removed, or not made yet
            if info.first_seq is not None and info.last_time_ms >= time_ms:
                return min(self._first_at(name, info.first_seq, info.last_seq, time_ms, row), row.applied_seq + 1)
        return row.applied_seq + 1

    def _first_at(self, name: int, low: int, high: int, time_ms: int, row: LogRow) -> int:
        """Bisect the seqs of one segment, whose times never fall."""
        with (
            self.segments.borrowed(name, active=name == row.active) as env,
            TRANSLATED,
            env.begin_views() as txn,
        ):
            cursor = txn.cursor(db=env.db[EFFECTS])
            while low < high:
                middle = (low + high) // 2
                found = cursor.set_range(u64(middle))
                if not found or read_head(cursor.value()).time_ms >= time_ms:
                    high = middle
                else:
                    low = max(middle, u64_of(cursor.key())) + 1
            chunks = txn.cursor(db=env.db[CHUNKS])
            return u64_of(chunks.key()) if chunks.set_range(u64(low)) else row.applied_seq + 1


def _age(row: LogRow) -> tuple[int, int, int]:
    """Greater in a later snapshot in which anything changed: none of the three ever falls."""
    return row.applied_seq, row.active, row.floor_seq


def tip_of(row: LogRow) -> Tip:
    """The part of a log row that readers need."""
    return Tip(row.applied_seq, row.floor_seq, row.time_ms)

"""Reading the log: a reader that keeps its place.

Frames are given out as the bytes that were stored: complete server-to-client WebSocket messages, back to back. Every
read is one bounded, short txn of a segment, so no reader ever holds pages; the state env is read only when a reader
reaches what it knew as the tip. Readers never go beyond the tip that the state says: a chunk whose append was cut off
before the state had it becomes visible when somebody takes it over.
"""

from dataclasses import dataclass
from typing import NamedTuple, cast

from relay.protocol.frame import fit_messages, skip_messages
from relay.store.effects import Head, read_head
from relay.store.env import TRANSLATED, Env, Txn
from relay.store.errors import BelowWindow, Corrupt
from relay.store.layout import CHUNKS, EFFECTS, LogRow, u64, u64_of
from relay.store.segments import SegmentGone
from relay.store.window import LogWindow

_LOOKS_MAX = 100  # each after the first means that the log moved on meanwhile


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Frames `first_seq..last_seq`, without a gap: `count` messages in `data`, the newest stored at `time_ms`."""

    first_seq: int
    last_seq: int
    count: int
    data: bytes
    time_ms: int


class _Place(NamedTuple):
    """Right before message `seq`, which starts at `offset` of chunk `chunk` in `segment`.

    `chunk` 0 stands for the first chunk at or after `seq`. The offset is one in the file `inode`: a purge changes the
    length of what lies before.
    """

    segment: int
    chunk: int
    offset: int
    seq: int
    inode: int = 0


class Reader:
    """One position in the log. Cheap to make; remembers where it stands, so reading on needs no search."""

    def __init__(self, log: LogWindow) -> None:
        self._log = log
        self._place: _Place | None = None

    def read(self, after_seq: int, bytes_max: int) -> LogSlice | None:
        """The messages after `after_seq`: whole ones, at least one, else at most `bytes_max` bytes of them.

        None at the tip (and beyond it). A raise is skipped. Raises `BelowWindow` when the next message was removed by
        retention, and `StoreError`.
        """
        self._log.state.check()
        row = self._log.row
        if after_seq >= row.applied_seq:
            row = self._log.refresh()
            if after_seq >= row.applied_seq:
                return None
        for _ in range(_LOOKS_MAX):
            gone: SegmentGone | None = None
            try:
                found = self._read_from(self._place_after(after_seq, row), bytes_max, row)
                if found is not None:
                    return found
            except SegmentGone as error:
                gone = error  # retention moved the floor since the row was read
                self._place = None
            known, row = row, self._log.refresh()
            if known == row and gone is None:
                return None  # a raise, and nothing behind it yet
            if known == row:
                break
        raise Corrupt(f"segment {self._segment_of(after_seq + 1, row)} is missing")

    def _place_after(self, after_seq: int, row: LogRow) -> _Place:
        if after_seq < row.floor_seq - 1:
            after_seq = self._over_raise(after_seq, row)
        place = self._place
        if place is not None and place.seq == after_seq + 1:
            return place
        return _Place(self._segment_of(after_seq + 1, row), 0, 0, after_seq + 1)

    def _over_raise(self, after_seq: int, row: LogRow) -> int:
        """The same position at the end of the raise it is in, if it is in one: nothing lies between."""
        for jump in self._log.raises():
            if jump.before_seq <= after_seq < jump.after_seq and jump.after_seq >= row.floor_seq:
                return jump.after_seq - 1
        raise BelowWindow(row.floor_seq)

    def _segment_of(self, seq: int, row: LogRow) -> int:
        names = self._log.segments.holding(seq, row.active)
        return names[0] if names else row.active

    def _read_from(self, place: _Place, bytes_max: int, row: LogRow) -> LogSlice | None:
        """Read at `place`, or at the start of the segments after it when there is nothing left in its own."""
        segments = self._log.segments
        while True:
            try:
                with (
                    segments.borrowed(place.segment, active=place.segment == row.active) as env,
                    TRANSLATED,
                    env.begin_views() as txn,
                ):
                    found = _collect(env, txn, place, bytes_max, row.applied_seq)
            except SegmentGone:
                if place.segment == row.active:
                    return None  # named, but nothing was appended to it yet
                raise
            if found is not None:
                self._place, slice_ = found
                return slice_
            following = [name for name in segments.holding(place.seq, row.active) if name > place.segment]
            if not following:
                return None
            place = _Place(following[0], 0, 0, max(place.seq, following[0]))


def _collect(
    env: Env, txn: "Txn[memoryview]", place: _Place, bytes_max: int, tip_seq: int
) -> tuple[_Place, LogSlice] | None:
    """Whole messages from `place` on, out of one segment and not beyond the tip. None when there are none."""
    cursor = txn.cursor(db=env.db[CHUNKS])
    chunk, offset, seq = _settle(env, txn, place)
    first_seq, time_ms, size = seq, 0, 0
    parts: list[memoryview] = []
    found = chunk is not None and cursor.set_key(u64(chunk))
    while found and size < bytes_max:
        chunk = u64_of(cursor.key())
        if chunk > tip_seq or not (offset or chunk == seq):
            break  # not ours to see yet, or behind a raise, which starts a slice of its own
        value = cursor.value()
        head = _head_of(env, txn, chunk)
        room = bytes_max - size
        is_whole = len(value) - offset <= room
        end, count = (len(value), head.last_seq + 1 - seq) if is_whole else fit_messages(_as_bytes(value), offset, room)
        if not count and not parts:
            end, count = skip_messages(_as_bytes(value), offset, 1), 1  # one message larger than asked for
        if count:
            parts.append(value[offset:end])
            size, seq, time_ms = size + end - offset, seq + count, head.time_ms
        offset = end if end < len(value) else 0
        if not is_whole:
            break
        found = cursor.next()
    if not parts:
        return None
    data = b"".join(parts)
    next_place = _Place(place.segment, chunk or 0 if offset else 0, offset, seq, env.inode)
    return next_place, LogSlice(first_seq, seq - 1, seq - first_seq, data, time_ms)


def _head_of(env: Env, txn: "Txn[memoryview]", chunk: int) -> Head:
    entry = txn.get(u64(chunk), db=env.db[EFFECTS])
    if entry is None:
        raise Corrupt(f"chunk {chunk} has no effects")
    return read_head(entry)


def _settle(env: Env, txn: "Txn[memoryview]", place: _Place) -> tuple[int | None, int, int]:
    """`(chunk, offset, seq)` of the message at `place`, or of the next one there is; chunk None when there is none."""
    if place.chunk and place.inode == env.inode:
        return place.chunk, place.offset, place.seq
    cursor = txn.cursor(db=env.db[CHUNKS])
    found = cursor.set_range(u64(place.seq))
    following = u64_of(cursor.key()) if found else None
    if following == place.seq:
        return following, 0, place.seq
    if cursor.prev() if found else cursor.last():
        chunk = u64_of(cursor.key())
        if _head_of(env, txn, chunk).last_seq >= place.seq:
            return chunk, skip_messages(_as_bytes(cursor.value()), 0, place.seq - chunk), place.seq
    return following, 0, place.seq if following is None else following


def _as_bytes(view: memoryview) -> bytes:
    """For reading only: indexing and slicing are the same, and a copy of a whole chunk is spared."""
    return cast("bytes", view)

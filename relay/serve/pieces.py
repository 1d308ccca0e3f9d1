"""Stretches of the log as they are sent: cut at message borders, and kept in memory where many consumers need them.

Owns the size of a piece, the hot window at the tip and the reads that are shared behind it. Pure data: reads nothing,
waits for nothing.
"""

from bisect import bisect_right
from collections import deque
from operator import attrgetter
from typing import NamedTuple

from relay.protocol.frame import fit_messages, skip_messages
from relay.store.read import LogSlice

PIECE_BYTES_MAX = 64 * 1024  # sent under one hold of the send lock, so that pongs wait for no more (design section 3)

_last_seq = attrgetter("last_seq")


class Piece(NamedTuple):
    """Whole WebSocket messages with contiguous seqs, at most PIECE_BYTES_MAX unless it is one large message."""

    first_seq: int
    last_seq: int
    time_ms: int
    data: bytes

    def after(self, seq: int) -> bytes:
        """The messages above `seq`, which lies below `last_seq`."""
        if seq < self.first_seq:
            return self.data
        return self.data[skip_messages(self.data, 0, seq - self.first_seq + 1) :]


def cut(part: LogSlice) -> list[Piece]:
    """The slice as pieces, at message borders."""
    if len(part.data) <= PIECE_BYTES_MAX:
        return [Piece(part.first_seq, part.last_seq, part.time_ms, part.data)]
    pieces = []
    start, seq = 0, part.first_seq
    while start < len(part.data):
        end, count = fit_messages(part.data, start, PIECE_BYTES_MAX)
        if not count:
            end, count = skip_messages(part.data, start, 1), 1  # one message larger than a piece
        pieces.append(Piece(seq, seq + count - 1, part.time_ms, part.data[start:end]))
        start, seq = end, seq + count
    assert seq == part.last_seq + 1, "a chunk holds more messages than it says"
    return pieces


class HotWindow:
    """The pieces after `after_seq`, without a gap but for recorded raises, newest last, bounded in bytes."""

    def __init__(self, after_seq: int, bytes_max: int) -> None:
        self.after_seq = after_seq
        self._bytes_max = bytes_max
        self._bytes = 0
        self._pieces: list[Piece] = []

    @property
    def tip_seq(self) -> int:
        """The newest seq held, or `after_seq` while there is none."""
        return self._pieces[-1].last_seq if self._pieces else self.after_seq

    def add(self, pieces: list[Piece]) -> None:
        """Append and forget the oldest beyond the bound; the newest piece always stays."""
        assert pieces[0].first_seq > self.tip_seq, "the log went backwards"
        self._pieces += pieces
        self._bytes += _size(pieces)
        forgotten = 0
        while self._bytes > self._bytes_max and forgotten < len(self._pieces) - 1:
            self._bytes -= len(self._pieces[forgotten].data)
            self.after_seq = self._pieces[forgotten].last_seq
            forgotten += 1
        del self._pieces[:forgotten]

    def next_piece(self, seq: int) -> Piece | None:
        """The piece that continues after `seq`, which is not below `after_seq`; None at the tip or ahead of it."""
        pieces = self._pieces
        if not pieces or seq >= pieces[-1].last_seq:
            return None
        if len(pieces) == 1 or seq >= pieces[-2].last_seq:
            return pieces[-1]  # where nearly every consumer is
        return pieces[bisect_right(pieces, seq, key=_last_seq)]


class RecentReads:
    """What was read of the log lately behind the hot window, newest last, bounded in bytes but for the newest read.

    Consumers that come back together with cursors near each other would read the same bytes each for itself; so they
    meet here, and from the end of a common read on they stand at one position.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._reads: deque[list[Piece]] = deque()

    def add(self, pieces: list[Piece]) -> None:
        """Remember one read."""
        self._reads.append(pieces)
        self._bytes += _size(pieces)
        while self._bytes > self._bytes_max and len(self._reads) > 1:
            self._bytes -= _size(self._reads.popleft())

    def after(self, seq: int) -> list[Piece]:
        """The pieces that continue after `seq`; none when nobody read there lately."""
        for pieces in reversed(self._reads):
            if pieces[0].first_seq - 1 <= seq < pieces[-1].last_seq:
                return pieces[bisect_right(pieces, seq, key=_last_seq) :]
        return []


def _size(pieces: list[Piece]) -> int:
    return sum(len(piece.data) for piece in pieces)

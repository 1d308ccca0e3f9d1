"""The newest part of the log in memory, shared by every consumer of a worker, and the one task that extends it.

Owns the polling of the store, the hot window and its bound in bytes, the wake-up of consumers that wait at the tip, and
the turns of those that read the log themselves. Does not own consumers: they hold a position and ask. Each chunk is
read and cut into pieces once; at the tip all consumers send the very same bytes objects.
"""

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

import trio

from relay.observe.metrics import ServeMetrics
from relay.protocol.frame import message_bounds, skip_messages
from relay.store.errors import BelowWindow
from relay.store.read import LogSlice, Reader
from relay.store.store import Store

PIECE_BYTES_MAX = 64 * 1024  # sent under one hold of the send lock, so that pongs wait for no more (design section 3)
_TAIL_READ_BYTES = 1024 * 1024
_POLL_SECONDS_MIN = 0.002  # between two looks while events come: about the time of one group commit
_POLL_SECONDS_MAX = 0.05  # and after a silence: 20 looks a second are idle CPU nobody notices
_POLL_STRETCH = 1.25

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
    start = end = 0
    first_seq = part.first_seq
    for seq in range(part.first_seq, part.last_seq + 1):
        _, message_end = message_bounds(part.data, end)
        if message_end - start > PIECE_BYTES_MAX and end > start:
            pieces.append(Piece(first_seq, seq - 1, part.time_ms, part.data[start:end]))
            start, first_seq = end, seq
        end = message_end
    assert end == len(part.data), "a chunk holds more bytes than its messages"
    pieces.append(Piece(first_seq, part.last_seq, part.time_ms, part.data[start:]))
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
        self._bytes += sum(len(piece.data) for piece in pieces)
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


class Tail:
    """One per worker. `run` keeps it fresh; consumers read from it at their own pace."""

    def __init__(self, store: Store, *, hot_bytes: int, metrics: ServeMetrics, now_ms: Callable[[], int]) -> None:
        tip = store.tip()
        self._store = store
        self._metrics = metrics
        self._now_ms = now_ms
        self._sent_seq = tip.seq
        self._reader = store.reader()
        self._wanted_seq = tip.seq
        self.tip_time_ms = tip.time_ms
        self._hot_bytes = hot_bytes
        self.hot = HotWindow(tip.seq, hot_bytes)
        self._news = trio.Event()
        self._turn = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for new events for ever. Raises `StoreError` when the store cannot be read: the worker ends then."""
        task_status.started()
        pause = _POLL_SECONDS_MIN
        while True:
            pause = _POLL_SECONDS_MIN if await self.refresh() else min(pause * _POLL_STRETCH, _POLL_SECONDS_MAX)
            await trio.sleep(pause)

    async def refresh(self) -> bool:
        """Take in what was appended since the last look, waking consumers after each read. Says whether that was any.

        When it is cancelled, the next call goes on where this one was.
        """
        tip = self._store.poll()
        if tip is not None:
            self._wanted_seq, self.tip_time_ms = tip.seq, tip.time_ms
        grew = False
        while self.hot.tip_seq < self._wanted_seq:
            try:
                part = self._reader.read(self.hot.tip_seq, _TAIL_READ_BYTES)
            except BelowWindow as below:  # this process was stopped for longer than the window is
                self.hot = HotWindow(below.floor_seq - 1, self._hot_bytes)
                continue
            if part is None:
                self._wanted_seq = self.hot.tip_seq  # the seqs up to the tip were skipped by a raise
                break
            self.hot.add(cut(part))
            self.wake()
            grew = True
            await trio.lowlevel.checkpoint()
        return grew

    def wake(self) -> None:
        """Let every consumer that waits at the tip look again: at news, or at what it was told meanwhile."""
        news, self._news = self._news, trio.Event()
        news.set()

    async def wait_news(self) -> None:
        """Until `wake` is called. Check for what you wait for first, without a checkpoint between."""
        await self._news.wait()

    def sent(self, piece: Piece) -> None:
        """A consumer has been sent this piece of the hot window; the first one to be counts as the time it took."""
        if piece.last_seq > self._sent_seq:
            self._sent_seq = piece.last_seq
            self._metrics.append_to_send_seconds.observe(max(0, self._now_ms() - piece.time_ms) / 1000)

    async def read_behind(self, reader: Reader, after_seq: int, bytes_max: int) -> list[Piece]:
        """What follows `after_seq`, for a consumer that is behind the hot window.

        One such read happens in each pass of the scheduler, in the order of asking: however many replays run, a
        consumer at the tip waits for one of these reads and not for all of them (checklist 44).
        """
        async with self._turn:
            part = reader.read(after_seq, bytes_max)
        return cut(part) if part is not None else []

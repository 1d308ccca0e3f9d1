"""The newest part of the log in memory, shared by every consumer of a worker, and the one task that extends it.

Owns the polling of the store, the handing out of news to consumers that wait at the tip, the turns of those that are
behind it, and that nothing is kept which a purge has replaced in the log. Owns neither consumers, who hold a position
and ask, nor the shape of what is kept: `relay.serve.pieces`. Each chunk is read and cut into pieces once; at the tip
all consumers send the very same bytes objects.
"""

from collections.abc import Callable
from typing import NamedTuple, NoReturn

import trio

from relay.observe.metrics import ServeMetrics
from relay.serve.pieces import HotWindow, Piece, RecentReads, cut
from relay.store.errors import BelowWindow
from relay.store.policy import PURGED
from relay.store.read import Reader
from relay.store.store import Store

_TAIL_READ_BYTES = 1024 * 1024
_POLL_SECONDS_MIN = 0.002  # between two looks while events come: about the time of one group commit
_POLL_SECONDS_MAX = 0.05  # and after a silence: 20 looks a second are idle CPU nobody notices
_POLL_STRETCH = 1.25
_PURGE_POLL_SECONDS = 1.0
_HANDED_AT_ONCE = 64  # consumers between two checkpoints: about a millisecond of the loop
_SHARED_BYTES_MAX = 4 * 1024 * 1024  # of recent reads behind the hot window, for others at the same place


class News(NamedTuple):
    """What one read of the tail has brought: pieces after `after_seq`, to be sent as `data`.

    `frames` and `size` are added up once, because everybody at the tip gets the same.
    """

    after_seq: int
    pieces: list[Piece]
    data: list[bytes]
    frames: int
    size: int


Take = Callable[[News], bool]


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
        self._parked: dict[trio.Event, Take] = {}
        self._recent = RecentReads(_SHARED_BYTES_MAX)
        self.turn = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for new events, and for purges, for ever.

        Raises `StoreError`, in a group, when the store cannot be read: the worker ends then.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed_purges, self._last_purge())
            task_status.started()
            await self._follow()

    async def _follow(self) -> NoReturn:
        pause = _POLL_SECONDS_MIN
        while True:
            pause = _POLL_SECONDS_MIN if await self.refresh() else min(pause * _POLL_STRETCH, _POLL_SECONDS_MAX)
            await trio.sleep(pause)

    async def refresh(self) -> bool:
        """Take in what was appended since the last look, and hand it out after each read. Says whether that was any.

        When it is cancelled, the next call goes on where this one was; consumers that got nothing are then behind, and
        find the rest when they are woken.
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
            pieces = cut(part)
            news = News(self.hot.tip_seq, pieces, [piece.data for piece in pieces], part.count, len(part.data))
            self.hot.add(pieces)
            grew = True
            await self._hand_out(news)
        return grew

    async def _heed_purges(self, known: bytes | None) -> NoReturn:
        """Keep nothing of what was read before a purge has changed it; who is behind reads it anew."""
        while True:
            await trio.sleep(_PURGE_POLL_SECONDS)
            if (last := self._last_purge()) != known:
                known = last
                self.hot = HotWindow(self.hot.tip_seq, self._hot_bytes)
                self._recent = RecentReads(_SHARED_BYTES_MAX)

    def _last_purge(self) -> bytes | None:
        with self._store.view() as view:
            return view.policy_value(PURGED)

    async def _hand_out(self, news: News) -> None:
        """Give everybody at the tip what is new, right here as far as that goes without waiting.

        Waking a task for each costs several times what the kernel takes for the bytes; only those whose socket is full
        are woken, to wait by themselves.
        """
        for number, (woken, take) in enumerate(list(self._parked.items()), 1):
            if woken in self._parked and not take(news):
                woken.set()
            if not number % _HANDED_AT_ONCE:
                await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    def wake(self) -> None:
        """Let every consumer that waits at the tip look again: at the hot window, or at what it was told meanwhile."""
        for woken in self._parked:
            woken.set()

    async def wait_news(self, take: Take) -> None:
        """Wait at the tip. Check for what you wait for first, without a checkpoint between.

        When there is news `take(news)` is called, which must not wait and must not raise. While it answers True the
        caller goes on waiting; this returns once it answers False, or `wake` is called.
        """
        woken = trio.Event()
        self._parked[woken] = take
        try:
            await woken.wait()
        finally:
            del self._parked[woken]

    def sent(self, piece: Piece) -> None:
        """A consumer has been sent this piece of the hot window; the first one to be counts as the time it took."""
        if piece.last_seq > self._sent_seq:
            self._sent_seq = piece.last_seq
            self._metrics.append_to_send_seconds.observe(max(0, self._now_ms() - piece.time_ms) / 1000)

    def read_behind(self, reader: Reader, after_seq: int, bytes_max: int) -> list[Piece]:
        """What follows `after_seq`, for a consumer that is behind the hot window and holds the `turn`.

        One turn is taken in each pass of the scheduler, in the order of asking: however many replays run, a consumer at
        the tip waits for one read and its bytes, and not for all of them (checklist 44). Raises `BelowWindow`.
        """
        if shared := self._recent.after(after_seq):
            return shared
        part = reader.read(after_seq, bytes_max)
        if part is None:
            return []
        pieces = cut(part)
        self._recent.add(pieces)
        return pieces

"""One consumer: a position in the log and a loop that sends what follows it.

Owns the life of a connection after its handshake: the greeting, replay and live delivery (the same loop, so there is no
seam), and each way to end. Keeps no queue: a consumer that takes its time costs nothing but its place, and is told
ConsumerTooSlow only when its position has left the backfill window or it took nothing at all for too long. Does not own
the socket's framing, pings or draining.
"""

from enum import StrEnum

import trio

from relay.net.consumer_socket import ConsumerSocket
from relay.protocol.frame import error_frame, info_frame, message_header
from relay.serve.cursor import Future, Start, moved_start
from relay.serve.pieces import Piece
from relay.serve.tail import News, Tail
from relay.store.errors import BelowWindow
from relay.store.read import Reader

POLICY_VIOLATION = 1008  # after an error frame, and for a consumer that an operator sent away
TOO_SLOW_PATIENCE_SECONDS = 30.0  # for what the kernel still holds of a consumer that is told it was too slow
GOING_AWAY = 1001  # the TypeScript client takes 1000 as final and does not come back (protocol.md 2.6)


class End(StrEnum):
    """Why a consumer went away; the text is the label of relay_serve_disconnects_total."""

    CLOSED = "closed"  # by the consumer
    LOST = "lost"  # the connection broke
    SILENT = "silent"  # no answer to our pings
    REFUSED = "refused"  # the handshake failed after our part of it was decided
    FUTURE_CURSOR = "future_cursor"
    TOO_SLOW = "too_slow"  # its position left the backfill window
    STALLED = "stalled"  # took nothing at all for consumers.stall_seconds
    FLOODING = "flooding"  # said more than a client may that has nothing to say
    KICKED = "kicked"
    SHUTDOWN = "shutdown"


class Consumer:
    """A connection past its handshake. `position` is the last seq it was sent, `position_ms` that chunk's time."""

    __slots__ = (
        "_ending",
        "_flushes",
        "_progress_at",
        "_progress_bytes",
        "_read_bytes",
        "_reader",
        "_sending_since",
        "_socket",
        "_start",
        "_tail",
        "bytes_sent",
        "frames_sent",
        "position",
        "position_ms",
    )

    def __init__(
        self,
        socket: ConsumerSocket,
        start: Start | Future,
        *,
        tail: Tail,
        reader: Reader,
        read_bytes: int,
    ) -> None:
        self._socket = socket
        self._start = start
        self._tail = tail
        self._reader = reader
        self._read_bytes = read_bytes
        self._ending: End | None = None
        self._flushes = True  # what is in the hot window goes out before the end
        self.position = start.after_seq if isinstance(start, Start) else start.cursor
        self.position_ms = 0
        self.frames_sent = 0
        self.bytes_sent = 0
        self._sending_since: float | None = None  # trio time
        self._progress_bytes = 0
        self._progress_at = 0.0

    def end(self, reason: End, *, flush: bool = False) -> None:
        """Ask for an orderly end: after what is being sent and, with `flush`, after what is in the hot window.

        The first reason stays; a later call without `flush` ends the flushing.
        """
        self._ending = self._ending or reason
        if not flush:
            self._flushes = False
            self._socket.make_room()  # a send may be under way, and nothing can be said in the middle of a frame
        self._tail.wake()

    def stalled_seconds(self, now: float) -> float:
        """For how long the consumer has taken nothing although something is being sent, as far as past calls can tell.

        Judged by bytes and not by one send's time: whoever makes progress is healthy however slow (design section 8).
        """
        if self._sending_since is None:
            return 0.0
        if self._socket.accepted_bytes != self._progress_bytes:
            self._progress_bytes = self._socket.accepted_bytes
            self._progress_at = now
        return now - max(self._progress_at, self._sending_since)

    @property
    def is_flooding(self) -> bool:
        """Whether the client said more than anybody has to; nothing more is read from it."""
        return self._socket.is_flooding

    async def run(self) -> End:
        """Greet, deliver until there is a reason to stop, say goodbye. Raises `NetError` when it is lost."""
        reason = await self._deliver()
        if reason is End.FUTURE_CURSOR:
            await self._refuse("FutureCursor", "the cursor is beyond the newest event")
        elif reason is End.TOO_SLOW:
            why = "the next event is no longer in the backfill window"
            await self._refuse("ConsumerTooSlow", why, TOO_SLOW_PATIENCE_SECONDS)
        elif reason is End.STALLED:
            await self._refuse("ConsumerTooSlow", "nothing was taken for too long")
        elif reason is End.SHUTDOWN:
            await self._socket.close(GOING_AWAY, "the relay is going away")
        else:
            await self._socket.close(POLICY_VIOLATION, reason.value)
        return reason

    async def _deliver(self) -> End:
        if isinstance(self._start, Future):
            return End.FUTURE_CURSOR
        await self._begin(self._start)
        while True:
            if self._socket.owes:
                await self._flush()
            behind = self.position < self._tail.hot.after_seq
            piece = None if behind else self._tail.hot.next_piece(self.position)
            if self._ending is not None and not (self._flushes and piece is not None):
                return self._ending
            if behind:
                if not await self._replay():
                    return End.TOO_SLOW
            elif piece is not None:
                await self._send(piece)
                self._tail.sent(piece)
            else:
                await self._tail.wait_news(self._take_news)

    async def _begin(self, start: Start) -> None:
        """Take the position, and say so when it is not the one that was asked for."""
        self._start = start
        self.position = start.after_seq
        if start.outdated:
            info = info_frame("OutdatedCursor", "events between the cursor and the backfill window are lost")
            await self._send_data(message_header(len(info)) + info)

    def _take_news(self, news: News) -> bool:
        """Send what is new without waiting. False when that is not all there is to do."""
        if self._ending is not None or self.position != news.after_seq:
            return False
        taken = self._socket.send_nowait(news.data)
        if taken < len(news.data):
            self._count(news.pieces[:taken])
            return False
        self.frames_sent += news.frames
        self.bytes_sent += news.size
        self.position = news.pieces[-1].last_seq
        self.position_ms = news.pieces[-1].time_ms
        self._tail.sent(news.pieces[-1])
        return not self._socket.owes

    async def _replay(self) -> bool:
        """Send one read of the log. False when retention has overtaken the position of a consumer under way."""
        try:
            async with self._tail.turn:
                pieces = self._tail.read_behind(self._reader, self.position, self._read_bytes)
                left = self._send_nowait(pieces)
        except BelowWindow as below:
            if self.frames_sent:
                return False
            assert isinstance(self._start, Start)
            await self._begin(moved_start(self._start, below.floor_seq))
            return True
        while left and self._ending is None:
            if self._socket.owes:
                await self._flush()
            else:
                await self._send(left[0])
                left = left[1:]
            left = self._send_nowait(left)
        return True

    def _send_nowait(self, pieces: list[Piece]) -> list[Piece]:
        """Send pieces of the log as far as the socket takes them without waiting. Returns what is left."""
        if not pieces:
            return pieces
        data = [pieces[0].after(self.position), *(piece.data for piece in pieces[1:])]
        taken = self._socket.send_nowait(data)
        self._count(pieces[:taken])
        return pieces[taken:]

    async def _send(self, piece: Piece) -> None:
        """Send a piece, and what is owed before it."""
        await self._send_data(piece.after(self.position))
        self._count([piece])

    async def _send_data(self, data: bytes) -> None:
        self._sending_since = trio.current_time()
        await self._socket.send_messages(data)
        self._sending_since = None

    async def _flush(self) -> None:
        self._sending_since = trio.current_time()
        await self._socket.flush()
        self._sending_since = None

    def _count(self, pieces: list[Piece]) -> None:
        """Pieces that are the socket's now, to the last byte or but for a rest that goes before anything else."""
        for piece in pieces:
            after_seq = max(self.position, piece.first_seq - 1)
            self.frames_sent += piece.last_seq - after_seq
            self.bytes_sent += len(piece.after(self.position))
            self.position = piece.last_seq
            self.position_ms = piece.time_ms

    async def _refuse(self, error: str, message: str, patience_seconds: float = 0.0) -> None:
        frame = error_frame(error, message)
        await self._socket.close_with_error(
            frame, code=POLICY_VIOLATION, reason=error, patience_seconds=patience_seconds
        )

"""One consumer: a position in the log and a loop that sends what follows it.

Owns the life of a connection after its handshake: the greeting, replay and live delivery (the same loop, so there is no
seam), and each way to end. Keeps no queue: a consumer that takes its time costs nothing but its place, and is told
ConsumerTooSlow only when its position has left the backfill window. Does not own the socket's framing, pings or
draining.
"""

from enum import StrEnum

import trio

from relay.net.consumer_socket import ConsumerSocket
from relay.protocol.frame import error_frame, info_frame, message_header
from relay.serve.cursor import Future, Start
from relay.serve.tail import Piece, Tail
from relay.store.errors import BelowWindow
from relay.store.read import Reader

POLICY_VIOLATION = 1008  # after an error frame, and for a consumer that an operator sent away
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
    KICKED = "kicked"
    SHUTDOWN = "shutdown"


class Consumer:
    """A connection past its handshake. `position` is the last seq it was sent, `position_ms` that chunk's time."""

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
        self.position = start.after_seq if isinstance(start, Start) else start.cursor
        self.position_ms = 0
        self.frames_sent = 0
        self.bytes_sent = 0
        self._sending_since: float | None = None  # trio time
        self._progress_bytes = 0
        self._progress_at = 0.0

    def end(self, reason: End) -> None:
        """Ask for an orderly end: after what is being sent, and for a shutdown after what is in the hot window."""
        self._ending = self._ending or reason
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

    async def run(self) -> End:
        """Greet, deliver until there is a reason to stop, say goodbye. Raises `NetError` when it is lost."""
        reason = await self._deliver()
        if reason is End.FUTURE_CURSOR:
            await self._refuse("FutureCursor", "the cursor is beyond the newest event")
        elif reason is End.TOO_SLOW:
            await self._refuse("ConsumerTooSlow", "the next event is no longer in the backfill window")
        elif reason is End.SHUTDOWN:
            await self._socket.close(GOING_AWAY, "the relay is going away")
        else:
            await self._socket.close(POLICY_VIOLATION, reason.value)
        return reason

    async def _deliver(self) -> End:
        if isinstance(self._start, Future):
            return End.FUTURE_CURSOR
        if self._start.outdated:
            info = info_frame("OutdatedCursor", "events between the cursor and the backfill window are lost")
            await self._socket.send_messages(message_header(len(info)) + info)
        while True:
            behind = self.position < self._tail.hot.after_seq
            piece = None if behind else self._tail.hot.next_piece(self.position)
            if self._ending is not None and (self._ending is not End.SHUTDOWN or piece is None):
                return self._ending
            if behind:
                if not await self._replay():
                    return End.TOO_SLOW
            elif piece is not None:
                await self._send(piece)
                self._tail.sent(piece)
            else:
                await self._tail.wait_news()

    async def _replay(self) -> bool:
        """Send one read of the log. False when retention has overtaken the position."""
        try:
            pieces = await self._tail.read_behind(self._reader, self.position, self._read_bytes)
        except BelowWindow:
            return False
        for piece in pieces:
            await self._send(piece)
            if self._ending is not None:
                break
        return True

    async def _send(self, piece: Piece) -> None:
        data = piece.after(self.position)
        self._sending_since = trio.current_time()
        await self._socket.send_messages(data)
        self._sending_since = None
        self.frames_sent += piece.last_seq - max(self.position, piece.first_seq - 1)
        self.bytes_sent += len(data)
        self.position = piece.last_seq
        self.position_ms = piece.time_ms

    async def _refuse(self, error: str, message: str) -> None:
        await self._socket.close_with_error(error_frame(error, message), code=POLICY_VIOLATION, reason=error)

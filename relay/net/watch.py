"""One connection under a WebSocket, watched: who wrote last, who has been silent, what the kernel took.

Owns the send lock that control frames and pre-framed messages share, the clocks behind pings and the silence deadline,
the way to send without waiting, and the rule that a send which was cut off makes the stream unusable (design section 8,
rule 7). Knows no WebSocket framing. Never closes the stream below: that is for whoever opened it, so a library above
may close what it likes.
"""

import os
from collections.abc import Callable, Sequence

import trio

PING_SECONDS = 30.0  # without a write of ours, or without a word of theirs (design section 5; protocol.md 2.6)
SILENCE_SECONDS = 90.0  # without anything read while we read: dead (design section 5)
WAITED_SECONDS = 0.05  # a send that took longer waited for the peer, not for this process
SEND_BYTES = 65_536  # one step of a send; progress is visible between steps


class WatchedStream(trio.abc.Stream):
    """A stream with one send lock and with the figures that `ping_when_quiet` and `wait_silent` judge by.

    Attributes:
        accepted_bytes: bytes the kernel took so far; only ever grows.
        last_write: trio time of the last completed send.
        last_read: trio time of the last byte read.
        last_progress: trio time at which a send that had to wait went on: the peer took bytes. One that did not wait
            proves nothing, since the kernel takes bytes for a dead peer as well.
        waiting_since: trio time of the last byte read, or of when waiting for one began; None while nobody reads,
            because our silence is not theirs (design section 4). A wait that is longer than one read sets it itself.
        is_sending: a send is under way: it waits for the peer, and so does everything behind it, pings too.
        torn: a send was cut off, so the peer's view of the stream is broken: only `trio.aclose_forcefully` is left.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._closed = False
        self.accepted_bytes = 0
        self.last_write = self.last_read = self.last_progress = trio.current_time()
        self.waiting_since: float | None = None
        self.torn = False
        self._owed = b""
        # Only a socket can be asked what it takes at once; a memory stream of a simulation always waits.
        self._fileno = stream.socket.fileno if isinstance(stream, trio.SocketStream) else None

    @property
    def is_sending(self) -> bool:
        """See the class."""
        return self._lock.locked()

    @property
    def owes(self) -> bool:
        """`send_nowait` has left a rest that `flush`, or any other send, sends first."""
        return bool(self._owed)

    def send_nowait(self, parts: Sequence[bytes]) -> int:
        """Send the parts one after the other without waiting. Returns how many of them the kernel took, from the first.

        The last of these may be taken in part: its rest is owed then, and the caller flushes. 0 when nothing was taken:
        the buffer is full, somebody else is sending, or the stream is no socket or not usable; a send that waits says
        which. The parts that were not taken are the caller's.
        """
        if self._fileno is None or self._closed or self.torn or self._owed or self._lock.locked():
            return 0
        try:
            size = os.writev(self._fileno(), parts)
        except OSError:
            return 0
        self.accepted_bytes += size
        self.last_write = trio.current_time()
        for number, part in enumerate(parts):
            if size < len(part):
                self._owed = part[size:] if size else b""
                return number + 1 if size else number
            size -= len(part)
        return len(parts)

    async def flush(self) -> None:
        """Send what is owed. Raises as `send_all`."""
        await self.send_all(b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` as one piece: nothing of another task comes in between, waiting tasks go in their order.

        Raises:
            trio.ClosedResourceError: after `aclose`, or once a send was cut off.
            trio.BrokenResourceError: the peer is gone.
        """
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            if self._closed or self.torn:
                raise trio.ClosedResourceError("the stream is closed, or a send was cut off")
            self.torn = True
            if self._owed:
                await self._send_stepwise(memoryview(self._owed))
                self._owed = b""
            if len(data) <= SEND_BYTES:
                await self._send_step(data)
            else:
                await self._send_stepwise(memoryview(data))
            self.torn = False
            self.last_write = trio.current_time()
        finally:
            self._lock.release()

    async def _send_stepwise(self, data: memoryview) -> None:
        for at in range(0, len(data), SEND_BYTES):
            await self._send_step(data[at : at + SEND_BYTES])

    async def _send_step(self, data: bytes | bytearray | memoryview) -> None:
        started = trio.current_time()
        await self._stream.send_all(data)
        self.accepted_bytes += len(data)
        now = trio.current_time()
        if now - started >= WAITED_SECONDS:
            self.last_progress = now

    async def wait_send_all_might_not_block(self) -> None:
        """As in `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read while the silence clock runs. Raises ClosedResourceError after `aclose`, else as the stream below."""
        if self._closed:
            raise trio.ClosedResourceError
        others_wait = self.waiting_since is not None
        self.waiting_since = trio.current_time()
        try:
            data = await self._stream.receive_some(max_bytes)
            self.last_read = trio.current_time()
            return data
        finally:
            self.waiting_since = trio.current_time() if others_wait else None

    def shut(self) -> None:
        """Refuse further use. The stream below stays open: its opener closes it."""
        self._closed = True

    async def aclose(self) -> None:
        """As `shut`."""
        self.shut()
        await trio.lowlevel.checkpoint()


async def ping_when_quiet(stream: WatchedStream, ping: Callable[[], bytes]) -> None:
    """Send `ping()` when nothing was written, or nothing read, for `PING_SECONDS`; at most once in that time.

    Both count: without a write the path may be closed in between, and a peer that only listens says nothing of its own
    however busy we keep it. Returns when the stream takes nothing any more. A ping that waits behind a slow peer waits
    here and nowhere else.
    """
    last_ping = float("-inf")
    while True:
        due = max(last_ping, min(stream.last_write, stream.last_read)) + PING_SECONDS
        if trio.current_time() < due:
            await trio.sleep_until(due)
            continue
        try:
            await stream.send_all(ping())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the reading side says why
        last_ping = trio.current_time()


async def wait_silent(stream: WatchedStream) -> None:
    """Return once nothing was read for `SILENCE_SECONDS` while somebody was reading, and no send made progress."""
    while True:
        now = trio.current_time()
        dead_at = _dead_at(stream, now)
        if now >= dead_at:
            return
        # A sign of life that comes later ends later too, so the earliest possible moment is the one to wake at.
        await trio.sleep_until(dead_at)


async def ping_until_silent(stream: WatchedStream, ping: Callable[[], bytes]) -> bool:
    """Both in one task, for thousands of peers. True once the peer is silent, False when the stream takes nothing more.

    A peer that takes nothing gets no ping either and has nothing to answer, so the clock of its silence stands while a
    send waits for it: whoever sends bounds such a wait by a limit of its own.
    """
    last_ping = float("-inf")
    while True:
        now = trio.current_time()
        dead_at = now + SILENCE_SECONDS if stream.is_sending else _dead_at(stream, now)
        due = max(last_ping, min(stream.last_write, stream.last_read)) + PING_SECONDS
        if now >= dead_at:
            return True
        if now < due:
            await trio.sleep_until(min(due, dead_at))
            continue
        with trio.move_on_after(SILENCE_SECONDS) as scope:
            try:
                await stream.send_all(ping())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False  # the reading side says why
        if scope.cancelled_caught and not stream.is_sending:
            return True  # the ping itself was not taken; else it waited behind a send, which others bound
        last_ping = trio.current_time()


def _dead_at(stream: WatchedStream, now: float) -> float:
    waiting_since = now if stream.waiting_since is None else stream.waiting_since
    return max(waiting_since, stream.last_progress) + SILENCE_SECONDS

"""The stream that the protocol library gets on a client connection: `relay.net.tap` between it and the real one.

Owns who moves the bytes. One task calls `TapStream.pull`; it reads, cuts, and gives the library one frame at a time,
and the library has to ask for more before the next step. So order is kept by construction, a reader of ours that stops
is TCP backpressure and nothing else, and no task is woken for a message that is cut.
"""

import trio

from relay.net.tap import FrameTap
from relay.net.upgrade_answer import receive_upgrade_head
from relay.net.watch import WatchedStream

READ_BYTES = 65_536  # the library's 4 KiB default is 2.2 times slower (design section 8, rule 11)


class TapStream(trio.abc.Stream):
    """First the handshake, then only what `pull` gives, and after `release` everything.

    The library's reader parks in `receive_some` meanwhile, which never returns `b""` except at EOF.
    """

    def __init__(self, stream: WatchedStream, message_bytes_max: int) -> None:
        self._stream = stream
        self._tap = FrameTap(message_bytes_max)
        self._is_upgraded = False
        self._given = b""
        self._asked = trio.Event()  # the library waits for bytes, or will never do so again
        self._answered = trio.Event()
        self.is_released = False
        self.owes_message = False

    @property
    def is_oversize(self) -> bool:
        """A message above the bound has begun; what came of it stays unread."""
        return self._tap.oversize

    async def pull(self) -> list[bytes]:
        """The next messages: all whole ones of one read, in order.

        Empty: the library got something and is done with it. If `owes_message`, take that message from it and say
        `message_taken`; if `is_released` or `is_oversize`, nothing more comes from here; else look whether the library
        has closed, and pull again. May be cancelled at any point and called again.
        """
        while True:
            if not self._asked.is_set():  # waiting for an event that is set costs a turn of the loop
                await self._asked.wait()
            if self.owes_message or self.is_released or self._tap.oversize:
                return []
            messages = self._tap.cut()
            if messages:
                return messages
            part = self._tap.pass_on()
            if part:
                self.owes_message = self._tap.message_passed
                self._give(part)
                await self._asked.wait()
                return []
            if not self._tap.ended:
                await self._fill()
            elif not self._tap.oversize:
                self.release()

    def message_taken(self) -> None:
        """The message that `pull` left to the library was taken: cutting may go on."""
        self.owes_message = False

    def release(self) -> None:
        """From now on the library reads everything itself, what is buffered first. Nothing is cut any more."""
        self.is_released = True
        self._answered.set()

    def library_ended(self) -> None:
        """The library's reader is gone and will not ask for bytes again."""
        self.is_released = True
        self._asked.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """For the library's reader. Raises as `receive_upgrade_head` while that is due, then as `WatchedStream`."""
        if not self._is_upgraded:
            head, rest = await receive_upgrade_head(self._stream)
            self._is_upgraded = True
            self._tap.feed(rest)
            return head
        if not self.is_released:
            self._answered = trio.Event()
            self._asked.set()
            await self._answered.wait()
            if self._given:
                given, self._given = self._given, b""
                return given
        rest = self._tap.take(max_bytes or READ_BYTES)
        if rest:
            await trio.lowlevel.checkpoint()
            return rest
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As in `WatchedStream`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As in `WatchedStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As in `WatchedStream`."""
        await self._stream.aclose()

    def _give(self, part: bytes) -> None:
        self._given = part
        self._asked = trio.Event()
        self._answered.set()

    async def _fill(self) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""  # the library meets the same end when it reads
        if data:
            self._tap.feed(data)
        else:
            self.release()

"""A consumer's WebSocket: pre-framed messages out, nothing taken in, ended politely or at once.

Owns the server side of a stream connection from the replayed request to the end. Control frames stay with the protocol
library; bulk data goes around it through the stream's send lock, since one pass through the library costs more than
thirty messages sent as bytes (design section 3). Owns no policy: what to send, when a consumer is too slow and what it
is told are the caller's (`relay.serve`).
"""

import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from relay.net.errors import ConnectionClosed, NetError, NetTimeout, PeerSilent
from relay.net.exchange import Headers
from relay.net.flood import FloodCount
from relay.net.handshake import split_head
from relay.net.watch import WatchedStream, ping_until_silent
from relay.net.websocket import Link, link_nursery, run_server_link

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 2.0  # for the error frame, our Close and the answer to it (design section 8, rule 9)
# How much the kernel may hold that the peer has no room for. Less than its buffer, so that there is a rest of it for
# the last words to a consumer that takes nothing (`make_room`), and so that pongs wait behind little.
UNSENT_BYTES_MAX = 262_144
_UNSENT_BYTES_ANY = 2**31 - 1
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not every system has it
CLIENT_MESSAGE_BYTES_MAX = 65_536  # a client has nothing to say; more than this is answered by Close 1009
CLIENT_READ_BYTES = 4_096
_NORMAL, _POLICY = 1000, 1008


class ConsumerSocket:
    """An open connection to a consumer. Made by `accept_consumer`; one task sends."""

    def __init__(self, stream: "_ReplayStream", raw: trio.abc.Stream, link: Link, scope: trio.CancelScope) -> None:
        self._stream = stream
        self._raw = raw
        self._link = link
        self._scope = scope
        self._fault: NetError | None = None
        self._is_closing = False

    @property
    def accepted_bytes(self) -> int:
        """Bytes that the kernel took so far; a consumer whose figure grows over a window makes progress."""
        return self._stream.accepted_bytes

    @property
    def is_flooding(self) -> bool:
        """The client has sent more than `relay.net.flood` bounds. Nothing more is read; the caller should close."""
        return self._stream.is_flooding

    def send_nowait(self, pieces: Sequence[bytes]) -> int:
        """As `send_messages` for each piece, as far as the kernel takes them without waiting; how many it took.

        A rest of the last one may be owed afterwards (`owes`): it goes out before anything else; `flush` waits for it.
        """
        if self._is_closing or self._link.is_closed:
            return 0
        return self._stream.send_nowait(pieces)

    @property
    def owes(self) -> bool:
        """Whether a send without waiting has left a rest."""
        return self._stream.owes

    async def flush(self) -> None:
        """Send what is owed. Raises as `send_messages`."""
        await self.send_messages(b"")

    def make_room(self) -> None:
        """Let the kernel take what it can hold of a send that waits, and of what follows, although nobody reads it.

        For the last words: they reach the client if it ever reads on, even when our end is closed by then.
        """
        _limit_unsent(self._raw, _UNSENT_BYTES_ANY)

    async def send_messages(self, data: bytes | bytearray | memoryview) -> None:
        """Send complete, unmasked WebSocket messages, framed before and back to back.

        Control frames go out between two calls and never inside one, so pass at most 64 KiB, cut at message borders,
        unless a single message is larger. A send that is cancelled leaves the connection without a defined state: the
        close methods then end it at once, without a word.

        Raises:
            ConnectionClosed: the connection is closed, closing, or its last send was cancelled.
        """
        if self._is_closing or self._link.is_closed:
            raise self._fault or ConnectionClosed(reason="closed before the send")
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._fault or ConnectionClosed(reason="lost while sending") from error

    async def close(self, code: int = _NORMAL, reason: str = "") -> None:
        """Send a Close, wait at most 2 s for the answer, then end the connection. Later calls do nothing."""
        await self._finish(None, code, reason)

    async def close_with_error(
        self, frame: bytes, reason: str, code: int = _POLICY, *, patience_seconds: float = 0.0
    ) -> None:
        """Send `frame` (an error frame's two CBOR items, not framed for WebSocket) as one message, then as `close`.

        `reason` is the error's name (protocol.md 2.6). All of it has 2 s; for what the client has not taken yet, and
        for the frame behind it, there are `patience_seconds` more.
        """
        await self._finish(frame, code, reason, patience_seconds)

    async def _finish(self, frame: bytes | None, code: int, reason: str, patience_seconds: float = 0.0) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self.make_room()
        with trio.move_on_after(CLOSE_SECONDS + patience_seconds) as scope:
            try:
                if frame is not None:
                    await self._link.send_message(frame)
                    scope.deadline = min(scope.deadline, trio.current_time() + CLOSE_SECONDS)
                if not await self._link.close(code, reason):
                    await self._discard_input()
            except ConnectionClosed:
                pass  # gone already, or a send was cut off and the stream takes nothing any more
        await trio.aclose_forcefully(self._raw)

    async def _discard_input(self) -> None:
        """Read on until the client leaves: a close over unread input is a reset, which takes what was sent with it."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self._raw, trio.abc.HalfCloseableStream):
                await self._raw.send_eof()
            while await self._raw.receive_some(CLIENT_READ_BYTES):
                pass

    def _end(self, fault: NetError) -> None:
        """The connection has ended by itself: the block in `accept_consumer` ends too."""
        if self._fault is None and not self._is_closing:
            self._fault = fault
            self._scope.cancel()

    async def _drain(self) -> None:
        """Take and forget what the client sends; undrained data would stop the pongs (design section 8, rule 9)."""
        try:
            while True:
                await self._link.get_message()
        except NetError as error:
            self._end(error)

    async def _keep_alive(self) -> None:
        if await ping_until_silent(self._stream, _ping):
            self._end(PeerSilent("nothing read for 90 s"))


@asynccontextmanager
async def accept_consumer(
    stream: trio.abc.Stream, request_head: bytes, *, headers: Headers = ()
) -> AsyncGenerator[ConsumerSocket, None]:
    """Answer an upgrade whose request was already read as `request_head` (what follows the head in it included).

    `headers` are added to the 101 response. The block is cancelled when the connection ends by itself, and the reason
    is raised at its end. The block's own exceptions leave it as they are. When the block ends and the connection is
    still open, it is closed with 1000; at once if the block ends by an exception. `stream` is closed in every case.

    Raises:
        ConnectionClosed: the client closed, went away, broke the WebSocket protocol, or sent more than 64 KiB in one
            message; or its request is no valid upgrade (it has its HTTP answer then).
        PeerSilent: nothing came for 90 s, pongs included, while no send of ours was waiting for the client.
        NetTimeout: the handshake was not over in 10 s.
    """
    accepted: ConsumerSocket | None = None
    try:
        async with link_nursery() as nursery:
            replay = _ReplayStream(stream, request_head)
            del request_head  # not to be kept for days
            try:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    link = await nursery.start(
                        partial(
                            run_server_link,
                            replay,
                            headers,
                            message_bytes_max=CLIENT_MESSAGE_BYTES_MAX,
                            read_bytes=CLIENT_READ_BYTES,
                        )
                    )
            except trio.TooSlowError as error:
                raise NetTimeout("no WebSocket handshake in time") from error
            replay.open()
            _limit_unsent(stream, UNSENT_BYTES_MAX)
            accepted = ConsumerSocket(replay, stream, link, nursery.cancel_scope)
            nursery.start_soon(accepted._drain)  # noqa: SLF001 -- a socket and its opener are one thing
            nursery.start_soon(accepted._keep_alive)  # noqa: SLF001 -- as above
            yield accepted
            await accepted.close()
    finally:
        await trio.aclose_forcefully(stream)
    if accepted is not None and accepted._fault is not None:  # noqa: SLF001 -- as above
        raise accepted._fault  # noqa: SLF001 -- as above


def _ping() -> bytes:
    """A Ping as a server sends it, without payload, so a pong needs no book-keeping."""
    return b"\x89\x00"


def _limit_unsent(stream: trio.abc.Stream, unsent_bytes: int) -> None:
    """Bound what the kernel takes beyond the peer's window; a send that waits for room is woken by a higher bound."""
    if _TCP_NOTSENT_LOWAT is not None and isinstance(stream, trio.SocketStream):
        with suppress(OSError):  # closed, or a Unix socket
            stream.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, unsent_bytes)


class _ReplayStream(WatchedStream):
    """The request first, as the library wants to read it itself; what came after it once the upgrade is answered.

    The library drops bytes that it gets between request and answer, and it waits for ever when the connection ends
    there: so nothing is given then, and the end is an exception.
    """

    def __init__(self, stream: trio.abc.Stream, request_head: bytes) -> None:
        super().__init__(stream)
        self._head, self._rest = split_head(request_head)
        self._opened: trio.Event | None = trio.Event()  # until then
        self._flood = FloodCount(trio.current_time())
        self.is_flooding = False

    def open(self) -> None:
        """The upgrade is answered: frames may be read."""
        assert self._opened is not None
        self._opened.set()
        self._opened = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As in `WatchedStream`, after the replay. Waits for ever once the client floods us."""
        bytes_max = max_bytes or CLIENT_READ_BYTES
        if self._head:
            part, self._head = self._head[:bytes_max], self._head[bytes_max:]
            await trio.lowlevel.checkpoint()
            return part
        if self._opened is not None:
            await self._opened.wait()
        if self.is_flooding:
            await trio.sleep_forever()
        said = await self._next(bytes_max)
        self.is_flooding = self._flood.is_flooding(said, trio.current_time())
        return said

    async def _next(self, bytes_max: int) -> bytes | bytearray:
        if not self._rest:
            return await super().receive_some(bytes_max)
        part, self._rest = self._rest[:bytes_max], self._rest[bytes_max:]
        await trio.lowlevel.checkpoint()
        return part

    async def aclose(self) -> None:
        """As in `WatchedStream`; before the upgrade is answered the library does this only to refuse it."""
        if self._opened is not None:
            raise ConnectionClosed(reason="not a valid request for a WebSocket")
        await super().aclose()

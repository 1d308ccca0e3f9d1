"""The border to trio-websocket: one connection of either side as a `Link` that can only end itself.

Owns the bulkhead around the library's reader task and the translation of its exceptions; nothing else imports it.
Needed in fact (trio-websocket 0.12.2 with wsproto 1.3.2): a Ping after our Close raises `LocalProtocolError` out of the
reader, which kills the stock server, and on a client ends the caller's nursery without a word. So `open_websocket` and
`serve_websocket` are not used: the reader gets a nursery of its own, here. Bytes from outside raise more than the
library documents (h11 and Unicode errors in the handshake), so all but an AssertionError ends as `ConnectionClosed`.

Deadlines are the callers'. No compression, and no subprotocol is ever selected (protocol.md 2.1).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
import trio_websocket

from relay.net.errors import ConnectionClosed, NetError
from relay.net.exchange import Headers

_ErrorT = TypeVar("_ErrorT", bound=BaseException)

_QUEUE_MESSAGES = 1
_PROTOCOL_ERROR, _ABNORMAL = 1002, 1006


class Link:
    """An open WebSocket. Made by `run_client_link` and `run_server_link`, whose task is its life.

    Attributes:
        headers: of the other side's half of the handshake, names in lower case; empty on a server.
        ended: set when the library's reader is gone, for whatever reason.
    """

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection
        self._fault: NetError | None = None
        self.ended = trio.Event()
        self.headers: Headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in connection.handshake_headers
        )

    @property
    def is_closed(self) -> bool:
        """A Close was sent or received, or the connection is broken: `get_message` soon says how."""
        return self._connection.closed is not None or self.ended.is_set()

    async def get_message(self) -> bytes | str:
        """The next message that the library read. Raises `ConnectionClosed`, or what ended the stream below."""
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            if closed.reason is None:
                await self.ended.wait()  # the reader died of something; its own error says more
                raise self._fault or ConnectionClosed(_ABNORMAL) from None
            raise ConnectionClosed(closed.reason.code, closed.reason.reason or "") from None

    async def send_message(self, message: bytes) -> None:
        """Send one binary message through the library. Raises `ConnectionClosed`."""
        try:
            await self._connection.send_message(message)
        except trio_websocket.ConnectionClosed as closed:
            code = _ABNORMAL if closed.reason is None else closed.reason.code
            raise ConnectionClosed(code) from None

    async def close(self, code: int, reason: str) -> bool:
        """Send a Close and wait for the answer, as long as the caller lets it.

        Messages that come meanwhile are discarded. Does nothing on a closed connection. A long `reason` is shortened.

        Returns:
            False if the library's reader died of something: whatever still comes is unread.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_ended, nursery.cancel_scope)
            await self._connection.aclose(code, reason or None)
            nursery.cancel_scope.cancel()
        return self._fault is None

    async def _cancel_when_ended(self, scope: trio.CancelScope) -> None:
        await self.ended.wait()
        scope.cancel()

    def _end(self, fault: NetError | None) -> None:
        self._fault = fault
        self.ended.set()


@asynccontextmanager
async def link_nursery() -> AsyncGenerator[trio.Nursery, None]:
    """The nursery of one connection: its tasks end with the block, and the block's exception leaves it ungrouped.

    The tasks must not raise. A cancelled nursery ends the block without an exception.
    """
    error: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except Exception as raised:  # noqa: BLE001 -- raised again below, only past the nursery that would group it
                error = raised
            nursery.cancel_scope.cancel()
    finally:
        if error is not None:
            raise error


async def run_client_link(
    stream: trio.abc.Stream,
    host: str,
    target: str,
    headers: Headers,
    *,
    message_bytes_max: int,
    read_bytes: int,
    task_status: trio.TaskStatus[Link],
) -> None:
    """Upgrade `stream` as a client, then run the library's reader until it ends; never raises after it has started.

    `host` is the value of the Host header, `target` path and query. Before it has started it raises `ConnectionClosed`
    (1002: an answer that is not a valid upgrade) and whatever `NetError` the stream raises.
    """

    async def wrap(nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type] # documented for any trio stream, annotated for two of them
            host,
            target,
            extra_headers=_encoded(headers),
            message_queue_size=_QUEUE_MESSAGES,
            max_message_size=message_bytes_max,
            receive_buffer_size=read_bytes,
        )

    await _run(wrap, task_status)


async def run_server_link(
    stream: trio.abc.Stream,
    headers: Headers,
    *,
    message_bytes_max: int,
    read_bytes: int,
    task_status: trio.TaskStatus[Link],
) -> None:
    """Answer the upgrade that `stream` begins with, then as `run_client_link`.

    A request that is not a valid upgrade is answered by the library, which then closes the stream; the stream must make
    that an exception, since nothing else would end the wait. A proposed subprotocol is ignored.
    """

    async def wrap(nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
        request = await trio_websocket.wrap_server_stream(
            nursery,
            stream,
            message_queue_size=_QUEUE_MESSAGES,
            max_message_size=message_bytes_max,
            receive_buffer_size=read_bytes,
        )
        return await request.accept(extra_headers=_encoded(headers))

    await _run(wrap, task_status)


async def _run(
    wrap: Callable[[trio.Nursery], Awaitable[trio_websocket.WebSocketConnection]], task_status: trio.TaskStatus[Link]
) -> None:
    """The bulkhead: whatever the library's tasks raise is this connection's end and nobody else's."""
    link: Link | None = None
    fault: NetError | None = None
    try:
        async with trio.open_nursery() as nursery:
            connection = await wrap(nursery)
            _forget_handshake(connection)
            link = Link(connection)
            task_status.started(link)
    except* AssertionError:
        raise
    except* NetError as group:
        fault = _first(group)
    except* Exception as group:  # noqa: BLE001 -- a bulkhead (design section 7): a stranger's bytes crash no worker
        fault = ConnectionClosed(_PROTOCOL_ERROR, f"{_first(group)!r}"[:200])
    finally:
        if link is not None:
            link._end(fault)  # noqa: SLF001 -- a Link and its bulkhead are one thing in two halves
    if link is None:
        raise fault or ConnectionClosed(_ABNORMAL)


def _forget_handshake(connection: trio_websocket.WebSocketConnection) -> None:
    """Let what an open connection needed only to open go: the library keeps it for days and never asks it again.

    The HTTP parser, the request, and the queue of their events: 4 kB.
    """
    handshake = getattr(getattr(connection, "_wsproto", None), "handshake", None)
    if handshake is not None and hasattr(handshake, "_h11_connection"):
        handshake._h11_connection = handshake._initiating_request = None  # noqa: SLF001 -- there is no public way
        handshake._events = ()  # noqa: SLF001 -- as above; the library looks whether it is empty


def _first(group: BaseExceptionGroup[_ErrorT]) -> _ErrorT:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]

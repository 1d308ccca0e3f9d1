"""Listeners for tests: real ones on loopback and port 0, and one on memory streams for tests that own the clock."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio
import trio.testing


async def listen(nursery: trio.Nursery, serve: Callable[[trio.SocketStream], Awaitable[object]]) -> int:
    """Serve every connection to a free loopback port; the port."""
    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port: int = listeners[0].socket.getsockname()[1]
    return port


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what `connect` opens. `lockstep` streams send only what is being received: a peer that does not read."""

    def __init__(self, *, lockstep: bool = False) -> None:
        self._pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    def connect(self) -> trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]:
        """The client's end of a new connection."""
        client, server = self._pair()
        self._send.send_nowait(server)
        return client  # type: ignore[return-value]  # the pair's own type is not public

    @property
    def unaccepted(self) -> int:
        """How many connections were opened and not accepted."""
        return self._receive.statistics().current_buffer_used

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._send.close()
        self._receive.close()
        await trio.lowlevel.checkpoint()

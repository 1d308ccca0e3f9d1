"""HTTP/1.1 server for listeners of any kind: TCP, Unix sockets, memory streams.

Owns the number of connections and the bulkhead around each: whatever a peer does ends at most its own connection. What
a connection does is in `relay.net.connection`, the shapes of a request and its answer in `relay.net.exchange`. Owns no
path, no policy and no TLS (a reverse proxy ends that).
"""

import socket
from collections import OrderedDict
from collections.abc import Sequence
from typing import NoReturn

import trio

from relay.net.connection import Connection, Site, Waiting
from relay.net.errors import NetError
from relay.net.exchange import error_response

# What a peer, or the way to it, can do to a connection that nobody nearer dealt with.
_CONNECTION_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, NetError)
_REFUSE_SECONDS = 1.0
# Connections that go on with what they read, in one pass of the scheduler. Thousands that become readable at once would
# be parsed and answered in one, and everything else in the process would wait for the last of them.
TURNS = 4


async def serve_http(
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    site: Site,
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve `site` on all listeners, with one count of connections over them, until cancelled; closes the listeners.

    With a `handler_nursery` the connections live there, as in `trio.serve_listeners`: cancelling this call then stops
    accepting, and the owner of that nursery gives the connections a deadline. Raises what `site.fatal` names.
    """
    server = _Server(site)
    await trio.serve_listeners(
        server.converse, list(listeners), handler_nursery=handler_nursery, task_status=task_status
    )


class _Server:
    """The open connections of one `serve_http`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open = 0
        self._waiting: Waiting = OrderedDict()
        self._turns = trio.Semaphore(TURNS)

    async def converse(self, stream: trio.abc.Stream) -> None:
        """One connection in its bulkhead. The nursery also keeps in a stray `Cancelled` of a library (design 8.3)."""
        peer = _peer_address(stream)
        if peer is None:
            return
        if self._open >= self._site.limits.connections_max and not self._make_place():
            self._site.on_event("refused")
            await self._refuse(stream)
            return
        self._open += 1
        try:
            async with trio.open_nursery():
                await Connection(stream, peer, self._site, self._waiting, self._turns).run()
        except* _CONNECTION_ERRORS:
            self._site.on_event("lost")
        finally:
            self._open -= 1

    def _make_place(self) -> bool:
        """Close the connection that has waited longest for a request, so that idle peers cannot keep others out."""
        if not self._waiting:
            return False
        _, scope = self._waiting.popitem(last=False)
        scope.cancel()
        return True

    async def _refuse(self, stream: trio.abc.Stream) -> None:
        response = error_response(503, "NotEnoughResources", "too many connections", (("Retry-After", "10"),))
        fields = (*self._site.headers, *response.headers, ("Connection", "close"))
        lines = ["HTTP/1.1 503 Service Unavailable", *(f"{name}: {value}" for name, value in fields), "", ""]
        assert isinstance(response.body, bytes)
        with trio.move_on_after(_REFUSE_SECONDS):
            try:
                await stream.send_all("\r\n".join(lines).encode() + response.body)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


def _peer_address(stream: trio.abc.Stream) -> str | None:
    """The address of the other end, "unix" on a Unix socket, "memory" in a simulation; None when it left already."""
    if not isinstance(stream, trio.SocketStream):
        return "memory"
    if stream.socket.family == socket.AF_UNIX:
        return "unix"
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return None

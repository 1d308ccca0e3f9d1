"""A network of memory streams on virtual time: names instead of addresses, hosts that can be switched off."""

from collections.abc import Callable
from functools import partial

import trio
import trio.testing

from relay.net.connection import Site
from relay.net.errors import DialFailed
from relay.net.server import serve_http


class Listener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what the network opens."""

    def __init__(self) -> None:
        self._near, self._far = trio.open_memory_channel[trio.abc.Stream](100)

    def connect(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self._near.send_nowait(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._far.receive()

    async def aclose(self) -> None:
        self._near.close()
        self._far.close()
        await trio.lowlevel.checkpoint()


class MemoryNet:
    """Whoever is served here can be dialled by name; `dead` names answer nobody. A `StreamOpener`, TLS left out."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.dials: dict[str, int] = {}
        self._listeners: dict[str, Listener] = {}

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        assert (port, tls) == (443, True), "hosts of the public internet are read over TLS"
        self.dials[host] = self.dials.get(host, 0) + 1
        if host in self.dead or host not in self._listeners:
            raise DialFailed(f"{host}: Connection refused")
        return self._listeners[host].connect()

    async def serve(self, nursery: trio.Nursery, name: str, site: Site) -> None:
        self._listeners[name] = Listener()
        await nursery.start(partial(serve_http, [self._listeners[name]], site))


def virtual_clock(start_ms: int) -> Callable[[], int]:
    """The wall clock of a simulation that begins now."""
    began = trio.current_time()
    return lambda: start_ms + int((trio.current_time() - began) * 1_000)

"""Putting a simulated server on a loopback port."""

import trio

from relay.net.connection import Site
from relay.net.server import serve_http


async def serve_on_loopback(
    site: Site, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves `site` on 127.0.0.1 until cancelled; started with the port, which is a free one for 0."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await serve_http(listeners, site)


def origin(port: int) -> str:
    """The URL of a loopback server, by name, as DID documents of development networks have it."""
    return f"http://localhost:{port}"

"""One HTTP exchange as values: the request and what answers it.

Owns the shapes that `relay.net.server` (which re-exports them), `relay.net.websocket` and everything that answers
requests agree on. Owns no socket, no parser and no path: pure data.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec
import trio

Headers: TypeAlias = tuple[tuple[str, str], ...]


class Request(NamedTuple):
    """A complete request, read and bounded.

    `path` is percent-decoded and begins with "/" (or is "*"), `query` holds the decoded pairs in order, repeated and
    empty ones included (protocol.md section 20: arrays by repetition). `headers` has lower-case names; the values of a
    repeated header are joined with ", ". `client` is the address behind trusted proxies, "unix" on a Unix socket.
    `x-forwarded-for` and `x-forwarded-proto` are among the headers only if such a proxy sent them.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    client: str

    @property
    def is_secure(self) -> bool:
        """Whether the client came over TLS, which only a trusted proxy can know: we speak none ourselves."""
        claim = self.headers.get("x-forwarded-proto", "").rpartition(",")[2]  # to the left stands what others wrote
        return claim.strip().lower() == "https"

    @property
    def wants_websocket(self) -> bool:
        """Whether this is a GET that asks to become a WebSocket; without it the stream endpoint answers 426."""
        connection = {token.strip().lower() for token in self.headers.get("connection", "").split(",")}
        upgrade = self.headers.get("upgrade", "").strip().lower()
        bare = self.method == "GET" and not self.body and "transfer-encoding" not in self.headers
        return bare and upgrade == "websocket" and "upgrade" in connection


class Response(NamedTuple):
    """What goes back: all at once, or piece by piece from an async generator (which is closed in every case).

    Content-Length, framing and the server's constant headers are added by the server; for a HEAD request it leaves the
    body out, so the answer to a GET may be given.
    """

    status: int
    headers: Headers = ()
    body: bytes | AsyncGenerator[bytes, None] = b""


class Upgrade(NamedTuple):
    """The connection leaves HTTP: `await run(stream, head_bytes)` owns it from here until it returns.

    `head_bytes` is the original request untouched, with whatever was already read after it, so that `run` can replay
    it to a parser of its own. It runs in the connection's own bulkhead: the errors named there end this connection
    only; the server closes the stream afterwards.
    """

    run: Callable[[trio.abc.Stream, bytes], Awaitable[None]]


Answer: TypeAlias = Callable[[Request], Awaitable[Response | Upgrade]]


def json_response(status: int, value: object, headers: Headers = ()) -> Response:
    """`value` (anything msgspec can encode) as an application/json response."""
    return Response(status, (("Content-Type", "application/json"), *headers), msgspec.json.encode(value))


def error_response(status: int, error: str, message: str, headers: Headers = ()) -> Response:
    """The XRPC error shape `{"error", "message"}` (protocol.md section 20)."""
    return json_response(status, {"error": error, "message": message}, headers)

"""HTTP client: one request, one bounded response, over connections that the dialer made. The only importer of asks.

Owns timeouts, body bounds, connection re-use and the translation of everything asks can raise. Owns no policy of whom
to contact (`relay.net.dial`) and follows no redirect: a 3xx is a response like any other.

What asks 3.0.0 would do by itself and must not, each switched off here: close every connection (it sends
`Connection: close` unless told otherwise), connect by name, ask for gzip, follow redirects. Reading the response is
ours too (`_Processor`), on the h11 connection that asks made: its own reading cannot take an informational response or
a body that ends with the connection, raises ValueError for a cookie without "=", and looks up the charset of a
stranger's Content-Type, of which Python keeps every unknown name for good (up to 16 kB a response).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import h11
import trio
from asks.request_object import RequestProcessor
from asks.sessions import Session

from relay.net.dial import StreamOpener
from relay.net.errors import BodyTooLarge, ConnectionLost, ContentEncoded, HttpError, NetTimeout
from relay.net.guard import Origin, split_url

_RECYCLE_SECONDS = 60.0  # a pooled connection older than this is closed: load balancers forget, certificates change
_ORIGINS_MAX = 16
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class HttpResponse(NamedTuple):
    """A complete response. `headers` has lower-case names; of a repeated header the last value is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Sends requests through a dialer: one connection a request, or a pool of `slots` connections for one origin."""

    def __init__(self, dialer: StreamOpener, user_agent: str) -> None:
        self._dialer = dialer
        self._user_agent = user_agent
        self._pools: dict[tuple[str, int], _Session] = {}

    async def get(self, url: str, *, timeout_seconds: float, body_bytes_max: int, slots: int = 0) -> HttpResponse:
        """As `request` with GET."""
        return await self.request(
            "GET", url, timeout_seconds=timeout_seconds, body_bytes_max=body_bytes_max, slots=slots
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        timeout_seconds: float,
        body_bytes_max: int,
        slots: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpResponse:
        """Send one request and read the whole response, whatever its status.

        `slots` > 0 keeps at most that many connections to the origin open between requests, and lets no more than that
        many requests run at once: meant for the few origins that are asked all the time. `timeout_seconds` covers
        everything from waiting for a slot to the last byte. Raises `NetTimeout`, `BodyTooLarge`, `ContentEncoded`,
        `HttpError`, `ConnectionLost` and what `Dialer.open_stream` and `split_url` raise.
        """
        origin, _ = split_url(url)
        all_headers = {
            "Host": origin.name,
            "User-Agent": self._user_agent,
            "Accept-Encoding": "identity",
            "Connection": "keep-alive" if slots else "close",
            **(headers or {}),
        }
        session = self._session(origin, slots)
        try:
            with trio.fail_after(timeout_seconds):
                return await session.exchange(_Ask(method, url, all_headers, body, body_bytes_max))
        except trio.TooSlowError as error:
            raise NetTimeout(f"{method} {origin.url}: nothing complete within {timeout_seconds} s") from error

    async def aclose(self) -> None:
        """Close the pooled connections; no request may be running."""
        for session in self._pools.values():
            await session.close_idle()
        self._pools.clear()

    def _session(self, origin: Origin, slots: int) -> "_Session":
        if not slots:
            return _Session(self._dialer, 1)
        key = (origin.url, slots)
        session = self._pools.get(key)
        if session is None:
            assert len(self._pools) < _ORIGINS_MAX, "pools are for a few configured origins"
            session = self._pools[key] = _Session(self._dialer, slots)
        return session


class _Ask(NamedTuple):
    """One request as it goes out."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    body_bytes_max: int


class _Connection:
    """A trio stream in the shape that asks expects of a socket."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._active = True  # asks: may go back to the pool
        self.host = ""  # asks: the key in its pool
        self.port = ""
        self.opened_at = trio.current_time()
        self.uses = 0
        self.silent = True  # nothing was received for the request under way

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        data = bytes(await self._stream.receive_some())
        self.silent = self.silent and not data
        return data

    def retire(self) -> None:
        """Not to be used for another request."""
        self._active = False

    @property
    def is_retired(self) -> bool:
        return not self._active

    async def aclose(self) -> None:
        self.retire()
        await trio.aclose_forcefully(self._stream)


class _Processor(RequestProcessor):  # type: ignore[misc]  # asks has no types
    """One request as asks builds and sends it, and its response as we read it."""

    def __init__(self, session: "_Session", ask: "_Ask", connection: "_Connection") -> None:
        super().__init__(
            session, ask.method, ask.url, connection.port, headers=ask.headers, data=ask.body, sock=connection
        )
        self._ask = ask

    async def _request_io(self, h11_request: Any, h11_body: Any, h11_connection: Any) -> HttpResponse:
        """The hook of asks for everything after the connection is there."""
        await self._send(h11_request, h11_body, h11_connection)
        head = await self._recv_event(h11_connection)
        while isinstance(head, h11.InformationalResponse):
            head = await self._recv_event(h11_connection)
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        if "content-encoding" in headers:
            raise ContentEncoded(f"{self._ask.url}: Content-Encoding {headers['content-encoding'][:40]!r}")
        body = bytearray()
        while isinstance(event := await self._recv_event(h11_connection), h11.Data):
            body += event.data
            if len(body) > self._ask.body_bytes_max:
                raise BodyTooLarge(f"{self._ask.url}: more than {self._ask.body_bytes_max} bytes")
        if h11_connection.their_state is not h11.DONE or h11_connection.trailing_data[0]:
            self.sock.retire()  # it closes, or sent bytes that would be read as the next response
        return HttpResponse(head.status_code, headers, bytes(body))


class _Session(Session):  # type: ignore[misc]  # asks has no types
    """asks' pool of connections to one origin, fed by our dialer."""

    def __init__(self, dialer: StreamOpener, slots: int) -> None:
        super().__init__(connections=slots)
        self._dialer = dialer

    async def _open_connection_http(self, location: tuple[str, int]) -> _Connection:
        return _Connection(await self._dialer.open_stream(*location, tls=False))

    async def _open_connection_https(self, location: tuple[str, int]) -> _Connection:
        return _Connection(await self._dialer.open_stream(*location, tls=True))

    async def exchange(self, ask: _Ask) -> HttpResponse:
        """One request on a pooled or new connection.

        A pooled connection that the peer closed meanwhile shows only when it is used. When it gave not one byte, the
        request is sent once more on a new one; its idle siblings are as old and are closed with it.
        """
        async with self.sema:
            await self._close_old()
            connection: _Connection = await self._grab_connection(ask.url)
            try:
                return await self._exchange(connection, ask)
            except (HttpError, ConnectionLost):
                if connection.uses == 1 or not connection.silent or ask.method not in _SAFE_METHODS:
                    raise
            await self.close_idle()
            return await self._exchange(await self._grab_connection(ask.url), ask)

    async def close_idle(self) -> None:
        await self._conn_pool.free_pool()

    async def _close_old(self) -> None:
        oldest = trio.current_time() - _RECYCLE_SECONDS
        old = [idle for idle in self._conn_pool if idle.opened_at < oldest]
        for connection in old:  # all of them before the first await: other requests look at the same pool
            self._conn_pool.remove(connection)
        with trio.CancelScope(shield=True):  # nobody else knows them any more; closing waits for no peer
            for connection in old:
                await connection.aclose()

    async def _exchange(self, connection: _Connection, ask: _Ask) -> HttpResponse:
        connection.uses += 1
        connection.silent = True
        try:
            response = await _run(_Processor(self, ask, connection))
        except BaseException:
            await connection.aclose()
            raise
        if connection.is_retired:
            await connection.aclose()
        await self.return_to_pool(connection)
        return response


async def _run(processor: _Processor) -> HttpResponse:
    """The border where all that asks, h11 and the stream can raise about a peer becomes a `NetError`."""
    try:
        _, response = await processor.make_request()
    except h11.RemoteProtocolError as error:
        raise HttpError(f"{processor.uri}: {error}") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionLost(f"{processor.uri}: {error}") from error
    assert isinstance(response, HttpResponse)
    return response

"""One HTTP/1.1 connection of a client: read a request within bounds, have it answered, send, again. Over h11.

Owns deadlines, bounds and the order of things on any trio stream. Owns no listener and no count of connections
(`relay.net.server`), no paths and no policy. A peer that is slow, silent or sends garbage costs at most the bounds of
`Limits`, ends only its own connection, and is counted by a slug.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Literal, NamedTuple, TypeAlias

import h11
import trio

from relay.net.exchange import Answer, Headers, Request, Response, Upgrade, error_response
from relay.net.heads import BODILESS, request_of, response_head
from relay.net.proxies import LOOPBACK, Networks, is_trusted

HttpEvent: TypeAlias = Literal[
    "refused",  # no place for another connection: 503
    "evicted",  # closed while waiting for its request, to make place
    "head_timeout",
    "head_too_large",
    "bad_request",
    "unfinished",  # closed by the peer within a request
    "body_timeout",
    "body_too_large",
    "answer_failed",  # a fault of ours: 500
    "send_timeout",  # the peer does not take its response
    "lost",  # the connection broke
    "forwarded_untrusted",  # X-Forwarded-For from a peer that is no proxy of ours
]

_RECEIVE_BYTES = 16_384
_SLICE_BYTES = 65_536
_LINGER_SECONDS = 1.0
_LINGER_BYTES_MAX = 262_144
# Of XRPC where it has a name for the status (protocol.md section 20), else after the status.
_ERROR_NAMES = {
    400: "InvalidRequest",
    408: "RequestTimeout",
    413: "PayloadTooLarge",
    431: "RequestHeaderFieldsTooLarge",
    501: "MethodNotImplemented",
    505: "HTTPVersionNotSupported",
}
_FAILED = error_response(500, "InternalServerError", "Internal Server Error")


class Limits(NamedTuple):
    """Bounds of a server and of each of its connections."""

    connections_max: int = 1024
    head_bytes_max: int = 16_384
    head_seconds: float = 10.0
    body_bytes_max: int = 65_536
    body_seconds: float = 10.0
    keep_alive_seconds: float = 30.0
    send_seconds: float = 30.0  # for each 64 KiB of a response


def ignore_event(slug: HttpEvent) -> None:
    """Count nothing."""


def ignore_failure(request: Request, error: Exception) -> None:
    """Tell nobody."""


class Site(NamedTuple):
    """What all connections of a server share.

    `headers` go on every response unless the response has its own of that name. An exception out of `answer` becomes a
    500 and is told to `on_failure`, unless it is one of `fatal`, which end the server: doubt about our own data must.
    """

    answer: Answer
    limits: Limits = Limits()
    headers: Headers = ()
    trusted_proxies: Networks = LOOPBACK
    on_event: Callable[[HttpEvent], None] = ignore_event
    on_failure: Callable[[Request, Exception], None] = ignore_failure
    fatal: tuple[type[Exception], ...] = (AssertionError,)


Waiting: TypeAlias = OrderedDict["Connection", trio.CancelScope]


class _Refusal(Exception):  # noqa: N818 -- control flow within this module, never seen outside
    """The conversation ends here: count `slug`, answer with `response` if there is one, and close."""

    def __init__(self, slug: HttpEvent, response: Response | None = None) -> None:
        super().__init__(slug)
        self.slug = slug
        self.response = response


class Connection:
    """A conversation on one stream."""

    def __init__(self, stream: trio.abc.Stream, peer: str, site: Site, waiting: Waiting, turns: trio.Semaphore) -> None:
        """`peer` is the address of the other end.

        While it waits for a request the connection is in `waiting`; whoever takes it out and cancels its scope ends it.
        What it has read waits for one of the `turns`, each of which is taken for one pass of the scheduler.
        """
        self._stream = stream
        self._peer = peer
        self._site = site
        self._waiting = waiting
        self._turns = turns
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=site.limits.head_bytes_max)
        self._raw = bytearray()  # the request as it came, until its head is complete
        self._recording = True
        self._served = 0
        self._at_eof = False
        self._is_head = False  # a HEAD is answered without a body, a refusal of it included

    async def run(self) -> None:
        """Serve until either side ends it. The caller closes the stream; errors of the stream are the caller's."""
        try:
            while await self._exchange():
                self._served += 1
                self._h11.start_next_cycle()
                self._raw = bytearray(self._h11.trailing_data[0])
                self._recording = True
        except _Refusal as refusal:
            self._site.on_event(refusal.slug)
            if refusal.response is not None:
                await self._try_last_words(refusal.response)

    async def _exchange(self) -> bool:
        """One request and its response. Whether another may follow."""
        head = await self._read_head()
        if head is None:
            return False
        self._recording = False
        request = self._request(head, await self._read_body(head))
        del head
        answered = await self._answer(request)
        if isinstance(answered, Upgrade):
            if request.body or "transfer-encoding" in request.headers:
                raise _refuse("bad_request", 400, "an upgrade with a body")
            conversation = answered.run(self._stream, bytes(self._raw))
            # An upgraded connection lives for days; the parser and the request are a fifth of what it holds.
            del request, answered, self._h11, self._raw
            await conversation
            return False
        await self._respond(request, answered)
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    # Reading

    async def _read_head(self) -> h11.Request | None:
        """The next request head; None when there will be none."""
        limits = self._site.limits
        idle = self._served > 0 and not self._raw
        scope = trio.CancelScope(
            deadline=trio.current_time() + (limits.keep_alive_seconds if idle else limits.head_seconds)
        )
        event: type[h11.NEED_DATA | h11.PAUSED] | h11.Event = h11.NEED_DATA
        self._is_head = False
        self._waiting[self] = scope
        try:
            with scope:
                while (event := self._parse()) is h11.NEED_DATA:
                    await self._receive()
                    if idle:
                        idle = False
                        scope.deadline = trio.current_time() + limits.head_seconds
        finally:
            evicted = self._waiting.pop(self, None) is None
        if scope.cancelled_caught and evicted:
            raise _Refusal("evicted")
        if scope.cancelled_caught and not idle:
            raise _refuse("head_timeout", 408, "the request head did not arrive in time")
        if not isinstance(event, h11.Request):
            return None
        self._is_head = event.method == b"HEAD"
        # h11 bounds a head only while it waits for more of it; one that became whole with a read may be longer.
        if len(self._raw) - len(self._h11.trailing_data[0]) > limits.head_bytes_max:
            raise _refuse("head_too_large", 431, f"a request head of more than {limits.head_bytes_max} bytes")
        if event.http_version not in {b"1.1", b"1.0"}:
            raise _refuse("bad_request", 505, "only HTTP/1.1 is spoken here")
        return event

    async def _read_body(self, head: h11.Request) -> bytes:
        limits = self._site.limits
        declared = next((int(value) for name, value in head.headers if name == b"content-length"), 0)
        body = bytearray()
        with trio.move_on_after(limits.body_seconds) as scope:
            if declared <= limits.body_bytes_max and self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._write(self._h11.send(go_on))
            while declared <= limits.body_bytes_max and len(body) <= limits.body_bytes_max:
                event = self._parse()
                if event is h11.NEED_DATA:
                    await self._receive()
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return bytes(body)
        if scope.cancelled_caught:
            raise _refuse("body_timeout", 408, "the request body did not arrive in time")
        raise _refuse("body_too_large", 413, f"a request body of more than {limits.body_bytes_max} bytes")

    async def _receive(self) -> None:
        data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        async with self._turns:
            pass
        self._at_eof = not data
        if self._recording:
            self._raw += data
        self._h11.receive_data(data)

    def _parse(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            if self._at_eof:
                raise _Refusal("unfinished") from error
            slug: HttpEvent = "head_too_large" if error.error_status_hint == 431 else "bad_request"
            raise _refuse(slug, error.error_status_hint, str(error)) from error

    def _request(self, head: h11.Request, body: bytes) -> Request:
        trusted = self._site.trusted_proxies
        if not is_trusted(self._peer, trusted) and any(name == b"x-forwarded-for" for name, _ in head.headers):
            self._site.on_event("forwarded_untrusted")
        try:
            return request_of(head, body, self._peer, trusted)
        except ValueError as error:
            raise _refuse("bad_request", 400, str(error)) from error

    # Answering

    async def _answer(self, request: Request) -> Response | Upgrade:
        try:
            return await self._site.answer(request)
        except Exception as error:  # noqa: BLE001 -- the bulkhead of one request (design section 7)
            self._fail(request, error)
            return _FAILED

    def _fail(self, request: Request, error: Exception) -> None:
        """Count a fault of ours, or let it out when it must end the worker."""
        fatal = self._site.fatal
        if isinstance(error, fatal) or (isinstance(error, ExceptionGroup) and error.subgroup(fatal)):
            raise error
        self._site.on_event("answer_failed")
        self._site.on_failure(request, error)

    async def _respond(self, request: Request, response: Response) -> None:
        if isinstance(response.body, bytes):
            await self._send(request, response)
        else:
            async with aclosing(response.body):
                await self._send(request, response)

    async def _send(self, request: Request, response: Response) -> None:
        try:
            head = response_head(response, self._site.headers)
        except (h11.LocalProtocolError, ValueError) as error:  # a header or status that cannot be sent
            self._fail(request, error)
            response = _FAILED
            head = response_head(response, self._site.headers)
        bodiless = request.method == "HEAD" or response.status in BODILESS
        if isinstance(response.body, bytes):
            await self._send_whole(head, b"" if bodiless else response.body)
        elif bodiless:
            await self._send_whole(head, b"")
        else:
            await self._write(self._h11.send(head))
            await self._send_pieces(request, response.body)

    async def _send_whole(self, head: h11.Response, body: bytes) -> None:
        out = self._h11.send(head) or b""
        if body:
            out += self._h11.send(h11.Data(data=body)) or b""
        await self._write(out + (self._h11.send(h11.EndOfMessage()) or b""))

    async def _send_pieces(self, request: Request, body: AsyncGenerator[bytes, None]) -> None:
        """Send as the pieces come, until the last or until the peer is gone, which only a read can tell."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, nursery.cancel_scope)
            try:
                async for piece in body:
                    await self._write(self._h11.send(h11.Data(data=piece)))
                await self._write(self._h11.send(h11.EndOfMessage()))
            except _Refusal as refusal:
                self._site.on_event(refusal.slug)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise
            except Exception as error:  # noqa: BLE001 -- the same bulkhead: the response ends unfinished
                self._fail(request, error)
            nursery.cancel_scope.cancel()

    async def _write(self, data: bytes | None) -> None:
        view = memoryview(data or b"")
        for start in range(0, len(view), _SLICE_BYTES):
            with trio.move_on_after(self._site.limits.send_seconds) as scope:
                await self._stream.send_all(view[start : start + _SLICE_BYTES])
            if scope.cancelled_caught:
                raise _Refusal("send_timeout")

    async def _try_last_words(self, response: Response) -> None:
        """Answer and close so that the answer arrives: closing with unread bytes would reset the connection."""
        assert isinstance(response.body, bytes)
        with trio.move_on_after(_LINGER_SECONDS) as scope, suppress(trio.BrokenResourceError, h11.LocalProtocolError):
            head = response_head(response, self._site.headers, close=True)
            await self._send_whole(head, b"" if self._is_head else response.body)
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
                await self._drain(scope)

    async def _drain(self, scope: trio.CancelScope) -> None:
        """Read and discard until the peer has closed or has sent too much, then cancel."""
        received_bytes = 0
        with suppress(trio.BrokenResourceError):
            while received_bytes <= _LINGER_BYTES_MAX and (data := await self._stream.receive_some(_RECEIVE_BYTES)):
                received_bytes += len(data)
        scope.cancel()


def _refuse(slug: HttpEvent, status: int, message: str) -> _Refusal:
    return _Refusal(slug, error_response(status, _ERROR_NAMES[status], message[:200]))

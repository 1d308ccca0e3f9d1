"""Our WebSocket to a host: open it, take its messages in batches, notice when it is dead.

Owns the client side of a stream connection from URL to Close. Owns no policy: which URL, when to try again, what a
message means and how long a reader may stop are the caller's (`relay.crawl`). The hot path is `Subscription.receive`,
which does no work per message but the cut (`relay.net.tap`) and wakes no task.
"""

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import trio

from relay.net.dial import StreamOpener
from relay.net.errors import ConnectionClosed, HostRefused, MessageTooBig, NetError, NetTimeout, PeerSilent, TextMessage
from relay.net.exchange import Headers
from relay.net.guard import Origin, split_url
from relay.net.tap_stream import READ_BYTES, TapStream
from relay.net.watch import WatchedStream, ping_when_quiet, wait_silent
from relay.net.websocket import Link, link_nursery, run_client_link
from relay.protocol.limits import MESSAGE_BYTES_MAX

CLOSE_SECONDS = 2.0  # for our Close and the answer to it
_NORMAL, _TEXT_REFUSED = 1000, 1003


class Subscription:
    """An open subscription. One task receives; leave its `async with` block after any error.

    Attributes:
        headers: of the host's answer to the upgrade, names in lower case, in order.
    """

    def __init__(self, stream: WatchedStream, tap: TapStream, link: Link, message_bytes_max: int) -> None:
        self._stream = stream
        self._tap = tap
        self._link = link
        self._message_bytes_max = message_bytes_max
        self._fault: NetError | None = None
        self._is_closed = False
        self.headers = link.headers

    @property
    def server(self) -> str:
        """The host's Server header, "" if it sent none (the loop guard looks at it, protocol.md section 21)."""
        return next((value for name, value in self.headers if name == "server"), "")

    async def receive(self) -> list[bytes]:
        """The next whole binary messages, at least one: all that one read of 64 KiB completed, in order.

        Reads only while it is called, so a caller that stays away stops the host by TCP backpressure; pings of the host
        wait as long. The silence clock runs only inside. May be cancelled without loss. Raises the same error again
        when called after one:

        Raises:
            ConnectionClosed: a Close came (its code and reason), the connection broke (1006), the host broke the
                WebSocket protocol (1002, 1007), or `close` was called.
            TextMessage: bad framing (protocol.md 2.3).
            MessageTooBig: above `message_bytes_max`, reassembled, or in too many parts; known from frame headers and
                not buffered.
            PeerSilent: nothing read for 90 s inside this call.
        """
        if self._fault is not None:
            raise self._fault
        self._stream.waiting_since = trio.current_time()
        try:
            while True:
                messages = await self._tap.pull()
                if messages:
                    return messages
                if self._tap.is_oversize:
                    raise MessageTooBig(f"a message above {self._message_bytes_max} bytes, or in too many parts")
                if self._tap.owes_message or self._tap.is_released or self._link.is_closed:
                    return [await self._take()]
        except NetError as error:
            self._fail(error)
            raise self._fault or error from None
        finally:
            self._stream.waiting_since = None

    async def close(self, code: int = _NORMAL, reason: str = "") -> None:
        """Send a Close and wait up to 2 s for the answer; what still arrives is discarded. Later calls do nothing.

        Not while another task is in `receive`.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._tap.release()
        with trio.move_on_after(CLOSE_SECONDS):
            await self._link.close(code, reason)
        self._fail(ConnectionClosed(code, reason))

    async def _take(self) -> bytes:
        message = await self._link.get_message()
        self._tap.message_taken()
        if isinstance(message, str):
            raise TextMessage("a text message")
        return message

    def _fail(self, error: NetError) -> None:
        """Keep the first error, and stop the library from reading on where no Close handshake is to follow."""
        if self._fault is None:
            self._fault = error
        if not isinstance(self._fault, TextMessage):
            self._stream.shut()

    async def _reap(self, raw: trio.abc.Stream) -> None:
        await wait_silent(self._stream)
        self._fail(PeerSilent("nothing read for 90 s"))
        await trio.aclose_forcefully(raw)

    async def _leave(self) -> None:
        if self._fault is None:
            await self.close()
        elif isinstance(self._fault, TextMessage):
            await self.close(_TEXT_REFUSED, "text messages are not part of this stream")


@asynccontextmanager
async def open_subscription(
    opener: StreamOpener,
    url: str,
    *,
    user_agent: str,
    handshake_seconds: float,
    headers: Headers = (),
    message_bytes_max: int = MESSAGE_BYTES_MAX,
) -> AsyncGenerator[Subscription, None]:
    """Connect to `url` (ws or wss; path and query are sent as they are) and upgrade, all within `handshake_seconds`.

    The block's own exceptions leave it as they are. At its end the connection is closed: politely within 2 s, at once
    after an error of `receive` or when cancelled.

    Raises:
        UpgradeRefused: any answer but 101; redirects are not followed.
        ConnectionClosed: the connection ended during the handshake (1006), or the answer is no valid upgrade (1002).
        NetTimeout: not open in time.
        HostRefused: not a ws or wss URL that `split_url` takes. Other leaves: as `opener` raises them.
    """
    origin, target = _split(url)
    raw: trio.abc.Stream | None = None
    try:
        async with link_nursery() as nursery:
            with _deadline(handshake_seconds, url):
                raw = await opener.open_stream(origin.host, origin.port, tls=origin.tls)
                stream = WatchedStream(raw)
                tap = TapStream(stream, message_bytes_max)
                fields = (("User-Agent", user_agent), *headers)
                link = await nursery.start(partial(_run_link, tap, origin, target, fields, message_bytes_max))
            subscription = Subscription(stream, tap, link, message_bytes_max)
            nursery.start_soon(ping_when_quiet, stream, _masked_ping)
            nursery.start_soon(subscription._reap, raw)  # noqa: SLF001 -- a subscription and its opener are one thing
            try:
                yield subscription
            finally:
                await subscription._leave()  # noqa: SLF001 -- as above
    finally:
        if raw is not None:
            await trio.aclose_forcefully(raw)


def _split(url: str) -> tuple[Origin, str]:
    origin, target = split_url(url)
    if not url.lower().startswith("ws"):
        raise HostRefused(f"not a ws or wss URL: {url[:260]!r}")
    return origin, target


@contextmanager
def _deadline(seconds: float, url: str) -> Generator[None, None, None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as error:
        raise NetTimeout(f"{url}: no WebSocket within {seconds:g} s") from error


async def _run_link(
    tap: TapStream,
    origin: Origin,
    target: str,
    headers: Headers,
    message_bytes_max: int,
    *,
    task_status: trio.TaskStatus[Link],
) -> None:
    try:
        await run_client_link(
            tap,
            origin.name,
            target,
            headers,
            message_bytes_max=message_bytes_max,
            read_bytes=READ_BYTES,
            task_status=task_status,
        )
    finally:
        tap.library_ended()


def _masked_ping() -> bytes:
    """A Ping without payload as a client sends it; no payload, so a pong needs no book-keeping (RFC 6455 5.5.2)."""
    return b"\x89\x80" + os.urandom(4)

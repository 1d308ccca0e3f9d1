"""`com.atproto.sync.subscribeRepos`: from the request to a seated consumer, and every refusal before the upgrade.

Owns the order of the checks (protocol.md section 2.2): cursor, upgrade, limits; and the way of one connection through
its life. Whatever happens to a consumer's connection ends here, with one reason that is counted.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from relay.net.consumer_socket import ConsumerSocket, accept_consumer
from relay.net.errors import ConnectionClosed, NetError, PeerSilent
from relay.net.exchange import Headers, Request, Response, Upgrade
from relay.net.handshake import VERSION, is_key, plain_request
from relay.observe.metrics import ServeMetrics
from relay.protocol.frame import STREAM_PATH
from relay.serve.audience import Audience, Seat, Visitor
from relay.serve.consumer import Consumer, End
from relay.serve.cursor import Bad, Future, Start, find_start, parse_cursor
from relay.serve.routes import STREAM, Route
from relay.serve.tail import Tail
from relay.serve.xrpc import Refusal, bad_request, too_many, values
from relay.store.store import Store

RETRY_AFTER_SECONDS = 30
_USER_AGENT_CHARS_MAX = 256
ABNORMAL = 1006  # no Close came


class Subscriptions:
    """Answers requests for the stream and runs the connections that come of them."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        audience: Audience,
        *,
        read_bytes: int,
        headers: Headers,
        metrics: ServeMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._tail = tail
        self._audience = audience
        self._read_bytes = read_bytes
        self._headers = headers
        self._metrics = metrics
        self._now_ms = now_ms

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The path served here; other verbs get a 405 from the router."""
        yield STREAM_PATH, Route(STREAM, self.subscribe, limited=False)  # places are what limits it

    async def subscribe(self, request: Request) -> Response | Upgrade:
        """An upgrade, or why not."""
        cursor = parse_cursor(values(request.query, "cursor"))
        if isinstance(cursor, Bad):
            raise bad_request(cursor.message)
        key = _upgrade_key(request)
        if self._audience.closing:
            retry = (("Retry-After", str(RETRY_AFTER_SECONDS)),)
            raise Refusal(503, "ShuttingDown", "the relay is going away; connect again", retry)
        refusal = self._audience.refusal(request.client)
        if refusal is not None:
            raise too_many(refusal, RETRY_AFTER_SECONDS)
        user_agent = request.headers.get("user-agent", "")[:_USER_AGENT_CHARS_MAX]
        visitor = Visitor(request.client, user_agent, self._now_ms())
        # In a fresh txn, and before the handshake: who has read our 101 gets everything that is appended from then on.
        window = self._store.window()
        start = find_start(cursor, floor_seq=window.floor_seq, tip_seq=window.tip_seq, raises=window.raises)
        return Upgrade(partial(self._attend, key=key, visitor=visitor, start=start))

    async def _attend(
        self, stream: trio.abc.Stream, head_bytes: bytes, *, key: str, visitor: Visitor, start: Start | Future
    ) -> None:
        """Own the connection until it is over."""
        opening = accept_consumer(stream, plain_request(key, head_bytes), headers=self._headers)
        del head_bytes  # not to be kept for days
        with self._audience.seat(visitor) as seat:
            end = End.SHUTDOWN  # what it is when the whole worker is cancelled
            try:
                with seat.scope:
                    end = await self._converse(opening, seat, start)
            except (NetError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                end = End.REFUSED if seat.consumer is None else _end_of(error)
            finally:
                self._metrics.disconnects.labels(seat.cut_as or end).inc()

    async def _converse(
        self, opening: AbstractAsyncContextManager[ConsumerSocket], seat: Seat, start: Start | Future
    ) -> End:
        async with opening as socket:
            consumer = Consumer(
                socket, start, tail=self._tail, reader=self._store.reader(), read_bytes=self._read_bytes
            )
            seat.consumer = consumer
            if self._audience.closing:
                consumer.end(End.SHUTDOWN, flush=True)
            return await consumer.run()


def _upgrade_key(request: Request) -> str:
    """The key of a sound WebSocket handshake. Raises `Refusal`."""
    if not request.wants_websocket or request.headers.get("sec-websocket-version") != VERSION:
        upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", VERSION))
        raise Refusal(426, "UpgradeRequired", f"this endpoint is a WebSocket of version {VERSION}", upgrade)
    key = request.headers.get("sec-websocket-key", "")
    if not is_key(key):
        raise bad_request("Sec-WebSocket-Key must be 16 bytes in base64")
    return key


def _end_of(error: Exception) -> End:
    if isinstance(error, PeerSilent):
        return End.SILENT
    if isinstance(error, ConnectionClosed) and error.code != ABNORMAL:
        return End.CLOSED
    return End.LOST

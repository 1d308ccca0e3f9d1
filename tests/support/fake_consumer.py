"""A consumer for tests: a WebSocket client over any trio stream, with nothing of ours in it but the frame reader."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)

from relay.protocol.frame import MessageFrame, parse_frame

PATH = "/xrpc/com.atproto.sync.subscribeRepos"


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """The server answered with plain HTTP."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"{status} {body!r}")
        self.status = status
        self.headers = headers
        self.body = body


class Closed(NamedTuple):
    """How the stream ended. `code` is 1006 without a Close, as browsers say."""

    code: int
    reason: str


class FakeConsumer:
    """An open subscription. `pongs` are the payloads of pongs that came in between."""

    def __init__(self, stream: trio.abc.Stream, websocket: WSConnection, *, answers: bool = True) -> None:
        self.stream = stream
        self.websocket = websocket
        self.pongs: list[bytes] = []
        self.pings = 0
        self.answers = answers
        self._events: list[Event] = []
        self._message = bytearray()

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.websocket.send(event))

    async def receive(self) -> bytes | Closed:
        """The next binary message, or the end; control frames are answered on the way."""
        while True:
            event = await self._next_event()
            if isinstance(event, BytesMessage):
                self._message += event.data
                if event.message_finished:
                    message = bytes(self._message)
                    self._message.clear()
                    return message
            elif isinstance(event, Ping):
                self.pings += 1
                if self.answers:
                    await self.send(event.response())
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                if self.answers and self.websocket.state is ConnectionState.REMOTE_CLOSING:
                    await self.send(event.response())
                return Closed(event.code, event.reason or "")
            elif isinstance(event, Closed):
                return event
            else:
                pytest.fail(f"a server does not send {event!r}")

    async def frames(self, count: int) -> list[bytes]:
        """The next `count` messages; an end before that fails the test."""
        frames = []
        for _ in range(count):
            frame = await self.receive()
            assert isinstance(frame, bytes), frame
            frames.append(frame)
        return frames

    async def seqs(self, count: int) -> list[int]:
        """The seqs of the next `count` messages."""
        return [seq_of(frame) for frame in await self.frames(count)]

    async def rest(self) -> tuple[list[bytes], Closed]:
        """Everything up to the end."""
        frames = []
        while isinstance(frame := await self.receive(), bytes):
            frames.append(frame)
        return frames, frame

    async def _next_event(self) -> Event | Closed:
        while not self._events:
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                return Closed(1006, "")
            self.websocket.receive_data(bytes(data))
            self._events = list(self.websocket.events())
        return self._events.pop(0)


def seq_of(frame: bytes) -> int:
    parsed = parse_frame(frame)
    assert isinstance(parsed, MessageFrame), parsed
    seq = parsed.payload["seq"]
    assert isinstance(seq, int)
    return seq


async def upgrade(stream: trio.abc.Stream, target: str = PATH, **options: object) -> FakeConsumer:
    """Shake hands on an open stream. Raises `Refused`. `options` go into wsproto's `Request`."""
    websocket = WSConnection(ConnectionType.CLIENT)
    consumer = FakeConsumer(stream, websocket)
    await stream.send_all(websocket.send(Request(host="relay.test", target=target, **options)))  # type: ignore[arg-type] # options of a dataclass
    event = await consumer._next_event()
    if isinstance(event, AcceptConnection):
        assert event.subprotocol is None
        return consumer
    assert isinstance(event, RejectConnection), event
    body = b""
    finished = not event.has_body
    while not finished:
        data = await consumer._next_event()
        assert isinstance(data, RejectData)
        body += data.data
        finished = data.body_finished
    headers = {name.decode().lower(): value.decode() for name, value in event.headers}
    raise Refused(event.status_code, headers, body)


@asynccontextmanager
async def connect(port: int, query: str = "") -> AsyncGenerator[FakeConsumer, None]:
    """Subscribe to a relay on loopback. `query` such as "?cursor=5"."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        yield await upgrade(stream, PATH + query)
    finally:
        await trio.aclose_forcefully(stream)

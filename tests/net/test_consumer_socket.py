"""The consumer's side of the stream: pre-framed messages out, control frames between them, ends that end only one."""

# ruff: noqa: PT012 - the end of a connection is raised by its `async with` block, so the block is what is watched

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from relay.net.consumer_socket import CLIENT_READ_BYTES, ConsumerSocket, accept_consumer
from relay.net.errors import ConnectionClosed, PeerSilent
from relay.net.flood import FRAMES_BURST
from relay.net.subscription_socket import open_subscription
from relay.net.websocket import link_nursery
from tests.net.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    TcpOpener,
    close_frame,
    frame,
    read_frames,
    read_head,
    sent_frames,
    upgrade_answer,
    upgrade_request,
)

MASK = b"mask"


@asynccontextmanager
async def accepted(request: bytes = upgrade_request()) -> AsyncGenerator[tuple[ConsumerSocket, trio.abc.Stream], None]:
    """A consumer's socket over a memory stream, and the client's end with the 101 already read."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with accept_consumer(ours, request) as consumer:
        await read_head(theirs)
        yield consumer, theirs


# The handshake


async def test_upgrade_from_a_request_read_before(autojump_clock: trio.testing.MockClock) -> None:
    """The library answers the replayed head; caller's headers are added, nothing optional is selected."""
    ours, theirs = trio.testing.memory_stream_pair()
    offers = b"Sec-WebSocket-Protocol: xrpc.v1.json, x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    async with accept_consumer(ours, upgrade_request(offers), headers=(("Server", "relay/1"),)) as consumer:
        head = await read_head(theirs)
        await consumer.send_messages(frame(BINARY, b"1"))
        assert await sent_frames(theirs) == [(BINARY, b"1")]

    assert head.lower() == upgrade_answer(upgrade_request(), b"Server: relay/1\r\n").lower()


async def test_frames_read_with_the_request_are_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    """A client that does not wait for the 101 still has its frames read at their borders."""
    early = frame(PING, b"early", mask=MASK)
    async with accepted(upgrade_request() + early[:5]) as (_, client):
        await client.send_all(early[5:] + frame(PING, b"later", mask=MASK))
        assert await sent_frames(client) == [(PONG, b"early"), (PONG, b"later")]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (upgrade_request(version=b"8"), b"426"),
        (upgrade_request().replace(b"Upgrade: websocket", b"Upgrade: h2c"), b"400"),
        (upgrade_request().replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Kex"), b"400"),
        (upgrade_request().replace(b"GET", b"GETS"), b"400"),
        (upgrade_request(b"X\xff\xfe: \x00\r\n"), b"400"),
        (upgrade_request(host=b"xn--a.example"), b""),
        (upgrade_request(b"Connection: \xff\r\n"), b""),
    ],
)
async def test_invalid_request_ends_only_this_connection(request_head: bytes, status: bytes) -> None:
    """It gets the library's answer where that has one, and never waits or crashes (an odd Host is a Unicode error)."""
    ours, theirs = trio.testing.memory_stream_pair()
    with pytest.raises(ConnectionClosed):
        async with accept_consumer(ours, request_head):
            raise AssertionError("it opened")
    answer = bytes(await theirs.receive_some(65_536))

    assert answer.startswith(b"HTTP/1.1 " + status) if status else answer == b""


async def test_client_gone_before_the_answer() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    await trio.aclose_forcefully(theirs)
    with pytest.raises(ConnectionClosed):
        async with accept_consumer(ours, upgrade_request()):
            raise AssertionError("it opened")


# What the client sends


async def test_client_data_is_ignored(autojump_clock: trio.testing.MockClock) -> None:
    """Text, binary, fragments: none is an error (protocol.md 2.1), and pings behind them are answered alike."""
    async with accepted() as (_, client):
        for number in range(50):
            await client.send_all(
                frame(TEXT, b"hello", mask=MASK)
                + frame(BINARY, bytes(60_000), mask=MASK)
                + frame(PING, b"%d" % number, mask=MASK)
            )
        assert await sent_frames(client) == [(PONG, b"%d" % number) for number in range(50)]


@pytest.mark.parametrize(
    "flood",
    [frame(TEXT, mask=MASK), frame(PING, mask=MASK), frame(CONTINUATION, fin=False, mask=MASK)],
    ids=["messages", "pings", "fragments"],
)
async def test_a_flood_is_read_no_further(flood: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """What is read of it is bounded however much comes; sending goes on, and the caller says goodbye with a Close."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    sent = 0
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            nonlocal sent
            await theirs.send_all(frame(BINARY, fin=False, mask=MASK) if flood[0] == CONTINUATION else b"")
            with suppress(trio.BrokenResourceError):
                while True:
                    await theirs.send_all(flood * 100)
                    sent += 100

        async def read() -> None:
            await read_head(theirs)
            nursery.start_soon(send)
            with suppress(trio.ClosedResourceError):
                while data := await theirs.receive_some(65_536):
                    received.extend(data)

        received = bytearray()
        nursery.start_soon(read)
        async with accept_consumer(ours, upgrade_request()) as consumer:
            await trio.testing.wait_all_tasks_blocked()
            assert consumer.is_flooding
            await consumer.send_messages(frame(BINARY, b"still"))
            await consumer.close(1008, "flooding")
        nursery.cancel_scope.cancel()

    assert FRAMES_BURST / 2 < sent <= FRAMES_BURST + CLIENT_READ_BYTES
    words = [word for word in read_frames(bytes(received)) if word[0] != PONG]
    assert words == [(BINARY, b"still"), (CLOSE, (1008).to_bytes(2) + b"flooding")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, bytes(65_537), mask=MASK), 1009),
        (frame(BINARY, b"unmasked"), 1002),
        (b"\xff" * 100, 1002),
        (frame(TEXT, b"\xff", mask=MASK), 1007),
        (close_frame(1001, "bye", mask=MASK), 1001),
    ],
)
async def test_end_by_the_client_cancels_the_block(data: bytes, code: int) -> None:
    """The serving loop, wherever it waits, ends; the reason comes out of the block."""
    with pytest.raises(ConnectionClosed) as caught:
        async with accepted() as (_, client):
            await client.send_all(data)
            await trio.sleep_forever()

    assert caught.value.code == code


async def test_client_that_vanishes() -> None:
    with pytest.raises(ConnectionClosed) as caught:
        async with accepted() as (_, client):
            await client.aclose()
            await trio.sleep_forever()

    assert caught.value.code == 1006


# Pings and silence


async def test_ping_after_30_seconds_without_a_word(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(PeerSilent):
        async with accepted() as (consumer, client):
            for second in range(31):
                await consumer.send_messages(frame(BINARY, b"%d" % second))
                await trio.sleep(1)
            words = await sent_frames(client)
            pinged = [at for at, (kind, _) in enumerate(words) if kind == PING]
            assert pinged in ([30], [31])  # what happens in one instant has no order
            await trio.sleep_forever()


async def test_half_open_client_is_reaped_after_90_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """Although sending still works (checklist 14); one that answers pings and says nothing else stays."""
    with pytest.raises(PeerSilent):
        async with accepted() as (consumer, client):
            for _ in range(10):
                await trio.sleep(30)
                await client.send_all(frame(PONG, mask=MASK))
            while True:
                await consumer.send_messages(frame(BINARY, b"still sending"))
                await trio.sleep(1)
    assert trio.current_time() == pytest.approx(300 + 90, abs=1)


async def test_slow_reader_with_waiting_pongs_is_not_silent(autojump_clock: trio.testing.MockClock) -> None:
    """While a pong waits behind a slow send nobody reads, and our silence is not theirs: the caller judges progress."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with link_nursery() as nursery:

        async def client() -> None:
            await read_head(theirs)
            await theirs.send_all(frame(PING, b"?", mask=MASK))
            await trio.sleep(500)
            await theirs.receive_some(65_536)

        nursery.start_soon(client)
        async with accept_consumer(ours, upgrade_request()) as consumer:
            await consumer.send_messages(frame(BINARY, bytes(60_000)))
            assert trio.current_time() == pytest.approx(500)
            assert consumer.accepted_bytes > 60_000
            nursery.cancel_scope.cancel()


# Sending


async def test_control_frames_go_between_sends() -> None:
    """Prebuilt messages and pongs share one stream; every frame is whole (read_frames would stumble)."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    batch = b"".join(frame(BINARY, b"%05d" % number) for number in range(100))
    received = bytearray()
    async with link_nursery() as nursery:

        async def client() -> None:
            await read_head(theirs)
            nursery.start_soon(ping)
            while data := await theirs.receive_some(777):
                received.extend(data)

        async def ping() -> None:
            for number in range(20):
                await theirs.send_all(frame(PING, b"%d" % number, mask=MASK))

        nursery.start_soon(client)
        async with accept_consumer(ours, upgrade_request()) as consumer:
            for _ in range(50):
                await consumer.send_messages(batch)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    frames = read_frames(bytes(received))

    assert [payload for opcode, payload in frames if opcode == BINARY] == [b"%05d" % n for n in range(100)] * 50
    assert [payload for opcode, payload in frames if opcode == PONG] == [b"%d" % n for n in range(20)]
    assert frames[-1][0] == BINARY, "no pong came between the sends"


async def test_progress_is_visible_inside_a_large_message() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with link_nursery() as nursery:

        async def client() -> None:
            await read_head(theirs)
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                seen.append(consumer.accepted_bytes)
                for _ in range(16):
                    await theirs.receive_some(4_096)
            nursery.cancel_scope.cancel()

        seen: list[int] = []
        nursery.start_soon(client)
        async with accept_consumer(ours, upgrade_request()) as consumer:
            await consumer.send_messages(memoryview(frame(BINARY, bytes(1_000_000))))

    assert seen[0] < seen[1] < seen[2] < 1_000_000


async def test_cancelled_send_leaves_nothing_but_the_end(autojump_clock: trio.testing.MockClock) -> None:
    """A frame was cut off: no error frame, no Close, no waiting (design section 8, rule 7)."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    rest = b""
    async with trio.open_nursery() as nursery:

        async def client() -> None:
            nonlocal rest
            await read_head(theirs)
            await theirs.receive_some(10)
            await trio.sleep(5)
            while data := await theirs.receive_some(1_000):
                rest += data

        nursery.start_soon(client)
        async with accept_consumer(ours, upgrade_request()) as consumer:
            with trio.move_on_after(1):
                await consumer.send_messages(frame(BINARY, bytes(500)))
            with pytest.raises(ConnectionClosed):
                await consumer.send_messages(frame(BINARY, b"next"))
            await consumer.close_with_error(b"error frame", "ConsumerTooSlow")
            assert trio.current_time() == pytest.approx(1.0)

    assert b"error frame" not in rest
    assert re.search(rb"\x88.\x03\xf0", rest) is None


# Ends


async def test_error_frame_then_close(autojump_clock: trio.testing.MockClock) -> None:
    """One binary message, then Close 1008 with the error's name (protocol.md 2.6), and no wait once it is answered."""
    frames: list[tuple[int, bytes]] = []
    async with trio.open_nursery() as nursery:

        async def answer(client: trio.abc.Stream) -> None:
            await trio.sleep(1)
            frames.extend(read_frames(bytes(await client.receive_some(65_536))))
            await client.send_all(frame(BINARY, b"in flight", mask=MASK) + close_frame(1008, mask=MASK))

        async with accepted() as (consumer, client):
            nursery.start_soon(answer, client)
            await consumer.close_with_error(b"two items", "FutureCursor")
            assert trio.current_time() == pytest.approx(1.0)
            with pytest.raises(ConnectionClosed):
                await consumer.send_messages(frame(BINARY, b"too late"))

    assert frames == [(BINARY, b"two items"), (CLOSE, (1008).to_bytes(2) + b"FutureCursor")]


async def test_unanswered_close_takes_two_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """`aclose` alone waits for ever (design section 8, rule 9)."""
    async with accepted() as (consumer, client):
        await consumer.close(1001, "restart")
        assert trio.current_time() == pytest.approx(2.0)
        assert await sent_frames(client) == [(CLOSE, (1001).to_bytes(2) + b"restart")]


async def test_client_that_takes_nothing_is_left_after_two_seconds(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_head, theirs)
        async with accept_consumer(ours, upgrade_request()) as consumer:
            await consumer.close_with_error(b"two items", "ConsumerTooSlow")
            assert trio.current_time() == pytest.approx(2.0)


async def test_ping_after_our_close_ends_only_this_connection(autojump_clock: trio.testing.MockClock) -> None:
    """Measured with the stock `serve_websocket`: the whole server dies. Here siblings go on, and input is read out."""
    async with trio.open_nursery() as nursery:
        sibling_ended: list[float] = []

        async def sibling() -> None:
            async with accepted() as (consumer, client):
                await trio.sleep(10)
                await consumer.send_messages(frame(BINARY, b"alive"))
                assert await sent_frames(client) == [(BINARY, b"alive")]
            sibling_ended.append(trio.current_time())

        async def ping_after_close(client: trio.abc.Stream) -> None:
            await client.receive_some(65_536)
            await client.send_all(frame(PING, b"too late", mask=MASK) + close_frame(1001, mask=MASK))
            await trio.sleep(1)
            await client.aclose()

        nursery.start_soon(sibling)
        async with accepted() as (consumer, client):
            nursery.start_soon(ping_after_close, client)
            await consumer.close(1001)
            assert trio.current_time() == pytest.approx(1.0)

    assert sibling_ended == [pytest.approx(12.0)]  # its own Close goes unanswered


async def test_leaving_the_block_closes_with_1000(autojump_clock: trio.testing.MockClock) -> None:
    async with accepted() as (_, client):
        pass

    assert await sent_frames(client) == [(CLOSE, (1000).to_bytes(2))]


async def test_the_block_s_own_error_comes_out_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with accepted() as (_, client):
            raise KeyError("mine")
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")

    assert trio.current_time() == 0


async def test_cancelled_block_closes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(5) as scope:
        async with accepted():
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(5.0)


# Real sockets


async def test_both_sides_over_tcp() -> None:
    """Our server feeds our client 20,000 messages in order, then says why it ends."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    payloads = [b"%06d" % number * (number % 300) for number in range(20_000)]

    async def serve() -> None:
        stream = await listener.accept()
        async with accept_consumer(stream, await read_head(stream)) as consumer:
            for at in range(0, len(payloads), 50):
                await consumer.send_messages(b"".join(frame(BINARY, payload) for payload in payloads[at : at + 50]))
            await consumer.close_with_error(b"the error", "ConsumerTooSlow")

    received: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with open_subscription(
            TcpOpener(), f"ws://127.0.0.1:{port}/", user_agent="test", handshake_seconds=5
        ) as subscription:
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    received += await subscription.receive()
    await listener.aclose()

    assert received == [*payloads, b"the error"]
    assert (caught.value.code, caught.value.reason) == (1008, "ConsumerTooSlow")


async def test_pongs_wait_less_than_a_second_behind_large_sends() -> None:
    """A reader of about 1 MB/s with 64 KiB slices queued without end has its pings answered at slice borders."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 65_536)
    port = listener.socket.getsockname()[1]
    slice_bytes = frame(BINARY, bytes(65_000))

    async def serve() -> None:
        stream = await listener.accept()
        with pytest.raises(ConnectionClosed):
            async with accept_consumer(stream, await read_head(stream)) as consumer:
                while True:
                    await consumer.send_messages(slice_bytes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        socket = trio.socket.socket()
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65_536)
        await socket.connect(("127.0.0.1", port))
        client = trio.SocketStream(socket)
        await client.send_all(upgrade_request())
        await read_head(client)
        data = bytearray()
        while len(data) < 300_000:  # the server is now well inside its sends
            data += await client.receive_some(16_384)
        await client.send_all(frame(PING, b"where?", mask=MASK))
        behind = 0
        while (PONG, b"where?") not in read_frames(bytes(data)):
            part = await client.receive_some(16_384)
            data += part
            behind += len(part)
        await client.aclose()
    await listener.aclose()

    assert behind < 1_000_000

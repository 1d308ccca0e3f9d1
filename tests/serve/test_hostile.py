"""What strangers do to a serve worker: each is bounded and counted, and a consumer beside it notices nothing."""

import math
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, Event, TextMessage

from relay.serve.settings import ServeRoleSettings
from tests.support.fake_consumer import PATH, Closed, FakeConsumer, connect, upgrade
from tests.support.serving import LOG, Serving, request, serve

REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: relay.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
).encode()


PLACES = 60


async def answered(stream: trio.abc.Stream) -> bytes:
    """All that comes until the server ends the connection."""
    data = b""
    with trio.fail_after(10):
        try:
            while part := await stream.receive_some(65_536):
                data += part
        except trio.BrokenResourceError:
            pass
    return data


async def send_for_ever(consumer: FakeConsumer, event: Event) -> None:
    """Until the other end is gone."""
    while True:
        await consumer.send(event)


async def garbage_after_the_handshake(serving: Serving) -> None:
    """Bytes that are no WebSocket frames: Close 1002 or nothing, and the end."""
    rng = random.Random(1)
    for _ in range(10):
        async with connect(serving.port) as consumer:
            await consumer.stream.send_all(b"\xff" + rng.randbytes(500))
            _, closed = await consumer.rest()
            assert closed.code in (1002, 1006)


async def text_and_unmasked_frames(serving: Serving) -> None:
    """Text is ignored like everything that a client says; a frame without its mask breaks the protocol."""
    async with connect(serving.port) as consumer:
        await consumer.send(TextMessage(data="{}"))
        serving.log.append()
        assert isinstance(await consumer.receive(), bytes)
        await consumer.stream.send_all(b"\x82\x01x")
        _, closed = await consumer.rest()
        assert closed.code in (1002, 1006)


async def a_message_without_end(serving: Serving) -> None:
    """More than 64 KiB in one message, in as many fragments as it likes."""
    async with connect(serving.port) as consumer:
        part = BytesMessage(data=b"x" * 60_000, message_finished=False)
        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever(consumer, part)


async def one_byte_at_a_time(serving: Serving) -> None:
    """A handshake in pieces is a handshake."""
    stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
    async with stream:
        for byte in REQUEST + b"\r\n":
            await stream.send_all(bytes([byte]))
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 101")


async def headers_beyond_all_measure(serving: Serving) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
    async with stream:
        await stream.send_all(REQUEST + b"X-Filler: " + b"x" * 20_000)
        assert b" 431 " in (await answered(stream)).split(b"\r\n")[0]


async def upgrades_that_end_in_the_middle(serving: Serving) -> None:
    """At every place of the request, politely and by reset."""
    for cut in range(0, len(REQUEST), 40):
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        await stream.send_all(REQUEST[: cut + 1])
        if cut % 80:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()


async def cursors_of_every_wrong_kind(serving: Serving) -> None:
    wrong = ("", "-1", "+1", "1.0", "1e3", "0x10", "%20", "%001", "abc", "9" * 17, "9" * 5000, "%F0%9F%92%A9", "1,2")
    for cursor in wrong:
        reply = await serving.get(f"{PATH}?cursor={cursor}")
        assert (reply.status, reply.json["error"]) == (400, "InvalidRequest"), cursor


async def sockets_that_vanish(serving: Serving) -> None:
    """Reset in the middle of what is being sent to them."""
    for _ in range(20):
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        await upgrade(stream, f"{PATH}?cursor=0")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()


async def connects_by_the_hundred(serving: Serving) -> None:
    """Four hundred at once from one address: it gets its places, the rest is told to come later."""
    statuses: list[bytes] = []
    everybody = trio.Event()

    async def one() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            await stream.send_all(REQUEST + b"\r\n")
            statuses.append((await stream.receive_some(65_536)).split(b" ")[1])
            if len(statuses) == 400:
                everybody.set()
            await everybody.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(400):
            nursery.start_soon(one)
    assert Counter(statuses) == {b"101": PLACES - 1, b"429": 401 - PLACES}  # one place is the other consumer's


HOSTILE = [
    garbage_after_the_handshake,
    text_and_unmasked_frames,
    a_message_without_end,
    one_byte_at_a_time,
    headers_beyond_all_measure,
    upgrades_that_end_in_the_middle,
    cursors_of_every_wrong_kind,
    sockets_that_vanish,
    connects_by_the_hundred,
]


@pytest.mark.parametrize("attack", HOSTILE)
async def test_a_consumer_beside_it_notices_nothing(
    tmp_path: Path, attack: Callable[[Serving], Awaitable[None]]
) -> None:
    """It gets every event of before, between and after; no place is kept; every connection is counted."""
    async with serve(tmp_path, per_address=PLACES) as serving, connect(serving.port) as other:
        serving.log.append(50, pad_bytes=20_000)
        await attack(serving)
        serving.log.append(3)
        expected = serving.log.after(0)
        assert await other.frames(len(expected)) == expected
        with trio.fail_after(5):
            while len(serving.worker.audience) > 1:  # noqa: ASYNC110 -- the worker has no event for this
                await trio.sleep(0.01)
        assert serving.disconnects().get("stalled", 0) == 0


@pytest.mark.parametrize(
    "flood",
    [b"\x81\x80mask", b"\x89\x80mask", b"\x01\x80mask" + b"\x00\x80mask" * 2000],
    ids=["messages", "pings", "fragments"],
)
async def test_a_flood_of_frames_without_bytes_ends_with_1008(
    tmp_path: Path, flood: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    """No bound on bytes ever meets it: it is read no further, told why, and counted under a reason of its own."""
    async with serve(tmp_path) as serving, serving.connect() as consumer, trio.open_nursery() as nursery:
        consumer.answers = False  # nobody takes what it says
        nursery.start_soon(consumer.stream.send_all, flood if len(flood) > 6 else flood * 2000)
        frames, closed = await consumer.rest()
        assert (frames, closed) == ([], Closed(1008, "flooding"))
        nursery.cancel_scope.cancel()
        await serving.gone()
        assert serving.disconnects() == {"flooding": 1}


async def test_an_end_of_a_connection_is_counted_once_whatever_ended_it(tmp_path: Path) -> None:
    async with serve(tmp_path, per_address=PLACES) as serving:
        await sockets_that_vanish(serving)
        await garbage_after_the_handshake(serving)
        await serving.gone()
        assert sum(serving.disconnects().values()) == 30


async def test_last_words_reach_a_client_whose_buffers_were_full(tmp_path: Path) -> None:
    """Nothing fits any more, in the middle of a frame; what is left of it and the error frame wait in the kernel."""
    async with serve(tmp_path, stall_seconds=1, hot_bytes=64 << 10) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            slow = await upgrade(stream)
            with trio.fail_after(20):
                while not serving.disconnects():
                    serving.log.append(20, pad_bytes=20_000)
                    await trio.sleep(0.02)
            assert serving.disconnects() == {"stalled": 1}
            frames, closed = await slow.rest()
        assert closed == Closed(1008, "ConsumerTooSlow")
        assert frames[:-1] == serving.log.after(0)[: len(frames) - 1]


# Counted before there is a consumer

POST = b"POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: relay.test\r\n"
CONNECTIONS = 1025  # of a worker with one place for a consumer


async def faults(serving: Serving) -> dict[str, int]:
    """What the worker tells the supervisor for `/metrics`, by reason."""
    scrape = (await request(serving.control, "GET", "/metrics")).body.decode()
    return {
        reason: int(float(number))
        for reason, number in re.findall(r'^relay_http_faults_total\{reason="(\w+)"\} (\S+)$', scrape, re.MULTILINE)
        if number != "0.0"
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01 no HTTP\r\n\r\n", "bad_request"),
        (REQUEST + b"X-Filler: " + b"x" * 20_000, "head_too_large"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: relay.test\r\n\r\n", "head_too_large"),
        (POST + b"Content-Length: 70000\r\n\r\n", "body_too_large"),
        (REQUEST[:40], "unfinished"),
        (POST + b"Content-Length: 9\r\n\r\n{", "unfinished"),
    ],
)
async def test_what_is_no_request_is_counted_by_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    async with serve(tmp_path) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            await stream.send_all(data)
            await stream.send_eof()
            await answered(stream)
        assert await faults(serving) == {reason: 1}


async def test_a_connection_that_breaks_is_counted(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        await stream.send_all(REQUEST[:40])
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        with trio.fail_after(5):
            while await faults(serving) != {"lost": 1}:  # noqa: ASYNC110 -- the worker has no event for this
                await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET", "head_timeout"),
        (POST + b"Content-Length: 9\r\n\r\n{", "body_timeout"),
        (b"GET /window HTTP/1.1\r\nHost: relay.test\r\n\r\n", "send_timeout"),
    ],
)
async def test_a_peer_that_keeps_a_connection_waiting_is_counted(
    tmp_path: Path, data: bytes, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    """One that stops in its head, in its body, or before the answer, which it does not take."""
    async with serve(tmp_path) as serving:
        await serving.memory.connect().send_all(data)
        await trio.sleep(40)
        autojump_clock.autojump_threshold = math.inf
        assert await faults(serving) == {reason: 1}


@pytest.mark.parametrize(("data", "reason"), [(b"G", "evicted"), (POST + b"Content-Length: 9\r\n\r\n", "refused")])
async def test_a_connection_too_many_is_counted(tmp_path: Path, data: bytes, reason: str) -> None:
    """It takes the place of one that only waits; where all are busy it gets none."""
    async with serve(tmp_path, max=1) as serving:
        for _ in range(CONNECTIONS):
            await serving.memory.connect().send_all(data)
        assert await faults(serving) == {}
        serving.memory.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert await faults(serving) == {reason: 1}


async def test_addresses_that_nobody_vouches_for_are_counted(tmp_path: Path) -> None:
    """X-Forwarded-For from a peer that is no proxy of ours."""
    async with serve(tmp_path, ServeRoleSettings(log=LOG, trusted_proxies=())) as serving:
        await serving.get("/window", **{"X-Forwarded-For": "192.0.2.1"})
        assert await faults(serving) == {"forwarded_untrusted": 1}

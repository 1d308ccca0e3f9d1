"""Our side of a subscription, against a host written out byte by byte."""

# ruff: noqa: PT012 - the end of a connection is raised by its `async with` block, so the block is what is watched

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from wsproto.utilities import LocalProtocolError

from relay.net.errors import (
    ConnectionClosed,
    HostRefused,
    MessageTooBig,
    NetError,
    NetTimeout,
    PeerSilent,
    TextMessage,
    UpgradeRefused,
)
from relay.net.subscription_socket import Subscription, open_subscription
from relay.net.tap import PARTS_MAX
from relay.net.websocket import link_nursery
from tests.net.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Opener,
    TcpOpener,
    close_frame,
    frame,
    read_frames,
    read_head,
    sent_frames,
    upgrade_answer,
)

URL = "wss://host.example/xrpc/com.atproto.sync.subscribeRepos?cursor=7"


@asynccontextmanager
async def subscribed(
    *, extra: bytes = b"", message_bytes_max: int = 5_000_000
) -> AsyncGenerator[tuple[Subscription, trio.abc.Stream], None]:
    """A subscription over a memory stream, and the host's end of it."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with link_nursery() as nursery:

        async def answer() -> None:
            await theirs.send_all(upgrade_answer(await read_head(theirs), extra))

        nursery.start_soon(answer)
        async with open_subscription(
            Opener(ours), URL, user_agent="test", handshake_seconds=5, message_bytes_max=message_bytes_max
        ) as subscription:
            yield subscription, theirs


async def refused_by(answer: Callable[[trio.abc.Stream], Awaitable[None]]) -> Exception:
    """What opening raises when the host does `answer` once it has read the request."""
    ours, theirs = trio.testing.memory_stream_pair()
    raised: list[Exception] = []

    async def attempt() -> None:
        with pytest.raises(NetError) as caught:
            async with open_subscription(Opener(ours), URL, user_agent="test", handshake_seconds=20):
                pytest.fail("it opened")
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        await read_head(theirs)
        await answer(theirs)
    return raised[0]


def saying(data: bytes, *, then_eof: bool = False) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(data)
        if then_eof:
            await stream.aclose()

    return answer


# The handshake


async def test_request_and_answer() -> None:
    """Path and query go out untouched, ours is the User-Agent, and the host's headers are seen (protocol.md 21)."""
    ours, theirs = trio.testing.memory_stream_pair()
    opener = Opener(ours)
    request = b""

    async def answer() -> None:
        nonlocal request
        request = await read_head(theirs)
        await theirs.send_all(upgrade_answer(request, b"Server: atproto-relay/1\r\nX-Other: \xe4\r\n"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with open_subscription(
            opener, URL, user_agent="relay/1", handshake_seconds=5, headers=(("Via", "1.1 relay"),)
        ) as subscription:
            assert subscription.server == "atproto-relay/1"
            assert ("x-other", "ä") in subscription.headers
            await trio.aclose_forcefully(theirs)

    lines = request.split(b"\r\n")
    assert lines[0] == b"GET /xrpc/com.atproto.sync.subscribeRepos?cursor=7 HTTP/1.1"
    assert {b"Host: host.example", b"User-Agent: relay/1", b"Via: 1.1 relay"} <= set(lines)
    assert not any(line.lower().startswith(b"sec-websocket-extensions") for line in lines)
    assert opener.asked == [("host.example", 443, True)]


@pytest.mark.parametrize(
    ("url", "asked", "host"),
    [
        ("ws://h.example", ("h.example", 80, False), b"h.example"),
        ("ws://h.example:2583/x", ("h.example", 2583, False), b"h.example:2583"),
        ("WSS://H.example:443/", ("h.example", 443, True), b"h.example"),
        ("ws://[::1]:2583/", ("::1", 2583, False), b"[::1]:2583"),
    ],
)
async def test_address_of_a_url(url: str, asked: tuple[str, int, bool], host: bytes) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    opener = Opener(ours)
    async with trio.open_nursery() as nursery:

        async def attempt() -> None:
            with pytest.raises(ConnectionClosed):
                async with open_subscription(opener, url, user_agent="test", handshake_seconds=5):
                    pass

        nursery.start_soon(attempt)
        request = await read_head(theirs)
        await trio.aclose_forcefully(theirs)

    assert opener.asked == [asked]
    assert b"\r\nHost: " + host + b"\r\n" in request


@pytest.mark.parametrize(
    "url",
    [
        "http://h.example/",
        "HTTPS://h.example/",
        "h.example",
        "wss:///x",
        "ws://u:p@h.example/",
        "ws://h:0/",
        "ws://h:99999/",
        "ws://ä.example",
        "ws://h.example/a b",
        "ws://h.example/\x01",
        "ws://h.example/#f",
    ],
)
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(HostRefused):
        async with open_subscription(Opener(), url, user_agent="test", handshake_seconds=5):
            pass


async def test_refusal_is_told_with_what_the_host_said() -> None:
    body = b'{"error":"RateLimitExceeded"}'
    head = b"HTTP/1.1 429 Too Many Requests\r\nServer: nginx\r\nRetry-After: 30\r\nContent-Length: 29\r\n\r\n"
    error = await refused_by(saying(head + body))

    assert isinstance(error, UpgradeRefused)
    assert (429, 30, "nginx", body) == (error.status, error.retry_after_seconds, error.server, error.body)


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 400, 401, 404, 405, 426, 500, 501, 502, 503, 504, 103])
async def test_anything_but_101_is_a_refusal(status: int) -> None:
    """Redirects are not followed, bodies need not be JSON and may end with the connection (protocol.md 2.1, 2.2)."""
    error = await refused_by(saying(b"HTTP/1.0 %d\r\nLocation: wss://a/\r\n\r\n<html>no" % status, then_eof=True))

    assert isinstance(error, UpgradeRefused)
    assert (status, None, b"<html>no") == (error.status, error.retry_after_seconds, error.body)


async def test_refusal_body_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """Neither its size nor its end is waited for: an excerpt, after at most a second."""
    long = await refused_by(saying(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n" + b"x" * 100_000))
    slow = await refused_by(saying(b"HTTP/1.1 403 No\r\nContent-Length: 99999999999999999999\r\n\r\nabc"))

    assert isinstance(long, UpgradeRefused)
    assert len(long.body) == 1_024
    assert isinstance(slow, UpgradeRefused)
    assert slow.body == b"abc"
    assert trio.current_time() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 101 X\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 X\r\n" + b"A: b\r\n" * 5_000,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 101 X\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ],
)
async def test_invalid_upgrade_is_the_hosts_fault(answer: bytes) -> None:
    """Whatever a host answers, nothing but a NetError comes out (the library lets h11 and Unicode errors through)."""
    error = await refused_by(saying(answer))

    assert isinstance(error, ConnectionClosed)
    assert error.code == 1002


@pytest.mark.parametrize(
    "extra", [b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"Sec-WebSocket-Protocol: xrpc.v1.json\r\n"]
)
async def test_what_was_not_offered_must_not_be_selected(extra: bytes) -> None:
    with pytest.raises(ConnectionClosed) as caught:
        async with subscribed(extra=extra):
            pass

    assert caught.value.code == 1002


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Swi"])
async def test_end_during_the_handshake(said: bytes) -> None:
    error = await refused_by(saying(said, then_eof=True))

    assert isinstance(error, ConnectionClosed)
    assert error.code == 1006


async def test_handshake_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    error = await refused_by(saying(b"HTTP/1.1 101 Swi"))

    assert isinstance(error, NetTimeout)
    assert trio.current_time() == pytest.approx(20.0)


# Messages


async def test_batches_keep_the_order() -> None:
    """Whole frames of one read are one batch; a ping between them is answered, a fragmented message stays in place."""
    async with subscribed() as (subscription, host):
        await host.send_all(
            frame(BINARY, b"1") + frame(BINARY, b"2") + frame(PING, b"?") + frame(BINARY, b"3", fin=False)
            + frame(PING, b"!") + frame(CONTINUATION, b"+3") + frame(BINARY, b"4") + frame(BINARY, b"")
        )  # fmt: skip
        batches = [await subscription.receive() for _ in range(3)]

        assert batches == [[b"1", b"2"], [b"3+3"], [b"4", b""]]
        assert await sent_frames(host) == [(PONG, b"?"), (PONG, b"!")]
        await host.send_all(close_frame(1000))


async def test_frames_right_behind_the_handshake() -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def answer() -> None:
        await theirs.send_all(upgrade_answer(await read_head(theirs)) + frame(BINARY, b"early") + close_frame(1001))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with open_subscription(Opener(ours), URL, user_agent="test", handshake_seconds=5) as subscription:
            assert await subscription.receive() == [b"early"]
            with pytest.raises(ConnectionClosed) as caught:
                await subscription.receive()

    assert caught.value.code == 1001


async def test_text_is_refused_with_1003() -> None:
    with pytest.raises(TextMessage):
        async with subscribed() as (subscription, host):
            await host.send_all(frame(BINARY, b"1") + frame(TEXT, b"no") + frame(BINARY, b"2") + close_frame(1000))
            assert await subscription.receive() == [b"1"]
            await subscription.receive()
    opcode, payload = (await sent_frames(host))[-1]

    assert (opcode, payload[:2]) == (CLOSE, (1003).to_bytes(2))


@pytest.mark.parametrize("start", [frame(BINARY, bytes(1_001))[:4], frame(BINARY, bytes(900), fin=False) + b"\x80\x65"])
async def test_too_big_is_known_before_it_came(start: bytes) -> None:
    """Judged by headers, on the reassembled size (protocol.md 2.4), after all that came before was given out."""
    with pytest.raises(MessageTooBig):
        async with subscribed(message_bytes_max=1_000) as (subscription, host):
            await host.send_all(frame(BINARY, bytes(1_000)) + start)
            assert await subscription.receive() == [bytes(1_000)]
            await subscription.receive()


async def test_fragments_without_end_are_too_big(autojump_clock: trio.testing.MockClock) -> None:
    """Those of a hostile host add up to no bytes, but each is kept."""
    with pytest.raises(MessageTooBig):
        async with subscribed(message_bytes_max=1_000) as (subscription, host):
            await host.send_all(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * PARTS_MAX)
            with trio.fail_after(20):
                await subscription.receive()


async def test_errors_are_raised_again() -> None:
    async with subscribed() as (subscription, host):
        await host.send_all(close_frame(1008, "ConsumerTooSlow"))
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as caught:
                await subscription.receive()
            assert (caught.value.code, caught.value.reason) == (1008, "ConsumerTooSlow")
        assert await sent_frames(host) == [(CLOSE, (1008).to_bytes(2) + b"ConsumerTooSlow")]


async def test_end_without_a_close_is_1006() -> None:
    async with subscribed() as (subscription, host):
        await host.send_all(frame(BINARY, b"1") + frame(BINARY, b"cut off")[:-1])
        await host.aclose()
        assert await subscription.receive() == [b"1"]
        with pytest.raises(ConnectionClosed) as caught:
            await subscription.receive()

    assert caught.value.code == 1006


@pytest.mark.parametrize("wait_seconds", [0, 1])
async def test_cancelled_receive_loses_nothing(wait_seconds: float, autojump_clock: trio.testing.MockClock) -> None:
    """Wherever the bytes stop when it is cancelled: inside a cut frame, a ping, a fragment, or between them."""
    wire = frame(BINARY, b"1") + frame(PING, b"?") + frame(BINARY, b"2", fin=False)
    wire += frame(CONTINUATION, b"+") + frame(BINARY, b"3")
    async with subscribed() as (subscription, host):
        for border in range(1, len(wire)):
            got: list[bytes] = []
            await host.send_all(wire[:border])
            with trio.move_on_after(wait_seconds):
                while True:
                    got += await subscription.receive()
            await host.send_all(wire[border:])
            while len(got) < 3:
                got += await subscription.receive()
            assert got == [b"1", b"2+", b"3"]
        await host.aclose()


async def test_a_reader_that_stays_away_holds_the_host_back() -> None:
    """Nothing is read, and so nothing buffered, but in `receive`."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            await theirs.send_all(upgrade_answer(await read_head(theirs)))
            for number in range(3):
                await theirs.send_all(frame(BINARY, b"%d" % number))
                sent.append(number)
            await theirs.send_all(close_frame(1000))

        sent: list[int] = []
        nursery.start_soon(answer)
        async with open_subscription(Opener(ours), URL, user_agent="test", handshake_seconds=5) as subscription:
            for number in range(3):
                await trio.testing.wait_all_tasks_blocked()
                assert len(sent) == number
                assert await subscription.receive() == [b"%d" % number]
            nursery.cancel_scope.cancel()


# Life and death


async def test_ping_after_30_seconds_of_our_silence(autojump_clock: trio.testing.MockClock) -> None:
    async with subscribed() as (subscription, host):
        await trio.sleep(29)
        assert await sent_frames(host) == []
        await host.send_all(frame(PING, b"theirs"))
        await host.send_all(frame(BINARY, b"1"))
        assert await subscription.receive() == [b"1"]
        assert await sent_frames(host) == [(PONG, b"theirs")]
        await trio.sleep(29)
        assert await sent_frames(host) == []
        await trio.sleep(2)
        assert await sent_frames(host) == [(PING, b"")]
        await host.aclose()


async def test_silent_host_is_dead_after_90_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """Pongs alone keep it alive (checklist 29)."""
    with pytest.raises(PeerSilent):
        async with subscribed() as (subscription, host), link_nursery() as nursery:
            nursery.start_soon(_pong_until, host, 300)
            await subscription.receive()
    assert trio.current_time() == pytest.approx(300 + 90)


async def _pong_until(host: trio.abc.Stream, seconds: float) -> None:
    while trio.current_time() < seconds:
        await trio.sleep(60)
        await host.send_all(frame(PONG))


async def test_host_that_trickles_without_a_message_is_alive(autojump_clock: trio.testing.MockClock) -> None:
    async with subscribed() as (subscription, host):
        async with trio.open_nursery() as nursery:

            async def trickle() -> None:
                for byte in frame(BINARY, b"slow"):
                    await trio.sleep(80)
                    await host.send_all(bytes([byte]))

            nursery.start_soon(trickle)
            assert await subscription.receive() == [b"slow"]
        await host.aclose()


async def test_our_silence_is_not_theirs(autojump_clock: trio.testing.MockClock) -> None:
    """A reader that stays away for an hour finds the host alive, and has its full deadline again."""
    async with subscribed() as (subscription, host):
        await host.send_all(frame(BINARY, b"1"))
        assert await subscription.receive() == [b"1"]
        await host.send_all(frame(BINARY, b"2"))
        await trio.sleep(3_600)
        assert await subscription.receive() == [b"2"]
        away_until = trio.current_time()
        with pytest.raises(PeerSilent):
            await subscription.receive()
        assert trio.current_time() - away_until == pytest.approx(90)


async def test_host_that_takes_no_pong_is_dead(autojump_clock: trio.testing.MockClock) -> None:
    """The library waits in its own send then; `receive` is bounded all the same."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    with pytest.raises(PeerSilent):
        async with link_nursery() as nursery:

            async def answer() -> None:
                await theirs.send_all(upgrade_answer(await read_head(theirs)))
                await trio.sleep(20)
                await theirs.send_all(frame(PING, b"?"))

            nursery.start_soon(answer)
            async with open_subscription(Opener(ours), URL, user_agent="test", handshake_seconds=5) as subscription:
                await subscription.receive()
    assert trio.current_time() == pytest.approx(20 + 90)


async def test_library_that_dies_in_a_pong_leaves_nobody_waiting() -> None:
    """Its reader never asks for bytes again then, and `receive` must not wait for it to."""

    class _TakesTheRequestOnly(trio.abc.SendStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            if bytes(data[:3]) != b"GET":
                raise OSError("out of everything")
            await ours.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def aclose(self) -> None:
            await ours.aclose()

    ours, theirs = trio.testing.memory_stream_pair()
    raw = trio.StapledStream(_TakesTheRequestOnly(), ours)
    async with link_nursery() as nursery:

        async def answer() -> None:
            await theirs.send_all(upgrade_answer(await read_head(theirs)) + frame(PING, b"?"))

        nursery.start_soon(answer)
        async with open_subscription(Opener(raw), URL, user_agent="test", handshake_seconds=5) as subscription:
            with trio.fail_after(1), pytest.raises(ConnectionClosed, match="out of everything"):
                await subscription.receive()


async def test_host_that_refuses_a_pong_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with subscribed() as (subscription, host):
        await sent_frames(host)
        assert isinstance(host, trio.StapledStream)
        await host.receive_stream.aclose()
        await host.send_all(frame(PING, b"?"))
        with pytest.raises(ConnectionClosed) as caught:
            await subscription.receive()

    assert caught.value.code == 1006
    assert trio.current_time() == 0


# Ends


async def test_leaving_says_goodbye() -> None:
    async with trio.open_nursery() as nursery:
        frames: list[tuple[int, bytes]] = []

        async def answer_close(host: trio.abc.Stream) -> None:
            frames.extend(read_frames(bytes(await host.receive_some(65_536))))
            await host.send_all(frame(BINARY, b"still on its way") + close_frame(1000))

        async with subscribed() as (_, host):
            nursery.start_soon(answer_close, host)

    assert frames == [(CLOSE, (1000).to_bytes(2))]


async def test_goodbye_waits_two_seconds_at_most(autojump_clock: trio.testing.MockClock) -> None:
    async with subscribed() as (subscription, _):
        await subscription.close(1001, "restart")
        assert trio.current_time() == pytest.approx(2.0)
        with pytest.raises(ConnectionClosed):
            await subscription.receive()
    assert trio.current_time() == pytest.approx(2.0)


async def test_ping_after_our_close_ends_only_this_connection(autojump_clock: trio.testing.MockClock) -> None:
    """Measured with the stock `open_websocket`: the enclosing nursery is cancelled without a word."""
    sibling_finished = False

    async def sibling() -> None:
        nonlocal sibling_finished
        await trio.sleep(10)
        sibling_finished = True

    async def ping_after_close(host: trio.abc.Stream) -> None:
        await host.receive_some(65_536)
        await host.send_all(frame(PING, b"too late") + close_frame(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sibling)
        async with subscribed() as (_, host):
            nursery.start_soon(ping_after_close, host)
        await trio.sleep(1)

    assert sibling_finished


async def test_the_block_s_own_error_comes_out_as_it_is() -> None:
    with pytest.raises(LocalProtocolError, match="mine"):
        async with subscribed() as (_, host):
            await host.aclose()
            raise LocalProtocolError("mine")


async def test_cancelled_block_closes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(5) as scope:
        async with subscribed() as (subscription, host):
            await subscription.receive()

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(5.0)
    with pytest.raises(trio.BrokenResourceError):
        await host.send_all(b"x")
    with pytest.raises(ConnectionClosed):
        await subscription.receive()


async def test_protocol_error_stops_the_reading() -> None:
    """The library would go on to read, and keep, whatever the host sends after it broke a rule."""
    async with subscribed() as (subscription, host):
        await host.send_all(frame(TEXT, b"\xff", fin=False) + frame(PING, b"flood") * 1_000)
        with pytest.raises(ConnectionClosed) as caught:
            await subscription.receive()
        assert caught.value.code == 1007
        assert await sent_frames(host) == []


async def test_broken_rule_stops_the_reading() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with link_nursery() as nursery:
        floods = 0

        async def answer() -> None:
            nonlocal floods
            await theirs.send_all(upgrade_answer(await read_head(theirs)))
            await theirs.send_all(frame(BINARY, b"masked", mask=b"abcd"))
            while True:
                await theirs.send_all(bytes(1_000))
                floods += 1

        nursery.start_soon(answer)
        async with open_subscription(Opener(ours), URL, user_agent="test", handshake_seconds=5) as subscription:
            with pytest.raises(ConnectionClosed):
                await subscription.receive()
            await trio.testing.wait_all_tasks_blocked()
            assert floods < 3
            nursery.cancel_scope.cancel()


async def test_real_sockets() -> None:
    """5,000 messages of mixed sizes over TCP, in order."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    payloads = [bytes([number % 251]) * (number * 37 % 9_000) for number in range(4_999)] + [bytes(3_000_000)]

    async def host() -> None:
        stream = await listener.accept()
        await stream.send_all(upgrade_answer(await read_head(stream)))
        await stream.send_all(b"".join(frame(BINARY, payload) for payload in payloads) + close_frame(1000))
        await stream.aclose()

    received: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host)
        async with open_subscription(
            TcpOpener(), f"ws://127.0.0.1:{port}/", user_agent="test", handshake_seconds=5
        ) as subscription:
            with pytest.raises(ConnectionClosed):
                while True:
                    received += await subscription.receive()
    await listener.aclose()

    assert received == payloads

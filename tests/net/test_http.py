"""asks 3.0.0 works on the locked trio and anyio, and behaves as a relay needs it, on real loopback sockets."""

import encodings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from relay.net.dial import Dialer
from relay.net.errors import (
    BodyTooLarge,
    ConnectionLost,
    ContentEncoded,
    DialFailed,
    DialRefused,
    HostRefused,
    HttpError,
    NetTimeout,
)
from relay.net.http import HttpClient
from tests.net.certificates import Authority
from tests.net.loopback import MemoryListener, listen

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def response(*headers: str, status: str = "200 OK", body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Scripted:
    """A server that gives each request the next reply, and closes a connection when a reply is empty."""

    def __init__(self, *replies: bytes, final: bytes = OK) -> None:
        self.replies = list(replies)
        self.final = final
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = 0

    async def __call__(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        buffer = b""
        try:
            while data := await stream.receive_some():
                buffer += data
                while b"\r\n\r\n" in buffer:
                    request, buffer = buffer.split(b"\r\n\r\n", 1)
                    self.requests.append(request)
                    reply = self.replies.pop(0) if self.replies else self.final
                    if not reply:
                        return
                    await stream.send_all(reply)
        except trio.BrokenResourceError:
            return
        finally:
            self.closed += 1


Serve = Callable[[Callable[[trio.SocketStream], Awaitable[object]]], Awaitable[str]]


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    async def start(server: Callable[[trio.SocketStream], Awaitable[object]]) -> str:
        return f"http://127.0.0.1:{await listen(nursery, server)}"

    return start


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "atproto-relay/0 (+test)")
    yield client
    await client.aclose()


async def get(http: HttpClient, url: str, *, body_bytes_max: int = 1000, slots: int = 0) -> bytes:
    return (await http.get(url, timeout_seconds=5, body_bytes_max=body_bytes_max, slots=slots)).body


async def test_asks_works_on_this_trio_and_sends_what_we_want_it_to_send(serve: Serve, http: HttpClient) -> None:
    server = Scripted(response("Content-Type: application/json", "X-A: 1", body=b'{"a":1}'))
    origin = await serve(server)
    found = await http.get(f"{origin}/did:plc:abc?x=%41&y=b", timeout_seconds=5, body_bytes_max=1000)

    assert (found.status, found.body) == (200, b'{"a":1}')
    assert found.headers["content-type"] == "application/json"
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /did:plc:abc?x=A&y=b HTTP/1.1"
    assert f"Host: {origin.removeprefix('http://')}" in lines
    assert "User-Agent: atproto-relay/0 (+test)" in lines
    assert "Accept-Encoding: identity" in lines
    assert "Connection: close" in lines


async def test_without_slots_every_request_has_a_connection_of_its_own_that_is_closed(
    serve: Serve, http: HttpClient
) -> None:
    server = Scripted()
    origin = await serve(server)
    for _ in range(3):
        assert await get(http, origin) == b"ok"
    await trio.testing.wait_all_tasks_blocked()

    assert (server.connections, server.closed) == (3, 3)


async def test_with_slots_a_connection_is_used_again_until_the_client_closes(serve: Serve, http: HttpClient) -> None:
    server = Scripted()
    origin = await serve(server)
    for _ in range(3):
        assert await get(http, origin, slots=4) == b"ok"
    assert (server.connections, server.closed) == (1, 0)
    assert b"Connection: keep-alive" in server.requests[0]
    await http.aclose()
    await trio.testing.wait_all_tasks_blocked()

    assert server.closed == 1


async def test_no_more_requests_than_slots_run_at_once() -> None:
    listener = MemoryListener()
    http = HttpClient(MemoryOpener(listener), "test")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(partial(get, http, "http://plc.test/x", slots=2))
        await trio.testing.wait_all_tasks_blocked()
        streams = [await listener.accept(), await listener.accept()]
        assert listener.unaccepted == 0
        for _ in range(3):
            for stream in streams:
                nursery.start_soon(stream.send_all, OK)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_stale_pooled_connection_is_replaced_once(serve: Serve, http: HttpClient) -> None:
    """The server closes after its first answer without saying so; the request is repeated on a new connection."""
    server = Scripted(OK, b"")
    origin = await serve(server)
    assert await get(http, origin, slots=2) == b"ok"
    assert await get(http, origin, slots=2) == b"ok"

    assert (server.connections, len(server.requests)) == (2, 3)


async def test_the_repeat_is_not_repeated(serve: Serve, http: HttpClient) -> None:
    server = Scripted(OK, b"", b"")
    origin = await serve(server)
    await get(http, origin, slots=2)
    with pytest.raises((HttpError, ConnectionLost)):
        await get(http, origin, slots=2)

    assert len(server.requests) == 3


async def test_only_what_is_safe_is_repeated_and_only_when_nothing_came_back(serve: Serve, http: HttpClient) -> None:
    server = Scripted(OK, b"", OK, b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n")
    origin = await serve(server)
    await get(http, origin, slots=2)
    with pytest.raises((HttpError, ConnectionLost)):
        await http.request("POST", origin, timeout_seconds=5, body_bytes_max=10, slots=2)
    await get(http, origin, slots=2)
    with pytest.raises(HttpError):
        await get(http, origin, slots=2)

    assert len(server.requests) == 4


async def test_pooled_connections_are_recycled_after_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    listener = MemoryListener()
    server = Scripted()
    http = HttpClient(MemoryOpener(listener), "test")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server, [listener])
        for pause in (0, 59, 2, 1):
            await trio.sleep(pause)
            await get(http, "http://plc.test/x", slots=2)
        await trio.testing.wait_all_tasks_blocked()
        assert (server.connections, server.closed) == (2, 1)
        nursery.cancel_scope.cancel()


async def test_requests_at_once_recycle_the_same_connections(autojump_clock: trio.testing.MockClock) -> None:
    """Each of them finds all that are too old, and closing takes a moment in which the others look."""
    listener = MemoryListener()
    server = Scripted()
    http = HttpClient(MemoryOpener(listener), "test")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server, [listener])
        for pause in (0, 61):
            await trio.sleep(pause)
            async with trio.open_nursery() as requests:
                for _ in range(3):
                    requests.start_soon(partial(get, http, "http://plc.test/x", slots=3))
        await trio.testing.wait_all_tasks_blocked()
        assert server.closed == 3
        assert server.connections > 3
        nursery.cancel_scope.cancel()


async def test_a_reply_with_bytes_nobody_asked_for_ends_its_connection(serve: Serve, http: HttpClient) -> None:
    """They would be taken for the answer to the next request."""
    server = Scripted(OK + response(body=b"forged"))
    origin = await serve(server)
    assert await get(http, origin, slots=2) == b"ok"
    assert await get(http, origin, slots=2) == b"ok"

    assert server.connections == 2


@pytest.mark.parametrize("header", ["Connection: close", "Connection: Close"])
async def test_a_server_that_closes_is_believed(serve: Serve, http: HttpClient, header: str) -> None:
    server = Scripted(response(header))
    origin = await serve(server)
    await get(http, origin, slots=2)
    await get(http, origin, slots=2)

    assert server.connections == 2


async def test_ten_megabytes_are_cut_off_at_the_bound_and_not_read(serve: Serve, http: HttpClient) -> None:
    sent = 0

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        try:
            for _ in range(1000):
                await stream.send_all(bytes(10_000))
                sent += 10_000
        except trio.BrokenResourceError:
            return

    origin = await serve(flood)
    with pytest.raises(BodyTooLarge):
        await get(http, origin, body_bytes_max=100_000)

    assert sent < 10_000_000  # what fits in the two socket buffers, no more


async def test_a_body_of_exactly_the_bound_passes_and_one_byte_more_does_not(serve: Serve, http: HttpClient) -> None:
    origin = await serve(Scripted(response(body=bytes(1000)), response(body=bytes(1001))))

    assert len(await get(http, origin)) == 1000
    with pytest.raises(BodyTooLarge):
        await get(http, origin)


async def test_chunks_count_towards_the_bound(serve: Serve, http: HttpClient) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nok\r\n" * 600 + b"0\r\n\r\n"
    origin = await serve(Scripted(chunked, chunked))

    assert len(await get(http, origin, body_bytes_max=1200)) == 1200
    with pytest.raises(BodyTooLarge):
        await get(http, origin, body_bytes_max=1199)


class MemoryOpener:
    """Dials a memory listener, whatever the name."""

    def __init__(self, listener: MemoryListener) -> None:
        self.listener = listener

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        assert (host, port, tls) in {("plc.test", 80, False), ("pds.test", 80, False), ("::1", 2582, False)}
        await trio.lowlevel.checkpoint()
        return self.listener.connect()


async def test_a_slow_body_times_out_as_a_whole(autojump_clock: trio.testing.MockClock) -> None:
    """A byte a second keeps no connection alive: the time is for everything."""
    listener = MemoryListener()

    async def drip(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            await trio.sleep(1)
            await stream.send_all(b"x")

    async with trio.open_nursery() as nursery:
        http = HttpClient(MemoryOpener(listener), "test")
        nursery.start_soon(accept_one, listener, drip)
        started = trio.current_time()
        with pytest.raises(NetTimeout):
            await http.get("http://pds.test/", timeout_seconds=5, body_bytes_max=1000)
        assert trio.current_time() - started == pytest.approx(5)
        nursery.cancel_scope.cancel()


async def accept_one(listener: MemoryListener, serve: Callable[[trio.abc.Stream], Awaitable[None]]) -> None:
    stream = await listener.accept()
    try:
        await serve(stream)
    except trio.BrokenResourceError:
        return


async def test_waiting_for_a_slot_counts_towards_the_time(autojump_clock: trio.testing.MockClock) -> None:
    http = HttpClient(MemoryOpener(MemoryListener()), "test")
    async with trio.open_nursery() as nursery:

        async def expect_timeout(seconds: float) -> None:
            with pytest.raises(NetTimeout):
                await http.get("http://plc.test/", timeout_seconds=seconds, body_bytes_max=1, slots=1)

        nursery.start_soon(expect_timeout, 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(expect_timeout, 3)

    assert trio.current_time() == pytest.approx(10)


async def test_a_timeout_gives_its_slot_back(autojump_clock: trio.testing.MockClock) -> None:
    listener = MemoryListener()
    http = HttpClient(MemoryOpener(listener), "test")
    with pytest.raises(NetTimeout):
        await get(http, "http://plc.test/", slots=1)
    await (await listener.accept()).aclose()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_one, listener, Scripted())
        assert await get(http, "http://plc.test/", slots=1) == b"ok"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("coding", ["gzip", "br", "identity", "GZIP, deflate", ""])
async def test_any_content_encoding_is_an_error(serve: Serve, http: HttpClient, coding: str) -> None:
    origin = await serve(Scripted(response(f"Content-Encoding: {coding}", body=b"xx")))
    with pytest.raises(ContentEncoded):
        await get(http, origin)


async def test_redirects_are_answers_and_their_target_is_never_dialled(serve: Serve, http: HttpClient) -> None:
    """Checklist 157: a 302 to a private address is not followed, nor is any other."""
    private = Scripted()
    target = await serve(private)
    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
        origin = await serve(Scripted(response(f"Location: {target}/secret", status=status)))
        found = await http.get(origin, timeout_seconds=5, body_bytes_max=10)
        assert found.status == int(status[:3])
        assert found.headers["location"] == f"{target}/secret"

    assert private.connections == 0


@pytest.mark.parametrize(
    "status", ["204 No Content", "304 Not Modified", "404 Not Found", "410 Gone", "503 Unavailable"]
)
async def test_every_status_is_an_answer(serve: Serve, http: HttpClient, status: str) -> None:
    bare = f"HTTP/1.1 {status}\r\n"
    bare += "\r\n" if status[:3] in {"204", "304"} else "Content-Length: 0\r\n\r\n"
    origin = await serve(Scripted(bare.encode()))
    found = await http.get(origin, timeout_seconds=5, body_bytes_max=10)

    assert (found.status, found.body) == (int(status[:3]), b"")


async def test_a_body_that_ends_with_the_connection(serve: Serve, http: HttpClient) -> None:
    for head in (b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"):
        origin = await serve(Replier(head + b"\r\nthe end"))
        for slots in (0, 2):
            assert await get(http, origin, slots=slots) == b"the end"


async def test_informational_responses_and_odd_bytes_in_headers_are_passed_over(serve: Serve, http: HttpClient) -> None:
    odd = b"HTTP/1.1 200 \xff\r\nX: \xff\xfe\r\nContent-Length: 2\r\n\r\nok"
    origin = await serve(
        Scripted(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, odd)
    )

    assert await get(http, origin) == b"ok"
    assert await get(http, origin) == b"ok"


class Replier:
    """Sends some bytes to whatever comes and closes."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply

    async def __call__(self, stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(self.reply)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\r\n",
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_net_error_and_nothing_else(serve: Serve, http: HttpClient, reply: bytes) -> None:
    origin = await serve(Replier(reply))
    with pytest.raises((HttpError, ConnectionLost)):
        await get(http, origin)


async def test_what_asks_would_stumble_over_after_the_body_is_left_out(serve: Serve, http: HttpClient) -> None:
    """A cookie without "=" raises ValueError in asks, and an unknown charset stays in a cache of Python's for good."""
    charset = "charset-of-a-stranger-" + "x" * 1000
    origin = await serve(
        Scripted(
            response(
                "Set-Cookie: nonsense", "Set-Cookie: a=b; c", f"Content-Type: text/html; charset={charset}", body=b"x"
            )
        )
    )

    assert await get(http, origin) == b"x"
    assert not [name for name in encodings._cache if "stranger" in name]


async def test_a_post_carries_its_body(serve: Serve, http: HttpClient) -> None:
    server = Scripted()
    origin = await serve(server)
    found = await http.request(
        "POST",
        f"{origin}/xrpc/com.atproto.sync.requestCrawl",
        timeout_seconds=5,
        body_bytes_max=100,
        headers={"Content-Type": "application/json", "Via": "HTTP/1.1 atproto-relay"},
        body=b'{"hostname":"a"}\r\n\r\n',
    )

    assert found.status == 200
    assert b"Content-Type: application/json" in server.requests[0]
    assert b"Via: HTTP/1.1 atproto-relay" in server.requests[0]
    assert b"Content-Length: 20" in server.requests[0]
    assert server.requests[1] == b'{"hostname":"a"}'


async def test_over_tls_with_a_pool(nursery: trio.Nursery, tmp_path: Path) -> None:
    """The TLS hook of asks goes through our dialer: name, verification and re-use are ours."""
    authority = Authority(tmp_path)
    context = authority.server("plc.example.com")
    server = Scripted()

    async def secure(stream: trio.SocketStream) -> None:
        await server(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    port = await listen(nursery, secure)

    async def resolve(host: str) -> Sequence[str]:
        assert host == "plc.example.com"
        return ["127.0.0.1"]

    http = HttpClient(Dialer(allow_private=True, tls=authority.client(), resolve=resolve), "test")
    for _ in range(3):
        assert await get(http, f"https://plc.example.com:{port}/x", slots=2) == b"ok"
    await http.aclose()

    assert server.connections == 1
    assert f"Host: plc.example.com:{port}".encode() in server.requests[0]


async def test_the_dialers_policy_holds(serve: Serve) -> None:
    server = Scripted()
    origin = await serve(server)
    strict = HttpClient(Dialer(), "test")
    for url, error in [
        (origin, HostRefused),
        (origin.replace("127.0.0.1", "localhost"), HostRefused),
        ("http://pds.example.com/", DialRefused),
        ("https://user@pds.example.com/", HostRefused),
        ("ftp://pds.example.com/", HostRefused),
    ]:
        with pytest.raises(error):
            await strict.get(url, timeout_seconds=5, body_bytes_max=10)

    assert server.connections == 0


async def test_nobody_there_is_a_dial_failure_with_and_without_slots(serve: Serve, http: HttpClient) -> None:
    for slots in (0, 2):
        with pytest.raises(DialFailed):
            await get(http, "http://127.0.0.1:1/", slots=slots)


async def test_an_ipv6_origin_has_brackets_in_its_host_header() -> None:
    listener = MemoryListener()
    server = Scripted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_one, listener, server)
        assert await get(HttpClient(MemoryOpener(listener), "test"), "http://[::1]:2582/x") == b"ok"
        nursery.cancel_scope.cancel()

    assert b"Host: [::1]:2582" in server.requests[0]

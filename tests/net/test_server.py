"""The HTTP server: bounds against slow, silent, oversized and garbled peers, and what an answer becomes on the wire.

Real loopback sockets where bytes matter; memory streams with an autojumping clock where time does.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import h11
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.net.connection import Connection, HttpEvent, Limits, Site
from relay.net.exchange import Request, Response, Upgrade, error_response, json_response
from relay.net.heads import request_of
from relay.net.proxies import LOOPBACK, Networks, parse_networks
from relay.net.server import TURNS, serve_http
from tests.net.loopback import MemoryListener

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CONSTANT = (("Server", "atproto-relay/0"), ("Access-Control-Allow-Origin", "*"))
ERRORS = {
    400: b"InvalidRequest",
    431: b"RequestHeaderFieldsTooLarge",
    501: b"MethodNotImplemented",
    505: b"HTTPVersionNotSupported",
}
SMALL = Limits(
    connections_max=3,
    head_bytes_max=2000,
    head_seconds=10,
    body_bytes_max=1000,
    body_seconds=20,
    keep_alive_seconds=30,
    send_seconds=5,
)


async def echo(request: Request) -> Response | Upgrade:
    await trio.lowlevel.checkpoint()
    return json_response(
        200,
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body.decode("latin-1"),
            "client": request.client,
        },
    )


class Relay:
    """A server under test, with what it counted."""

    def __init__(self, nursery: trio.Nursery, answer: Callable[[Request], Awaitable[Response | Upgrade]]) -> None:
        self.events: list[HttpEvent] = []
        self.failures: list[Exception] = []
        self.site = Site(
            answer,
            limits=SMALL,
            headers=CONSTANT,
            on_event=self.events.append,
            on_failure=lambda _request, error: self.failures.append(error),
        )
        self.nursery = nursery
        self.memory = MemoryListener()
        self.port = 0

    async def listen(self) -> "Relay":
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await self.nursery.start(partial(serve_http, [*listeners, self.memory], self.site))
        return self

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


Start = Callable[..., Awaitable[Relay]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with trio.open_nursery() as nursery:

        async def start(
            answer: Callable[[Request], Awaitable[Response | Upgrade]] = echo, proxies: Networks = LOOPBACK
        ) -> Relay:
            relay = Relay(nursery, answer)
            relay.site = relay.site._replace(trusted_proxies=proxies)
            return await relay.listen()

        yield start
        nursery.cancel_scope.cancel()


async def read_response(stream: trio.abc.Stream) -> bytes:
    """One response with a Content-Length, or everything up to the end."""
    data = b""
    while chunk := await stream.receive_some():
        data += chunk
        head, separator, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if separator and length and len(body) >= int(length[1]):
            break
    return data


async def read_all(stream: trio.abc.Stream) -> bytes:
    data = b""
    while chunk := await stream.receive_some():
        data += chunk
    return data


async def talk(relay: Relay, data: bytes) -> bytes:
    """Send, close our side, and read to the end."""
    async with await relay.connect() as stream:
        await stream.send_all(data)
        await stream.send_eof()
        return await read_all(stream)


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


async def test_a_request_is_answered_with_the_constant_headers(start: Start) -> None:
    relay = await start()
    data = await talk(relay, b"GET /xrpc/a%2Eb?x=1&x=&y=a%20b+c HTTP/1.1\r\nHost: x\r\n\r\n")
    head, body = data.split(b"\r\n\r\n", 1)
    headers = head.split(b"\r\n")

    assert headers[0] == b"HTTP/1.1 200 OK"
    assert b"Server: atproto-relay/0" in headers
    assert b"Access-Control-Allow-Origin: *" in headers
    assert b"Content-Type: application/json" in headers
    assert any(header.startswith(b"Date: ") for header in headers)
    assert body == (
        b'{"method":"GET","path":"/xrpc/a.b","query":[["x","1"],["x",""],["y","a b c"]],"body":"","client":"127.0.0.1"}'
    )
    assert relay.events == []


async def test_a_response_overrides_a_constant_header(start: Start) -> None:
    async def answer(request: Request) -> Response:
        return Response(200, (("server", "other"), ("Content-Length", "999")), b"ok")

    data = await talk(await start(answer), GET)

    assert data.lower().count(b"server:") == 1
    assert b"server: other" in data
    assert data.count(b"Content-Length") == 1
    assert b"Content-Length: 2" in data


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a/../b", "/a/../b"),
        ("//evil/x", "//evil/x"),
        ("http://h/a?b", "/a"),
        ("http://h", "/"),
        ("*", "*"),
        ("/%zz%ff", "/%zz\ufffd"),
    ],
)
async def test_targets_in_all_their_forms(start: Start, target: str, path: str) -> None:
    data = await talk(await start(), f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert f'"path":"{path}"' in data.decode()


async def test_keep_alive_and_pipelined_requests_in_order(start: Start) -> None:
    relay = await start()
    data = await talk(relay, b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))

    assert re.findall(rb'"path":"/(\d+)"', data) == [b"%d" % number for number in range(50)]
    assert relay.events == []


@pytest.mark.parametrize("head", ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close", "GET / HTTP/1.0"])
async def test_the_connection_is_closed_when_the_client_wants_it(start: Start, head: str) -> None:
    relay = await start()
    async with await relay.connect() as stream:
        await stream.send_all(f"{head}\r\n\r\n".encode())
        assert status_of(await read_all(stream)) == 200


async def test_head_gets_the_headers_of_get_and_no_body(start: Start) -> None:
    relay = await start()
    data = await talk(relay, b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    first, second, body = data.split(b"\r\n\r\n")

    assert re.search(rb"Content-Length: [1-9]", first)
    assert second.startswith(b"HTTP/1.1 200")
    assert b'"method":"GET"' in body


@pytest.mark.parametrize(
    "request_bytes",
    [b"HEAD x HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"],
)
async def test_a_head_that_is_refused_gets_no_body_and_ends_alone(start: Start, request_bytes: bytes) -> None:
    """Invariant 9: the refusal of a HEAD is a response to a HEAD."""
    relay = await start(echo)
    reply = await talk(relay, request_bytes)

    assert status_of(reply) in {400, 413}
    assert reply.endswith(b"\r\n\r\n")
    assert status_of(await talk(relay, GET)) == 200


async def test_a_status_without_a_body_keeps_the_connection_in_step(start: Start) -> None:
    async def answer(request: Request) -> Response:
        return Response(204, (), b"ignored")

    data = await talk(await start(answer), GET + GET)

    assert data.count(b"HTTP/1.1 204 No Content") == 2
    assert b"ignored" not in data
    assert b"Content-Length" not in data


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"],
)
async def test_a_body_is_read_and_the_next_request_found(start: Start, framing: bytes) -> None:
    data = await talk(await start(), b"POST /p HTTP/1.1\r\nHost: x\r\n" + framing + GET)

    assert b'"body":"hello"' in data
    assert data.count(b"HTTP/1.1 200") == 2


async def test_a_client_that_waits_for_permission_to_send_gets_it(start: Start) -> None:
    relay = await start()
    async with await relay.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await stream.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"ok")
        assert b'"body":"ok"' in await read_response(stream)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 1001\r\n\r\n",
        b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001,
    ],
)
async def test_a_body_beyond_the_bound_is_refused(start: Start, framing: bytes) -> None:
    relay = await start()
    async with await relay.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)
        data = await read_all(stream)

    assert status_of(data) == 413
    assert b'{"error":"PayloadTooLarge","message":' in data
    assert b"Connection: close" in data
    assert b"Server: atproto-relay/0" in data
    assert relay.events == ["body_too_large"]


async def test_a_refused_client_may_finish_sending(start: Start) -> None:
    """Closing at once with its bytes unread would reset the connection, and proxies would lose the answer."""
    relay = await start()
    async with await relay.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert status_of(await read_response(stream)) == 413
        for _ in range(5):
            await stream.send_all(bytes(20_000))
            await trio.testing.wait_all_tasks_blocked()
        await stream.send_eof()
        assert await read_all(stream) == b""


async def test_what_is_kept_of_a_request_for_an_upgrade_does_not_grow_with_its_body() -> None:
    """Chunk extensions are not body bytes, so nothing else would bound them."""
    client, server = trio.testing.memory_stream_pair()
    kept: list[int] = []

    async def answer(request: Request) -> Response:
        kept.append(len(connection._raw))
        return Response(200)

    connection = Connection(server, "192.0.2.1", Site(answer), OrderedDict(), trio.Semaphore(1))
    await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.send_all((b"1;" + b"x" * 1000 + b"\r\na\r\n") * 200 + b"0\r\n\r\n")
    await client.send_eof()
    await connection.run()

    assert len(kept) == 1
    assert kept[0] < 40_000


@pytest.mark.parametrize(
    ("data", "status", "event"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 30_000 + b"\r\n\r\n", 431, "head_too_large"),
        (b"GET /" + b"x" * 30_000, 431, "head_too_large"),
        (b"X" * 30_000, 431, "head_too_large"),
        (b"garbage\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad_request"),
        (b"GET / HTTP/0.9\r\n\r\n", 505, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
        (b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
        (b"GET /?" + b"&".join(b"a" for _ in range(101)) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
    ],
)
async def test_what_is_no_request_is_refused_counted_and_closed(
    start: Start, data: bytes, status: int, event: HttpEvent
) -> None:
    relay = await start()
    async with await relay.connect() as stream:
        await stream.send_all(data)
        reply = await read_all(stream)

    assert status_of(reply) == status
    assert b'{"error":"%b",' % ERRORS[status] in reply
    assert relay.events == [event]
    assert status_of(await talk(relay, GET)) == 200


async def answer_to_pieces(stream: trio.abc.HalfCloseableStream, data: bytes, cuts: list[int]) -> bytes:
    """Everything that comes back when `data` is sent in pieces of these lengths, the last with all that is left."""
    position = 0
    for cut in [*cuts, len(data)]:
        await stream.send_all(data[position : position + cut])
        position += cut
        await trio.testing.wait_all_tasks_blocked()
    await stream.send_eof()
    return await read_all(stream)


@settings(max_examples=60, deadline=None)
@given(st.integers(1_900, 2_100), st.booleans(), st.lists(st.integers(1, 1_200), max_size=4))
def test_no_head_is_longer_than_the_bound_however_it_comes(size: int, in_target: bool, cuts: list[int]) -> None:
    """Whole or in pieces, long by its target or by a header, with another behind it: 2,000 bytes and no more."""
    start, rest = (
        (b"GET /", b" HTTP/1.1\r\nHost: x\r\n\r\n") if in_target else (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n\r\n")
    )
    data = start + b"x" * (size - len(start) - len(rest)) + rest + GET

    async def check() -> None:
        async with trio.open_nursery() as nursery:
            relay = await Relay(nursery, echo).listen()
            stream = relay.memory.connect()
            reply = await answer_to_pieces(stream, data, cuts)
            assert re.findall(rb"HTTP/1.1 (\d+)", reply) == ([b"200", b"200"] if size <= 2_000 else [b"431"])
            assert relay.events == ([] if size <= 2_000 else ["head_too_large"])
            nursery.cancel_scope.cancel()

    trio.run(check)


async def test_an_unfinished_request_is_counted_and_gets_no_answer(start: Start) -> None:
    relay = await start()
    assert await talk(relay, b"GET / HTTP/1.1\r\nHo") == b""
    assert await talk(relay, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort") == b""
    assert await talk(relay, b"") == b""

    assert relay.events == ["unfinished", "unfinished"]


async def test_a_head_and_a_body_one_byte_at_a_time(start: Start) -> None:
    relay = await start()
    async with await relay.connect() as stream:
        for byte in b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert b'"body":"abc"' in await read_response(stream)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 120), max_size=12), st.binary(max_size=120))
def test_any_cut_of_the_bytes_gives_the_same_answers_and_any_garbage_ends_one_connection(
    cuts: list[int], garbage: bytes
) -> None:
    """Whole or in pieces, two requests and then garbage: two answers, at most one refusal, and the server goes on."""
    first = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    data = first + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n" + garbage

    async def check() -> None:
        async with trio.open_nursery() as nursery:
            relay = await Relay(nursery, echo).listen()
            stream = relay.memory.connect()
            reply = await answer_to_pieces(stream, data, cuts)
            assert re.findall(rb'"path":"(/\d)"', reply)[:2] == [b"/1", b"/2"]
            other = relay.memory.connect()
            await other.send_all(GET)
            assert status_of(await read_response(other)) == 200
            nursery.cancel_scope.cancel()

    trio.run(check)


# Time


async def test_a_head_that_drips_is_cut_off_at_its_deadline(
    start: Start, autojump_clock: trio.testing.MockClock
) -> None:
    """Slow loris: a byte a second keeps nothing open; the whole head has 10 s."""
    relay = await start()
    stream = relay.memory.connect()
    for byte in b"GET / HTT":
        await stream.send_all(bytes([byte]))
        await trio.sleep(1)
    reply = await read_all(stream)

    assert status_of(reply) == 408
    assert trio.current_time() == pytest.approx(10, abs=1.1)
    assert relay.events == ["head_timeout"]


async def test_a_connection_that_says_nothing_is_closed(start: Start, autojump_clock: trio.testing.MockClock) -> None:
    relay = await start()
    await read_all(relay.memory.connect())

    assert trio.current_time() == pytest.approx(10, abs=1.1)
    assert relay.events == ["head_timeout"]


async def test_an_idle_connection_is_closed_without_a_word(
    start: Start, autojump_clock: trio.testing.MockClock
) -> None:
    relay = await start()
    stream = relay.memory.connect()
    await stream.send_all(GET)
    await read_response(stream)
    await trio.sleep(29)
    await stream.send_all(GET)
    await read_response(stream)
    before = trio.current_time()

    assert await read_all(stream) == b""
    assert trio.current_time() - before == pytest.approx(30)
    assert relay.events == []


async def test_a_second_head_that_drips_has_its_own_deadline(
    start: Start, autojump_clock: trio.testing.MockClock
) -> None:
    """Not what is left of the idle time: 10 s from its first byte, even after 29 s of silence."""
    relay = await start()
    stream = relay.memory.connect()
    await stream.send_all(GET)
    await read_response(stream)
    await trio.sleep(29)
    await stream.send_all(GET[:10])
    await trio.sleep(9)
    await stream.send_all(GET[10:])
    assert status_of(await read_response(stream)) == 200
    await stream.send_all(GET[:10])
    before = trio.current_time()

    assert status_of(await read_all(stream)) == 408
    assert trio.current_time() - before == pytest.approx(10, abs=1.1)


async def test_a_body_that_drips_is_cut_off_at_its_deadline(
    start: Start, autojump_clock: trio.testing.MockClock
) -> None:
    relay = await start()
    stream = relay.memory.connect()
    await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
    for _ in range(19):
        await trio.sleep(1)
        await stream.send_all(b"x")

    assert status_of(await read_all(stream)) == 408
    assert trio.current_time() == pytest.approx(20, abs=1.1)
    assert relay.events == ["body_timeout"]


async def test_a_client_that_does_not_read_is_given_up(start: Start, autojump_clock: trio.testing.MockClock) -> None:
    """Its bound is for each 64 KiB, so a slow reader that reads is served."""

    async def answer(request: Request) -> Response:
        return Response(200, (), bytes(300_000))

    relay = await start(answer)
    relay.memory._pair = trio.testing.lockstep_stream_pair
    stream = relay.memory.connect()
    await stream.send_all(GET)
    received = 0
    while received < 250_000:
        await trio.sleep(1)
        received += len(await stream.receive_some(30_000))
    assert trio.current_time() > 7
    assert relay.events == []
    await trio.sleep(6)

    assert relay.events == ["send_timeout"]


# Numbers


async def test_beyond_the_bound_a_connection_is_refused_when_all_others_are_busy(start: Start) -> None:
    release = trio.Event()

    async def answer(request: Request) -> Response:
        await release.wait()
        return Response(200)

    relay = await start(answer)
    streams = [await relay.connect() for _ in range(3)]
    for stream in streams:
        await stream.send_all(GET)
    await trio.testing.wait_all_tasks_blocked()
    async with await relay.connect() as refused:
        reply = await read_all(refused)
    assert status_of(reply) == 503
    assert b"Retry-After: 10\r\n" in reply
    assert b"Server: atproto-relay/0\r\n" in reply
    assert relay.events == ["refused"]
    release.set()
    for stream in streams:
        assert status_of(await read_response(stream)) == 200
        await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()

    assert status_of(await talk(relay, GET)) == 200


async def test_beyond_the_bound_the_longest_idle_connection_makes_place(start: Start) -> None:
    """Peers that hold connections and say nothing cannot keep others out."""
    relay = await start()
    silent = [await relay.connect() for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked()
    reply = await talk(relay, GET)

    assert status_of(reply) == 200
    assert await read_all(silent[0]) == b""
    assert relay.events == ["evicted"]
    await silent[1].send_all(GET)
    assert status_of(await read_response(silent[1])) == 200
    for stream in silent:
        await stream.aclose()


# Answers that fail


class Passes(trio.abc.Instrument):
    """Counts the scheduler's passes."""

    number = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 -- as trio calls it
        self.number += 1


async def test_requests_that_come_at_once_are_answered_a_few_in_a_pass() -> None:
    """Whoever else is on the loop, consumers at the tip first, waits for those few and not for all."""
    passes = Passes()
    answered: Counter[int] = Counter()
    memory = MemoryListener()

    async def answer(request: Request) -> Response:
        answered[passes.number] += 1
        return Response(200)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, [memory], Site(answer))
        clients = [memory.connect() for _ in range(50)]
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(passes)
        for client in clients:
            nursery.start_soon(client.send_all, GET)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(passes)
        nursery.cancel_scope.cancel()

    assert sum(answered.values()) == 50
    assert max(answered.values()) <= TURNS


async def test_an_exception_in_an_answer_is_a_500_for_that_request_only(start: Start) -> None:
    async def answer(request: Request) -> Response:
        if request.path == "/bad":
            raise KeyError("secret detail")
        return Response(200, (), b"fine")

    relay = await start(answer)
    data = await talk(relay, b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n" + GET)

    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"500", b"200"]
    assert b'{"error":"InternalServerError","message":"Internal Server Error"}' in data
    assert b"secret" not in data
    assert relay.events == ["answer_failed"]
    assert isinstance(relay.failures[0], KeyError)


@pytest.mark.parametrize(
    "response", [Response(200, (("X", "a\r\nb"),)), Response(200, (("X", "é"),)), Response(99), Response(299)]
)
async def test_an_answer_that_cannot_be_sent_is_a_500(start: Start, response: Response) -> None:
    async def answer(request: Request) -> Response:
        return response

    relay = await start(answer)

    assert status_of(await talk(relay, GET)) == 500
    assert relay.events == ["answer_failed"]


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_broken_assertion_ends_the_server(grouped: bool) -> None:
    """Doubt about our own state is not answered with a 500 (design section 7)."""

    async def answer(request: Request) -> Response:
        error = AssertionError("impossible")
        raise ExceptionGroup("nursery", [error]) if grouped else error

    found: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            relay = await Relay(nursery, answer).listen()
            stream = relay.memory.connect()
            await stream.send_all(GET)
            await trio.sleep_forever()
    except* AssertionError as group:
        found.append(group)

    assert found


# Streams


async def pieces(*parts: bytes, closed: list[str]) -> AsyncGenerator[bytes, None]:
    try:
        for part in parts:
            await trio.lowlevel.checkpoint()
            yield part
    finally:
        closed.append("closed")


@pytest.mark.parametrize(("version", "framed"), [("1.1", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), ("1.0", b"abc")])
async def test_a_body_in_pieces_is_sent_as_it_comes(start: Start, version: str, framed: bytes) -> None:
    closed: list[str] = []

    async def answer(request: Request) -> Response:
        return Response(200, (), pieces(b"a", b"", b"bc", closed=closed))

    relay = await start(answer)
    async with await relay.connect() as stream:
        await stream.send_all(f"GET / HTTP/{version}\r\nHost: x\r\n\r\n".encode())
        data = await read_all(stream)

    assert data.endswith(b"\r\n\r\n" + framed)
    assert closed == ["closed"]
    assert relay.events == []


async def test_a_head_request_closes_the_pieces_unread(start: Start) -> None:
    async def answer(request: Request) -> Response:
        return Response(200, (), pieces(b"a", closed=[]))

    data = await talk(await start(answer), b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")

    assert data.startswith(b"HTTP/1.1 200")
    assert data.endswith(b"\r\n\r\n")


async def begun(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Its first piece taken, so that closing it is heard of."""
    await anext(body)
    return body


async def test_pieces_are_closed_where_their_head_cannot_be_sent(start: Start) -> None:
    closed: list[str] = []

    async def answer(request: Request) -> Response:
        return Response(200, (("X", "a\r\nb"),), await begun(pieces(b"a", b"b", closed=closed)))

    relay = await start(answer)

    assert status_of(await talk(relay, GET)) == 500
    assert closed == ["closed"]


async def test_pieces_are_closed_where_nobody_takes_their_head(autojump_clock: trio.testing.MockClock) -> None:
    closed: list[str] = []

    async def answer(request: Request) -> Response:
        return Response(200, (), await begun(pieces(b"a", b"b", closed=closed)))

    async with trio.open_nursery() as nursery:
        relay = Relay(nursery, answer)
        relay.memory = MemoryListener(lockstep=True)
        stream = (await relay.listen()).memory.connect()
        await stream.send_all(GET)
        await trio.sleep(SMALL.send_seconds + 1)
        nursery.cancel_scope.cancel()

    assert (closed, relay.events) == (["closed"], ["send_timeout"])


async def test_a_stream_ends_when_its_client_leaves_even_in_silence(start: Start) -> None:
    ended = trio.Event()

    async def forever() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await trio.sleep_forever()
        finally:
            ended.set()

    async def answer(request: Request) -> Response:
        return Response(200, (("Content-Type", "text/event-stream"),), forever())

    relay = await start(answer)
    stream = await relay.connect()
    await stream.send_all(GET)
    data = b""
    while b"data: 1" not in data:
        data += await stream.receive_some()
    await stream.aclose()
    await ended.wait()

    assert relay.events == []


async def test_a_stream_that_fails_ends_unfinished(start: Start) -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise KeyError("x")

    async def answer(request: Request) -> Response:
        return Response(200, (), failing())

    relay = await start(answer)
    async with await relay.connect() as stream:
        await stream.send_all(GET)
        data = await read_all(stream)

    assert data.endswith(b"1\r\na\r\n")
    assert relay.events == ["answer_failed"]


# Upgrades

UPGRADE = b"GET /ws?cursor=1 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"


async def take_over(stream: trio.abc.Stream, head: bytes) -> None:
    await stream.send_all(b"head=%r" % head)
    async for data in stream:
        await stream.send_all(b"<" + data + b">")


async def test_an_upgrade_gets_the_bytes_as_they_came_and_the_stream(start: Start) -> None:
    async def answer(request: Request) -> Response | Upgrade:
        return Upgrade(take_over) if request.wants_websocket else error_response(426, "UpgradeRequired", "no")

    relay = await start(answer)
    async with await relay.connect() as stream:
        await stream.send_all(GET)
        assert status_of(await read_response(stream)) == 426
        await stream.send_all(UPGRADE + b"\x82\x00early")
        assert await stream.receive_some() == b"head=%r" % (UPGRADE + b"\x82\x00early")
        await stream.send_all(b"later")
        assert await stream.receive_some() == b"<later>"
        await stream.send_eof()
        assert await read_all(stream) == b""
    assert relay.events == []


async def test_an_upgrade_behind_a_pipelined_request_and_byte_by_byte(start: Start) -> None:
    async def answer(request: Request) -> Response | Upgrade:
        return Upgrade(take_over) if request.wants_websocket else Response(200)

    relay = await start(answer)
    async with await relay.connect() as stream:
        await stream.send_all(GET + UPGRADE[:20])
        assert status_of(await read_response(stream)) == 200
        for byte in UPGRADE[20:]:
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert await stream.receive_some() == b"head=%r" % UPGRADE


@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"WebSocket", b"h2c"),
        UPGRADE.replace(b"keep-alive, Upgrade", b"keep-alive"),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        GET,
    ],
)
async def test_what_does_not_ask_for_a_websocket(start: Start, request_bytes: bytes) -> None:
    wanted: list[bool] = []

    async def answer(request: Request) -> Response:
        wanted.append(request.wants_websocket)
        return Response(200)

    await talk(await start(answer), request_bytes)

    assert wanted == [False]


async def test_an_upgrade_with_a_body_is_refused_whatever_the_answer(start: Start) -> None:
    async def answer(request: Request) -> Upgrade:
        return Upgrade(take_over)

    relay = await start(answer)
    data = await talk(relay, UPGRADE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))

    assert status_of(data) == 400


async def test_an_upgraded_connection_that_breaks_ends_alone(start: Start) -> None:
    """Also when the error comes in a group, and when a library lets a `Cancelled` escape."""

    async def broken(stream: trio.abc.Stream, head: bytes) -> None:
        raise ExceptionGroup("library", [trio.BrokenResourceError("gone"), trio.ClosedResourceError()])

    async def stray(stream: trio.abc.Stream, head: bytes) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                escaped = cancelled
        raise escaped

    async def answer(request: Request) -> Response | Upgrade:
        return Upgrade(broken if "1" in request.query[0] else stray) if request.query else Response(200)

    relay = await start(answer)
    for target in (b"/?a=1", b"/?a=2"):
        assert await talk(relay, GET.replace(b"/ ", target + b" ")) == b""

    assert status_of(await talk(relay, GET)) == 200
    assert relay.events == ["lost"]


# Who asks


async def test_forwarded_addresses_count_only_from_trusted_proxies(start: Start) -> None:
    forwarded = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
    trusting = await start()
    assert b'"client":"203.0.113.7"' in await talk(trusting, forwarded)
    assert trusting.events == []
    strict = await start(proxies=parse_networks(["10.0.0.0/8"]))
    assert b'"client":"127.0.0.1"' in await talk(strict, forwarded)

    assert strict.events == ["forwarded_untrusted"]


@pytest.mark.parametrize(
    ("proxies", "claims", "is_secure"),
    [
        (LOOPBACK, [b"https"], True),
        (LOOPBACK, [b"HTTPS"], True),
        (LOOPBACK, [b"http", b"https"], True),
        (LOOPBACK, [b"https", b"http"], False),  # what stands left is a stranger's
        (LOOPBACK, [b"https, http"], False),
        (LOOPBACK, [], False),
        (parse_networks(["10.0.0.0/8"]), [b"https"], False),
    ],
)
def test_tls_is_believed_of_trusted_proxies_only(proxies: Networks, claims: list[bytes], is_secure: bool) -> None:
    """A stranger's word about itself is not even seen by who answers."""
    fields = [(b"Host", b"x"), *((b"X-Forwarded-Proto", claim) for claim in claims), (b"X-Forwarded-For", b"1.1.1.1")]
    request = request_of(h11.Request(method="GET", target="/", headers=fields), b"", "127.0.0.1", proxies)

    assert request.is_secure == is_secure
    assert ("x-forwarded-for" in request.headers) == (proxies is LOOPBACK)


async def test_unix_sockets_are_served_too(nursery: trio.Nursery, tmp_path: Path) -> None:
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(tmp_path / "s"))
        sock.listen()
        listener = trio.SocketListener(sock)
        await nursery.start(partial(serve_http, [listener], Site(echo)))
        async with await trio.open_unix_socket(tmp_path / "s") as stream:
            await stream.send_all(GET)
            assert b'"client":"unix"' in await read_response(stream)
        nursery.cancel_scope.cancel()


async def test_requests_under_way_can_outlive_the_listening(autojump_clock: trio.testing.MockClock) -> None:
    """Draining: accepting ends at once, the connections get a deadline of their own."""

    async def answer(request: Request) -> Response:
        await trio.sleep(5)
        return Response(200, (), b"late")

    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            listener = MemoryListener()
            await accepting.start(partial(serve_http, [listener], Site(answer), handler_nursery=handlers))
            stream = listener.connect()
            await stream.send_all(GET)
            await trio.testing.wait_all_tasks_blocked()
            accepting.cancel_scope.cancel()
        assert b"late" in await read_response(stream)
        handlers.cancel_scope.deadline = trio.current_time() + 1

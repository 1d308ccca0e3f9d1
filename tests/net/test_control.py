"""Asking a worker over its Unix socket."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from relay.net.connection import Site
from relay.net.control import ask
from relay.net.errors import BodyTooLarge, DialFailed, HttpStatus, NetTimeout
from relay.net.exchange import Request, Response
from relay.net.server import serve_http


async def answer(request: Request) -> Response:
    if request.path == "/hang":
        await trio.sleep_forever()
    if request.path == "/refuse":
        return Response(409, (), b"not now")
    if request.path == "/kick":
        return Response(202, (), b"%s %r %s" % (request.method.encode(), request.query, request.body))
    return Response(200, (), bytes(3_000_000))


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "serve-0.sock"
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, [trio.SocketListener(sock)], Site(answer)))
        yield path
        nursery.cancel_scope.cancel()


async def test_an_answer_of_any_2xx_is_its_body(worker: Path) -> None:
    assert await ask(worker, "POST", "/kick?id=7", b"now", timeout_seconds=5) == b"POST (('id', '7'),) now"
    assert len(await ask(worker, "GET", "/metrics", timeout_seconds=5)) == 3_000_000


async def test_another_status_is_an_error_with_its_body(worker: Path) -> None:
    with pytest.raises(HttpStatus) as caught:
        await ask(worker, "GET", "/refuse", timeout_seconds=5)

    assert (caught.value.status, caught.value.body) == (409, b"not now")


async def test_answers_are_bounded(worker: Path) -> None:
    with pytest.raises(BodyTooLarge):
        await ask(worker, "GET", "/metrics", timeout_seconds=5, body_bytes_max=1000)


async def test_a_worker_that_does_not_answer_is_a_timeout(worker: Path, autojump_clock: object) -> None:
    with pytest.raises(NetTimeout):
        await ask(worker, "GET", "/hang", timeout_seconds=10)


async def test_a_worker_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DialFailed):
        await ask(tmp_path / "none.sock", "GET", "/", timeout_seconds=5)

"""Consumers of the other serve workers: asked over their sockets, and a worker that is silent is left out."""

from pathlib import Path

import trio

from relay.app.listening import bind_control
from relay.net.connection import Site
from relay.net.exchange import Request, Response, json_response
from relay.net.server import serve_http
from relay.serve.admin.peers import Peers
from tests.support.serving import serve

OTHERS = {"id": 9, "lag_seconds": 0.0}


async def answer(request: Request) -> Response:
    match request.method, request.path, request.body:
        case "GET", "/consumers", _:
            return json_response(200, [OTHERS])
        case "POST", "/kick", b'{"id":9}':
            return json_response(200, {"kicked": 9})
        case "GET", "/workers", _:
            return json_response(200, [{"role": "serve"}])
        case _:
            return json_response(404, {"error": "NotFound", "message": ""})


async def test_all_workers_are_asked(tmp_path: Path, nursery: trio.Nursery) -> None:
    for name in ("serve-1", "supervisor"):
        await nursery.start(serve_http, [bind_control(tmp_path / f"{name}.sock")], Site(answer))
    async with serve(tmp_path) as serving, serving.connect():
        peers = Peers(tmp_path, index=0, count=3, audience=serving.worker.audience)  # there is no serve-2
        mine, other = await peers.consumers()

        assert (mine["worker"], other) == (0, OTHERS | {"worker": 1})
        assert await peers.kick(9)
        assert not await peers.kick(10)
        assert await peers.workers() == [{"role": "serve"}]
    nursery.cancel_scope.cancel()


async def test_a_worker_alone_asks_nobody(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        peers = Peers(None, index=0, count=4, audience=serving.worker.audience)

        assert (await peers.consumers(), await peers.kick(1), await peers.workers()) == ([], False, [])

"""requestCrawl over HTTP: what becomes of the host row."""

from pathlib import Path

import pytest

from relay.crawl.settings import HostSettings
from relay.serve.settings import ServeRoleSettings
from relay.store.hosts import HostRow
from tests.support.serving import LOG, Reply, Serving, serve

PRIVATE = ServeRoleSettings(log=LOG, hosts=HostSettings(allow_private=True, allow_insecure=True))
PATH = "/xrpc/com.atproto.sync.requestCrawl"


async def ask(serving: Serving, hostname: str, path: str = PATH) -> Reply:
    return await serving.post(path, b'{"hostname":"%s"}' % hostname.encode())


def row_of(serving: Serving, name: str) -> HostRow:
    with serving.store.view() as view:
        row = view.host_named(name)
    assert row is not None
    return row


def generation(serving: Serving) -> int:
    with serving.store.view() as view:
        return view.generation()


@pytest.mark.parametrize("path", [PATH, "/xrpc/com.atproto.sync.notifyOfUpdate"])
async def test_a_host_of_the_private_network_gets_a_row_that_workers_notice(tmp_path: Path, path: str) -> None:
    """Checklist 234, 241: 200 with an empty body, and a new generation so that ingest subscribes."""
    async with serve(tmp_path, PRIVATE) as serving:
        before = generation(serving)
        reply = await ask(serving, "localhost:2583", path)
        assert (reply.status, reply.body) == (200, b"")
        row = row_of(serving, "localhost:2583")
        assert (row.insecure, row.status, row.start, row.cursor) == (True, "active", "window", None)
        assert generation(serving) > before


async def test_asking_for_a_connected_host_changes_nothing(tmp_path: Path) -> None:
    """Checklist 236."""
    async with serve(tmp_path, PRIVATE) as serving:
        await ask(serving, "localhost:2583")
        row, before = row_of(serving, "localhost:2583"), generation(serving)
        for _ in range(3):
            assert (await ask(serving, "localhost:2583")).status == 200
        assert (row_of(serving, "localhost:2583"), generation(serving)) == (row, before)


@pytest.mark.parametrize("status", ["idle", "offline"])
async def test_a_host_that_is_left_alone_is_tried_again_now(tmp_path: Path, status: str) -> None:
    """Checklist 237: the workers see a new generation and when the host was asked for."""
    async with serve(tmp_path, PRIVATE) as serving:
        await ask(serving, "localhost:2583")
        row = row_of(serving, "localhost:2583")
        serving.store.update_host(row.host_id, status=status)
        before = generation(serving)
        assert (await ask(serving, "localhost:2583")).status == 200
        assert generation(serving) > before
        assert row_of(serving, "localhost:2583").asked_ms > row.asked_ms


async def test_a_banned_host_is_told_so(tmp_path: Path) -> None:
    """Checklist 235."""
    async with serve(tmp_path, PRIVATE) as serving:
        await ask(serving, "localhost:2583")
        serving.store.update_host(row_of(serving, "localhost:2583").host_id, status="banned")
        reply = await ask(serving, "localhost:2583")
        assert (reply.status, reply.json["error"]) == (400, "HostBanned")


async def test_without_a_private_network_nobody_is_taken(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        before = generation(serving)
        for hostname in ("localhost:2583", "pds.example.net", "10.0.0.1", "morel.us-east.host.bsky.network"):
            reply = await ask(serving, hostname)
            assert reply.status in {400, 403}, hostname
            assert set(reply.json) == {"error", "message"}
        assert generation(serving) == before


@pytest.mark.parametrize(
    "hostname", ["", "http://user@localhost", "localhost/path", "a b", "localhost:0", "localhost:99999", "[::1"]
)
async def test_what_is_no_host_name_is_refused(tmp_path: Path, hostname: str) -> None:
    """Checklist 238."""
    async with serve(tmp_path, PRIVATE) as serving:
        reply = await ask(serving, hostname)
        assert reply.status == 400
        assert set(reply.json) == {"error", "message"}


async def test_a_body_that_is_no_request_is_a_400(tmp_path: Path) -> None:
    async with serve(tmp_path, PRIVATE) as serving:
        for body in (b"", b"localhost", b"[]", b'{"host":"localhost"}', b"\xff"):
            reply = await serving.post(PATH, body)
            assert (reply.status, reply.json["error"]) == (400, "InvalidRequest")

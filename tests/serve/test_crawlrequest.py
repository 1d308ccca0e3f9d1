"""requestCrawl over HTTP: what is checked before a host gets a row, and what becomes of the row."""

from pathlib import Path

import msgspec
import pytest
import trio

from relay.crawl.settings import HostSettings
from relay.net.connection import Site
from relay.net.exchange import Request, Response, json_response
from relay.serve.crawlrequest import COSTLY_BURST
from relay.serve.settings import ServeRoleSettings
from relay.store.hosts import HostRow
from relay.store.policy import DOMAIN_BAN, NEW_PER_DAY, REQUEST_CRAWL, DomainBan, encoded
from relay.store.store import Store
from relay.world.host import SimulatedHost
from relay.world.loopback import origin, serve_on_loopback
from tests.support.serving import LOG, Reply, Serving, serve
from tests.support.until import until

HOSTS = HostSettings(allow_private=True, allow_insecure=True, new_per_day=3)
PRIVATE = ServeRoleSettings(log=LOG, hosts=HOSTS)
PATH = "/xrpc/com.atproto.sync.requestCrawl"


async def pds(nursery: trio.Nursery, server: str = "pds") -> str:
    """A simulated PDS; its name as a relay knows it."""
    host = SimulatedHost(server=server)
    await nursery.start(host.serve)
    return host.url.removeprefix("http://")


async def ask(serving: Serving, hostname: str, path: str = PATH, **headers: str) -> Reply:
    return await serving.post(path, msgspec.json.encode({"hostname": f"http://{hostname}"}), **headers)


def row_of(serving: Serving, name: str) -> HostRow | None:
    with serving.store.view() as view:
        return view.host_named(name)


def known(serving: Serving, name: str) -> HostRow:
    row = row_of(serving, name)
    assert row is not None
    return row


def generation(serving: Serving) -> int:
    with serving.store.view() as view:
        return view.generation()


@pytest.mark.parametrize("path", [PATH, "/xrpc/com.atproto.sync.notifyOfUpdate"])
async def test_a_pds_that_asks_gets_a_row_that_workers_notice(tmp_path: Path, nursery: trio.Nursery, path: str) -> None:
    """Checklist 234, 241: 200 with an empty body, and a new generation so that ingest subscribes."""
    name = await pds(nursery)
    async with serve(tmp_path, PRIVATE) as serving:
        before = generation(serving)
        reply = await ask(serving, name, path)
        assert (reply.status, reply.body) == (200, b"")
        row = known(serving, name)
        assert (row.insecure, row.status, row.start, row.cursor) == (True, "idle", "window", None)
        assert row.requested
        assert generation(serving) > before
    nursery.cancel_scope.cancel()


async def test_asking_for_a_connected_host_changes_nothing(tmp_path: Path) -> None:
    """Checklist 236: a hundred times, and the host is not asked either; nobody would answer."""
    async with serve(tmp_path, PRIVATE) as serving:
        row = serving.store.add_host("localhost:1", insecure=True, now_ms=1, status="active")
        before = generation(serving)
        for _ in range(100):
            assert (await ask(serving, "localhost:1")).status == 200
        assert (known(serving, "localhost:1"), generation(serving)) == (row, before)


@pytest.mark.parametrize("status", ["idle", "offline"])
async def test_a_host_that_is_left_alone_is_tried_again_now(tmp_path: Path, status: str) -> None:
    """Checklist 237: the workers see a new generation and when the host was asked for."""
    async with serve(tmp_path, PRIVATE) as serving:
        row = serving.store.add_host("localhost:1", insecure=True, now_ms=1, status=status)
        before = generation(serving)
        assert (await ask(serving, "localhost:1")).status == 200
        assert generation(serving) > before
        assert known(serving, "localhost:1").asked_ms > row.asked_ms


async def test_a_banned_host_is_told_so(tmp_path: Path) -> None:
    """Checklist 235."""
    async with serve(tmp_path, PRIVATE) as serving:
        serving.store.add_host("localhost:1", insecure=True, now_ms=1, status="banned")
        reply = await ask(serving, "localhost:1")
        assert (reply.status, reply.json["error"]) == (400, "HostBanned")


@pytest.mark.parametrize("domain", ["pds.eggs.internal", "eggs.internal", "internal"])
async def test_a_domain_ban_holds_for_every_name_below_it(tmp_path: Path, domain: str) -> None:
    """Checklist 260; nothing is asked and nothing stored."""
    async with serve(tmp_path, PRIVATE) as serving:
        serving.store.set_policy(DOMAIN_BAN + domain, encoded(DomainBan()))
        reply = await ask(serving, "pds.eggs.internal:1")
        assert (reply.status, reply.json["error"]) == (400, "HostBanned")
        assert domain in reply.json["message"]
        assert row_of(serving, "pds.eggs.internal:1") is None


async def test_a_known_host_below_a_banned_domain_is_told_so_too(tmp_path: Path) -> None:
    async with serve(tmp_path, PRIVATE) as serving:
        serving.store.add_host("pds.eggs.internal:1", insecure=True, now_ms=1)
        serving.store.set_policy(DOMAIN_BAN + "eggs.internal", encoded(DomainBan()))
        reply = await ask(serving, "pds.eggs.internal:1")
        assert (reply.status, reply.json["error"]) == (400, "HostBanned")


async def test_a_ban_that_comes_while_the_host_is_asked_holds(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with serve(tmp_path, PRIVATE) as serving:

        async def describe(_request: Request) -> Response:
            await trio.lowlevel.checkpoint()
            serving.store.ban_domain("localhost", now_ms=2)
            return json_response(200, {"did": "did:web:localhost"})

        url = origin(await nursery.start(serve_on_loopback, Site(describe), 0))
        name = url.removeprefix("http://").replace("127.0.0.1", "localhost")
        reply = await ask(serving, name)
        assert (reply.status, reply.json["error"]) == (400, "HostBanned")
        assert row_of(serving, name) is None
    nursery.cancel_scope.cancel()


async def test_a_host_that_does_not_answer_gets_no_row(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Checklist 239: dead, redirecting elsewhere, and answering with far too much."""

    async def redirect(_request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(302, (("Location", "http://169.254.169.254/"),))

    async def flood(_request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(200, (), b'{"did":"' + b"a" * 10_000_000)

    sites = [origin(await nursery.start(serve_on_loopback, Site(answer), 0)) for answer in (redirect, flood)]
    names = ["localhost:1", *(url.removeprefix("http://") for url in sites)]
    async with serve(tmp_path, PRIVATE) as serving:
        for name in names:
            reply = await ask(serving, name)
            assert (reply.status, reply.json["error"]) == (400, "HostNotFound"), name
            assert row_of(serving, name) is None
    nursery.cancel_scope.cancel()


async def test_neither_a_relay_nor_this_one_is_taken(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Checklist 262."""
    name = await pds(nursery, server="indigo-relay/1 (atproto-relay)")
    async with serve(tmp_path, PRIVATE) as serving:
        for hostname in (name, f"127.0.0.1:{serving.port}", f"localhost:{serving.port}"):
            reply = await ask(serving, hostname)
            assert (reply.status, reply.json["error"]) == (400, "BadRequest"), hostname
            assert row_of(serving, hostname) is None
    nursery.cancel_scope.cancel()


async def test_new_hosts_are_counted_by_day_over_restarts_and_the_known_cost_nothing(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Checklist 240."""
    names = [await pds(nursery) for _ in range(4)]
    async with serve(tmp_path, PRIVATE) as serving:
        for name in names[:2]:
            assert (await ask(serving, name)).status == 200
    async with serve(tmp_path, PRIVATE) as serving:
        assert (await ask(serving, names[0])).status == 200
        assert (await ask(serving, names[2])).status == 200
        reply = await ask(serving, names[3])
        assert (reply.status, reply.json["error"]) == (429, "RateLimitExceeded")
        assert int(reply.headers["retry-after"]) > 0
        assert row_of(serving, names[3]) is None
        serving.store.set_policy(NEW_PER_DAY, b"4")
        assert (await ask(serving, names[3])).status == 200
    nursery.cancel_scope.cancel()


async def test_an_operator_can_switch_it_off(tmp_path: Path, nursery: trio.Nursery) -> None:
    name = await pds(nursery)
    async with serve(tmp_path, PRIVATE) as serving:
        serving.store.set_policy(REQUEST_CRAWL, b"false")
        assert (await ask(serving, name)).status == 403
        serving.store.set_policy(REQUEST_CRAWL, None)
        assert (await ask(serving, name)).status == 200
    nursery.cancel_scope.cancel()


async def test_a_flood_of_names_from_one_address_is_refused_with_a_time(tmp_path: Path) -> None:
    """Checklist 248."""
    async with serve(tmp_path, PRIVATE) as serving:
        statuses = [(await ask(serving, f"localhost:{port}")).status for port in range(1, COSTLY_BURST + 1)]
        assert set(statuses) == {400}
        reply = await ask(serving, "localhost:99")
        assert (reply.status, reply.json["error"]) == (429, "RateLimitExceeded")
        assert int(reply.headers["retry-after"]) > 0


async def test_the_checks_of_an_address_are_shared_out_over_the_workers(tmp_path: Path) -> None:
    async with serve(tmp_path, PRIVATE, workers=10) as serving:
        statuses = [(await ask(serving, f"localhost:{port}")).status for port in range(1, 5)]
        assert statuses == [400, 400, 400, 429]


async def test_one_host_is_not_asked_again_and_again(tmp_path: Path) -> None:
    async with serve(tmp_path, PRIVATE) as serving:
        assert [(await ask(serving, "localhost:1")).status for _ in range(4)] == [400, 400, 400, 429]


async def test_siblings_hear_of_it_once_and_never_of_what_came_through_a_relay(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Checklist 262: ours carries a Via."""
    heard: list[Request] = []

    async def sibling(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        heard.append(request)
        return json_response(200, {})

    url = origin(await nursery.start(serve_on_loopback, Site(sibling), 0))
    name, other = await pds(nursery), await pds(nursery)
    settings = ServeRoleSettings(log=LOG, hosts=HOSTS, siblings=(url,))
    async with serve(tmp_path, settings) as serving:
        assert (await ask(serving, other, Via="1.1 atproto-relay")).status == 200
        for _ in range(3):
            assert (await ask(serving, name)).status == 200
        await until(lambda: len(heard) > 0)
    (request,) = heard
    assert (request.method, request.path) == ("POST", PATH)
    assert msgspec.json.decode(request.body) == {"hostname": f"http://{name}"}
    assert "atproto-relay" in request.headers["via"]
    nursery.cancel_scope.cancel()


async def test_a_public_relay_takes_no_private_names(tmp_path: Path) -> None:
    """Checklist 238, 263."""
    async with serve(tmp_path) as serving:
        before = generation(serving)
        for hostname in (
            "localhost:2583",
            "10.0.0.1",
            "[::1]",
            "pds.local",
            "user@pds.example.net",
            "pds.example.net:81",
        ):
            reply = await ask(serving, hostname)
            assert (reply.status, reply.json["error"]) == (400, "BadRequest"), hostname
            assert set(reply.json) == {"error", "message"}
        assert generation(serving) == before


async def test_a_body_that_is_no_request_is_a_400(tmp_path: Path) -> None:
    async with serve(tmp_path, PRIVATE) as serving:
        for body in (b"", b"localhost", b"[]", b'{"host":"localhost"}', b"\xff", b'{"hostname":7}'):
            reply = await serving.post(PATH, body)
            assert (reply.status, reply.json["error"]) == (400, "InvalidRequest")


def test_the_budget_of_a_day_is_a_window_that_slides(tmp_path: Path) -> None:
    day = 86_400_000
    store = Store.open(tmp_path / "data", LOG, create=True, now_ms=day)
    try:

        def admit(number: int, now_ms: int) -> bool:
            return store.admit_host(f"p{number}.org", insecure=False, now_ms=now_ms, per_day=2) is not None

        assert [admit(number, 10 * day) for number in range(3)] == [True, True, False]
        assert not admit(3, 11 * day)
        assert admit(4, 11 * day + day // 2)
        assert not admit(5, 11 * day + day // 2)
        assert [admit(number, 20 * day) for number in range(6, 9)] == [True, True, False]
    finally:
        store.close()

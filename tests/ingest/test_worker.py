"""A whole ingest worker over real sockets and a real store, against the simulated network."""

import random
import time
from functools import partial
from pathlib import Path

import trio

from relay.crawl.roster import owner_of
from relay.net.connection import Site
from relay.net.exchange import Request, Response, json_response
from relay.verify.verdict import Reason
from relay.world.accounts import did_document, new_account
from relay.world.directory import Directory
from relay.world.host import SimulatedHost
from relay.world.loopback import serve_on_loopback
from relay.world.messages import account_message, identity_message
from relay.world.network import Emission, Shape
from relay.world.plc import PlcServer
from relay.world.stage import open_stage
from tests.support.inprocess import Ingest, hostnames, ingesting, keys_by_did, keys_of_frames
from tests.support.until import until

LIVELY = Shape(records=200, layer_min=2, templates=1, lifecycle=0.15, quiet_ms=50)


async def test_what_hosts_send_is_logged_in_order_and_the_books_balance(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Invariants 4 and 10, with migrations, rotations, deactivations and deletions among the writes."""
    now_ms = time.time_ns() // 1_000_000
    stage = await open_stage(nursery, seed=3, hosts=3, accounts=12, now_ms=now_ms - 60_000, shape=LIVELY)
    emissions: list[Emission] = []
    async with ingesting(tmp_path, hosts=hostnames(stage), plc_url=stage.plc.url) as ingest:
        await until(lambda: all(host.connections for host in stage.hosts))
        for number in range(400):
            emissions += stage.step(now_ms - 60_000 + number * 20)
            await until(partial(_has_received, ingest, len(emissions)))
        expected = keys_by_did(emissions)
        total = sum(map(len, expected.values()))
        await until(lambda: len(ingest.logged()) >= total)

        assert keys_of_frames(ingest.logged()) == expected
        assert ingest.received() == total + ingest.dropped().total()
        assert len(emissions) - total == ingest.dropped().total()
    nursery.cancel_scope.cancel()


async def test_a_restart_resumes_each_host_at_its_cursor_and_resolves_nothing_again(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Checklist 49 to 51."""
    now_ms = time.time_ns() // 1_000_000
    cursors: dict[str, str] = {}
    stage = await open_stage(nursery, seed=4, hosts=2, accounts=6, now_ms=now_ms, shape=Shape(records=0, lifecycle=0))
    emissions: list[Emission] = []
    for part in range(3):
        asked = stage.plc.lookups.total()
        async with ingesting(tmp_path, hosts=hostnames(stage), plc_url=stage.plc.url) as ingest:
            for _ in range(30):
                emissions += stage.step(now_ms)
            await until(partial(_has_logged, ingest, len(emissions)))

            assert keys_of_frames(ingest.logged()) == keys_by_did(emissions)
            assert ingest.dropped().total() == 0
        if part:
            assert stage.plc.lookups.total() == asked
            for host in stage.hosts:
                assert host.handshakes[-1].cursor == cursors[host.url]
        cursors = {host.url: str(host.window.tip) for host in stage.hosts}
    nursery.cancel_scope.cancel()


async def test_a_move_to_a_host_of_another_worker_is_heeded_by_both(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Invariant 12: what the old host still says is dropped, though its worker never asked about the move itself."""
    now_ms = time.time_ns() // 1_000_000
    directory = Directory()
    plc = PlcServer(directory)
    await nursery.start(plc.serve)
    (old, old_url), (new, new_url) = await _hosts_of_two_workers(nursery)
    account = new_account(random.Random(5), 0)
    names = tuple(url.removeprefix("http://") for url in (old_url, new_url))

    def talk(host: SimulatedHost, status: str | None) -> None:
        host.emit(account_message(account.did, status), now_ms)
        host.emit(account.repo.commit([], account.key, now_ms), now_ms)
        host.emit(identity_message(account.did, None), now_ms)

    async with ingesting(tmp_path, hosts=names, plc_url=plc.url, workers=2) as ingest:
        for host, url in ((old, old_url), (new, new_url)):
            directory.put(account.did, did_document(account, url))
            before = len(ingest.logged())
            talk(host, None)
            await until(partial(_has_logged, ingest, before + 3))
        talk(old, "deactivated")
        await until(lambda: ingest.received() == 9)
        await until(lambda: len(ingest.logged()) + ingest.dropped().total() == 9)

        assert ingest.dropped() == {Reason.HOST_MISMATCH: 3}
    nursery.cancel_scope.cancel()


async def test_accounts_of_a_development_network_name_localhost(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Checklist 147: where private addresses are allowed, so is did:web on a port of localhost."""
    now_ms = time.time_ns() // 1_000_000
    host = SimulatedHost()
    url = await nursery.start(host.serve)
    account = new_account(random.Random(6), 0)

    async def document(_: Request) -> Response:
        return json_response(200, did_document(account, url))

    account.did = account.repo.did = f"did:web:localhost%3A{await nursery.start(serve_on_loopback, Site(document))}"
    async with ingesting(tmp_path, hosts=(url.removeprefix("http://"),), plc_url="http://localhost:1") as ingest:
        host.emit(identity_message(account.did, None), now_ms)
        host.emit(account.repo.commit([], account.key, now_ms), now_ms)
        await until(lambda: len(ingest.logged()) + ingest.dropped().total() == 2)

        assert [frame.type for frame in ingest.logged()] == ["#identity", "#commit"]
    nursery.cancel_scope.cancel()


async def _hosts_of_two_workers(nursery: trio.Nursery) -> list[tuple[SimulatedHost, str]]:
    """Two hosts; each of two workers follows one."""
    found: dict[int, tuple[SimulatedHost, str]] = {}
    while len(found) < 2:
        host = SimulatedHost()
        url = await nursery.start(host.serve)
        found.setdefault(owner_of(url.removeprefix("http://"), 2), (host, url))
    return list(found.values())


def _has_received(ingest: Ingest, count: int) -> bool:
    return ingest.received() == count


def _has_logged(ingest: Ingest, count: int) -> bool:
    return len(ingest.logged()) == count

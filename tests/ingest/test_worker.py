"""A whole ingest worker over real sockets and a real store, against the simulated network."""

import time
from functools import partial
from pathlib import Path

import trio

from relay.world.network import Emission, Shape
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


def _has_received(ingest: Ingest, count: int) -> bool:
    return ingest.received() == count


def _has_logged(ingest: Ingest, count: int) -> bool:
    return len(ingest.logged()) == count

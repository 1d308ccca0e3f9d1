"""Minutes of mixed life through a relay of real processes, beside two consumers that verify everything themselves.

One is the witness of the tests, which shares no code with the relay; the other is `relay tail --verify`. Migrations,
rotations, pauses and deletions come from the network, takedowns and their end from an operator in another process.
`RELAY_SOAK_SECONDS` (600) and `RELAY_SOAK_RATE` (60 events a second) set the length.
"""

import logging
import math
import os
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import trio

from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.world.host import SimulatedHost
from relay.world.network import Network, Shape
from relay.world.plc import PlcServer
from relay.world.stage import Stage
from tests.support.fake_consumer import connect
from tests.support.mixedlife import MixedLife
from tests.support.processes import RELAY, RelayProcess, environ
from tests.support.until import until

SECONDS = float(os.environ.get("RELAY_SOAK_SECONDS", "600"))
RATE = float(os.environ.get("RELAY_SOAK_RATE", "60"))
ACT_EVERY_SECONDS = 3.0
SETTLE_SECONDS = 8.0
SHAPE = Shape(records=300, layer_min=2, templates=3, lifecycle=0.02, quiet_ms=2_000, create_share=0.7, update_share=0.2)
HOSTS, ACCOUNTS = 3, 40

_log = logging.getLogger(__name__)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def play(life: MixedLife) -> None:
    """The network at its rate until `SECONDS` are over; an operator acts now and then."""
    started = trio.current_time()
    due, act_at = started, started + ACT_EVERY_SECONDS
    while trio.current_time() < started + SECONDS:
        due += max(1, life.step(now_ms())) / RATE
        if trio.current_time() > act_at:
            act_at += ACT_EVERY_SECONDS
            await life.act()
        await trio.sleep_until(due)


async def listen(
    relay: RelayProcess, life: MixedLife, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with connect(relay.api) as consumer:
        task_status.started()
        while isinstance(message := await consumer.receive(), bytes):
            life.witness.take(message)


async def open_life(relay: RelayProcess, nursery: trio.Nursery, store: Store) -> MixedLife:
    """Hosts and directory on ports of the relay's choice, all subscribed to."""
    hosts = [SimulatedHost() for _ in range(HOSTS)]
    urls = [await nursery.start(host.serve, relay.reserve()) for host in hosts]
    network = Network(17, urls, ACCOUNTS, now_ms(), SHAPE)
    plc = PlcServer(network.directory)
    await nursery.start(plc.serve, relay.plc)
    for url in urls:
        assert (await relay.request_crawl(url)).status == 200
    await until(lambda: all(host.connections for host in hosts))

    async def set_local_status(did: str, status: str) -> int:
        write = partial(store.set_local_status, did, status, now_ms=now_ms())
        try:
            return (await trio.to_thread.run_sync(write)).seq is not None
        except KeyError:  # nothing of the account has passed yet
            return 0

    return MixedLife(Stage(network, plc, hosts), set_local_status, seed=3)


async def test_nobody_finds_a_fault(tmp_path: Path) -> None:
    """Checklist 222."""
    relay = RelayProcess(tmp_path, RELAY_WORKERS_INGEST="2", RELAY_WORKERS_SERVE="1")
    try:
        await trio.to_thread.run_sync(relay.start)
        store = Store.open(relay.data_dir, LogSettings())
        async with trio.open_nursery() as nursery:
            life = await open_life(relay, nursery, store)
            await nursery.start(listen, relay, life)
            tail = start_tail(relay)
            await trio.sleep(1)
            await play(life)
            await trio.sleep(SETTLE_SECONDS)
            told = await trio.to_thread.run_sync(tail.communicate)
            nursery.cancel_scope.cancel()
        tip = store.tip().seq
        store.close()
    finally:
        relay.close()

    _log.info("%s; %s", dict(life.witness.counts), told[1].decode().strip())
    assert tail.returncode == 0, told[1]
    assert b"events verified" in told[1]
    assert life.witness.last_seq == tip
    expected = SECONDS * RATE * 0.5
    assert life.witness.counts["#commit"] > expected
    for status in ("takendown", "deactivated", "deleted"):
        assert life.witness.counts[status] >= math.floor(SECONDS / 60)


def start_tail(relay: RelayProcess) -> "subprocess.Popen[bytes]":
    """`relay tail --verify` for the whole time."""
    bounds = ["--seconds", str(SECONDS + SETTLE_SECONDS), "--contiguous"]
    command = [*RELAY, "tail", f"ws://127.0.0.1:{relay.api}", "--verify", "--plc", f"http://localhost:{relay.plc}"]
    return subprocess.Popen([*command, *bounds], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ({}))

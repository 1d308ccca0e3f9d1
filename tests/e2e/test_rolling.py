"""Workers that are ended one by one while clients connect all the time: nobody waits, nobody is refused."""

import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import pytest
import trio

from tests.support.fake_consumer import Refused, connect
from tests.support.processes import RelayProcess, eventually
from tests.support.until import until

pytestmark = pytest.mark.slow

CONNECT_EVERY_SECONDS = 0.05
CONNECT_SECONDS_MAX = 2.0
STANDING_CONSUMERS = 20


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    made = RelayProcess(tmp_path, RELAY_WORKERS_INGEST="1", RELAY_WORKERS_SERVE="2", RELAY_CONSUMERS_PER_ADDRESS="2000")
    try:
        made.start()
        yield made
    finally:
        made.close()


async def opens(api: int, stay_seconds: float = 0.0) -> bool:
    """Whether a subscription opens. If not, it was asked to come again: its worker left just after it had accepted."""
    try:
        async with connect(api):
            await trio.sleep(stay_seconds)
            return True
    except Refused as refused:
        if refused.status != 503:
            raise
        return False


@asynccontextmanager
async def connecting(relay: RelayProcess) -> AsyncGenerator[list[float], None]:
    """The seconds that each subscription took to open, one every 50 ms; one that fails ends the test.

    Beside them are consumers that do not answer a Close, so that a worker takes a while to let them go.
    """
    took: list[float] = []

    async def open_one() -> None:
        began = trio.current_time()
        try:
            while not await opens(relay.api):
                pass
        finally:  # also when nobody has answered up to the end of the test
            took.append(trio.current_time() - began)

    async def stay() -> None:
        while not await opens(relay.api, inf):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(STANDING_CONSUMERS):
            nursery.start_soon(stay)

        async def open_many() -> None:
            due = trio.current_time()
            while True:
                nursery.start_soon(open_one)
                due += CONNECT_EVERY_SECONDS
                await trio.sleep_until(due)

        nursery.start_soon(open_many)
        yield took
        nursery.cancel_scope.cancel()


async def is_well(relay: RelayProcess) -> bool:
    """Whether every worker is up, and none of them counts as failing."""
    reply = await relay.get("/_ready")
    return reply.status == 200 and not reply.json.get("warnings")


async def test_sighup_replaces_every_worker_without_anybody_waiting(relay: RelayProcess) -> None:
    """Twice, so that the processes which took over are replaced as well."""
    async with connecting(relay) as took:
        for turn in (1, 2):
            before = relay.pids()
            relay.process.send_signal(signal.SIGHUP)
            await until(lambda: len(list(relay.lines("workers_restarted"))) == turn, 60)  # noqa: B023 -- awaited at once
            await until(lambda: relay.pids().keys() == before.keys())  # noqa: B023 -- as above
            after = relay.pids()
            assert {name for name in after if after[name] == before[name]} == {"supervisor"}
        await eventually(lambda: is_well(relay))

    assert max(took) < CONNECT_SECONDS_MAX
    assert not list(relay.lines("worker_died"))


async def test_a_worker_that_is_told_to_end_has_its_successor_at_once(relay: RelayProcess) -> None:
    """By an operator's `kill`, three times in a row: no connection waits for the old one, and nothing has died."""
    async with connecting(relay) as took:
        for _ in range(3):
            pid = relay.pids()["serve-0"]
            os.kill(pid, signal.SIGTERM)
            await until(lambda: relay.pids().get("serve-0", pid) != pid)  # noqa: B023 -- awaited at once
            await eventually(lambda: is_well(relay))

    assert max(took) < CONNECT_SECONDS_MAX
    assert not [line for line in relay.lines() if line["event"] in ("worker_died", "worker_keeps_dying")]

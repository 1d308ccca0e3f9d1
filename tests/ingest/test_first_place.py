"""Where a new host is read from is durable as soon as it is known, so that a kill does not move it."""

from pathlib import Path

import trio
import trio.testing

from relay.ingest.batcher import BARE_INTERVAL_SECONDS
from tests.support.desks import Country, OneWorker, country

MISSED = 5  # events of a host before it is read from live on


def stored_cursor(here: Country, host: int) -> int | None:
    with here.store.view() as view:
        row = view.host(here.rows[host].host_id)
    assert row is not None
    return row.cursor


def first_frame(here: Country, host: int) -> bytes:
    """What a host that is read from live on sends first: an event of an account that nothing is known of."""
    account = next(account for account in here.network.writers if account.host == host)
    for _ in range(MISSED):
        here.number(here.network.write(account, here.now_ms()))
    return here.number(here.network.write(account, here.now_ms()))


async def test_the_place_of_a_new_host_is_durable_with_its_first_event(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Although the event waits for its document, and a batch without frames was written a moment ago.

    A start after a kill reads on with the very event that was received.
    """
    async with country(tmp_path, hosts=2) as (here, (worker,)):
        here.is_down = True
        worker.receive(1, first_frame(here, 1))
        await trio.sleep(BARE_INTERVAL_SECONDS / 10)
        assert stored_cursor(here, 1) == MISSED

        worker.receive(0, first_frame(here, 0))
        await trio.testing.wait_all_tasks_blocked()

        assert worker.judge(0).place.in_flight == 1
        assert stored_cursor(here, 0) == MISSED


async def test_only_the_first_event_is_in_a_hurry(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Later marks wait for the next batch: a host cannot cause a write with each of its events."""
    async with country(tmp_path, hosts=1) as (here, (worker,)):
        here.is_down = True
        worker.receive(0, first_frame(here, 0))
        await trio.testing.wait_all_tasks_blocked()
        written = writes(worker)

        for _ in range(20):
            worker.receive(0, first_frame(here, 0))
            await trio.sleep(BARE_INTERVAL_SECONDS / 50)

        assert writes(worker) == written


async def test_a_new_epoch_is_durable_at_once(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """The probe that led to it comes at most once a day, so a kill must not bring the old epoch back."""
    async with country(tmp_path, hosts=2) as (here, (worker,)):
        here.is_down = True
        judge = worker.judge(0)
        worker.receive(1, first_frame(here, 1))
        await trio.sleep(BARE_INTERVAL_SECONDS / 10)

        judge.restart()
        await trio.testing.wait_all_tasks_blocked()

        with here.store.view() as view:
            row = view.host(here.rows[0].host_id)
        assert row is not None
        assert (row.epoch, row.cursor) == (1, 0)


def writes(worker: OneWorker) -> int:
    """How many txns the store saw."""
    return int(worker.country.store._state.env._env.info()["last_txnid"])

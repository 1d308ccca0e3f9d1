"""A running relay loses any one of its processes to SIGKILL; consumers that come back must not be able to tell.

One relay for all tests, a town for each. What is judged is what a consumer has over all its connections.
"""

from collections.abc import Callable, Iterator

import pytest

from relay.crawl.roster import owner_of
from relay.world.accounts import Account
from relay.world.messages import account_message, identity_message
from tests.support.processes import RelayProcess, eventually
from tests.support.town import Town, town
from tests.support.until import until

pytestmark = pytest.mark.slow

INGEST_WORKERS = 2
EVENTS_PER_SECOND = 250.0
EVENTS_BETWEEN = 120  # before, between and after kills


@pytest.fixture(scope="module")
def shared_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    made = RelayProcess(
        tmp_path_factory.mktemp("killed"), RELAY_WORKERS_INGEST=str(INGEST_WORKERS), RELAY_WORKERS_SERVE="1"
    )
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def relay(shared_relay: RelayProcess) -> RelayProcess:
    """The relay of all tests; started again if one that failed has ended it."""
    if shared_relay.process.poll() is not None:
        shared_relay.start()
    return shared_relay


def ingest_worker_of(made: Town, host: int) -> str:
    return f"ingest-{owner_of(made.hostname(host), INGEST_WORKERS)}"


async def back(relay: RelayProcess, name: str, killed: int) -> None:
    """Until another process has taken the place."""
    await until(lambda: relay.pids().get(name, killed) != killed)


async def test_a_killed_ingest_worker_loses_and_repeats_nothing(relay: RelayProcess) -> None:
    """Killed twice, the second time while it catches up with what its hosts kept for it."""
    async with town(relay, hosts=3, accounts=12, seed=11) as made:
        async with made.playing(EVENTS_PER_SECOND):
            await made.received(EVENTS_BETWEEN)
            name = ingest_worker_of(made, 0)
            for _ in range(2):
                handshakes = len(made.hosts[0].handshakes)
                await back(relay, name, relay.kill(name))
                await until(lambda: len(made.hosts[0].handshakes) > handshakes)  # noqa: B023 -- awaited at once
            await made.received(EVENTS_BETWEEN)
        await made.judge()


async def test_a_killed_serve_worker_loses_and_repeats_nothing(relay: RelayProcess) -> None:
    async with town(relay, hosts=2, accounts=10, seed=12) as made:
        async with made.playing(EVENTS_PER_SECOND):
            await made.received(EVENTS_BETWEEN)

            await back(relay, "serve-0", relay.kill("serve-0"))

            await until(lambda: len(made.endings) == 1)
            await made.received(EVENTS_BETWEEN)
        await made.judge()
        assert made.endings[0].code == 1006


@pytest.mark.parametrize("everybody", [False, True], ids=["alone", "with_all_workers"])
async def test_a_killed_supervisor_loses_and_repeats_nothing(relay: RelayProcess, everybody: bool) -> None:
    """Workers that are left end by themselves; the next start takes over their folder and their ports."""
    async with town(relay, hosts=2, accounts=10, seed=14 if everybody else 13) as made:
        async with made.playing(EVENTS_PER_SECOND):
            await made.received(EVENTS_BETWEEN)
            old = relay.pids()

            for name in old if everybody else ["supervisor"]:
                relay.kill(name)
            await relay.ended()
            await relay.restart()

            assert not set(old.values()) & set(relay.pids().values())
            await made.received(EVENTS_BETWEEN)
        await made.judge()


def unknown_to_the_directory(made: Town) -> Account:
    """A new account whose document the directory's readers do not see yet: it alone does not resolve."""
    made.network.directory.lag()
    return made.create_account(host=0)


def stale_while_the_directory_is_down(made: Town) -> Account:
    """A known account whose document has to be read again, while the directory answers nobody."""
    made.plc.fault = "error"
    account = made.network.writers[0]
    made.emit(account, identity_message(account.did, account.handle))
    made.write(account)
    return account


@pytest.mark.parametrize("stick", [unknown_to_the_directory, stale_while_the_directory_is_down])
async def test_what_was_settled_above_a_stuck_account_comes_out_once(
    relay: RelayProcess, stick: Callable[[Town], Account]
) -> None:
    """The cursor stays below the stuck event (invariant 3), so all above it is sent again after the kill."""
    seed = 15 if stick is unknown_to_the_directory else 16
    async with town(relay, hosts=1, accounts=4, seed=seed) as made:
        for account in made.network.writers:
            made.write(account)
        await made.caught_up()
        settled_seq = made.seq(0)
        sent = made.scorecard.events_sent
        stuck = stick(made)
        waiting = made.scorecard.events_sent - sent
        *others, last = (account for account in made.network.writers if account is not stuck)
        for account in others:
            made.write(account)
            made.emit(account, account_message(account.did))
            if not made.plc.fault:
                made.emit(account, identity_message(account.did, account.handle))
        made.write(last)
        await until(lambda: under_way(made) == waiting)
        await eventually(lambda: cursor_is(made, settled_seq))

        name = ingest_worker_of(made, 0)
        await back(relay, name, relay.kill(name))
        await until(lambda: made.hosts[0].handshakes[-1].cursor == str(settled_seq))
        made.emit(last, account_message(last.did))
        await until(lambda: under_way(made) == waiting)
        made.plc.fault = ""
        made.network.directory.catch_up()

        await made.judge()
        assert (await relay.scrape()).dropped()["replayed"] >= 2 * len(others)


def under_way(made: Town) -> int:
    return made.scorecard.events_to_pass - made.scorecard.events_received


async def cursor_is(made: Town, seq: int) -> bool:
    """Where the relay says that it would resume."""
    return bool((await made.relay.query("getHostStatus", hostname=made.hostname(0))).json["seq"] == seq)

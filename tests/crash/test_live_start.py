"""A host that is read from live on, and a worker that is killed before anything of that host is settled."""

from collections.abc import Iterator

import pytest

from relay.crawl.roster import owner_of
from tests.support.processes import RelayProcess, eventually
from tests.support.town import Town, town
from tests.support.until import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    made = RelayProcess(
        tmp_path_factory.mktemp("live"),
        RELAY_WORKERS_INGEST="1",
        RELAY_WORKERS_SERVE="1",
        RELAY_HOSTS_START="live",
    )
    try:
        made.start()
        yield made
    finally:
        made.close()


async def test_a_kill_before_anything_of_a_new_host_is_settled_skips_nothing(relay: RelayProcess) -> None:
    """The next worker resumes before the first event that was ever received, not at the then newest one."""
    async with town(relay, hosts=1, accounts=4, seed=17) as made:
        assert made.hosts[0].handshakes[-1].cursor is None
        before_first = made.seq(0)
        made.network.directory.lag()
        stuck = made.create_account(host=0)
        await eventually(lambda: resumes_after(made, before_first))

        name = f"ingest-{owner_of(made.hostname(0), 1)}"
        killed = relay.kill(name)
        for account in made.network.writers:
            if account is not stuck:
                made.write(account)
        await until(lambda: relay.pids().get(name, killed) != killed)
        await until(lambda: made.hosts[0].handshakes[-1].cursor == str(before_first))
        made.network.directory.catch_up()

        await made.judge()


async def resumes_after(made: Town, seq: int) -> bool:
    """Whether the host's row says so, by the relay's own word."""
    return bool((await made.relay.query("getHostStatus", hostname=made.hostname(0))).json.get("seq") == seq)

"""The XRPC side of a running relay: hosts come in by requestCrawl, and what is said of hosts and repos is so."""

import pytest

from relay.world.dagcbor import cid_text
from tests.support.processes import RelayProcess, eventually
from tests.support.serving import Reply
from tests.support.town import Town, now_ms, town

pytestmark = pytest.mark.slow

NOBODY = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def error_of(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]


async def test_what_is_said_of_hosts_and_repos_is_so(relay: RelayProcess) -> None:
    async with town(relay, hosts=2, accounts=6, seed=51) as made:
        for _ in range(30):
            for account in made.network.writers:
                made.write(account)
        paused, active = made.network.writers[:2]
        made.send(made.network.deactivate(paused, now_ms())[0])
        await made.caught_up()

        await eventually(lambda: hosts_are_told(made))
        listed = (await relay.query("listHosts", limit="1000")).json["hosts"]
        assert {made.hostname(0), made.hostname(1)} <= {host["hostname"] for host in listed}
        assert error_of(await relay.query("getHostStatus", hostname="localhost:1")) == (400, "HostNotFound")

        commit = active.repo.last_commit
        assert commit is not None
        status = (await relay.query("getRepoStatus", did=active.did)).json
        assert status == {"did": active.did, "active": True, "rev": commit.rev}
        latest = (await relay.query("getLatestCommit", did=active.did)).json
        assert latest == {"cid": cid_text(commit.cid), "rev": commit.rev}

        status = (await relay.query("getRepoStatus", did=paused.did)).json
        assert status == {"did": paused.did, "active": False, "status": "deactivated"}
        assert error_of(await relay.query("getLatestCommit", did=paused.did)) == (400, "RepoDeactivated")
        assert error_of(await relay.query("getRepoStatus", did=NOBODY)) == (400, "RepoNotFound")
        assert error_of(await relay.query("getLatestCommit", did=NOBODY)) == (400, "RepoNotFound")


async def hosts_are_told(made: Town) -> bool:
    """Both hosts with their own newest seq and accounts. The seq may follow with the next bare write."""
    for number in range(2):
        status = (await made.relay.query("getHostStatus", hostname=made.hostname(number))).json
        told = (status["hostname"], status["status"], status.get("seq"), status["accountCount"])
        if told != (made.hostname(number), "active", made.seq(number), 3):
            return False
    return True


async def test_request_crawl_starts_a_subscription_once(relay: RelayProcess) -> None:
    """The town itself comes in this way; a second request for a host that is read changes nothing."""
    async with town(relay, hosts=1, accounts=1, seed=52) as made:
        assert (await relay.request_crawl(f"http://{made.hostname(0)}")).status == 200
        made.write(made.network.writers[0])
        await made.judge()

        assert made.hosts[0].connections == 1
        (handshake,) = made.hosts[0].handshakes
        assert handshake.cursor == "0"  # the whole window, so that a quiet host is heard
        assert handshake.headers["user-agent"].startswith("atproto-relay/")


async def test_a_relay_of_the_public_network_refuses_private_hosts(public_relay: RelayProcess) -> None:
    for hostname in ("http://localhost:2583", "localhost", "127.0.0.1:2583", "10.0.0.1"):
        assert (await public_relay.request_crawl(hostname)).status in (400, 403), hostname
    assert (await public_relay.query("listHosts")).json == {"hosts": []}

"""The simulated directory over HTTP, seen through the relay's own client."""

import msgspec
import pytest
import trio

from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.http import HttpClient, HttpResponse
from relay.protocol.diddoc import parse_did_document
from relay.world.network import Network, Shape
from relay.world.plc import PlcFault, PlcServer

NOW_MS = 1_750_000_000_000
DIALER = Dialer(allow_private=True, allow_insecure=True)


async def opened(nursery: trio.Nursery) -> tuple[Network, PlcServer]:
    network = Network(1, ["http://localhost:1001"], 1, NOW_MS, Shape(records=0))
    plc = PlcServer(network.directory)
    await nursery.start(plc.serve)
    return network, plc


async def ask(plc: PlcServer, did: str, seconds: float = 10) -> HttpResponse:
    client = HttpClient(DIALER, "tester/1")
    try:
        return await client.get(f"{plc.url}/{did}", timeout_seconds=seconds, body_bytes_max=10_000)
    finally:
        await client.aclose()


async def test_documents_are_served_as_the_directory_does(nursery: trio.Nursery) -> None:
    """The body is the document, the relay's own parser reads key and host out of it, lookups are counted."""
    network, plc = await opened(nursery)
    (account,) = network.writers
    response = await ask(plc, account.did)
    parsed = parse_did_document(account.did, response.body, allow_http=True)

    assert response.headers["content-type"] == "application/did+ld+json"
    assert msgspec.json.decode(response.body) == network.directory.document(account.did)
    assert parsed.key is not None
    assert (parsed.key.curve, parsed.key.point) == (account.key.curve, account.key.point)
    assert parsed.pds == "http://localhost:1001"
    assert plc.lookups == {account.did: 1}


async def test_strangers_and_tombstones_are_404_or_410(nursery: trio.Nursery) -> None:
    network, plc = await opened(nursery)
    (account,) = network.writers
    assert (await ask(plc, "did:plc:" + "a" * 24)).status == 404
    network.directory.tombstone(account.did)
    gone = await ask(plc, account.did)
    plc.tombstone_status = 410

    assert gone.status == 404
    assert b"not available" in gone.body
    assert (await ask(plc, account.did)).status == 410


@pytest.mark.parametrize(("fault", "status"), [("error", 500), ("throttled", 429)])
async def test_faults_that_answer(nursery: trio.Nursery, fault: PlcFault, status: int) -> None:
    network, plc = await opened(nursery)
    plc.fault = fault
    assert (await ask(plc, network.writers[0].did)).status == status
    plc.fault = ""
    assert (await ask(plc, network.writers[0].did)).status == 200


@pytest.mark.parametrize(("fault", "seconds"), [("down", 10), ("slow", 0.1)])
async def test_faults_that_do_not_answer(nursery: trio.Nursery, fault: PlcFault, seconds: float) -> None:
    network, plc = await opened(nursery)
    plc.fault = fault
    with pytest.raises(NetError):
        await ask(plc, network.writers[0].did, seconds)
    assert plc.lookups.total() >= 1


async def test_a_slow_directory_answers_in_the_end(nursery: trio.Nursery) -> None:
    network, plc = await opened(nursery)
    plc.fault, plc.slow_seconds = "slow", 0.01
    assert (await ask(plc, network.writers[0].did)).status == 200

"""`relay tail --verify` as a process: exit 0 on a sound stream, exit 1 with the reason on one that is not."""

import subprocess

import trio

from relay.world.host import SimulatedHost
from relay.world.network import Emission, Network, Shape
from relay.world.plc import PlcServer
from tests.support.altering import altered
from tests.support.processes import RELAY, RelayProcess, environ
from tests.support.town import now_ms, town


async def tail(port: int, plc_url: str, *bounds: str) -> "subprocess.CompletedProcess[bytes]":
    command = [*RELAY, "tail", f"ws://localhost:{port}", "--verify", "--plc", plc_url, "--cursor", *bounds]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=environ({}))


async def test_the_stream_of_a_relay_is_verified(relay: RelayProcess) -> None:
    """Checklist 222."""
    async with town(relay, hosts=2, accounts=5, seed=41) as made:
        for _ in range(60):
            made.live()
        await made.caught_up()
        count = str(made.scorecard.events_received)
        bounds = (str(made.first_seq - 1), "--count", count, "--seconds", "30", "--contiguous")
        run = await tail(relay.api, made.plc.url, *bounds)

        assert run.returncode == 0, run.stderr
        assert len(run.stdout.splitlines()) == made.scorecard.events_received
        assert b"0 unproven, 0 chain breaks" in run.stderr


async def test_a_host_that_sends_a_false_commit_is_found_out(nursery: trio.Nursery) -> None:
    """A PDS may be read directly; the first false event ends it with the rule it broke."""
    host = SimulatedHost()
    url = await nursery.start(host.serve)
    network = Network(1, [url], 1, now_ms(), Shape(records=20, layer_min=1, templates=1, lifecycle=0))
    plc = PlcServer(network.directory)
    await nursery.start(plc.serve)
    (account,) = network.writers

    def emit(emission: Emission, **changes: str) -> None:
        host.emit(altered(emission.message, **changes), now_ms())

    emit(network.write(account, now_ms()))
    emit(network.write(account, now_ms()), rev="3jzfcijpj2z2a")
    run = await tail(int(url.rpartition(":")[2]), plc.url, "0", "--seconds", "20", "--count", "5")

    assert run.returncode == 1
    assert b"rev_not_newer" in run.stderr
    assert len(run.stdout.splitlines()) == 1
    nursery.cancel_scope.cancel()

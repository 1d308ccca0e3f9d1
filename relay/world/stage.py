"""A whole simulated network on loopback: hosts, directory and the life between them.

Owns starting it and playing it at a rate. Owns no relay and no judgement: who listens, and whether it got everything,
is the caller's.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from relay.world.host import SimulatedHost
from relay.world.network import Emission, Network, Shape
from relay.world.plc import PlcServer


class Stage(NamedTuple):
    """A network and its servers; `hosts[i]` is host number i."""

    network: Network
    plc: PlcServer
    hosts: Sequence[SimulatedHost]

    def step(self, now_ms: int) -> list[Emission]:
        """One step of the network, sent by its hosts."""
        emissions = self.network.step(now_ms)
        for emission in emissions:
            self.hosts[emission.host].emit(emission.message, now_ms)
        return emissions


async def open_stage(
    nursery: trio.Nursery,
    *,
    seed: int,
    hosts: int,
    accounts: int,
    now_ms: int,
    shape: Shape = Shape(),  # noqa: B008 -- immutable
) -> Stage:
    """Starts `hosts` hosts and a directory in `nursery`, on free loopback ports, with a network of `accounts`."""
    servers = [SimulatedHost() for _ in range(hosts)]
    urls: list[str] = [await nursery.start(server.serve) for server in servers]
    network = Network(seed, urls, accounts, now_ms, shape)
    plc = PlcServer(network.directory)
    await nursery.start(plc.serve)
    return Stage(network, plc, servers)


async def play(
    stage: Stage,
    events_per_second: float,
    now_ms: Callable[[], int],
    witness: Callable[[Emission], None],
) -> None:
    """Steps the network at a steady mean rate until cancelled; `witness` sees each event as it leaves its host."""
    due = trio.current_time()
    while True:
        emissions = stage.step(now_ms())
        for emission in emissions:
            witness(emission)
        due += max(len(emissions), 1) / events_per_second
        await trio.sleep_until(due)

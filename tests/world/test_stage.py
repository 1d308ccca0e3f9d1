"""A whole simulated network on loopback: what is played arrives, in order, host by host."""

from collections import defaultdict

import trio

from relay.world.network import Emission, Shape
from relay.world.stage import open_stage, play
from tests.world.slices import read_frame
from tests.world.test_host import subscribed

NOW_MS = 1_750_000_000_000
SMALL = Shape(records=50, layer_min=0, lifecycle=0.1, quiet_ms=20)


async def test_what_is_played_arrives_in_order(nursery: trio.Nursery) -> None:
    """Every emission reaches the reader of its host, none twice, none elsewhere."""
    stage = await open_stage(nursery, seed=1, hosts=3, accounts=6, now_ms=NOW_MS, shape=SMALL)
    sent: dict[int, list[tuple[str, str]]] = defaultdict(list)
    enough = trio.Event()

    def witness(emission: Emission) -> None:
        sent[emission.host].append((emission.message.type, emission.message.did))
        if sum(map(len, sent.values())) >= 150:
            enough.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as playing:
            playing.start_soon(play, stage, 2000.0, lambda: NOW_MS + int(trio.current_time() * 1000), witness)
            await enough.wait()
            playing.cancel_scope.cancel()
        for number, host in enumerate(stage.hosts):
            received: list[tuple[str, str]] = []
            async with subscribed(host, "?cursor=0") as subscription:
                while len(received) < host.window.tip:
                    for message in await subscription.receive():
                        frame = read_frame(message)
                        did = frame.payload.get("repo") or frame.payload["did"]
                        received.append((frame.header["t"], did))
                        assert frame.payload["seq"] == len(received)
            assert received == sent[number]


async def test_the_directory_names_the_hosts_of_the_stage(nursery: trio.Nursery) -> None:
    stage = await open_stage(nursery, seed=1, hosts=2, accounts=4, now_ms=NOW_MS, shape=SMALL)
    named = {str(document["service"]) for document in stage.network.directory.documents().values()}

    assert len(named) == 2
    assert all(any(host.url in service for service in named) for host in stage.hosts)

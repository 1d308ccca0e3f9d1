"""One ingest worker in the test's own process, over a real store, against the simulated network on loopback."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio

from relay.app.listening import bind_control
from relay.crawl.settings import TRUSTED_DEFAULTS, HostSettings
from relay.identity.settings import IdentitySettings
from relay.ingest.settings import IngestRoleSettings, IngestSettings
from relay.ingest.worker import Worker, in_one_thread
from relay.observe.metrics import Metrics
from relay.protocol.frame import MessageFrame
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.world.network import Emission
from relay.world.stage import Stage
from tests.support.log_reader import LogReader

LOG = LogSettings(sync=False, state_map_bytes=1 << 28, batch_ms=2)

EVERYBODY = replace(TRUSTED_DEFAULTS, hosts=("*",))


class Ingest:
    """A worker and what came out of it."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self.store = store
        self.metrics = metrics
        self._log = LogReader(store)
        self._frames: list[MessageFrame] = []

    def logged(self) -> list[MessageFrame]:
        """All frames of the log so far, in order."""
        self._frames += self._log.frames()
        return self._frames

    def dropped(self) -> Counter[str]:
        """Drops by reason, from the metrics."""
        return self._by_label("relay_ingest_events_dropped_total{reason=")

    def received(self) -> int:
        """Frames received, from the metrics."""
        return self._by_label("relay_ingest_frames_received_total{event=").total()

    def _by_label(self, prefix: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(prefix):
                name, value = line.removeprefix(prefix).rsplit(" ", 1)
                counts[name.split('"')[1]] = int(float(value))
        return +counts


@asynccontextmanager
async def ingesting(
    data_dir: Path,
    *,
    hosts: tuple[str, ...],
    plc_url: str,
    log: LogSettings = LOG,
    ingest: IngestSettings = IngestSettings(),  # noqa: B008 -- immutable
    identity: IdentitySettings | None = None,
    workers: int = 1,
    row: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[Ingest]:
    """Run workers that follow `hosts` (host:port, plain HTTP) until the block ends, then drain them.

    Several share this process, its store and its metrics, and nothing else. `row` holds further fields of the hosts'
    rows, where those are new.
    """
    now = 1_760_000_000_000
    store = Store.open(data_dir, log, create=True, now_ms=now)
    for hostname in hosts:
        store.add_host(hostname, insecure=True, now_ms=now, **row)
    settings = IngestRoleSettings(
        log=log,
        ingest=ingest,
        identity=identity or IdentitySettings(plc_url=plc_url, hold_seconds=0.5),
        hosts=HostSettings(allow_private=True, allow_insecure=True, tiers={"trusted": EVERYBODY}),
    )
    metrics = Metrics()
    offload = in_one_thread()
    drain = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            for index in range(workers):
                control = bind_control(data_dir / f"control-{index}.sock")
                worker = Worker(settings, store, metrics, offload)
                await nursery.start(worker.run, index, workers, control, drain)
            yield Ingest(store, metrics)
            drain.set()
    finally:
        store.close()


def hostnames(stage: Stage) -> tuple[str, ...]:
    """host:port of the stage's hosts."""
    return tuple(host.url.removeprefix("http://") for host in stage.hosts)


def keys_by_did(emissions: list[Emission]) -> dict[str, list[tuple[str, str]]]:
    """What has to come out, in order per account: message type and rev (or status)."""
    expected: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for emission in emissions:
        if emission.passes:
            message = emission.message
            word = message.rev or str(message.payload.get("status", ""))
            expected[message.did].append((message.type, word))
    return expected


def keys_of_frames(frames: list[MessageFrame]) -> dict[str, list[tuple[str, str]]]:
    """The same of frames that came out."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for frame in frames:
        did = frame.payload.get("repo") or frame.payload["did"]
        word = frame.payload.get("rev") or str(frame.payload.get("status", ""))
        found[did].append((frame.type, word))
    return found

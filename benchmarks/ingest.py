"""A whole ingest worker, saturated: hosts in another process send as fast as TCP lets them, everything is verified.

Figures are CPU time of the worker's process (its writing thread included) for each event, and events a second; the
yardstick is a bare secp256k1 verification. The log is synced as in production.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import trio

from benchmarks.upstream import Upstream, add_recording, recording_options, upstream
from benchmarks.yardstick import Case, arguments, bare_verify, measure, report
from relay.crawl.settings import TRUSTED_DEFAULTS, HostSettings
from relay.identity.settings import IdentitySettings
from relay.ingest.settings import IngestRoleSettings, IngestSettings
from relay.ingest.worker import Worker, in_one_thread
from relay.observe.metrics import Metrics
from relay.store.settings import LogSettings
from relay.store.store import Store

HOSTS = 20
WARM_UP_SHARE = 0.2  # DIDs are resolved and caches fill during the first part, which does not count
LOOK_EVERY_SECONDS = 0.02
SECONDS_MAX = 300.0


async def ingest(source: Upstream, folder: Path) -> tuple[float, float]:
    """Run a worker over all frames; CPU microseconds for each event and events a second, after the warm-up."""
    log = LogSettings(state_map_bytes=1 << 30)
    store = Store.open(folder, log, create=True, now_ms=time.time_ns() // 1_000_000)
    for url in source.hosts:
        store.add_host(url.removeprefix("http://"), insecure=True, now_ms=1)
    settings = IngestRoleSettings(
        log=log,
        identity=IdentitySettings(plc_url=source.plc),
        hosts=HostSettings(
            allow_private=True, allow_insecure=True, tiers={"trusted": replace(TRUSTED_DEFAULTS, hosts=("*",))}
        ),
        ingest=IngestSettings(mode="strict"),
    )
    worker = Worker(settings, store, Metrics(), in_one_thread())
    first = store.tip().seq
    try:
        async with trio.open_nursery() as nursery:
            drain = trio.Event()
            nursery.start_soon(_run, worker, drain)
            begun = await _until(store, first + int(source.frames * WARM_UP_SHARE))
            ended = await _until(store, first + source.frames)
            drain.set()
    finally:
        store.close()
    events = ended[0] - begun[0]
    return (ended[1] - begun[1]) / events * 1e6, events / (ended[2] - begun[2])


async def _run(worker: Worker, drain: trio.Event) -> None:
    listener = trio.SocketListener(await _loopback())
    await worker.run(0, 1, listener, drain, trio.TASK_STATUS_IGNORED)


async def _loopback() -> trio.socket.SocketType:
    made = trio.socket.socket()
    await made.bind(("127.0.0.1", 0))
    made.listen()
    return made


async def _until(store: Store, seq: int) -> tuple[int, float, float]:
    """Wait for the tip; the seq it reached, the CPU time of this process, and the time."""
    with trio.fail_after(SECONDS_MAX):
        while (tip := store.tip().seq) < seq:  # noqa: ASYNC110 -- the log has no event to wait for
            await trio.sleep(LOOK_EVERY_SECONDS)
    return tip, time.process_time(), time.perf_counter()


async def run(frames: int, recording: list[str]) -> tuple[float, float]:
    """One measurement in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        async with upstream(HOSTS, frames, recording) as source:
            return await ingest(source, Path(folder) / "data")


def main() -> None:
    parser = arguments("a whole ingest worker, saturated")
    parser.add_argument("--count", type=int, default=8_000, help="made-up frames to send (8,000)")
    add_recording(parser)
    given = parser.parse_args()
    cpu_us, rate = trio.run(run, given.count, recording_options(given))
    verify = measure([bare_verify()])[0]
    cases = [
        verify,
        Case("worker_cpu_per_event", cpu_us, "us", cpu_us / verify.value, verify.name),
        Case("worker_events", rate, "1/s", rate * verify.value / 1e6, verify.name),
    ]
    report("ingest", cases, given)


if __name__ == "__main__":
    main()

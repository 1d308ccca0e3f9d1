"""The housekeeping worker: retention, readers that died, the figures of log, state, disk and hosts, and discovery.

Owns when that is done and what of it is exposed. Does not own how (`relay.store`, `relay.app.discovery`), nor what
speaks against our clock but for retention (`relay.app.clockwatch`). It is a process of its own so that deleting a
segment, a second a GB, delays nobody else.
"""

import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from relay.app.clockwatch import ClockWatch
from relay.app.discovery import Scout, keep_discovering
from relay.app.hostwatch import HostWatch
from relay.app.purging import keep_purging
from relay.app.settings import HousekeepingSettings
from relay.net.connection import Site
from relay.net.dial import Dialer
from relay.net.exchange import Request, Response, error_response
from relay.net.http import HttpClient
from relay.net.server import serve_http
from relay.observe.logs import get_logger
from relay.observe.metrics import CONTENT_TYPE, LogMetrics, Metrics
from relay.store.errors import StoreError
from relay.store.store import Store

INTERVAL_SECONDS = 60.0
CLOCK_DISTANCE_MS_MAX = 3_600_000  # beyond it, retention by time pauses (design section 3)

_log = get_logger("housekeeping")


async def run(
    *,
    settings: HousekeepingSettings,
    data_dir: Path,
    index: int,  # noqa: ARG001 -- the signature of every role; there is one housekeeping worker
    count: int,  # noqa: ARG001 -- as above
    metrics: Metrics,
    listeners: Sequence[trio.SocketListener],  # noqa: ARG001 -- as above; housekeeping listens nowhere
    control: trio.SocketListener,
    drain: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Work at the start and every minute until `drain` is set. Raises StoreError."""
    store = Store.open(data_dir, settings.log)
    try:
        housekeeping = Housekeeping(store, metrics.log, data_dir, now_ms=_now_ms, up_ms=_up_ms)
        hosts = HostWatch(store, settings.hosts, metrics.hosts, _now_ms)
        one_thread = trio.CapacityLimiter(1)  # a store is written by one thread at a time
        offload = partial(trio.to_thread.run_sync, limiter=one_thread)
        dialer = Dialer(allow_private=settings.hosts.allow_private, allow_insecure=settings.hosts.allow_insecure)
        scout = Scout(store, HttpClient(dialer, settings.user_agent), settings.hosts, offload, _now_ms)
        async with trio.open_nursery() as nursery:
            answer = partial(_answer, metrics, housekeeping)
            await nursery.start(serve_http, [control], Site(answer, fatal=(AssertionError, StoreError)))
            clock = ClockWatch(store, _now_ms, _up_ms)
            nursery.start_soon(_work, housekeeping, hosts, clock, offload)
            nursery.start_soon(keep_purging, store, offload, _now_ms)
            nursery.start_soon(keep_discovering, scout, settings.hosts.discover_from)
            task_status.started()
            await drain.wait()
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def _work(
    housekeeping: "Housekeeping", hosts: HostWatch, clock: ClockWatch, offload: Callable[..., Awaitable[Any]]
) -> None:
    while True:
        await offload(housekeeping.work)
        counts = await offload(hosts.look)
        await offload(clock.look, counts)
        await trio.sleep(INTERVAL_SECONDS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _up_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


async def _answer(metrics: Metrics, housekeeping: "Housekeeping", request: Request) -> Response:
    match request.method, request.path:
        case "GET", "/health":
            return Response(200, (), b"ok")
        case "GET", "/metrics":
            housekeeping.refresh()
            return Response(200, (("Content-Type", CONTENT_TYPE),), metrics.render())
        case _:
            return error_response(404, "NotFound", "there are /health and /metrics here")


class Housekeeping:
    """The work itself, without waiting. `now_ms` is the wall clock, `up_ms` one that nobody can set."""

    def __init__(
        self,
        store: Store,
        metrics: LogMetrics,
        data_dir: Path,
        now_ms: Callable[[], int],
        up_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._data_dir = data_dir
        self._now_ms = now_ms
        self._up_ms = up_ms
        self._booted_at_ms = now_ms() - up_ms()  # by the wall clock as it was when this process began
        self._readers: dict[tuple[int, int], int] = {}  # (pid, txn id) -> when it was first seen

    def work(self) -> None:
        """One pass: free the slots of dead readers, let old segments go, take stock. Blocks; raises StoreError.

        May run in another thread than `refresh`: any thread may look at a store.
        """
        self._tidy()
        self._take_stock()
        self._expose_tip()

    def _tidy(self) -> None:
        dead = self._store.check_readers()
        if dead:
            _log.warning("dead_readers_freed", readers=dead)
        by_time = self.is_clock_near()
        if not by_time:
            _log.warning("retention_by_time_paused", tip_time_ms=self._store.tip().time_ms, now_ms=self._now_ms())
        removed = self._store.retain(by_time=by_time)
        if removed:
            _log.info("segments_removed", segments=removed, floor_seq=self._store.tip().floor)

    def is_clock_near(self) -> bool:
        """Whether the wall clock can be trusted to judge age: it did not leap, and the newest batch is not far from it.

        A clock that leaps ahead takes the tip along within milliseconds, so the two are compared with the time since
        boot as well: else a wrong clock would empty the window. An empty log is near.
        """
        now_ms, tip_time_ms = self._now_ms(), self._store.tip().time_ms
        leapt_ms = now_ms - self._up_ms() - self._booted_at_ms
        is_steady = abs(leapt_ms) <= CLOCK_DISTANCE_MS_MAX
        return is_steady and (not tip_time_ms or abs(now_ms - tip_time_ms) <= CLOCK_DISTANCE_MS_MAX)

    def refresh(self) -> None:
        """The figures that cost nothing, fresh for each scrape."""
        self._expose_tip()

    def _expose_tip(self) -> None:
        tip = self._store.tip()
        self._metrics.tip_seq.set(tip.seq)
        self._metrics.floor_seq.set(tip.floor)
        self._metrics.tip_time_seconds.set(tip.time_ms / 1_000)
        self._metrics.disk_free_bytes.set(shutil.disk_usage(self._data_dir).free)

    def _take_stock(self) -> None:
        stats, now_ms = self._store.stats(), self._now_ms()
        self._metrics.bytes.set(stats.log_bytes)
        self._metrics.segments.set(stats.segments)
        self._metrics.state_bytes.set(stats.state_bytes)
        self._metrics.state_map_bytes.set(stats.state_map_bytes)
        self._metrics.state_free_pages.set(stats.state_free_pages)
        self._readers = {reader: self._readers.get(reader, now_ms) for reader in stats.readers}
        oldest_ms = min(self._readers.values(), default=now_ms)
        self._metrics.state_oldest_reader_seconds.set(max(0.0, (now_ms - oldest_ms) / 1_000))

"""One ingest worker: its hosts in, verified, appended. Wiring only; every decision is a floor or a module away.

A worker keeps nothing that a kill could lose: what is in flight lies above the host cursors it wrote, and is read
again. The order of the end matters: stop reading, stop waiting for documents, append what is accepted, write the last
marks.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from relay.crawl.host import Follower
from relay.crawl.repostatus import StatusChecks, StatusSource
from relay.identity.fetch import DocumentSource
from relay.identity.lookup import LookupOutcome
from relay.identity.resolver import Resolver
from relay.ingest.batcher import Batcher
from relay.ingest.following import Following, Roster
from relay.ingest.judge import Desk, Judge
from relay.ingest.ledger import Ledger
from relay.ingest.ownwords import OwnWords
from relay.ingest.rounds import Offload, Rounds
from relay.ingest.settings import IngestRoleSettings
from relay.ingest.timing import AppendTimer
from relay.ingest.waiting import work_off
from relay.net.connection import Site
from relay.net.dial import Dialer, StreamOpener
from relay.net.exchange import Request, Response, error_response, json_response
from relay.net.http import HttpClient
from relay.net.server import serve_http
from relay.observe.metrics import CONTENT_TYPE, Metrics
from relay.store.batch import Appended, Batch
from relay.store.errors import StoreError
from relay.store.store import Store
from relay.verify.facts import Identity


async def run(
    *,
    settings: IngestRoleSettings,
    data_dir: Path,
    index: int,
    count: int,
    metrics: Metrics,
    listeners: Sequence[trio.SocketListener],  # noqa: ARG001 -- the signature of every role; ingest listens nowhere
    control: trio.SocketListener,
    drain: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Follow this worker's share of the hosts until `drain` is set; then finish and return.

    Raises:
        StoreError: the log or the state cannot be used; nothing is half-written.
    """
    timer = AppendTimer(metrics.append)
    store = Store.open(data_dir, settings.log, on_step=timer.on_step)
    try:
        worker = Worker(settings, store, metrics, in_one_thread())
        await worker.run(index, count, control, drain, task_status)
    finally:
        store.close()


def in_one_thread() -> Offload:
    """How write txns are run: in a thread, one at a time, so that they never wait for each other's lock."""
    return partial(trio.to_thread.run_sync, limiter=trio.CapacityLimiter(1))


def wall_clock_ms() -> int:
    """The wall clock of this process in unix milliseconds."""
    return time.time_ns() // 1_000_000


class Worker:
    """The parts of one ingest worker and how they hold on to each other. `offload` runs a write txn.

    `dialer` and `now_ms` (the wall clock) are arguments so that a simulation can hold them.
    """

    def __init__(
        self,
        settings: IngestRoleSettings,
        store: Store,
        metrics: Metrics,
        offload: Offload,
        *,
        dialer: StreamOpener | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._now_ms = now_ms
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._offload = offload
        hosts = settings.hosts
        self._dialer = dialer or Dialer(allow_private=hosts.allow_private, allow_insecure=hosts.allow_insecure)
        self._client = HttpClient(self._dialer, settings.user_agent)
        # Strangers' names get a dialer, and so DNS threads, of their own: they must hold up neither PLC nor connects.
        strangers = dialer or Dialer(allow_private=hosts.allow_private, allow_insecure=hosts.allow_insecure)
        self._web_client = HttpClient(strangers, settings.user_agent)
        source = DocumentSource(self._client, settings.identity, hosts.allow_private, self._web_client)
        self.resolver = Resolver(
            settings.identity, source.fetch, self._load_identity, self._now_ms, self._observe_lookup
        )
        self.batcher = Batcher(self._append, settings.log, self._now_ms, self.resolver.take_saves)
        self._ledger = Ledger(self._write_hosts, self._now_ms)
        self._rounds = Rounds(store, self._ledger, metrics, offload, now_ms)
        self._lanes: trio.Nursery | None = None

    async def run(
        self,
        index: int,
        count: int,
        control: trio.abc.Listener[trio.abc.Stream],
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run all parts; see `run` of this module."""
        following = Following(self._roster(index, count))
        async with trio.open_nursery() as nursery:
            await nursery.start(self.resolver.run)
            await nursery.start(serve_http, [control], Site(self._answer, fatal=(AssertionError, StoreError)))
            async with trio.open_nursery() as appending:
                appending.start_soon(self.batcher.run)
                async with trio.open_nursery() as reading:
                    self._lanes = reading
                    reading.start_soon(following.run)
                    reading.start_soon(self._ledger.run)
                    reading.start_soon(self._rounds.run)
                    task_status.started()
                    await drain.wait()
                    reading.cancel_scope.cancel()
                self._lanes = None
                self.batcher.close()
            await self._ledger.flush()
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await self._client.aclose()
            await self._web_client.aclose()

    def _roster(self, index: int, count: int) -> Roster:
        return Roster(
            store=self._store,
            worker=index,
            workers=count,
            desk=self._desk(),
            ledger=self._ledger,
            rounds=self._rounds,
            follower=Follower(self._dialer, self._settings.user_agent, self._now_ms),
            metrics=self._metrics,
            mode=self._settings.ingest.mode,
            hosts=self._settings.hosts,
        )

    def _desk(self) -> Desk:
        return Desk(
            store=self._store,
            resolver=self.resolver,
            batcher=self.batcher,
            words=OwnWords(self._store, self.batcher, self._metrics, self._now_ms),
            statuses=StatusChecks(StatusSource(self._client, self._is_insecure).ask),
            metrics=self._metrics,
            settings=self._settings.ingest,
            hold_seconds=self._settings.identity.hold_seconds,
            now_ms=self._now_ms,
            start_lane=self._start_lane,
            allow_localhost=self._settings.hosts.allow_private,
        )

    def _start_lane(self, judge: Judge, did: str) -> None:
        """Work the lane off; while draining it stays as it is: its events are unsettled, and are read again."""
        if self._lanes is not None:
            self._lanes.start_soon(work_off, judge, did)

    def _load_identity(self, did: str) -> Identity | None:
        with self._store.view() as view:
            return view.identity(did)

    def _is_insecure(self, hostname: str) -> bool:
        with self._store.view() as view:
            host = view.host_named(hostname)
        return host is not None and host.insecure

    def _observe_lookup(self, outcome: LookupOutcome) -> None:
        self._metrics.identity.lookups.labels(outcome.outcome).inc()
        self._metrics.identity.lookups_seconds.observe(outcome.seconds)

    async def _append(self, batch: Batch) -> Appended:
        started = time.perf_counter()
        appended: Appended = await self._offload(self._store.append, batch)
        if batch.items:
            self._metrics.ingest.batch_seconds.observe(time.perf_counter() - started)
            self._metrics.ingest.batch_items.observe(len(batch.items))
        return appended

    async def _write_hosts(self, changes: dict[int, dict[str, Any]]) -> None:
        await self._offload(self._store.update_hosts, changes)

    async def _answer(self, request: Request) -> Response:
        """The control socket: metrics and health of this process."""
        match request.method, request.path:
            case "GET", "/metrics":
                return Response(200, (("Content-Type", CONTENT_TYPE),), self._metrics.render())
            case "GET", "/health":
                return json_response(200, {"status": "ok", "directory_down": self.resolver.down})
            case _:
                return error_response(404, "NotFound", "no such control path")

"""One serve worker: consumers and the HTTP API on its listeners, its own figures on a Unix socket. Wiring only.

A worker reads the log like any other reader and can be killed at any moment; consumers come back with their cursors. On
`drain` it stops accepting, gives its consumers what is in memory and closes them with 1001, all under deadlines.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import TypeAlias

import trio

from relay import __version__
from relay.net.connection import HttpEvent, Limits, Site
from relay.net.dial import Dialer
from relay.net.exchange import Headers, Request
from relay.net.http import HttpClient
from relay.net.proxies import parse_networks
from relay.net.server import serve_http
from relay.observe.logs import get_logger
from relay.observe.metrics import Metrics
from relay.serve.admin.peers import Peers
from relay.serve.admin.reports import Machine
from relay.serve.admin.session import secret_of
from relay.serve.audience import Audience
from relay.serve.control import Control
from relay.serve.crawlrequest import CrawlRequests, Offload
from relay.serve.crew import SUPERVISOR_SOCKET, Crew
from relay.serve.dashboard.front import Front
from relay.serve.explain import Explanations
from relay.serve.operator import Operator
from relay.serve.pages import Pages
from relay.serve.queries import Queries
from relay.serve.ratelimit import RequestLimit
from relay.serve.routes import Router
from relay.serve.settings import ServeRoleSettings, places_share
from relay.serve.siblings import Siblings
from relay.serve.subscribe import Subscriptions
from relay.serve.tail import Tail
from relay.store.errors import StoreError
from relay.store.store import Store

_REQUESTS_MAX = 1024  # connections beside those of consumers
_ANSWER_SECONDS = 0.25  # for requests of connections that were accepted just before the end
_HEADERS: Headers = (("Server", f"atproto-relay/{__version__}"), ("Access-Control-Allow-Origin", "*"))
_FATAL = (AssertionError, StoreError)

Listeners: TypeAlias = Sequence[trio.abc.Listener[trio.abc.Stream]]

_log = get_logger("serve.worker")


async def run(
    *,
    settings: ServeRoleSettings,
    data_dir: Path,
    index: int,
    count: int,
    metrics: Metrics,
    listeners: Sequence[trio.SocketListener],
    control: trio.SocketListener,
    drain: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve this worker's share of the consumers until `drain` is set; then let them go and return.

    Raises:
        StoreError: the log or the state cannot be read.
    """
    store = Store.open(data_dir, settings.log)
    try:
        worker = Worker(
            settings,
            store,
            metrics,
            index=index,
            count=count,
            offload=partial(trio.to_thread.run_sync, limiter=trio.CapacityLimiter(1)),
            now_ms=lambda: time.time_ns() // 1_000_000,
            disk_free=lambda: shutil.disk_usage(data_dir).free,
            run_dir=data_dir / "run",
        )
        await worker.run(listeners, control, drain, task_status=task_status)
    finally:
        store.close()


class Worker:
    """The parts of one serve worker. Clock, disk and threads are arguments, so that a simulation can hold them."""

    def __init__(
        self,
        settings: ServeRoleSettings,
        store: Store,
        metrics: Metrics,
        *,
        index: int,
        count: int,
        offload: Offload,
        now_ms: Callable[[], int],
        disk_free: Callable[[], int],
        run_dir: Path | None = None,
    ) -> None:
        """`run_dir` is where the sockets of the other processes are; None when this worker is alone."""
        self._settings = settings
        consumers = settings.consumers
        self.tail = Tail(store, hot_bytes=consumers.hot_bytes, metrics=metrics.serve, now_ms=now_ms)
        self.audience = Audience(consumers, index=index, workers=count, tail=self.tail, metrics=metrics.serve)
        streams = Subscriptions(
            store,
            self.tail,
            self.audience,
            read_bytes=consumers.read_bytes,
            headers=_HEADERS,
            metrics=metrics.serve,
            now_ms=now_ms,
        )
        crew = Crew(run_dir / SUPERVISOR_SOCKET if run_dir is not None else None)
        pages = Pages(store, settings, now_ms=now_ms, disk_free=disk_free, consumers=self.audience.__len__, crew=crew)
        hosts = settings.hosts
        dialer = Dialer(allow_private=hosts.allow_private, allow_insecure=hosts.allow_insecure)
        client = HttpClient(dialer, settings.user_agent)
        self._siblings = Siblings(client, settings.siblings)
        crawl = CrawlRequests(store, hosts, client, self._siblings, offload=offload, now_ms=now_ms, workers=count)
        explain = Explanations(store, settings, now_ms=now_ms)
        peers = Peers(run_dir, index=index, count=count, audience=self.audience)
        self._operator = Operator(
            store,
            settings,
            secret_of(run_dir / "session.key") if run_dir else token_bytes(),
            peers,
            machine=Machine(now_ms, disk_free, pages.findings),
            crawl=crawl,
            siblings=self._siblings,
            offload=offload,
            workers=count,
        )
        routes = (*streams.routes(), *Queries(store).routes(), *crawl.routes(), *explain.routes(), *pages.routes())
        own = dict(self._operator.routes())
        public = dict((*routes, *Front(pages, settings.contact).routes())) | ({} if settings.separate_admin else own)
        limit = RequestLimit(settings.http.requests_per_address)
        self._router = Router(public, metrics.http, limit=limit, now_ms=now_ms)
        self._admin_router = Router(own, metrics.http, limit=limit, now_ms=now_ms)
        self._control = Control(self.audience, metrics)
        self._connections_max = places_share(consumers.max, count) + _REQUESTS_MAX
        self._faults = metrics.http.faults
        self._warned_forwarded = False

    async def run(
        self,
        listeners: Listeners,
        control: trio.abc.Listener[trio.abc.Stream],
        drain: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `drain`, then end every consumer within the `flush_seconds` and `farewell_seconds` set for it."""
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_http, [control], Site(self._control.answer, fatal=_FATAL))
            nursery.start_soon(self.audience.watch)
            nursery.start_soon(self._operator.run)
            nursery.start_soon(self._siblings.run)
            async with trio.open_nursery() as reading:
                reading.start_soon(self.tail.run)
                async with trio.open_nursery() as accepting:
                    for each, router in self._served(listeners):
                        serve = partial(serve_http, each, self._site(router), handler_nursery=nursery)
                        await accepting.start(serve)
                    task_status.started()
                    await drain.wait()
                    accepting.cancel_scope.cancel()
                reading.cancel_scope.cancel()
            await self._let_go()
            nursery.cancel_scope.cancel()

    async def _let_go(self) -> None:
        """What was appended up to now still goes out, and who was accepted is answered; then everybody goes."""
        answered_at = trio.current_time() + min(_ANSWER_SECONDS, self._settings.flush_seconds)
        await self.tail.refresh()
        with trio.move_on_after(self._settings.flush_seconds) as flushing:
            await self.audience.close()
        if flushing.cancelled_caught:
            _log.warning("consumers_cut", consumers=len(self.audience), why="they did not take what was left in time")
            with trio.move_on_after(self._settings.farewell_seconds):
                await self.audience.dismiss()
            self.audience.cut_all()
        await trio.sleep_until(answered_at)

    def _served(self, listeners: Listeners) -> Iterator[tuple[Listeners, Router]]:
        """Which listeners answer out of which table."""
        public = listeners[:-1] if self._settings.separate_admin else listeners
        yield public, self._router
        if self._settings.separate_admin:
            yield listeners[-1:], self._admin_router

    def _site(self, router: Router) -> Site:
        return Site(
            router.answer,
            limits=Limits(connections_max=self._connections_max),
            headers=_HEADERS,
            trusted_proxies=parse_networks(self._settings.trusted_proxies),
            on_event=self._on_event,
            on_failure=self._on_failure,
            fatal=_FATAL,
        )

    def _on_event(self, slug: HttpEvent) -> None:
        self._faults.labels(slug).inc()
        if slug == "forwarded_untrusted" and not self._warned_forwarded:
            self._warned_forwarded = True
            _log.warning("forwarded_for_ignored", why="it came from an address that is not in listen.trusted_proxies")

    def _on_failure(self, request: Request, error: Exception) -> None:
        _log.error("request_failed", path=request.path[:200], error=repr(error), exc_info=error)

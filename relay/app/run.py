"""`relay run`: takes the lock, binds the sockets, decides which workers there are, and hands them to the supervisor.

Owns the assembly of a relay from its settings. Does not own how workers are kept alive (`relay.app.supervisor`) nor
what they do. The store is created, or found to be unusable, here, before any worker opens it.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import trio

from relay import __version__
from relay.app import lifecycle
from relay.app.assignment import check_path, control_path, read_reason
from relay.app.config import ConfigError
from relay.app.listening import bind, bind_control, bound_address, inherited
from relay.app.lock import take_lock, was_locked
from relay.app.reporting import Reporting
from relay.app.settings import RelaySettings, housekeeping_role, ingest_role, serve_role
from relay.app.slot import WorkerContext, WorkerSpec
from relay.app.supervisor import Supervisor
from relay.crawl.settings import HostSettings
from relay.net.connection import Site
from relay.net.errors import HostRefused
from relay.net.guard import Origin, check_hostname
from relay.net.server import serve_http
from relay.observe.logs import get_logger
from relay.observe.metrics import Metrics
from relay.store.creation import is_ours
from relay.store.errors import StoreError
from relay.store.policy import DomainBanned
from relay.store.store import Store

_log = get_logger("run")


class Sockets(NamedTuple):
    """Listening sockets of a relay; `api` and `admin` one for each serve worker, `admin` none when it shares `api`."""

    api: list[socket.socket]
    admin: list[socket.socket]
    metrics: socket.socket


class Stop(NamedTuple):
    """How a relay is told to stop: `drain` for what runs, and the end of `waiting` for the folder to be free."""

    drain: trio.Event
    waiting: trio.CancelScope


Renewals: TypeAlias = trio.MemoryReceiveChannel[None]


async def run_relay(settings: RelaySettings, config_file: Path | None = None) -> None:
    """A whole relay in the foreground, until SIGTERM or SIGINT; a second one stops at once. SIGHUP renews the workers.

    Except on a terminal, which sends SIGHUP when it is closed: there it stops the relay as SIGTERM does. `config_file`
    is told in the log. Raises ConfigError when data_dir or an address cannot be had, StoreError when the store cannot
    be used.
    """
    _check_place(settings.data_dir)
    lifecycle.raise_file_limit()
    stop = Stop(trio.Event(), trio.CancelScope())
    renew, renewals = trio.open_memory_channel[None](1)
    try:
        async with trio.open_nursery() as nursery:
            first, second = partial(_stop, stop, settings), nursery.cancel_scope.cancel
            await nursery.start(lifecycle.on_stop_signals, first, second)
            hung_up = first if sys.stdin is not None and sys.stdin.isatty() else partial(_renew, renew)
            await nursery.start(lifecycle.on_hangup, hung_up)
            await _run_locked(settings, config_file, stop, renewals)
            nursery.cancel_scope.cancel()
    except* (ConfigError, StoreError) as failed:
        raise failed.exceptions[0] from None
    _log.info("relay_stopped")


def _check_place(data_dir: Path) -> None:
    """Before anything is made there. Raises ConfigError, StoreError."""
    check_path(data_dir)
    if data_dir.is_dir() and not was_locked(data_dir):
        is_ours(data_dir, alone=True)  # the lock makes a file, and a stranger's folder has to stay as it is


async def _run_locked(settings: RelaySettings, config_file: Path | None, stop: Stop, renewals: Renewals) -> None:
    """Wait for the folder to be free, then run; returns when told to stop, also while it waits."""
    with stop.waiting:
        lock_fd = await take_lock(settings.data_dir, settings.start_wait_seconds)
    if stop.waiting.cancelled_caught:
        return
    run_folder = control_path(settings.data_dir, "supervisor").parent
    try:
        run_folder.mkdir(mode=0o700, exist_ok=True)
        prepare_store(settings)
        with bound(settings) as sockets:
            _log_start(settings, config_file, sockets)
            await _supervise(settings, sockets, lock_fd, stop.drain, renewals)
    finally:
        clear_run_folder(run_folder)
        os.close(lock_fd)


def clear_run_folder(folder: Path) -> None:
    """Remove what nobody answers or needs any more; the words of a worker that died stay. Only under the lock."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.suffix == ".sock" or (path.suffix == ".died" and not read_reason(path)):
                path.unlink()


def prepare_store(settings: RelaySettings) -> None:
    """Create the store where there is none, heal it where a crash left it half-done, add seeds that are new.

    Only under the lock and before workers run: creating and raising seqs is not for a store in use. Raises StoreError,
    and ConfigError for a seed that may not be contacted.
    """
    seeds = [seed_origin(text, settings.hosts) for text in settings.hosts.seeds]
    now_ms = time.time_ns() // 1_000_000
    store = Store.open(settings.data_dir, settings.log, create=True, now_ms=now_ms)
    try:
        with store.view() as view:
            is_install = not view.hosts(0, 1)
        for origin in seeds:
            with suppress(DomainBanned):  # an operator's word since the seed was written
                store.add_host(
                    origin.name,
                    insecure=not origin.tls,
                    now_ms=now_ms,
                    start=settings.hosts.start,
                    known_at_install=is_install,
                )
    finally:
        store.close()


def seed_origin(text: str, hosts: HostSettings) -> Origin:
    """Where a seed is, if it may be contacted. Raises ConfigError."""
    try:
        return check_hostname(text, allow_private=hosts.allow_private, allow_insecure=hosts.allow_insecure)
    except HostRefused as refused:
        raise ConfigError(f"hosts.seeds: {refused}") from None


@contextmanager
def bound(settings: RelaySettings) -> Iterator[Sockets]:
    """The relay's listening sockets; closed afterwards. Raises ConfigError."""
    listen, count = settings.listen, settings.workers.serve or 1
    with ExitStack() as stack:
        sockets = Sockets(
            bind("listen.api", listen.api, count),
            bind("listen.admin", listen.admin, count) if listen.admin else [],
            bind("listen.metrics", listen.metrics, 1)[0],
        )
        for made in (*sockets.api, *sockets.admin, sockets.metrics):
            stack.enter_context(made)
        yield sockets


def crew_of(settings: RelaySettings, sockets: Sockets) -> list[WorkerSpec]:
    """Every worker of a relay. A serve worker is handed its `listen.api` socket first, then that of `listen.admin`."""
    ingest_count, serve_count = settings.workers.ingest or 1, settings.workers.serve or 1
    housekeeping = msgspec.json.encode(housekeeping_role(settings))
    ingest = msgspec.json.encode(ingest_role(settings))
    serve = msgspec.json.encode(serve_role(settings))
    handed = zip(sockets.api, sockets.admin, strict=True) if sockets.admin else ((api,) for api in sockets.api)
    return [
        WorkerSpec("housekeeping", 0, 1, housekeeping),
        *(WorkerSpec("ingest", index, ingest_count, ingest) for index in range(ingest_count)),
        *(WorkerSpec("serve", index, serve_count, serve, own) for index, own in enumerate(handed)),
    ]


async def _supervise(
    settings: RelaySettings, sockets: Sockets, lock_fd: int, drain: trio.Event, renewals: Renewals
) -> None:
    metrics = Metrics()
    metrics.build_info(__version__)
    context = WorkerContext(settings.data_dir, lock_fd, settings.drain_seconds, settings.logging)
    supervisor = Supervisor(crew_of(settings, sockets), context, metrics)
    reporting = Reporting(lambda: supervisor.workers, metrics, settings.data_dir)
    async with trio.open_nursery() as nursery:
        control = bind_control(control_path(settings.data_dir, "supervisor"))
        await nursery.start(serve_http, [control], Site(reporting.answer_control))
        await nursery.start(serve_http, [inherited(sockets.metrics)], Site(reporting.answer_metrics))
        await supervisor.run(drain, renewals)
        nursery.cancel_scope.cancel()


def _stop(stop: Stop, settings: RelaySettings) -> None:
    _log.info("relay_draining", seconds_at_most=settings.drain_seconds)
    stop.drain.set()
    stop.waiting.cancel()


def _renew(renew: trio.MemorySendChannel[None]) -> None:
    with suppress(trio.WouldBlock):  # one is asked for already
        renew.send_nowait(None)


def _log_start(settings: RelaySettings, config_file: Path | None, sockets: Sockets) -> None:
    admin = str(bound_address(sockets.admin[0])) if sockets.admin else ""
    _log.info(
        "relay_starting",
        version=__version__,
        config=str(config_file or "none"),
        data_dir=str(settings.data_dir.absolute()),
        api=str(bound_address(sockets.api[0])),
        admin=admin,
        metrics=str(bound_address(sockets.metrics)),
        ingest_workers=settings.workers.ingest,
        serve_workers=settings.workers.serve,
    )
    if not settings.log.sync:
        _log.warning("log_sync_off", consequence="a power cut can lose events that consumers already saw")

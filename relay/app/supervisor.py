"""Keeps the workers of one relay alive: starts, watches, restarts and drains them, and knows how each is doing.

Owns the decisions about processes. Does not own how a process is started (`relay.app.children`), which there are and
with what (`relay.app.run`), or signals (`relay.app.lifecycle`). No event of the network passes through here.

A worker that answers nothing for `health_seconds` is killed; the write lock passes on by itself (design section 1). One
that ends is started again, later each time while it keeps ending early. Draining goes by role: those that append first,
then those that send what was appended.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from relay.app.assignment import Assignment, control_path, worker_name
from relay.app.children import (
    FAILURES_ALARMING,
    LIFE_SECONDS_GOOD,
    WORKER_COMMAND,
    Child,
    Exit,
    restart_seconds,
)
from relay.app.lock import write_holders
from relay.app.settings import LoggingSettings
from relay.net.control import ask
from relay.net.errors import NetError
from relay.observe.logs import get_logger
from relay.observe.metrics import Metrics

HEALTH_SECONDS = 10.0
START_SECONDS = 30.0  # how long a new process may take to its first answer
DRAIN_ORDER = ("ingest", "serve", "housekeeping")
_ASK_EVERY_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 0.1  # until a new process answers

_log = get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker there should be. `settings` is JSON for its role; `sockets` listen already and are handed over."""

    role: str
    index: int
    count: int
    settings: bytes
    sockets: tuple[socket.socket, ...] = ()


class WorkerStatus(msgspec.Struct, frozen=True):
    """How one worker is doing, as `GET /workers` on the supervisor's socket answers it.

    `failing` says that it ended `FAILURES_ALARMING` times in a row soon after its start, `last_exit` how it ended last.
    """

    role: str
    worker: int
    up: bool
    pid: int | None
    restarts: int
    failing: bool
    last_exit: str


class Surroundings(NamedTuple):
    """What all workers share. `drain_seconds` is the time a stop may take."""

    data_dir: Path
    lock_fd: int
    drain_seconds: float
    logging: LoggingSettings
    health_seconds: float = HEALTH_SECONDS
    command: Sequence[str] = WORKER_COMMAND


class _Worker:
    """One place in the crew, and the process that fills it at the moment."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.name = worker_name(spec.role, spec.index)
        self.child: Child | None = None
        self.up = False
        self.restarts = 0
        self.failures = 0
        self.last_exit = ""
        self.silent = False
        self.first_answer = trio.Event()
        self.ended = trio.Event()

    @property
    def status(self) -> WorkerStatus:
        return WorkerStatus(
            role=self.spec.role,
            worker=self.spec.index,
            up=self.up,
            pid=self.child.pid if self.child else None,
            restarts=self.restarts,
            failing=self.failures >= FAILURES_ALARMING and not self.up,
            last_exit=self.last_exit,
        )


class Supervisor:
    """The crew of one relay."""

    def __init__(self, crew: Sequence[WorkerSpec], around: Surroundings, metrics: Metrics) -> None:
        self._around = around
        self._metrics = metrics.supervision
        self._workers = [_Worker(spec) for spec in crew]
        self._draining = trio.Event()

    @property
    def workers(self) -> list[WorkerStatus]:
        """How each worker is doing."""
        return [worker.status for worker in self._workers]

    async def run(self, drain: trio.Event) -> None:
        """Keep the crew alive until `drain` is set and all have ended, or their time is over; cancel to stop at once.

        However this ends, no worker process is left.
        """
        try:
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    nursery.start_soon(self._keep, worker)
                nursery.start_soon(self._tell_ready)
                await drain.wait()
                self._draining.set()
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            for worker in self._workers:
                if worker.child is not None:
                    worker.child.close()

    async def _tell_ready(self) -> None:
        for worker in self._workers:
            await worker.first_answer.wait()
        _log.info("relay_ready", workers=len(self._workers))

    async def _keep(self, worker: _Worker) -> None:
        """One place in the crew, for as long as the relay lives."""
        while not self._draining.is_set():
            started = trio.current_time()
            ended = await self._live(worker)
            if self._draining.is_set():
                break
            seconds = self._after_exit(worker, ended, trio.current_time() - started)
            with trio.move_on_after(seconds):
                await self._draining.wait()
        worker.ended.set()

    async def _live(self, worker: _Worker) -> Exit:
        """One process from start to end."""
        worker.silent = False
        try:
            child = worker.child = Child(self._assignment(worker), self._around.command, self._inherited(worker))
        except OSError as error:
            return Exit("not_started", f"could not be started: {error.strerror}")
        try:
            self._write_holders()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.instruct)
                nursery.start_soon(self._watch, worker, child)
                ended = await child.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._set_up(worker, up=False)
            worker.child = None
            child.close()
        return Exit("silent", f"no answer for {self._around.health_seconds:g} s") if worker.silent else ended

    def _assignment(self, worker: _Worker) -> Assignment:
        around, spec = self._around, worker.spec
        return Assignment(
            role=spec.role,
            index=spec.index,
            count=spec.count,
            data_dir=str(around.data_dir),
            drain_seconds=around.drain_seconds,
            log_level=around.logging.level,
            log_format=around.logging.format,
            listener_fds=tuple(listening.fileno() for listening in spec.sockets),
            settings=msgspec.Raw(spec.settings),
        )

    def _inherited(self, worker: _Worker) -> list[int]:
        return [self._around.lock_fd, *(listening.fileno() for listening in worker.spec.sockets)]

    async def _watch(self, worker: _Worker, child: Child) -> None:
        """Ask the worker whether it is well, until it ends; kill it when it stays silent."""
        limit = self._around.health_seconds
        patience = START_SECONDS
        heard = trio.current_time()
        while not self._draining.is_set():
            if await self._answers(worker):
                heard, patience = trio.current_time(), limit
                self._set_up(worker, up=True)
                worker.first_answer.set()
            elif trio.current_time() - heard >= patience:
                _log.error("worker_silent", name=worker.name, pid=child.pid, seconds=patience)
                worker.silent = True
                child.kill()
                return
            await trio.sleep(_ASK_EVERY_SECONDS if worker.up else _ASK_AGAIN_SECONDS)

    async def _answers(self, worker: _Worker) -> bool:
        path = control_path(self._around.data_dir, worker.name)
        try:
            await ask(path, "GET", "/health", timeout_seconds=self._around.health_seconds)
        except NetError:
            return False
        return True

    def _set_up(self, worker: _Worker, *, up: bool) -> None:
        worker.up = up
        self._metrics.worker_up.labels(worker.spec.role, str(worker.spec.index)).set(int(up))

    def _after_exit(self, worker: _Worker, ended: Exit, lived_seconds: float) -> float:
        """Count and tell the end of a process that should have lived; the wait before the next start."""
        worker.failures = 1 if lived_seconds >= LIFE_SECONDS_GOOD else worker.failures + 1
        worker.restarts += 1
        worker.last_exit = ended.text
        self._metrics.worker_restarts.labels(worker.spec.role, str(worker.spec.index), ended.outcome).inc()
        seconds = restart_seconds(worker.failures)
        tell = _log.error if worker.failures >= FAILURES_ALARMING else _log.warning
        event = "worker_keeps_dying" if worker.failures >= FAILURES_ALARMING else "worker_died"
        tell(event, name=worker.name, reason=ended.text, in_a_row=worker.failures, restart_in_seconds=seconds)
        return seconds

    def _write_holders(self) -> None:
        running = {worker.name: worker.child.pid for worker in self._workers if worker.child is not None}
        write_holders(self._around.lock_fd, {"supervisor": os.getpid(), **running})

    async def _drain(self) -> None:
        """Role by role; each has what is left of the time, but those that come first leave half of it to the others."""
        deadline = trio.current_time() + self._around.drain_seconds
        for role in DRAIN_ORDER:
            workers = [worker for worker in self._workers if worker.spec.role == role]
            last = role == DRAIN_ORDER[-1]
            seconds = max(0.0, deadline - trio.current_time()) * (1.0 if last else 0.5)
            for worker in workers:
                for listening in worker.spec.sockets:
                    listening.close()  # with our copy open, the worker closing its own would refuse nobody
                if worker.child is not None:
                    worker.child.drain()
            with trio.move_on_after(seconds) as scope:
                for worker in workers:
                    await worker.ended.wait()
            if scope.cancelled_caught:
                late = [worker.name for worker in workers if not worker.ended.is_set()]
                _log.warning("drain_incomplete", workers=late, seconds=round(seconds, 1))

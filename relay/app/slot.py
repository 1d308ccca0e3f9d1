"""One slot in the crew of a relay: filled with a process, again and again, for as long as the relay lives.

Owns what is decided about one worker: when a process is started, whether it is well, when the next one takes over. Does
not own how a process is started (`relay.app.children`) nor what concerns several workers (`relay.app.supervisor`).

A process that answers nothing for `health_seconds` is killed; the write lock passes on by itself (design section 1).
One that dies is started again, at once and then later each time while it keeps dying early. Only serve workers, which
read, may overlap: the next one accepts on the same sockets already while the one before lets its consumers go.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from relay.app.assignment import Assignment, control_path, worker_name
from relay.app.children import (
    DRAINED,
    FAILURES_ALARMING,
    LIFE_SECONDS_GOOD,
    WORKER_COMMAND,
    Child,
    Exit,
    restart_seconds,
)
from relay.app.draining import role_seconds, worker_seconds
from relay.app.listening import bind_anew
from relay.app.settings import LoggingSettings
from relay.net.control import ask
from relay.net.errors import NetError
from relay.observe.logs import get_logger
from relay.observe.metrics import SupervisionMetrics

HEALTH_SECONDS = 10.0
START_SECONDS = 30.0  # how long a new process may take to its first answer
_ASK_EVERY_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 0.1  # until a new process answers
_OVERLAPPING_ROLES = ("serve",)  # all others write, and are alone at what they do

_log = get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker there should be. `settings` is JSON for its role; `sockets` are bound already and are handed over."""

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


class WorkerContext(NamedTuple):
    """What all workers share. `drain_seconds` is the time a stop may take."""

    data_dir: Path
    lock_fd: int
    drain_seconds: float
    logging: LoggingSettings
    health_seconds: float = HEALTH_SECONDS
    command: Sequence[str] = WORKER_COMMAND


class WorkerSlot:
    """One worker, whichever process it is at the moment. `answered` and `ended` are for others to wait for."""

    def __init__(
        self,
        spec: WorkerSpec,
        context: WorkerContext,
        metrics: SupervisionMetrics,
        *,
        draining: trio.Event,
        on_change: Callable[[], None],
    ) -> None:
        """`draining`: from then on nothing is started. `on_change` is called when `pids` has changed."""
        self.role = spec.role
        self.name = worker_name(spec.role, spec.index)
        self.answered = trio.Event()  # by the first process, or by the one that a renewal brought
        self.ended = trio.Event()
        self._spec = spec
        self._context = context
        self._metrics = metrics
        self._draining = draining
        self._on_change = on_change
        self._sockets = list(spec.sockets)
        self._child: Child | None = None
        self._leaving: list[Child] = []
        self._renewal = trio.Event()
        self._up = False
        self._silent = False
        self._restarts = 0
        self._failures = 0
        self._last_exit = ""

    @property
    def status(self) -> WorkerStatus:
        """How it is doing."""
        return WorkerStatus(
            role=self.role,
            worker=self._spec.index,
            up=self._up,
            pid=self._child.pid if self._child else None,
            restarts=self._restarts,
            failing=self._failures >= FAILURES_ALARMING and not self._up,
            last_exit=self._last_exit,
        )

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by name: the one that fills it, and one that is leaving."""
        leaving = {f"{self.name}-leaving": child.pid for child in self._leaving}
        return leaving | ({self.name: self._child.pid} if self._child else {})

    async def keep(self) -> None:
        """Keep it filled until `draining` is set and its last process has ended; cancel to kill that at once."""
        try:
            async with trio.open_nursery() as processes:
                while not self._draining.is_set():
                    await self._fill(processes)
        finally:
            self._close_sockets()
        self.ended.set()

    async def renew(self) -> None:
        """Put a new process in the place of the present one; return when it answers and the old one is gone."""
        before = self._child if self._up else None  # one that has not answered yet is new
        if before is not None:
            self.answered = trio.Event()
            self._renewal.set()
            if self.role not in _OVERLAPPING_ROLES:
                before.drain()
        await self.answered.wait()
        if before is not None:
            await before.wait()

    def drain(self) -> None:
        """Ask its process to end; nothing more is accepted."""
        self._close_sockets()  # with our copy open, the worker closing its own would refuse nobody
        if self._child is not None:
            self._child.drain()

    async def _fill(self, processes: trio.Nursery) -> None:
        """One process, for as long as it has the slot, and the wait before the next."""
        started = trio.current_time()
        try:
            child = self._start()
        except OSError as error:
            ended = Exit("not_started", f"could not be started: {error.strerror}")
        else:
            ended = await self._live(child, processes)
        if not self._draining.is_set():
            with trio.move_on_after(self._after_exit(ended, trio.current_time() - started)):
                await self._draining.wait()

    def _start(self) -> Child:
        """Raises OSError."""
        control_path(self._context.data_dir, self.name).unlink(missing_ok=True)  # who answers there is the new one
        sockets = [bound.fileno() for bound in self._sockets]
        child = Child(self._assignment(sockets), self._context.command, [self._context.lock_fd, *sockets])
        self._child = child
        self._renewal = trio.Event()
        self._silent = False
        return child

    def _assignment(self, sockets: Sequence[int]) -> Assignment:
        context, spec = self._context, self._spec
        return Assignment(
            role=spec.role,
            index=spec.index,
            count=spec.count,
            data_dir=str(context.data_dir),
            drain_seconds=worker_seconds(spec.role, context.drain_seconds),
            log_level=context.logging.level,
            log_format=context.logging.format,
            listener_fds=tuple(sockets),
            settings=msgspec.Raw(spec.settings),
        )

    async def _live(self, child: Child, processes: trio.Nursery) -> Exit:
        """How it ended. A process that leaves while the next one takes over did what it was asked to."""
        self._on_change()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.converse)
                nursery.start_soon(self._watch, child)
                if self.role in _OVERLAPPING_ROLES:
                    await _wait_any(child.wait, child.leaving.wait, self._renewal.wait)
                if self.role not in _OVERLAPPING_ROLES or self._draining.is_set():
                    await child.wait()
                nursery.cancel_scope.cancel()
            ended = child.exit or DRAINED
        finally:
            self._set_up(up=False)
            self._child = None
            processes.start_soon(self._see_off, child, self.answered)
        return Exit("silent", f"no answer for {self._context.health_seconds:g} s") if self._silent else ended

    async def _see_off(self, child: Child, answered: trio.Event) -> None:
        """See that a process ends. One that nobody asked to goes on until the next one has `answered`."""
        self._leaving.append(child)
        try:
            await _wait_any(child.wait, answered.wait, self._draining.wait)
            child.drain()
            seconds = role_seconds(self.role, self._context.drain_seconds)
            with trio.move_on_after(seconds) as scope:
                await child.wait()
            if scope.cancelled_caught:
                _log.warning("drain_incomplete", workers=[self.name], seconds=round(seconds, 1))
        finally:
            self._leaving.remove(child)
            child.close()
            self._on_change()

    async def _watch(self, child: Child) -> None:
        """Ask the worker whether it is well, until it ends; kill it when it stays silent."""
        limit = self._context.health_seconds
        patience = START_SECONDS
        heard = trio.current_time()
        while not self._draining.is_set():
            if await self._answers():
                heard, patience = trio.current_time(), limit
                if not self._up:
                    self._set_up(up=True)
                    self.answered.set()
                    self._tell_back(child)
            elif trio.current_time() - heard >= patience:
                _log.error("worker_silent", name=self.name, pid=child.pid, seconds=patience)
                self._silent = True
                child.kill()
                return
            await trio.sleep(_ASK_EVERY_SECONDS if self._up else _ASK_AGAIN_SECONDS)

    async def _answers(self) -> bool:
        path = control_path(self._context.data_dir, self.name)
        try:
            await ask(path, "GET", "/health", timeout_seconds=self._context.health_seconds)
        except NetError:
            return False
        return True

    def _set_up(self, *, up: bool) -> None:
        self._up = up
        self._metrics.set_up(self.role, str(self._spec.index), up=up)

    def _after_exit(self, ended: Exit, lived_seconds: float) -> float:
        """Count and tell the end of a process while the relay goes on; the wait before the next start."""
        self._restarts += 1
        self._last_exit = ended.text
        self._metrics.worker_restarts.labels(self.role, str(self._spec.index), ended.outcome).inc()
        if lived_seconds >= LIFE_SECONDS_GOOD:
            self._failures = 0
        if ended == DRAINED:
            _log.info("worker_replaced", name=self.name)
            return 0.0
        self._failures += 1
        with suppress(OSError):  # what is not bound anew is handed over as it is
            for number, bound in enumerate(self._sockets):
                self._sockets[number] = bind_anew(bound)
        seconds = restart_seconds(self._failures)
        tell = _log.error if self._failures >= FAILURES_ALARMING else _log.warning
        event = "worker_keeps_dying" if self._failures >= FAILURES_ALARMING else "worker_died"
        tell(event, name=self.name, reason=ended.text, in_a_row=self._failures, restart_in_seconds=seconds)
        return seconds

    def _tell_back(self, child: Child) -> None:
        """Say that a worker is there again; of the first process of each, `relay_ready` speaks."""
        if self._restarts:
            _log.info("worker_ready", name=self.name, pid=child.pid)

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()


async def _wait_any(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return as soon as the first of them does."""
    async with trio.open_nursery() as nursery:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            nursery.cancel_scope.cancel()

        for one in waits:
            nursery.start_soon(wait, one)

"""Keeps the workers of one relay alive: all of them filled, renewed one after the other, drained role by role.

Owns what concerns several workers. Does not own one of them (`relay.app.slot`), which there are and with what
(`relay.app.run`), or signals (`relay.app.lifecycle`). No event of the network passes through here.

Draining goes by role: those that append first, then those that send what was appended.
"""

import os
from collections.abc import Iterator, Sequence

import trio

from relay.app.draining import ROLE_SHARES, role_seconds
from relay.app.lock import write_holders
from relay.app.slot import START_SECONDS, WorkerContext, WorkerSlot, WorkerSpec, WorkerStatus
from relay.observe.logs import get_logger
from relay.observe.metrics import Metrics

_log = get_logger("supervisor")


class Supervisor:
    """The crew of one relay."""

    def __init__(
        self,
        crew: Sequence[WorkerSpec],
        context: WorkerContext,
        metrics: Metrics,
        *,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """`start_seconds` is what a renewal gives a new process, beside the time that the old one takes to drain."""
        self._context = context
        self._start_seconds = start_seconds
        self._draining = trio.Event()
        self._slots = [
            WorkerSlot(spec, context, metrics.supervision, draining=self._draining, on_change=self._write_holders)
            for spec in crew
        ]

    @property
    def workers(self) -> list[WorkerStatus]:
        """How each worker is doing."""
        return [slot.status for slot in self._slots]

    async def run(self, drain: trio.Event, renewals: trio.MemoryReceiveChannel[None]) -> None:
        """Keep the crew alive until `drain` is set and all have ended, or their time is over; cancel to stop at once.

        Each item of `renewals` puts a new process in the place of every worker. However this ends, no worker process is
        left.
        """
        async with trio.open_nursery() as nursery:
            for slot in self._slots:
                nursery.start_soon(slot.keep)
            nursery.start_soon(self._renew_on, renewals)
            await drain.wait()
            self._draining.set()
            await self._drain()
            nursery.cancel_scope.cancel()

    async def _renew_on(self, renewals: trio.MemoryReceiveChannel[None]) -> None:
        for slot in self._slots:
            await slot.answered.wait()
        _log.info("relay_ready", workers=len(self._slots))
        async for _ in renewals:
            await self._renew()

    async def _renew(self) -> None:
        """One worker after the other; none any more after one that does not come back."""
        _log.info("workers_restarting")
        for slot in self._by_role():
            with trio.move_on_after(self._context.drain_seconds + self._start_seconds) as scope:
                await slot.renew()
            if scope.cancelled_caught:
                _log.error("restart_stopped", name=slot.name, reason="the new process does not answer")
                return
        _log.info("workers_restarted")

    def _by_role(self) -> Iterator[WorkerSlot]:
        for role in ROLE_SHARES:
            yield from (slot for slot in self._slots if slot.role == role)

    def _write_holders(self) -> None:
        pids = {name: pid for slot in self._slots for name, pid in slot.pids.items()}
        write_holders(self._context.lock_fd, {"supervisor": os.getpid(), **pids})

    async def _drain(self) -> None:
        """Role by role; a worker that is not gone in the time of its role has until the last role's is over."""
        for role in ROLE_SHARES:
            slots = [slot for slot in self._slots if slot.role == role]
            seconds = role_seconds(role, self._context.drain_seconds)
            for slot in slots:
                slot.drain()
            with trio.move_on_after(seconds) as scope:
                for slot in slots:
                    await slot.ended.wait()
            if scope.cancelled_caught:
                late = [slot.name for slot in slots if not slot.ended.is_set()]
                _log.warning("drain_incomplete", workers=late, seconds=round(seconds, 1))

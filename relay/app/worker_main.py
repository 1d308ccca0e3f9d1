"""The program of every worker process: `python -m relay.app.worker_main ROLE INDEX`, started by the supervisor only.

Owns what is the same for all roles: reading the task, logging, metrics, the control socket, the three reasons to stop.
A role is one coroutine function, found by name so that a process loads only its own role:

    async def run(
        *,
        settings: <the role's settings>,
        data_dir: Path,
        index: int,                             # this worker, 0 <= index < count
        count: int,                             # workers of this role
        metrics: Metrics,                       # this worker's own registry
        listeners: list[trio.SocketListener],   # serve: listen.api, then listen.admin if it is apart; else empty
        control: trio.SocketListener,           # the Unix socket; the role answers GET /health and GET /metrics there
        drain: trio.Event,                      # set: finish what there is and return
        task_status: trio.TaskStatus[None],
    ) -> None

It calls `task_status.started()` when it does its work. Returning without being asked to drain is a fault. An error ends
the process with exit code 1 after one line in `data_dir/run/ROLE-N.died`, which the supervisor shows.
"""

import importlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio

from relay import __version__
from relay.app import assignment, lifecycle
from relay.app.assignment import Assignment
from relay.app.listening import bind_control, listen
from relay.app.settings import HousekeepingSettings
from relay.ingest.settings import IngestRoleSettings
from relay.observe import logs
from relay.observe.metrics import Metrics
from relay.serve.settings import ServeRoleSettings
from relay.store.errors import StoreError

# A write txn of 20 rows held the lock for 150 ms beside pure-Python work with the default of 5 ms (design section 3).
_SWITCH_INTERVAL_SECONDS = 0.0005
_REASON_CHARS_MAX = 500

_log = logs.get_logger("worker")

RoleRun = Callable[..., Awaitable[None]]


class Role(NamedTuple):
    """A role: its settings class, and how to get at its `run`."""

    settings: type[Any]
    load: Callable[[], RoleRun]


def _in_module(name: str) -> Callable[[], RoleRun]:
    def load() -> RoleRun:
        run: RoleRun = importlib.import_module(name).run
        return run

    return load


ROLES: Mapping[str, Role] = {
    "housekeeping": Role(HousekeepingSettings, _in_module("relay.app.housekeeping")),
    "ingest": Role(IngestRoleSettings, _in_module("relay.ingest.worker")),
    "serve": Role(ServeRoleSettings, _in_module("relay.serve.worker")),
}


def main(roles: Mapping[str, Role] = ROLES) -> int:
    """Run the worker that standard input describes; the exit code of the process."""
    lifecycle.die_with_parent()
    try:
        task = assignment.read(sys.stdin.buffer)
    except msgspec.DecodeError:
        print("a worker is started by `relay run`, which tells it its task on standard input", file=sys.stderr)
        return 2
    logs.configure(task.log_level, task.log_format, role=task.role, worker=task.index)
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    if task.role == "serve":
        lifecycle.keep_heap_flat()
    try:
        trio.run(_work, task, roles[task.role])
    except Exception as error:  # noqa: BLE001 -- the worker's bulkhead: whatever it is ends the process, loudly
        log_failure(error)
        _leave_reason(task, error)
        return 1
    return 0


async def _work(task: Assignment, role: Role) -> None:
    metrics = Metrics()
    metrics.build_info(__version__)
    drain = trio.Event()
    run = partial(
        role.load(),
        settings=assignment.settings_of(task, role.settings),
        data_dir=Path(task.data_dir),
        index=task.index,
        count=task.count,
        metrics=metrics,
        listeners=[listen(bound) for bound in task.listening_sockets()],
        control=bind_control(assignment.control_path(Path(task.data_dir), task.name)),
        drain=drain,
    )
    async with trio.open_nursery() as nursery:
        stop = partial(_drain_by, nursery.cancel_scope, drain)
        nursery.start_soon(lifecycle.on_stop_signals, partial(stop, task.drain_seconds), lambda: None)
        nursery.start_soon(_drain_when_orphaned, stop)
        await _run_role(run, drain)
        nursery.cancel_scope.cancel()
    if not drain.is_set():
        raise AssertionError(f"{task.name} returned although nobody asked it to")


async def _run_role(run: Callable[..., Awaitable[None]], drain: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        _log.debug("worker_started")
    if drain.is_set():
        _log.debug("worker_drained")


def _drain_by(scope: trio.CancelScope, drain: trio.Event, seconds: float) -> None:
    """Ask the role to finish, and cancel it when it has not in `seconds`; an earlier deadline stays."""
    drain.set()
    lifecycle.tell_leaving()
    scope.deadline = min(scope.deadline, trio.current_time() + seconds)


async def _drain_when_orphaned(stop: Callable[[float], None]) -> None:
    await lifecycle.wait_orphaned()
    _log.warning("supervisor_gone", drain_seconds=lifecycle.ORPHAN_DRAIN_SECONDS)
    stop(lifecycle.ORPHAN_DRAIN_SECONDS)


def log_failure(error: Exception) -> None:
    """One line for a disk or data that failed us, which a worker meets again at every start; else the traceback too."""
    is_expected = all(isinstance(leaf, StoreError) for leaf in _leaves(error))
    _log.error("worker_failed", reason=reason_of(error), exc_info=None if is_expected else error)


def _leave_reason(task: Assignment, error: Exception) -> None:
    """One line for the supervisor; what else there is to say is in the log."""
    text = reason_of(error)
    try:
        assignment.write_reason(assignment.died_path(Path(task.data_dir), task.name), text)
    except OSError:
        _log.warning("reason_not_written", reason=text)


def reason_of(error: BaseException) -> str:
    """What happened, in one line: each exception of a group once, one of the store in words for operators."""
    texts = dict.fromkeys(_text_of(leaf) for leaf in _leaves(error))
    return "; ".join(texts).replace("\n", " ")[:_REASON_CHARS_MAX]


def _text_of(leaf: BaseException) -> str:
    return leaf.told if isinstance(leaf, StoreError) else f"{type(leaf).__name__}: {leaf}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())

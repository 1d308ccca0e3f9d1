"""A worker process with a role made for tests: the real `worker_main`, around a `run` that behaves as it is told.

Started by tests as a program. Its settings say how it behaves; it writes what happens to it into `data_dir/journal`.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from relay.app import worker_main
from relay.app.worker_main import Role
from relay.net.connection import Site
from relay.net.exchange import Request, Response
from relay.net.server import serve_http
from relay.observe.metrics import Metrics


@dataclass(frozen=True)
class Behaviour:
    """`dies`: raises once it has started. `hangs`: blocks its loop then. `stubborn`: does not end when drained.

    `mute_if`: does not start while there is a file of that name in data_dir.
    """

    dies: bool = False
    hangs: bool = False
    stubborn: bool = False
    mute_if: str = ""


async def run(
    *,
    settings: Behaviour,
    data_dir: Path,
    index: int,
    count: int,
    metrics: Metrics,
    listeners: Sequence[trio.SocketListener],
    control: trio.SocketListener,
    drain: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    def note(text: str) -> None:
        with (data_dir / "journal").open("a") as journal:
            journal.write(f"{sys.argv[1]}-{index} {text}\n")

    async def answer(request: Request) -> Response:
        if request.path == "/metrics":
            return Response(200, (), metrics.render())
        return Response(200, (), b"ok")

    async def greet(request: Request) -> Response:
        return Response(200, (), f"{sys.argv[1]}-{index} of {count}".encode())

    if settings.mute_if and (data_dir / settings.mute_if).exists():
        await trio.sleep_forever()
    metrics.ingest.in_flight.set(index)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, [control], Site(answer))
        if listeners:
            await nursery.start(serve_http, list(listeners), Site(greet))
        note("started")
        task_status.started()
        if settings.dies:
            raise ValueError("on purpose")
        if settings.hangs:
            time.sleep(3_600)  # noqa: ASYNC251 -- that is what it is for
        await drain.wait()
        note("draining")
        if settings.stubborn:
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    note("drained")


def load() -> Any:
    return run


if __name__ == "__main__":
    role = Role(Behaviour, load)
    sys.exit(worker_main.main({"housekeeping": role, "ingest": role, "serve": role}))

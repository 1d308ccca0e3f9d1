"""A supervisor of one fake serve worker, to be killed by tests. Prints the worker's process id once it is up.

Arguments: the data_dir, and the worker's behaviour as JSON.
"""

import sys
from pathlib import Path

import trio

from relay.app.lock import take_lock
from relay.app.settings import LoggingSettings
from relay.app.slot import WorkerContext, WorkerSpec
from relay.app.supervisor import Supervisor
from relay.observe import logs
from relay.observe.metrics import Metrics

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


async def main(data_dir: Path, behaviour: bytes) -> None:
    logs.configure("error")
    lock_fd = await take_lock(data_dir, 0)
    context = WorkerContext(data_dir, lock_fd, 20, LoggingSettings(level="error"), command=FAKE)
    supervisor = Supervisor([WorkerSpec("serve", 0, 1, behaviour)], context, Metrics())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run, trio.Event(), trio.open_memory_channel[None](0)[1])
        while not supervisor.workers[0].up:  # noqa: ASYNC110 -- the supervisor offers no event for it
            await trio.sleep(0.01)
        sys.stdout.write(f"{supervisor.workers[0].pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2].encode())

"""One worker process at a time: started, told its task, watched, ended, and what is known about it.

Owns the process and the socket that is its standard input. Does not decide when to start it again: that is
`relay.app.slot`. Always a fresh program through `subprocess`, never a fork: LMDB envs, txns and trio's state must not
cross one. It is started from the main thread, because PR_SET_PDEATHSIG is about the thread that started a process.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import trio

from relay.app import assignment
from relay.app.assignment import Assignment

WORKER_COMMAND = (sys.executable, "-m", "relay.app.worker_main")
RESTART_SECONDS_FIRST = 0.25
RESTART_SECONDS_MAX = 30.0
LIFE_SECONDS_GOOD = 60.0  # a worker that lived as long had a good start; its next end is a first one
FAILURES_ALARMING = 3
_EXIT_POLL_SECONDS = 0.05


class Exit(NamedTuple):
    """How a process ended: a label for metrics, and the same for people with the reason it left, if any."""

    outcome: str
    text: str


DRAINED = Exit("drained", "it was asked to end")


def restart_seconds(failures: int) -> float:
    """The wait before the start after `failures` deaths in a row: none, then 0.25 s, doubling up to 30 s."""
    if failures <= 1:
        return 0.0
    return float(min(RESTART_SECONDS_MAX, RESTART_SECONDS_FIRST * 2 ** min(failures - 2, 30)))


class Child:
    """A running worker process. `leaving` is set when it says that it is draining. `close` ends it for certain."""

    def __init__(self, task: Assignment, command: Sequence[str], pass_fds: Sequence[int]) -> None:
        self._task = task
        self._died_path = assignment.died_path(Path(task.data_dir), task.name)
        with suppress(OSError):  # then only the reason of its death may be missing
            assignment.write_reason(self._died_path, "")
        self.leaving = trio.Event()
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- our own program
                [*command, task.role, str(task.index)],
                stdin=theirs.fileno(),
                pass_fds=pass_fds,
                env={name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
                process_group=0,  # Ctrl-C on a terminal is for the supervisor, which then drains its workers
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = trio.lowlevel.FdStream(ours.detach())

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        return None if code is None else self._exit(code)

    async def converse(self) -> None:
        """Tell the worker its task, and hear when it leaves. One that died is not an error here: its exit is seen."""
        with suppress(trio.BrokenResourceError):
            await self._channel.send_all(assignment.encode(self._task))
            if await self._channel.receive_some(1):
                self.leaving.set()

    async def wait(self) -> None:
        """Wait for its end."""
        while self._process.poll() is None:  # noqa: ASYNC110 -- a process sets no event
            await trio.sleep(_EXIT_POLL_SECONDS)

    def drain(self) -> None:
        """Ask it to finish what it has and exit."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now; the log is safe at any moment (design section 1)."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Kill it if it still runs, reap it, and let go of the socket to it."""
        self.kill()
        self._process.wait()
        self._channel.close()

    def _exit(self, code: int) -> Exit:
        if code in (0, -signal.SIGTERM):  # the latter when it was asked before it was able to drain
            return DRAINED
        if code < 0:
            return Exit("killed", f"ended by {signal.Signals(-code).name}")
        reason = assignment.read_reason(self._died_path)
        return Exit("exited", f"exit code {code}" + (f": {reason}" if reason else ""))

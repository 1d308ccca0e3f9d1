"""How processes of the relay begin and end: signals, the death of the parent, the limit on open files.

Owns signal handling for supervisor and workers; nothing else in the relay touches signals. A worker has three reasons
to stop: SIGTERM (drain in the given time), the end of its standard input (the supervisor is gone: drain in two
seconds), and PR_SET_PDEATHSIG, which is the same as SIGTERM and covers a loop that does not read its standard input.
"""

import ctypes
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import trio

ORPHAN_DRAIN_SECONDS = 2.0
_STUCK_SECONDS = 3  # after a drain should have ended, before the kernel ends the process
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_HEAP_BLOCK_BYTES_MAX = 131_072
_HEAP_TRIM_BYTES = 131_072


async def on_stop_signals(
    first: Callable[[], None],
    second: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `first` on the first SIGTERM or SIGINT, `second` on every later one. Runs until cancelled."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        react = first
        async for _ in signals:
            react()
            react = second


async def on_hangup(react: Callable[[], None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Call `react` on every SIGHUP. Runs until cancelled."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            react()


def tell_leaving() -> None:
    """Tell the supervisor, over standard input, that this worker drains, so that the next one may take over."""
    with suppress(OSError):  # it is gone, which is why
        os.write(sys.stdin.fileno(), b"\n")


async def wait_orphaned() -> None:
    """Return when standard input ends, which only happens when the supervisor is gone.

    From then on the kernel ends this process after a few seconds, should its loop be stuck.
    """
    stream = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    async with stream:
        with suppress(trio.BrokenResourceError):  # it ended before it had read that this worker leaves
            while await stream.receive_some(4_096):
                pass
    signal.alarm(math.ceil(ORPHAN_DRAIN_SECONDS) + _STUCK_SECONDS)


def die_with_parent() -> None:
    """Ask the kernel to send SIGTERM when the thread that started this process ends. Linux only, else nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def keep_heap_flat() -> None:
    """Give large blocks back to the system as soon as they are let go. For glibc, else nothing.

    It would raise its threshold for that by itself with the first large block that is freed, and reads of all sizes
    that come and go a thousand times a second would then leave holes: a serve worker grew by 1.4 MB a minute.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if sys.platform == "linux" and mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _HEAP_BLOCK_BYTES_MAX)
        mallopt(_M_TRIM_THRESHOLD, _HEAP_TRIM_BYTES)


def raise_file_limit() -> int:
    """Lift the soft limit on open files to the hard one; workers inherit it. Returns the limit in effect."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # some systems name a hard limit that they do not grant
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return hard

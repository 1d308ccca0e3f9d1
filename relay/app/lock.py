"""One relay per data_dir: an flock that the supervisor takes and every worker inherits.

Owns `data_dir/lock`. The lock is on the open file, which the workers share by inheritance: it is free only when the
supervisor and its last worker are gone. The file holds a line `pid name` for each, so that whoever waits can say for
whom.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from relay.app.config import ConfigError
from relay.observe.logs import get_logger

_POLL_SECONDS = 0.1

_log = get_logger("lock")


async def take_lock(data_dir: Path, wait_seconds: float) -> int:
    """The descriptor of the held lock, to be kept open and passed on.

    Makes `data_dir` if need be. Waits `wait_seconds`, not without saying so, for the last worker of a supervisor that
    died, then raises ConfigError naming who holds it; the same when the folder cannot be used.
    """
    lock_fd = _open(data_dir)
    try:
        give_up_at = trio.current_time() + wait_seconds
        is_told = False
        while not _lock(lock_fd):
            _check_patience(give_up_at, data_dir, lock_fd)
            if not is_told:
                is_told = True
                _log.info("data_dir_in_use", by=_holders(lock_fd), waiting_seconds_at_most=wait_seconds)
            await trio.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(lock_fd)
        raise
    return lock_fd


def was_locked(data_dir: Path) -> bool:
    """Whether a relay was ever started on the folder."""
    return (data_dir / "lock").exists()


@contextmanager
def at_rest(data_dir: Path) -> Iterator[bool]:
    """Whether no relay is at work in an existing folder; if so none begins inside the block. Makes and writes nothing.

    Raises ConfigError when the lock cannot be read.
    """
    if not was_locked(data_dir):
        yield True
        return
    try:
        lock_fd = os.open(data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"data_dir: {data_dir} cannot be used: {error.strerror}") from error
    try:
        yield _lock(lock_fd, fcntl.LOCK_SH)
    finally:
        os.close(lock_fd)


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the lock of an existing folder for the block. Raises ConfigError, naming who is at work there."""
    lock_fd = _open(data_dir)
    try:
        if not _lock(lock_fd):
            raise ConfigError(f"data_dir: {data_dir} is in use by {_holders(lock_fd)}")
        yield
    finally:
        os.close(lock_fd)


def write_holders(lock_fd: int, holders: Mapping[str, int]) -> None:
    """Put the processes that hold the lock, by name, into its file. For people; nothing relies on it.

    Written over what is there, never emptied first: on a full disk somebody else would take the space.
    """
    text = "".join(f"{pid} {name}\n" for name, pid in holders.items()).encode()
    with suppress(OSError):
        os.pwrite(lock_fd, text, 0)
        os.ftruncate(lock_fd, len(text))


def _open(data_dir: Path) -> int:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"data_dir: {data_dir} cannot be used: {error.strerror}") from error


def _check_patience(give_up_at: float, data_dir: Path, lock_fd: int) -> None:
    if trio.current_time() >= give_up_at:
        raise ConfigError(f"data_dir: {data_dir} is in use by {_holders(lock_fd)}")


def _lock(lock_fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock_fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(lock_fd: int) -> str:
    """The holders that are still alive, such as "pid 7 (ingest-0)"."""
    lines = os.pread(lock_fd, 65_536, 0).decode(errors="replace").splitlines()
    found = [line.partition(" ") for line in lines]
    alive = [f"pid {pid} ({name})" for pid, _, name in found if pid.isdecimal() and _is_alive(int(pid))]
    return ", ".join(alive) or "a process that left no name"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

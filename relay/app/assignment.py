"""What the supervisor tells a worker, in one line of JSON on its standard input.

Owns the shape and the way there. After the line the socket stays open. Its end tells the worker that the supervisor is
gone; a byte back tells the supervisor that the worker leaves (`relay.app.lifecycle`). Nothing secret is in arguments or
environment. Paths of control sockets are named here too.
"""

import os
import socket
from pathlib import Path
from typing import IO, Any

import msgspec

from relay.app.config import ConfigError

REASON_BYTES = 1_024
SOCKET_PATH_BYTES_MAX = 107  # sun_path of the system, less its final zero
_NAME_LONGEST = "housekeeping-0"


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One worker's task.

    `listener_fds` are inherited sockets to listen on, `settings` the JSON of its role's settings. `drain_seconds` is
    what the role may take to end (`relay.app.draining`).
    """

    role: str
    index: int
    count: int
    data_dir: str
    drain_seconds: float
    log_level: str
    log_format: str
    listener_fds: tuple[int, ...]
    settings: msgspec.Raw

    @property
    def name(self) -> str:
        """As in the names of its files and in logs: `ingest-0`."""
        return worker_name(self.role, self.index)

    def listening_sockets(self) -> list[socket.socket]:
        """The inherited sockets, now owned by the caller."""
        return [socket.socket(fileno=listener_fd) for listener_fd in self.listener_fds]


def worker_name(role: str, index: int) -> str:
    """`ingest-0`."""
    return f"{role}-{index}"


def control_path(data_dir: Path, name: str) -> Path:
    """The Unix socket on which a worker, or `supervisor`, answers."""
    return data_dir / "run" / f"{name}.sock"


def check_path(data_dir: Path) -> None:
    """Raise ConfigError when the path is too long for the sockets below it."""
    if len(os.fsencode(control_path(data_dir, _NAME_LONGEST))) > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(f"data_dir: {data_dir} is too long a path for sockets below it; a shorter one is needed")


def died_path(data_dir: Path, name: str) -> Path:
    """Where a worker that dies of an error leaves one line saying why."""
    return data_dir / "run" / f"{name}.died"


def write_reason(path: Path, text: str) -> None:
    """Put `text` at `path`, "" before a process starts. Raises OSError.

    Always the same number of bytes in the same place, so that what was blanked while there was space on the disk can
    still be said when it is full.
    """
    data = text.encode()[:REASON_BYTES].ljust(REASON_BYTES)
    reason_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(reason_fd, data, 0)
    finally:
        os.close(reason_fd)


def read_reason(path: Path) -> str:
    """What `write_reason` put there, "" when nothing can be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def encode(assignment: Assignment) -> bytes:
    """One line."""
    return msgspec.json.encode(assignment) + b"\n"


def read(stream: IO[bytes]) -> Assignment:
    """The assignment from standard input; blocks. Raises msgspec.DecodeError for anything else, also for nothing."""
    return msgspec.json.decode(stream.readline(), type=Assignment)


def settings_of(assignment: Assignment, kind: type[Any]) -> Any:
    """The role's settings, as a value of its settings class `kind`."""
    return msgspec.json.decode(assignment.settings, type=kind)

"""Files as the system knows them: which one lies in a place now, and when its content and its name are durable."""

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Make the content of a file durable. Raises OSError."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Make names inside a folder durable. Raises OSError."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def inode_of(path: Path) -> int:
    """Which file lies there, 0 for none: a purge puts another in the place of a sealed segment's."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

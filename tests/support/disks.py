"""Small file systems for tests of full and read-only disks. They need the right to mount; without it, a visible skip.

They lie outside pytest's folders: one that a killed test run leaves behind must not break the clean-up of later runs.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(options: str) -> Iterator[Path]:
    """A tmpfs with mount options such as `size=24m` or `ro`. Skips the test where that is not allowed."""
    folder = Path(tempfile.mkdtemp(prefix="relay-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small file system takes rights that this machine does not give")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()

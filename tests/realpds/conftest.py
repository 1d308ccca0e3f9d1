"""The network of real PDSes, installed once, and a folder to run in."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from tests.realpds.harness import installed_harness


@pytest.fixture(scope="session")
def harness() -> Path:
    return installed_harness()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working folder; the relay's data_dir in it is a relative path, short enough for Unix sockets."""
    with chdir(tmp_path):
        yield tmp_path

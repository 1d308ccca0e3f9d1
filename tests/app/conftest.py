"""A data_dir as processes are given it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A relative path: short enough for Unix sockets wherever pytest keeps its folders."""
    with contextlib.chdir(tmp_path):
        Path("data/run").mkdir(parents=True)
        yield Path("data")

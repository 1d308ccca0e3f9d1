"""The tier of real PDSes: skipped unless asked for with `make test-realpds`, because it installs and starts a lot."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from tests.realpds.harness import installed_harness

MARKER = "realpds"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if MARKER in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="real PDSes are installed and started by `make test-realpds` only")
    for item in items:
        if item.get_closest_marker(MARKER):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def harness() -> Path:
    return installed_harness()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working folder; the relay's data_dir in it is a relative path, short enough for Unix sockets."""
    with chdir(tmp_path):
        yield tmp_path

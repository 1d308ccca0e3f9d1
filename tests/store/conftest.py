"""One empty store with two hosts, closed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store.store import Store
from tests.store.batches import add_hosts, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "data")
    add_hosts(opened)
    yield opened
    opened.close()

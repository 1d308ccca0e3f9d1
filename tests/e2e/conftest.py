"""One relay for all tests of this folder that do not need one of their own; towns come and go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import RelayProcess


@pytest.fixture(scope="session")
def shared_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    made = RelayProcess(
        tmp_path_factory.mktemp("e2e"),
        RELAY_WORKERS_INGEST="1",
        RELAY_WORKERS_SERVE="1",
        RELAY_CONSUMERS_PER_ADDRESS="100",
    )
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def relay(shared_relay: RelayProcess) -> RelayProcess:
    """The shared relay; started again if one that failed has ended it."""
    if shared_relay.process.poll() is not None:
        shared_relay.start()
    return shared_relay


@pytest.fixture
def public_relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay that serves no private network."""
    made = RelayProcess(tmp_path, RELAY_HOSTS_ALLOW_PRIVATE="false", RELAY_WORKERS_INGEST="1", RELAY_WORKERS_SERVE="1")
    try:
        made.start()
        yield made
    finally:
        made.close()

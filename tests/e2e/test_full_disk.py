"""A disk that fills up under a running relay, and has space again later: told loudly, and nothing is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store.errors import DiskFull
from tests.support.disks import mounted
from tests.support.processes import RelayProcess
from tests.support.town import town
from tests.support.until import until

pytestmark = pytest.mark.slow

DISK_MIB = 24
BYTES_LEFT = 200_000


@pytest.fixture
def disk() -> Iterator[Path]:
    with mounted(f"size={DISK_MIB}m") as folder:
        yield folder


@pytest.fixture
def relay(tmp_path: Path, disk: Path) -> Iterator[RelayProcess]:
    made = RelayProcess(tmp_path, data_dir=disk / "data", RELAY_WORKERS_INGEST="1", RELAY_WORKERS_SERVE="1")
    try:
        made.start()
        yield made
    finally:
        made.close()


def fill(disk: Path) -> Path:
    """Take all space but a little; the file to remove again."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_bsize - BYTES_LEFT)
    return ballast


async def test_a_full_disk_is_told_and_costs_nothing_but_time(relay: RelayProcess, disk: Path) -> None:
    async with town(relay, hosts=1, accounts=6, seed=61) as made:
        async with made.playing(200):
            await made.received(60)
            ballast = fill(disk)

            await until(lambda: any(DiskFull.remedy in line["reason"] for line in relay.lines("worker_died")))

            assert not any("exception" in line for line in relay.lines("worker_failed"))
            assert (await relay.get("/_health")).status == 200  # what is there can still be read
            ballast.unlink()
            await made.received(100)
        await made.judge()
        assert await relay.terminate() == 0

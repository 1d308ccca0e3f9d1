"""One pass of housekeeping over a real store: what it lets go, what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.app.housekeeping import CLOCK_DISTANCE_MS_MAX, Housekeeping
from relay.observe.metrics import Metrics
from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.support.log_writer import START_MS, LogWriter

HOUR_MS = 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    settings = LogSettings(window_hours=2, sync=False, initial_seq=1_000, state_map_bytes=64 << 20)
    opened = Store.open(tmp_path, settings, create=True, now_ms=START_MS)
    yield opened
    opened.close()


class Clock:
    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


class Scene:
    """A log with one segment an hour over six hours, and housekeeping that has not run yet."""

    def __init__(self, store: Store, data_dir: Path) -> None:
        self.writer = LogWriter(store)
        for _ in range(6):
            self.writer.append(3, after_ms=HOUR_MS + 1)
        self.clock = Clock()
        self.clock.now_ms = self.writer.time_ms
        self.metrics = Metrics()
        self.housekeeping = Housekeeping(store, self.metrics.log, data_dir, self.clock, lambda: 5_000)

    def figure(self, name: str) -> float:
        lines = self.metrics.render().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.fixture
def scene(store: Store, tmp_path: Path) -> Scene:
    return Scene(store, tmp_path)


def test_a_pass_moves_the_floor_and_exposes_it(scene: Scene, store: Store) -> None:
    before = store.tip()
    scene.housekeeping.work()

    after = store.tip()
    assert after.floor > before.floor
    assert scene.figure("relay_log_floor_seq") == after.floor
    assert scene.figure("relay_log_tip_seq") == after.seq == before.seq
    assert scene.figure("relay_log_tip_time_seconds") == scene.writer.time_ms / 1_000


@pytest.mark.parametrize("side", [-1, 1])
def test_a_clock_far_from_the_tip_pauses_retention_by_time(scene: Scene, store: Store, side: int) -> None:
    """A wrong clock, on either side, must not cost the window."""
    floor = store.tip().floor
    scene.clock.now_ms += side * (CLOCK_DISTANCE_MS_MAX + 1)

    scene.housekeeping.work()

    assert store.tip().floor == floor
    scene.clock.now_ms -= side
    scene.housekeeping.work()
    assert store.tip().floor > floor


def test_a_clock_that_leaps_and_takes_the_tip_along_pauses_it_too(scene: Scene, store: Store) -> None:
    """Invariant 6: under traffic the tip follows a wrong clock at once; the time since boot does not."""
    floor = store.tip().floor
    scene.clock.now_ms += 100 * HOUR_MS
    scene.writer.append(1, after_ms=100 * HOUR_MS)
    scene.housekeeping.work()

    assert store.tip().floor == floor


def test_figures_of_log_state_and_disk_are_exposed(scene: Scene) -> None:
    scene.housekeeping.work()

    for name in ("log_bytes", "log_segments", "state_bytes", "disk_free_bytes"):
        assert scene.figure(f"relay_{name}") > 0
    assert scene.figure("relay_state_map_bytes") == 64 << 20


def test_a_read_txn_left_open_is_seen_getting_older(scene: Scene, store: Store) -> None:
    with store.view() as view:
        view.generation()
        scene.housekeeping.work()
        scene.clock.now_ms += 90_000
        scene.housekeeping.work()
        assert scene.figure("relay_state_oldest_reader_seconds") == 90

    scene.housekeeping.work()
    assert scene.figure("relay_state_oldest_reader_seconds") == 0


def test_a_scrape_between_two_passes_sees_the_present_tip(scene: Scene, store: Store) -> None:
    scene.housekeeping.work()
    scene.writer.append(1)

    scene.housekeeping.refresh()

    assert scene.figure("relay_log_tip_seq") == store.tip().seq

"""Rates out of looks, and that no look at many hosts holds up the loop."""

import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from relay.net.exchange import Request
from relay.serve.admin.figures import SAMPLE_SECONDS, SERIES_KEPT, Figures, Series
from relay.serve.admin.hostviews import HostViews
from relay.serve.admin.pdslist import PdsList
from tests.support.operating import HOSTS, operating

MANY = 3_000
A_SMALL_PART = 0.2


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        ([], 0.0),
        ([7], 0.0),
        ([7, 17], 2.0),
        ([0, 0, 0, 0, 0, 0, 60], 2.0),
        ([0, 0, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_030], 1.0),  # of the last six looks' differences
        ([0, 10_000] + [10_000] * 6, 0.0),
        ([9, 3], 0.0),
    ],
)
def test_a_rate_is_that_of_the_last_half_minute(counts: list[int], rate: float) -> None:
    series = Series()
    for count in counts:
        series.add(count)

    assert series.rate() == rate


def test_a_series_keeps_so_many_rates() -> None:
    series = Series()
    for look in range(200):
        series.add(look * 5)

    assert series.rates() == [5 / SAMPLE_SECONDS] * (SERIES_KEPT - 1)


class Steps(trio.abc.Instrument):
    """The longest that the loop was held by one step of a task, in seconds of the loop's own CPU time."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._began = time.thread_time()

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.longest_seconds = max(self.longest_seconds, time.thread_time() - self._began)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The collector runs when it likes, in whose step it likes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("what", ["page", "list", "samples"])
async def test_many_hosts_do_not_hold_the_loop(what: str, tmp_path: Path) -> None:
    """No step takes more than a small part of the work: it is done by pages, or in a thread."""
    request = Request("GET", "/", (("sort", "rate"), ("limit", "1000")), {}, b"", "192.0.2.1")
    async with operating(tmp_path) as desk:
        for number in range(MANY):
            desk.add(f"h{number}.example.org")
        figures = Figures(desk.store, now_ms=lambda: 1)
        views = HostViews(desk.store, HOSTS, figures, offload=trio.to_thread.run_sync)
        pds_list = PdsList(desk.store, HOSTS, figures, offload=trio.to_thread.run_sync)
        work: dict[str, Callable[[], Awaitable[object]]] = {
            "page": partial(views.page, request),
            "list": partial(pds_list.list_pds, request),
            "samples": partial(take_samples, figures),
        }
        await take_samples(figures)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        began = time.process_time()
        await work[what]()
        await trio.lowlevel.checkpoint()  # the last step ends
        all_seconds = time.process_time() - began
        trio.lowlevel.remove_instrument(steps)

    assert steps.longest_seconds < all_seconds * A_SMALL_PART


async def take_samples(figures: Figures) -> None:
    """Run until there is one more."""
    taken = len(figures.samples)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(figures.run)
        while len(figures.samples) == taken:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

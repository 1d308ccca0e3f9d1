"""What makes the relay doubt its own clock, and for how long."""

import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

import pytest

from relay.app.clockwatch import DOUBT_MS, STEP_MS_MAX, ClockWatch
from relay.app.hostwatch import Counts, HostWatch
from relay.crawl.settings import HostSettings
from relay.observe.metrics import Metrics
from relay.store.batch import Batch, HostMark
from relay.store.policy import CLOCK, ClockDoubt, decoded
from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.support.logged import logged

NOW_MS = 1_760_000_000_000
MINUTE_MS = 60_000
NONE = ClockDoubt()


class Watch:
    """A store, a wall clock and a steady one, both turned by hand."""

    def __init__(self, store: Store, lines: StringIO) -> None:
        self.store = store
        self.now_ms = NOW_MS
        self.up_ms = 5_000
        self._lines = lines
        self._watch = ClockWatch(store, lambda: self.now_ms, lambda: self.up_ms)

    def look(self, counts: Mapping[int, tuple[int, int]], *, after_ms: int = MINUTE_MS) -> ClockDoubt:
        """A look so much later, at (events, of our future) by host id."""
        self.now_ms += after_ms
        self.up_ms += after_ms
        self._watch.look({host_id: Counts(*pair) for host_id, pair in counts.items()})
        with self.store.view() as view:
            value = view.policy_value(CLOCK)
        return decoded(value, ClockDoubt) if value is not None else NONE

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self._lines.getvalue().splitlines()]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    log = LogSettings(sync=False, state_map_bytes=1 << 26)
    store = Store.open(tmp_path / "data", log, create=True, now_ms=NOW_MS)
    with logged() as lines:
        yield Watch(store, lines)
    store.close()


def test_most_hosts_in_our_future_are_a_doubt_said_once_until_it_passes(watch: Watch) -> None:
    watch.look({1: (10, 0), 2: (10, 0), 3: (10, 0)})
    assert watch.look({1: (11, 1), 2: (11, 1), 3: (11, 0)}) == ClockDoubt(hosts=2, heard=3)
    assert watch.look({1: (12, 2), 2: (12, 2), 3: (12, 1)}) == ClockDoubt(hosts=3, heard=3)
    assert watch.events == ["clock_behind_hosts"]
    assert watch.look({1: (13, 2), 2: (13, 2), 3: (13, 1)}, after_ms=DOUBT_MS + 1) == NONE


def test_one_host_alone_is_most_hosts_where_there_is_no_other(watch: Watch) -> None:
    watch.look({})
    assert watch.look({1: (5, 5)}) == ClockDoubt(hosts=1, heard=1)


def test_hosts_with_a_wrong_clock_of_their_own_are_no_doubt_about_ours(watch: Watch) -> None:
    """Not even several of them: as many again send what is of now, and hosts that say nothing do not count."""
    quiet = dict.fromkeys(range(10, 20), (7, 0))
    watch.look(quiet)
    assert watch.look({**quiet, 1: (9, 9), 2: (9, 9), 3: (9, 0), 4: (9, 0)}) == NONE
    assert watch.events == []


def test_what_was_dropped_before_this_process_began_is_no_news(watch: Watch) -> None:
    assert watch.look({1: (900, 800)}) == NONE
    assert watch.look({1: (900, 800)}) == NONE


@pytest.mark.parametrize("step_ms", [7_200_000, -7_200_000, STEP_MS_MAX + 1])
def test_a_clock_that_is_set_is_said_for_some_minutes(watch: Watch, step_ms: int) -> None:
    assert watch.look({}) == NONE
    watch.now_ms += step_ms
    assert watch.look({}) == ClockDoubt(stepped_ms=step_ms)
    assert watch.look({}, after_ms=DOUBT_MS) == ClockDoubt(stepped_ms=step_ms)
    assert watch.look({}, after_ms=1) == NONE
    assert watch.events == ["clock_stepped"]


def test_a_small_correction_is_not(watch: Watch) -> None:
    watch.now_ms += STEP_MS_MAX
    assert watch.look({}) == NONE
    assert watch.events == []


def test_what_is_counted_comes_from_the_rows_of_hosts_that_are_not_banned(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data", LogSettings(sync=False, state_map_bytes=1 << 26), create=True, now_ms=NOW_MS)
    ids = [store.add_host(name, insecure=False, now_ms=1).host_id for name in ("a.org", "b.org", "c.org")]
    dropped = {"rev_in_future": 4, "old": 2}
    marks = tuple(HostMark(host_id, 0, 9, NOW_MS, accepted=3, dropped=dropped) for host_id in ids[:2])
    store.append(Batch(NOW_MS, marks=marks))
    store.ban_host(ids[1], now_ms=NOW_MS)

    counts = HostWatch(store, HostSettings(), Metrics().hosts, lambda: NOW_MS).look()

    store.close()
    assert counts == {ids[0]: Counts(9, 4), ids[2]: Counts(0, 0)}

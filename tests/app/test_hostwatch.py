"""Figures over all hosts: alerts at the account limit, and how long the relay will be catching up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.app.hostwatch import HostWatch
from relay.crawl.settings import HostSettings
from relay.observe.metrics import Metrics
from relay.serve.pages import catching_up
from relay.store.policy import CATCHING_UP, DISCOVERY, CatchingUp, DiscoveryRun, decoded, encoded
from relay.store.settings import LogSettings
from relay.store.store import Store

NOW_MS = 1_760_000_000_000


class Watch:
    """A store and a clock to turn by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.metrics = Metrics()
        self.now_ms = NOW_MS
        self.watch = HostWatch(store, HostSettings(), self.metrics.hosts, lambda: self.now_ms)

    def figure(self, name: str) -> float | None:
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        return None

    def backlog(self) -> CatchingUp:
        with self.store.view() as view:
            value = view.policy_value(CATCHING_UP)
        assert value is not None
        return decoded(value, CatchingUp)


def told(watch: Watch) -> list[str]:
    return catching_up(watch.store, HostSettings(), watch.now_ms)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    log = LogSettings(sync=False, state_map_bytes=1 << 26)
    store = Store.open(tmp_path / "data", log, create=True, now_ms=NOW_MS)
    yield Watch(store)
    store.close()


def test_hosts_are_counted_from_eighty_percent_of_their_limit_on(watch: Watch) -> None:
    for name, accounts, waiting, status in (
        ("a.org", 79, 0, "active"),
        ("b.org", 80, 0, "offline"),
        ("c.org", 150, 50, "active"),
        ("d.org", 150, 50, "banned"),
    ):
        fields = {"account_count": accounts, "throttled_count": waiting, "status": status}
        watch.store.add_host(name, insecure=False, now_ms=1, **fields)
    watch.watch.look()
    assert watch.figure("relay_crawl_hosts_near_account_limit") == 2
    assert watch.figure("relay_crawl_hosts_over_account_limit") == 1
    assert watch.figure('relay_crawl_host_account_limit_ratio{host="b.org"}') == 0.8
    assert watch.figure('relay_crawl_host_account_limit_ratio{host="a.org"}') is None


def test_the_time_left_follows_from_the_pace_since_the_last_look(watch: Watch) -> None:
    host = watch.store.add_host("a.org", insecure=False, now_ms=1, status="active", lag_ms=7_200_000)
    watch.watch.look()
    assert (watch.backlog().hosts, watch.backlog().seconds_left) == (1, None)
    watch.now_ms += 60_000
    watch.store.update_host(host.host_id, lag_ms=3_600_000)
    watch.watch.look()
    assert watch.backlog() == CatchingUp(watch.now_ms, 1, 3_600_000, 60)
    assert told(watch) == ["catching up with 1 hosts, the furthest 3600 s behind, about 60 s left at the pace so far"]
    watch.store.update_host(host.host_id, lag_ms=0)
    watch.watch.look()
    assert told(watch) == []


def test_a_list_is_told_of_while_somebody_reads_it(watch: Watch) -> None:
    """Not once nothing came for a minute: whoever read it was stopped."""
    run = DiscoveryRun(cursor="x", started_ms=1, listed=2_000, added=1_900, at_ms=NOW_MS)
    watch.store.note_policy(DISCOVERY + "https://relay.example.com", encoded(run))
    watch.now_ms += 60_000
    (line,) = told(watch)
    assert "https://relay.example.com" in line
    assert "2000" in line
    watch.now_ms += 1
    assert told(watch) == []

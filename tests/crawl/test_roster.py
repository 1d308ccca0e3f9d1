"""Which worker follows which host."""

from collections import Counter

from relay.crawl.roster import owner_of

HOSTS = [f"pds{number}.example.com" for number in range(3_000)]


def test_hosts_are_spread_evenly() -> None:
    counts = Counter(owner_of(host, 4) for host in HOSTS)
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) < 1.15 * min(counts.values())


def test_one_more_worker_takes_its_share_and_moves_nothing_else() -> None:
    moved = [host for host in HOSTS if owner_of(host, 3) != owner_of(host, 4)]
    assert all(owner_of(host, 4) == 3 for host in moved)
    assert len(moved) < 0.3 * len(HOSTS)

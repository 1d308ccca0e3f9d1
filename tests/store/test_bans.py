"""Bans: a decision and the rows that follow from it are one txn, and a banned domain lets no host in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.store.policy import DOMAIN_BAN, DiscoveryRun, DomainBan, DomainBanned
from relay.store.store import Store
from tests.store.batches import NOW_MS, settings

DOMAIN = "example.org"
NAMES = ("example.org", "a.example.org:8443", "b.c.example.org", "notexample.org", "example.org.net", "[::1]:80")


@pytest.fixture
def hosts(store: Store) -> Store:
    for name in NAMES:
        store.add_host(name, insecure=False, now_ms=NOW_MS, status="active")
    return store


def statuses(store: Store) -> list[str]:
    """Of the hosts of `NAMES`."""
    with store.view() as view:
        return [row.status for name in NAMES if (row := view.host_named(name)) is not None]


def ban_of(store: Store, domain: str = DOMAIN) -> DomainBan | None:
    with store.view() as view:
        return view.policy(DOMAIN_BAN + domain, DomainBan, None)


def id_of(store: Store, name: str) -> int:
    with store.view() as view:
        row = view.host_named(name)
    assert row is not None
    return row.host_id


def test_a_domain_takes_in_itself_and_what_lies_below_it(hosts: Store) -> None:
    hosts.ban_domain(DOMAIN, now_ms=NOW_MS)
    assert statuses(hosts) == ["banned"] * 3 + ["active"] * 3
    hosts.ban_domain(DOMAIN, now_ms=NOW_MS + 1)
    ban = ban_of(hosts)
    assert ban is not None
    assert (ban.since_ms, len(ban.host_ids)) == (NOW_MS, 3)
    assert hosts.free_domain(DOMAIN, now_ms=NOW_MS + 2)
    assert (statuses(hosts), ban_of(hosts)) == (["idle"] * 3 + ["active"] * 3, None)
    assert not hosts.free_domain(DOMAIN, now_ms=NOW_MS + 3)


def test_a_ban_reaches_every_host_however_many_there_are(store: Store) -> None:
    """One host beyond any page."""
    count = 1_100
    found = [(f"h{number}.example.org", {"insecure": False}) for number in range(count)]
    store.add_listed_hosts(found, now_ms=NOW_MS, run="x", progress=DiscoveryRun())
    store.ban_domain("org", now_ms=NOW_MS)
    ban = ban_of(store, "org")
    assert ban is not None
    assert len(ban.host_ids) == count


@pytest.mark.parametrize("frees", [False, True])
def test_a_kill_leaves_the_ban_and_all_its_hosts_as_they_were(tmp_path: Path, frees: bool) -> None:
    fatal = False

    def die(step: str) -> None:
        if fatal and step == "state_commit":
            raise KeyboardInterrupt

    store = Store.open(tmp_path, settings(), create=True, now_ms=NOW_MS, on_step=die)
    for name in NAMES:
        store.add_host(name, insecure=False, now_ms=NOW_MS, status="active")
    change: Callable[..., object] = store.ban_domain
    if frees:
        store.ban_domain(DOMAIN, now_ms=NOW_MS)
        change = store.free_domain
    before = (statuses(store), ban_of(store))
    fatal = True
    with pytest.raises(KeyboardInterrupt):
        change(DOMAIN, now_ms=NOW_MS + 1)
    assert (statuses(store), ban_of(store)) == before
    store.close()


def test_a_host_banned_for_itself_under_a_ban_is_its_own_afterwards(hosts: Store) -> None:
    hosts.ban_domain(DOMAIN, now_ms=NOW_MS)
    host_id = id_of(hosts, "a.example.org:8443")
    hosts.ban_host(host_id, now_ms=NOW_MS + 1)
    with pytest.raises(DomainBanned, match=DOMAIN):
        hosts.free_host(host_id, now_ms=NOW_MS + 2)
    hosts.free_domain(DOMAIN, now_ms=NOW_MS + 3)
    assert statuses(hosts)[:3] == ["idle", "banned", "idle"]
    hosts.free_host(host_id, now_ms=NOW_MS + 4)
    assert statuses(hosts)[:3] == ["idle"] * 3
    for change in (hosts.ban_host, hosts.free_host):
        with pytest.raises(KeyError):
            change(999, now_ms=NOW_MS)


def test_no_new_host_comes_in_under_a_ban(hosts: Store) -> None:
    """The ban may have come since the host was judged; who was there before is not made worse."""
    hosts.ban_domain(DOMAIN, now_ms=NOW_MS)
    known = id_of(hosts, "example.org")
    assert hosts.add_host("example.org", insecure=False, now_ms=NOW_MS).host_id == known
    with pytest.raises(DomainBanned):
        hosts.add_host("d.example.org", insecure=False, now_ms=NOW_MS)
    with pytest.raises(DomainBanned):
        hosts.admit_host("d.example.org:99", insecure=False, now_ms=NOW_MS, per_day=5)
    listed = [("d.example.org", {"insecure": False}), ("d.example.net", {"insecure": False})]
    assert hosts.add_listed_hosts(listed, now_ms=NOW_MS, run="x", progress=DiscoveryRun()) == 1
    with hosts.view() as view:
        assert view.host_named("d.example.org") is None


def test_workers_look_again_after_each_decision(hosts: Store) -> None:
    def generation() -> int:
        with hosts.view() as view:
            return view.generation()

    seen = [generation()]
    for change in (hosts.ban_domain, hosts.free_domain):
        change(DOMAIN, now_ms=NOW_MS)
        seen.append(generation())
    for act in (hosts.ban_host, hosts.free_host):
        act(3, now_ms=NOW_MS)
        seen.append(generation())
    assert seen == sorted(set(seen))

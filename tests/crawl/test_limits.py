"""Which limits hold for a host, and how its reader waits by them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.crawl.limits import Limits, is_near_quota, limits_of, tier_of
from relay.crawl.pace import Pace
from relay.crawl.settings import TRUSTED_DEFAULTS, HostSettings, TierSettings
from relay.store.hosts import HostRow

TIERS = HostSettings(
    tiers={
        "default": TierSettings(),
        "trusted": TierSettings(hosts=("*.host.bsky.network",), account_limit=TRUSTED_DEFAULTS.account_limit),
        "friends": TierSettings(hosts=("*.friends.org", "eggs.host.bsky.network"), per_second=7, account_limit=3_000),
    }
)
SMALL = Limits("default", per_second=10, per_hour=100, per_day=1_000, accounts=5)


def row(hostname: str = "pds.example.com", **fields: object) -> HostRow:
    return HostRow(host_id=1, hostname=hostname, **fields)  # type: ignore[arg-type]  # fields of the row by name


def test_globs_assign_a_tier_and_the_operators_own_win() -> None:
    assert tier_of("pds.example.com", TIERS) == "default"
    assert tier_of("morel.us-east.host.bsky.network", TIERS) == "trusted"
    assert tier_of("eggs.host.bsky.network", TIERS) == "friends"


def test_the_defaults_are_those_of_the_reference_relay() -> None:
    """Reference table 4.3: 50 a second, 2,600 an hour, 21,000 a day with 100 accounts."""
    assert limits_of(row(), TIERS) == Limits("default", 50, 2_600, 21_000, 100)


def test_an_operators_word_for_a_host_wins_over_its_tier() -> None:
    found = limits_of(row(tier="friends", account_limit=10, rates={"per_hour": 9}), TIERS)
    assert (found.tier, found.per_second, found.per_hour, found.accounts) == ("friends", 7, 9, 10)
    assert limits_of(row(tier="gone"), TIERS).tier == "default"


def test_a_listed_host_may_have_twice_the_accounts_it_is_listed_with() -> None:
    """interface.md, hosts.discover_from; but an operator's own limit holds."""
    assert limits_of(row(listed_accounts=40), TIERS).accounts == 100
    assert limits_of(row(listed_accounts=4_000), TIERS).accounts == 8_000
    assert limits_of(row(listed_accounts=4_000, account_limit=50), TIERS).accounts == 50


def test_an_alert_is_due_at_eighty_percent() -> None:
    assert not is_near_quota(row(account_count=79), limits_of(row(), TIERS))
    assert is_near_quota(row(account_count=80), limits_of(row(), TIERS))


@given(st.lists(st.integers(1, 300), max_size=30))
def test_no_window_ever_takes_more_than_its_limit_and_every_debt_is_paid(reads: list[int]) -> None:
    """Checklist 252: backpressure, and nothing is lost: what was read is paid for exactly once."""
    pace, now = Pace(SMALL, 5.0, 0.0), 0.0
    for events in reads:
        pace.spend(events, 0)
        while seconds := pace.delay_seconds(now):
            now += seconds
    total = sum(reads)
    assert now >= (total - SMALL.per_second) / SMALL.per_second - 1
    if total > 2 * SMALL.per_hour:
        assert now >= 3_600 * (total / SMALL.per_hour - 2)


def test_the_limit_that_makes_it_wait_is_named() -> None:
    pace = Pace(SMALL, 5.0, 0.0)
    pace.spend(11, 0)
    assert pace.delay_seconds(0.0) > 0
    assert pace.reason(0.0) == "over its limit of 10 events a second"
    pace.spend(200, 0)
    now = 0.0
    for _ in range(30):
        seconds = pace.delay_seconds(now)
        if "hour" in pace.reason(now):
            break
        now += seconds
    assert pace.reason(now) == "over its limit of 100 events an hour"
    assert pace.usage(now) >= 0.9


def test_new_accounts_of_strangers_come_slowly() -> None:
    slow, known = Pace(SMALL._replace(is_stranger=True), 5.0, 0.0), Pace(SMALL, 5.0, 0.0)
    for pace in (slow, known):
        pace.spend(6, 6)
    assert slow.delay_seconds(0.0) > 0
    assert slow.reason(0.0) == "over its limit of 5 new accounts a second"
    assert known.delay_seconds(0.0) == 0


@pytest.mark.parametrize(
    "vouched",
    [
        {"requested": False},
        {"hostname": "morel.us-east.host.bsky.network"},
        {"tier": "friends"},
        {"account_limit": 10},
        {"listed_accounts": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_only_who_came_by_request_crawl_and_is_vouched_for_by_nobody_is_a_stranger(vouched: dict[str, Any]) -> None:
    assert limits_of(row(requested=True), TIERS).is_stranger
    assert not limits_of(row(**{"requested": True, **vouched}), TIERS).is_stranger


def test_other_limits_hold_at_once() -> None:
    pace = Pace(SMALL, 5.0, 0.0)
    pace.spend(50, 0)
    assert pace.delay_seconds(0.0) > 0
    pace.change(SMALL._replace(per_second=1_000), 0.0)
    assert pace.delay_seconds(0.0) == 0

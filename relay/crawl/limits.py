"""Which limits hold for a host: its tier by name, an operator's word for the host, and what its size allows. Pure.

Owns the order of precedence and the arithmetic. Waiting by these rates is `relay.crawl.pace`, the account quota is
`relay.ingest.quota`; who may change them is the operator, in the host's row.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

from relay.crawl.settings import HostSettings, TierSettings
from relay.store.hosts import HostRow

DEFAULT_TIER = "default"
TRUSTED_TIER = "trusted"
LISTED_FACTOR = 2  # a host that another relay lists may have twice the accounts it has there
_ACCOUNTS_PER_SECOND = 1_000  # an account limit of so many raises the rate by one event a second (reference table 4.3)
_EVENTS_PER_DAY = 10
ALERT_SHARE = 0.8


class Limits(NamedTuple):
    """The limits in force for one host. Events a second, hour and day; `accounts` is the quota.

    `is_stranger`: nobody vouches for it, so new accounts are taken slowly.
    """

    tier: str
    per_second: int
    per_hour: int
    per_day: int
    accounts: int
    is_stranger: bool = False


def tier_of(hostname: str, settings: HostSettings) -> str:
    """The tier whose globs take the host; the last that does, since tiers of an operator's own come last."""
    taken = [name for name, tier in settings.tiers.items() if any(fnmatchcase(hostname, glob) for glob in tier.hosts)]
    return taken[-1] if taken else DEFAULT_TIER


def limits_of(row: HostRow, settings: HostSettings) -> Limits:
    """The limits of a host: an operator's for this host over those of its tier.

    Rates that nobody set for the host grow with its account limit, as the reference relay's do: the default of 100
    accounts gives 50 a second, 2,600 an hour and 21,000 a day. A stranger is who came by a public requestCrawl, for as
    long as no operator gives it a tier or an account limit and no relay that we read lists its accounts: a seed or a
    found host that brings thousands of accounts must not take hours over it.
    """
    name = row.tier if row.tier in settings.tiers else tier_of(row.hostname, settings)
    tier = settings.tiers.get(name, TierSettings())
    accounts = row.account_limit
    if accounts is None:
        accounts = max(tier.account_limit, LISTED_FACTOR * row.listed_accounts)
    return Limits(
        name,
        row.rates.get("per_second", tier.per_second + accounts // _ACCOUNTS_PER_SECOND),
        row.rates.get("per_hour", tier.per_hour + accounts),
        row.rates.get("per_day", tier.per_day + _EVENTS_PER_DAY * accounts),
        accounts,
        is_stranger=(row.requested and name == DEFAULT_TIER and row.account_limit is None and not row.listed_accounts),
    )


def is_near_quota(row: HostRow, limits: Limits) -> bool:
    """Whether an operator should hear of the host's accounts."""
    return row.account_count >= ALERT_SHARE * limits.accounts
